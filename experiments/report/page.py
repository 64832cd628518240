"""A report as one HTML page that needs no other file: its style and its pictures are inside."""

import base64
from html import escape

from experiments.report.record import Facts, Listing, Notes, Part, Picture, Report, Section, Table
from experiments.report.values import shown

__all__ = ["as_html"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; }
th.right, td.right { text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid #999; vertical-align: bottom; }
tbody td, tbody th { border-bottom: 1px solid #e6e6e6; }
tbody th { font-weight: normal; color: #666; }
ul { color: #555; padding-left: 1.2rem; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; } figcaption { color: #666; font-size: .9rem; }
""".strip()


def as_html(report: Report) -> str:
    """The page. Everything that a report holds as text is escaped."""
    title = escape(report.title)
    body = "\n".join(_section(section) for section in report.sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    heading = f"<h2>{escape(section.title)}</h2>\n" if section.title else ""
    return f"<section>\n{heading}{''.join(map(_part, section.parts))}</section>"


def _part(part: Part) -> str:
    match part:
        case Table():
            return _table(part)
        case Facts(facts):
            rows = "".join(
                f'<tr><th scope="row">{escape(fact.title)}</th><td>{escape(shown(fact.value, fact.form))}</td></tr>\n'
                for fact in facts
            )
            return f"<table>\n<tbody>\n{rows}</tbody>\n</table>\n"
        case Notes(lines):
            return f"<ul>\n{''.join(f'<li>{escape(line)}</li>{chr(10)}' for line in lines)}</ul>\n" if lines else ""
        case Listing(text):
            return f"<pre>{escape(text)}</pre>\n"
        case Picture(title):
            source = base64.b64encode(part.png).decode("ascii")
            image = f'<img alt="{escape(title)}" src="data:image/png;base64,{source}">'
            return f"<figure>\n{image}\n<figcaption>{escape(title)}</figcaption>\n</figure>\n"


def _table(table: Table) -> str:
    marks = [' class="right"' if column.right else "" for column in table.columns]
    heads = "".join(
        f'<th scope="col"{mark}>{escape(column.heading)}</th>'
        for column, mark in zip(table.columns, marks, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{mark}>{escape(shown(cell, column.form))}</td>"
            for cell, column, mark in zip(row, table.columns, marks, strict=True)
        )
        + "</tr>\n"
        for row in table.rows
    )
    head = f"<thead>\n<tr>{heads}</tr>\n</thead>\n" if any(column.heading for column in table.columns) else ""
    return f'<div class="wide">\n<table>\n{head}<tbody>\n{rows}</tbody>\n</table>\n</div>\n'
