"""Docstrings and values as Markdown."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["cell", "first_sentence", "flow", "prose", "table"]

SECTIONS = (
    "Args",
    "Attributes",
    "Example",
    "Examples",
    "Note",
    "Notes",
    "Raises",
    "References",
    "Returns",
    "Warns",
    "Yields",
)
PARAGRAPHS = ("Note", "Notes", "References")
"""Sections of running text, without a list of names."""
ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?([^`.]+)`")


def prose(docstring: str) -> str:
    """A docstring as Markdown: its sections as lists, its formulas and examples as blocks of code."""
    lines, made = docstring.strip().splitlines(), []
    place = 0
    while place < len(lines):
        line = lines[place]
        heading = re.fullmatch(rf"({'|'.join(SECTIONS)}):", line)
        if heading:
            end = _end_of_indented(lines, place + 1)
            made += ["", f"**{heading[1]}**", "", *_section(heading[1], lines[place + 1 : end]), ""]
            place = end
        elif line.startswith(">>> "):
            end = place
            while end < len(lines) and lines[end].strip():
                end += 1
            made += ["", "```pycon", *lines[place:end], "```", ""]
            place = end
        elif line.startswith("    ") and not _in_list(made):
            end = _end_of_indented(lines, place)
            block = [item[4:] for item in lines[place:end]]
            language = _language(block[0])
            block = [inline(item).replace("`", "") for item in block] if language == "text" else block
            made += ["", f"```{language}", *block, "```", ""]
            place = end
        else:
            made.append(re.sub(r"^(References|Notes?):", r"**\1:**", inline(line)))
            place += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(made)).strip()


def inline(text: str) -> str:
    """Roles and double backquotes as code."""
    return ROLE.sub(r"`\1`", text).replace("``", "`")


def first_sentence(docstring: str) -> str:
    """The first sentence, on one line."""
    paragraph = " ".join(docstring.strip().partition("\n\n")[0].split())
    return inline(re.split(r"(?<=\.) (?=[A-Z])", paragraph, maxsplit=1)[0])


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|").replace("\n", "<br>")


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """The lines of a table."""
    return [
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
        *(f"| {' | '.join(map(cell, row))} |" for row in rows),
    ]


def flow(value: Any) -> str:
    """A value of a configuration on one line, as YAML."""
    match value:
        case Mapping():
            return f"{{{', '.join(f'{key}: {flow(item)}' for key, item in value.items())}}}"
        case list():
            return f"[{', '.join(map(flow, value))}]"
        case None:
            return "null"
        case bool():
            return str(value).lower()
    return str(value)


def _language(line: str) -> str:
    """Of a block that begins with this line."""
    if line.startswith(">>>"):
        return "pycon"
    return "python" if line.startswith(("from ", "import ")) else "text"


def _end_of_indented(lines: list[str], place: int) -> int:
    """The first line from here on that is neither indented nor empty; empty lines before it do not count."""
    end = place
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
        end += 1
    while end > place and not lines[end - 1].strip():
        end -= 1
    return end


def _section(name: str, lines: list[str]) -> list[str]:
    """``name: text`` with its continuation as an item of a list; an example as code."""
    lines = [line[4:] for line in lines]
    if name.startswith("Example") or any(line.startswith(">>>") for line in lines):
        return ["```pycon" if any(line.startswith(">>>") for line in lines) else "```python", *lines, "```"]
    if name in PARAGRAPHS:
        return [inline(line) for line in lines]
    made: list[str] = []
    for line in lines:
        item = re.match(r"([\w., *]+): (.*)", line)
        if item and not line.startswith(" "):
            made.append(f"- `{item[1]}`: {inline(item[2])}")
        elif line.strip():
            made.append(f"  {inline(line.strip())}" if made else f"- {inline(line.strip())}")
    return made


def _in_list(made: list[str]) -> bool:
    """Whether an indented line goes on with an item of a list."""
    for line in reversed(made):
        if not line.strip():
            return False
        if re.match(r"\s*([-*]|\d+\.) ", line):
            return True
    return False
