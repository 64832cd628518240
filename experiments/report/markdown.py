"""A report as Markdown, for a README or an issue."""

from collections.abc import Mapping, Sequence

from experiments.report.record import Facts, Listing, Notes, Part, Picture, Report, Table
from experiments.report.values import shown

__all__ = ["as_markdown"]

ESCAPED = str.maketrans({"|": r"\|", "<": "&lt;", "*": r"\*", "`": r"\`", "\n": " "})


def as_markdown(report: Report, files: Mapping[str, str] | None = None) -> str:
    """The title, and the sections under headings.

    Args:
        files: where the pictures lie, by their names; a picture that is not named is left out.
    """
    blocks = [f"# {_escaped(report.title)}"]
    for section in report.sections:
        blocks += [f"## {_escaped(section.title)}"] if section.title else []
        blocks += [_part(part, files or {}) for part in section.parts]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _part(part: Part, files: Mapping[str, str]) -> str:
    match part:
        case Table():
            rules = ["---:" if column.right else "---" for column in part.columns]
            rows = [
                [_escaped(shown(cell, column.form)) for cell, column in zip(row, part.columns, strict=True)]
                for row in part.rows
            ]
            return "\n".join(_line(line) for line in ([_escaped(c.heading) for c in part.columns], rules, *rows))
        case Facts(facts):
            return "\n".join(f"- {_escaped(fact.title)}: {_escaped(shown(fact.value, fact.form))}" for fact in facts)
        case Notes(lines):
            return "\n".join(f"- {_escaped(line)}" for line in lines)
        case Listing(text, language):
            fence = "````" if "```" in text else "```"
            return f"{fence}{language}\n{text.rstrip()}\n{fence}"
        case Picture(title, name):
            return f"![{_escaped(title)}]({files[name]})" if name in files else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return text.translate(ESCAPED)
