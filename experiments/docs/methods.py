"""The packaged methods at a glance, from their YAML files and from the tests that hold them to their papers."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.config.files import read
from experiments.docs.markdown import flow, table
from objectives.methods import available
from objectives.terms.match import Match
from objectives.terms.penalty import Penalised

__all__ = ["ConformanceTest", "conformance_tests", "methods_page"]

MARK = "pytest.mark.conformance"

HEAD = """<!-- Written by `make docs` from objectives/methods/*.yaml and tests/: change those, not this page. -->

# Methods

Every packaged method is one YAML file over the same parts: an *embedding* of the examples, a *discrepancy* between the embedded
real and synthetic sets, a *grouping* (which parts of the two sets are compared, and how the values become one number), a
*context* (which networks, and how they are trained), a *parameterisation* of the synthetic set, and a *solver*. The table shows
these choices. The sections below it give the settings, the paper, the published settings, what differs from the paper, and the
tests in which the paper's formula or rule is written out by hand and compared with the packaged file.

`condense run NAME --data ...` runs a method, `condense show NAME` prints its file. In the table `penalty` is a term that looks
at the synthetic set alone. `random` and `forgetting` select real examples and do not use their objective."""


class ConformanceTest(NamedTuple):
    """A test that compares packaged methods with their papers."""

    file: str
    name: str
    line: int


def conformance_tests(root: Path) -> dict[str, list[ConformanceTest]]:
    """The tests that are marked ``pytest.mark.conformance``, by the names of the methods in their marks."""
    found: dict[str, list[ConformanceTest]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == MARK:
                    assert isinstance(node, ast.FunctionDef)
                    test = ConformanceTest(path.relative_to(root).as_posix(), node.name, node.lineno)
                    for name in map(ast.literal_eval, mark.args):
                        found.setdefault(name, []).append(test)
    return found


def methods_page(root: Path) -> str:
    """The whole page."""
    trees = {name: read(file) for name, file in available().items()}
    tests = conformance_tests(root)
    columns = ("method", "embedding", "discrepancy", "by, reduce", "context", "synthetic set", "solver")
    lines = [HEAD, "", *table(columns, [_row(name, tree) for name, tree in trees.items()])]
    for name, tree in trees.items():
        lines += ["", *_section(name, tree, tests.get(name, []))]
    return "\n".join(lines) + "\n"


def _row(name: str, tree: Mapping[str, Any]) -> tuple[str, ...]:
    terms = [_named(term) for term in tree["objective"]["terms"].values()]
    return (
        f"[`{name}`](#{name})",
        "\n".join(_embedding(term) for term in terms),
        "\n".join(_discrepancy(term) for term in terms),
        "\n".join(_grouping(term) for term in terms),
        _context(tree["context"]),
        _set(tree),
        _solver(tree["solver"]),
    )


def _named(term: Mapping[str, Any]) -> dict[str, Any]:
    """A term with its parts as mappings, and the defaults of what it leaves out."""
    if "penalty" in term:
        return {"by": Penalised.by, **term}
    return {"via": Match.via.kind, "by": Match.by, "reduce": Match.reduce.kind, **term}


def _embedding(term: dict[str, Any]) -> str:
    """The embedding of a match, and what changes the real side before it."""
    if "match" not in term:
        return "-"
    return _short(term["via"]) + (f", real side {_short(term['transform'])}" if "transform" in term else "")


def _part(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {"kind": value}


def _short(value: Any) -> str:
    """A part by its kind, with the part or the choice in it that matters most."""
    part = _part(value)
    inner = [part[key] for key in ("kernel", "learner", "form") if key in part]
    more = ", ".join(_short(item) for item in inner)
    return f"{part['kind']}{f' ({more})' if more else ''}"


def _discrepancy(term: Mapping[str, Any]) -> str:
    return _short(term["match"]) if "match" in term else f"penalty: {_short(term['penalty'])}"


def _grouping(term: Mapping[str, Any]) -> str:
    return f"{term['by']}, {_short(term['reduce'])}" if "match" in term else str(term["by"])


def _context(value: Any) -> str:
    part = _part(value)
    network = _part(part["network"])["kind"] if "network" in part else "no network"
    training = f", trained on {part['training']['on']}" if "training" in part else ""
    augment = ", augmented" if part.get("augment") else ""
    return f"{part['kind']}: {network}{training}{augment}"


def _set(tree: Mapping[str, Any]) -> str:
    part = tree["synthetic"]
    labels = "teacher's" if "teacher" in tree else part.get("labels")
    more = [f"factor {part['factor']}"] if "factor" in part else []
    more += [f"start {part['start']}", *([f"{labels} labels"] if labels else [])]
    more += ["learned weights"] if part.get("weights") == "learned" else []
    return f"{part['kind']}, {', '.join(more)}"


def _solver(value: Any) -> str:
    part = _part(value)
    more = [str(part[key]) for key in ("optimizer", "update") if key in part]
    return ": ".join([part["kind"], *([", ".join(more)] if more else [])])


def _section(name: str, tree: Mapping[str, Any], tests: list[ConformanceTest]) -> list[str]:
    about = tree["method"]
    rows = []
    for title, term in ((title, _named(term)) for title, term in tree["objective"]["terms"].items()):
        what = f"`{flow(term['match'])}`" if "match" in term else f"penalty `{flow(term['penalty'])}`"
        via = f"`{flow(term['via'])}`" if "match" in term else "-"
        rest = {key: item for key, item in term.items() if key not in ("match", "penalty", "via")}
        rows.append((title, via, what, f"`{flow(rest)[1:-1]}`"))
    lines = [f"## {name}", "", f"**{about['title']}.** {about['idea']}", "", f"Paper: {about['source']}.", ""]
    lines += [*table(("term", "embedding", "discrepancy", "grouping, weight"), rows), ""]
    lines += ["Settings:", ""]
    for key in ("context", "synthetic", "solver", "teacher", "dtype"):
        if key in tree:
            lines.append(f"- {key}: `{flow(tree[key])}`")
    lines += [f"- from {size['from']} examples a class: `{_without(size, 'from')}`" for size in tree.get("sizes", [])]
    lines += [f"- `--features {key}`: `{flow(value)}`" for key, value in tree.get("features", {}).items()]
    for key, heading in (("published", "Published settings and results:"), ("differs", "What differs:")):
        if about.get(key):
            lines += ["", heading, "", *(f"- {item}" for item in about[key])]
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.file, []).append(f"`{test.name}`")
    lines += ["", "Conformance tests:", ""]
    return [*lines, *(f"- [{file}](../{file}): {', '.join(names)}" for file, names in files.items())]


def _without(size: Mapping[str, Any], key: str) -> str:
    return flow({name: value for name, value in size.items() if name != key})
