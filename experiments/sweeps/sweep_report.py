"""The report of a sweep: a table for every data set and size, and the cross-architecture tables."""

from collections.abc import Sequence
from typing import Any

from experiments.report.record import (
    BYTES,
    COUNT,
    SECONDS,
    Cell,
    Column,
    MeanStd,
    Notes,
    Report,
    Section,
    Table,
    fixed,
)
from experiments.report.values import duration
from experiments.sweeps.planning import CellPlan
from experiments.sweeps.rows import Row
from experiments.sweeps.under_attack import ROBUST_TABLE, frontier, robust_table

__all__ = ["CROSS_TABLE", "ROBUST_TABLE", "TABLE", "sweep_plan_report", "sweep_report"]

TABLE, CROSS_TABLE = "table", "cross"
"""The names of the tables, and of their CSV files."""

COLUMNS = (
    Column("method"),
    Column("accuracy", fixed(1), unit="%"),
    Column("std", fixed(1)),
    Column("n", COUNT),
    Column("condensed in", SECONDS),
    Column("memory", BYTES),
    Column("stored", BYTES),
    Column("labels"),
    Column("steps", COUNT),
    Column("published", fixed(1)),
    Column("settings"),
)

CROSS_FIELDS = ("data", "per_class", "name", "network", "mean", "std", "n", "protocol_hash", "failures")


def sweep_report(rows: Sequence[Row], title: str) -> Report:
    """The tables with what must be known to read them, and every deviation from the published settings."""
    sections, own = [], [row for row in rows if not row.network]
    for place in dict.fromkeys((row.data, row.per_class) for row in own):
        here = [row for row in own if (row.data, row.per_class) == place]
        table = Table(
            columns=COLUMNS,
            rows=tuple(map(_line, here)),
            records=tuple(row.as_dict() for row in here),
            name=TABLE,
        )
        sections.append(Section(_place(place), (table, Notes(tuple(_notes(here))))))
        attacked = [row for row in here if row.attacked]
        if attacked:
            sections.append(_under_attack(place, attacked))
    crossed = [row for row in rows if row.network]
    for place in dict.fromkeys((row.data, row.per_class) for row in crossed):
        here = [row for row in crossed if (row.data, row.per_class) == place]
        beside = [row for row in own if (row.data, row.per_class) == place]
        title_here = f"{_place(place)}, under other networks"
        sections.append(Section(title_here, (_crossed(here, beside), Notes(tuple(_notes(here))))))
    apart = [row for row in rows if row.deviations]
    if apart:
        lines = [f"{row.name}, {row.data}, {row.per_class} a class: {'; '.join(row.deviations or ())}" for row in apart]
        sections.append(
            Section("Deviations from the published settings (theirs -> ours)", (Notes(tuple(lines)),), detail=True)
        )
    return Report(
        title=title or "Sweep",
        sections=tuple(sections),
        data={"title": title, "rows": [row.as_dict() for row in rows]},
        complete=not any(row.failures for row in rows),
    )


def _under_attack(place: tuple[str, int], rows: Sequence[Row]) -> Section:
    """Accuracies under attack, and the picture of them over those without."""
    shown = {row.name: row.attacked for row in rows}
    marked = {f"{row.name}{' (!)' if row.doubts else ''}": row.attacked for row in rows}
    records = [
        {"data": row.data, "per_class": row.per_class, "name": row.name, **found.as_dict()}
        for row in rows
        for found in row.attacked
    ]
    examples = rows[0].attacked[-1].examples
    lines = [f"accuracies under attack are those of {examples:,} test examples; ε is for values in 0 .. 1"]
    lines += [f"{row.name} (!): {doubt}" for row in rows for doubt in row.doubts]
    picture = frontier(_place(place), shown, f"frontier-{place[0]}-{place[1]}")
    return Section(f"{_place(place)}, under attack", (robust_table(marked, records), Notes(tuple(lines)), picture))


def _place(place: tuple[str, int]) -> str:
    return f"{place[0]}, {place[1]} a class"


def _line(row: Row) -> tuple[Cell, ...]:
    published = None if row.published is None else MeanStd(row.published, row.published_std)
    verdict = {True: "published, recovered", False: "published, not recovered", None: row.settings}[row.recovered]
    return (
        f"{row.name}{' (control)' if row.control else ''}",
        _accuracy(row),
        row.std,
        row.n,
        row.seconds,
        row.peak_bytes,
        row.stored_bytes,
        row.labels or None,
        row.steps,
        published,
        verdict or None,
    )


def _accuracy(row: Row) -> Cell:
    if row.mean is not None:
        return row.mean
    return "failed" if row.failures else None


def _notes(rows: Sequence[Row]) -> list[str]:
    """The protocol, what the numbers are, and what failed or is missing."""
    lines = []
    plain = [row for row in rows if row.protocol and row.name != "whole" and not row.network]
    for row in {row.protocol_hash: row for row in plain}.values():
        augmented = "with" if row.augmented else "without"
        lines.append(
            f"protocol {row.protocol} ({row.protocol_hash}): accuracy after the last of {row.epochs:,} epochs {augmented} "
            "augmentation"
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
        lines.append(
            "changed: the settings differ from the published ones, so the published accuracy is not comparable"
        )
    lines += [f"{row.name}{_on(row)} failed: {reason}" for row in rows for reason in row.failures]
    missing = [f"{row.name}{_on(row)}" for row in rows if row.done < row.sets and not row.failures]
    lines += [f"not done: {', '.join(missing)}"] if missing else []
    return lines


def _on(row: Row) -> str:
    return f" on {row.network}" if row.network else ""


def _crossed(rows: Sequence[Row], beside: Sequence[Row]) -> Table:
    """A line a method, a column a network; the network of the sweep's own protocol first."""
    networks = list(dict.fromkeys(row.network for row in rows))
    found = {(row.name, row.network): row for row in (*beside, *rows)}
    names = dict.fromkeys(row.name for row in rows)
    return Table(
        columns=(Column("method"), *(Column(name, fixed(1)) for name in ("as condensed", *networks))),
        rows=tuple((name, *(_pair(found.get((name, network))) for network in ("", *networks))) for name in names),
        records=tuple(_cross_record(row) for row in rows),
        name=CROSS_TABLE,
    )


def _cross_record(row: Row) -> dict[str, Any]:
    plain = row.as_dict()
    return {name: plain[name] for name in CROSS_FIELDS}


def _pair(row: Row | None) -> Cell:
    if row is None:
        return None
    return _accuracy(row) if row.mean is None else MeanStd(row.mean, row.std)


def sweep_plan_report(plans: Sequence[CellPlan], title: str) -> Report:
    """How long every cell will take."""
    left = sum(plan.estimate.seconds for plan in plans if plan.state != "done")
    table = Table(
        columns=(
            Column("cell"),
            Column("state"),
            Column("condensing", SECONDS),
            Column("evaluating", SECONDS),
            Column("memory", BYTES),
        ),
        rows=tuple(
            (
                plan.cell,
                plan.state,
                plan.estimate.condensing or None,
                plan.estimate.evaluating or None,
                plan.estimate.memory_bytes or None,
            )
            for plan in plans
        ),
        records=tuple(plan.as_dict() for plan in plans),
    )
    note = f"{len(plans)} cells, about {duration(left)} for those that are not done"
    return Report(
        title=f"Plan of {title or 'a sweep'}",
        sections=(Section(parts=(table,)), Section(parts=(Notes((note,)),))),
        data={"cells": [plan.as_dict() for plan in plans], "seconds": left},
    )
