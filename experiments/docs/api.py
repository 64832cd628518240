"""The reference of every public name: a page for each package that lists names, and an index of all."""

from pathlib import Path

from experiments.docs.markdown import first_sentence, prose, table
from experiments.docs.sources import Declaration, Module, Sources

__all__ = ["api_pages", "public_names"]

PACKAGES = ("discrepancy", "objectives")

MODULES = (
    "discrepancy.discrepancy",
    "discrepancy.learning.recovery",
    "discrepancy.parts",
)
"""Modules whose lists are public too: what is needed to write a discrepancy or a part, and to solve for exact points."""

EDITED = "<!-- Written by `make docs`: change the docstrings, not this page. -->"


def public_names(sources: Sources) -> dict[str, dict[str, Declaration]]:
    """For each package or module that lists public names, those names with what they are. What a package within a package lists
    is public where that one lists it too."""
    found: dict[str, dict[str, Declaration]] = {}
    for owner in (*(name for name in sources.packages if name.count(".") <= 1), *MODULES):
        listed = sources.modules[owner].listed
        if listed:
            found[owner] = {}
        for name in listed:
            item = sources.find(owner, name)
            if isinstance(item, Module):  # another package, which has a page of its own, or a module with a list
                if item.name not in sources.packages:
                    found.setdefault(item.name, {each: _declared(sources, item.name, each) for each in item.listed})
                continue
            found[owner][name] = item
    return found


def api_pages(root: Path) -> dict[Path, str]:
    """The index and a page for each package, by their paths below docs/."""
    sources = Sources(root, PACKAGES)
    public = public_names(sources)
    home, shortest = _places(public)
    pages = {}
    for owner in public:
        here = {name: item for name, item in public[owner].items() if home[item.module, item.name] == owner}
        if not here:
            continue
        lines = [EDITED, "", f"# `{owner}`", "", prose(sources.modules[owner].docstring), ""]
        for name, item in here.items():
            lines += _entry(item, f"from {shortest[item.module, item.name]} import {name}", home)
        pages[Path("api") / f"{owner}.md"] = _text(lines)
    pages[Path("api.md")] = _index(public, home, pages)
    return pages


def _declared(sources: Sources, module: str, name: str) -> Declaration:
    item = sources.find(module, name)
    assert isinstance(item, Declaration)
    return item


def _places(public: dict[str, dict[str, Declaration]]) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], str]]:
    """For each definition the page where it is described, the most special that lists it, and the shortest way to import it."""
    home: dict[tuple[str, str], str] = {}
    shortest: dict[tuple[str, str], str] = {}
    for owner, names in public.items():
        for item in names.values():
            key = (item.module, item.name)
            if key not in home or len(owner.split(".")) > len(home[key].split(".")):
                home[key] = owner
            if key not in shortest or len(owner.split(".")) < len(shortest[key].split(".")):
                shortest[key] = owner
    return home, shortest


def _entry(item: Declaration, statement: str, home: dict[tuple[str, str], str]) -> list[str]:
    called = [] if item.signature == item.name else ["", *item.signature.splitlines()]
    lines = [f"## {item.name}", "", "```python", statement, *called, "```", ""]
    bases = [f"`{base}`" for base in item.bases if base not in ("ABC", "Protocol")]
    facts = [f"`kind: {item.kind}`"] if item.kind else []
    facts += [f"a {' and '.join(bases)}"] if bases else []
    if facts:
        lines += [", ".join(facts), ""]
    if item.docstring:
        lines += [prose(item.docstring), ""]
    for member in item.members:
        lines += [f"### {item.name}.{member.name}", "", "```python", *member.member_signature.splitlines(), "```", ""]
        lines += [prose(member.docstring), ""]
    return lines


def _index(public: dict[str, dict[str, Declaration]], home: dict[tuple[str, str], str], pages: dict[Path, str]) -> str:
    lines = [
        EDITED,
        "",
        "# Reference",
        "",
        "Every public name, with its first sentence. `condense kinds` prints the parts that",
    ]
    lines += ["a configuration can name, with their fields and defaults."]
    for owner, names in public.items():
        rows = []
        for name, item in sorted(names.items(), key=lambda pair: pair[0].lower()):
            page = home[item.module, item.name]
            if page == owner or owner.count(".") == 0:
                rows.append((f"[`{name}`](api/{page}.md#{item.name.lower()})", first_sentence(item.docstring) or "-"))
        if rows:
            lines += ["", f"## `{owner}`", "", *table(("name", "what it is"), rows)]
    return _text(lines)


def _text(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
