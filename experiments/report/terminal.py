"""A report as text: tables with rules on a terminal, plain aligned lines where the output is piped."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawn
from rich.text import Text

from discrepancy.errors import printable
from experiments.report.record import Facts, Listing, Notes, Part, Report, Section, Table
from experiments.report.values import shown

__all__ = ["as_text"]


def as_text(report: Report, console: Console | None = None) -> str:
    """The sections, with a blank line between them, without pictures, details and the title of the report.

    Args:
        console: decides on the form; standard output by default.
    """
    console = console or Console()
    sections = [section for section in report.sections if not section.detail]
    return "\n\n".join(text for section in sections if (text := _section(section, console)))


def _section(section: Section, console: Console) -> str:
    heading = _printed(Text(printable(section.title), "bold"), console) if section.title else ""
    return "\n".join(text for text in (heading, *(_part(part, console) for part in section.parts)) if text)


def _part(part: Part, console: Console) -> str:
    match part:
        case Table():
            return _ruled(part, console) if console.is_terminal else _aligned(part)
        case Facts(facts):
            width = max((len(fact.title) for fact in facts), default=0)
            return "\n".join(f"{printable(fact.title).ljust(width)}  {shown(fact.value, fact.form)}" for fact in facts)
        case Notes(lines):
            return "\n".join(map(printable, lines))
        case Listing(text):
            return printable(text, lines=True).rstrip("\n")
    return ""


def _ruled(table: Table, console: Console) -> str:
    drawn = Drawn(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in table.columns:
        justify = "right" if column.right else "left"
        drawn.add_column(escape(printable(column.heading)), justify=justify, no_wrap=column.right, overflow="fold")
    for cells in _cells(table):
        drawn.add_row(*map(escape, cells))
    return _printed(drawn, console)


def _printed(what: Drawn | Text, console: Console) -> str:
    with console.capture() as captured:
        console.print(what)
    return captured.get().rstrip("\n")


def _aligned(table: Table) -> str:
    """Columns two spaces apart; the headings are a line like the others, unless all are empty."""
    headings = [printable(column.heading) for column in table.columns]
    lines = [headings, *_cells(table)] if any(headings) else _cells(table)
    widths = [max(len(line[index]) for line in lines) for index in range(len(headings))] if lines else []
    padded = [
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        )
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in padded)


def _cells(table: Table) -> list[list[str]]:
    return [[shown(cell, column.form) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]
