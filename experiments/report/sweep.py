"""The tables of a sweep: on a terminal, as markdown, and as CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from experiments.report.tables import duration, size, table
from experiments.sweeps.rows import Row

__all__ = ["as_csv", "cross_csv", "markdown", "text"]

Drawn = Callable[[Sequence[str], Sequence[Sequence[str]], Sequence[str]], str]

COLUMNS = (
    "method",
    "accuracy %",
    "std",
    "n",
    "condensed in",
    "memory",
    "stored",
    "labels",
    "steps",
    "published",
    "settings",
)
NUMERIC = (*COLUMNS[1:7], "steps", "published")


def text(rows: Sequence[Row], console: Console | None = None) -> str:
    """A table for every data set and size, the cross-architecture tables, and what is to be known of them."""

    def drawn(columns: Sequence[str], lines: Sequence[Sequence[str]], numeric: Sequence[str]) -> str:
        return table(columns, lines, numeric, console)

    return "\n\n".join(_blocks(rows, drawn, "{}"))


def markdown(rows: Sequence[Row], title: str) -> str:
    """The same, and every deviation from the published settings."""
    blocks = _blocks(rows, _piped, "## {}")
    apart = [row for row in rows if row.deviations]
    if apart:
        lines = [
            f"- {row.name}, {row.data}, {row.per_class} a class: {'; '.join(row.deviations or ())}" for row in apart
        ]
        blocks += ["## Deviations from the published settings (theirs -> ours)", "\n".join(lines)]
    return "\n\n".join([f"# {title or 'Sweep'}", *blocks]) + "\n"


def _blocks(rows: Sequence[Row], drawn: Drawn, heading: str) -> list[str]:
    blocks, own = [], [row for row in rows if not row.network]
    for place in dict.fromkeys((row.data, row.per_class) for row in own):
        of_place = [row for row in own if (row.data, row.per_class) == place]
        blocks += [heading.format(_place(place)), drawn(COLUMNS, [_line(row) for row in of_place], NUMERIC)]
        blocks += ["\n".join(_about(of_place))]
    crossed = [row for row in rows if row.network]
    for place in dict.fromkeys((row.data, row.per_class) for row in crossed):
        of_place = [row for row in crossed if (row.data, row.per_class) == place]
        beside = [row for row in own if (row.data, row.per_class) == place]
        blocks += [heading.format(f"{_place(place)}, under other networks"), _crossed(of_place, beside, drawn)]
        blocks += ["\n".join(_about(of_place))]
    return [block for block in blocks if block]


def _place(place: tuple[str, int]) -> str:
    return f"{place[0]}, {place[1]} a class"


def _line(row: Row) -> list[str]:
    beside = "" if row.published is None else f"{row.published:.1f}"
    if row.published is not None and row.published_std is not None:
        beside += f" ± {row.published_std:.1f}"
    verdict = {True: "published, recovered", False: "published, not recovered", None: row.settings}[row.recovered]
    return [
        f"{row.name}{' (control)' if row.control else ''}",
        _accuracy(row),
        "-" if row.std is None else f"{row.std:.1f}",
        str(row.n),
        "-" if row.seconds is None else duration(row.seconds),
        "-" if row.peak_bytes is None else size(row.peak_bytes),
        "-" if row.stored_bytes is None else size(row.stored_bytes),
        row.labels or "-",
        "-" if row.steps is None else f"{row.steps:,}",
        beside or "-",
        verdict or "-",
    ]


def _accuracy(row: Row) -> str:
    if row.mean is not None:
        return f"{row.mean:.1f}"
    return "failed" if row.failures else "-"


def _about(rows: Sequence[Row]) -> list[str]:
    """The protocol, what the numbers are, and what failed or is missing."""
    lines = []
    plain = [row for row in rows if row.protocol and row.name != "whole" and not row.network]
    for row in {row.protocol_hash: row for row in plain}.values():
        augmented = "with" if row.augmented else "without"
        lines.append(
            f"protocol {row.protocol} ({row.protocol_hash}): {row.epochs:,} epochs {augmented} augmentation, the last counts"
        )
    for row in rows:
        if row.name == "whole" and row.protocol and not row.network:
            passes = f"{row.epochs} epoch{'s' if row.epochs > 1 else ''}"
            lines.append(
                f"whole: all the real data in as many steps as a small set gets, {passes} ({row.protocol_hash})"
            )
    computed = dict.fromkeys(row.computed_on for row in rows if row.computed_on)
    lines += [f"computed with {what}" for what in computed]
    memory = dict.fromkeys(row.peak_of for row in rows if row.peak_of)
    lines += [f"memory: {what}" for what in memory]
    if any(row.settings == "changed" for row in rows):
        lines.append("changed: other settings than the published ones, whose figure is no comparison")
    lines += [f"{row.name}{_on(row)} failed: {reason}" for row in rows for reason in row.failures]
    missing = [f"{row.name}{_on(row)}" for row in rows if row.done < row.sets and not row.failures]
    lines += [f"not done: {', '.join(missing)}"] if missing else []
    return lines


def _on(row: Row) -> str:
    return f" on {row.network}" if row.network else ""


def _crossed(rows: Sequence[Row], beside: Sequence[Row], drawn: Drawn) -> str:
    """A line a method, a column a network; the network of the sweep's own protocol first."""
    networks = list(dict.fromkeys(row.network for row in rows))
    found = {(row.name, row.network): row for row in (*beside, *rows)}
    columns = ("method", "as condensed", *networks)
    names = dict.fromkeys(row.name for row in rows)
    lines = [[name, *(_pair(found.get((name, network))) for network in ("", *networks))] for name in names]
    return drawn(columns, lines, columns[1:])


def _pair(row: Row | None) -> str:
    if row is None:
        return "-"
    return _accuracy(row) + ("" if row.std is None else f" ± {row.std:.1f}")


def _piped(columns: Sequence[str], lines: Sequence[Sequence[str]], numeric: Sequence[str]) -> str:
    marks = ["---:" if name in numeric else "---" for name in columns]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in (columns, marks, *lines))


def as_csv(rows: Sequence[Row]) -> str:
    """Every row that is not of the cross-architecture table."""
    return _csv([row.as_dict() for row in rows if not row.network])


def cross_csv(rows: Sequence[Row]) -> str:
    """Every row of the cross-architecture table."""
    names = ("data", "per_class", "name", "network", "mean", "std", "n", "protocol_hash", "failures")
    return _csv([{name: row.as_dict()[name] for name in names} for row in rows if row.network])


def _csv(lines: Sequence[dict[str, Any]]) -> str:
    if not lines:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, lines[0])
    writer.writeheader()
    writer.writerows({name: _bare(value) for name, value in line.items()} for line in lines)
    return out.getvalue()


def _bare(value: Any) -> Any:
    return "; ".join(map(str, value)) if isinstance(value, list) else "" if value is None else value
