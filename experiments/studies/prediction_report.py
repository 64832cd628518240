"""The report of the study of prediction: a table of correlations for every size, what is missing, and two pictures."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from discrepancy.parts import check_least
from experiments.report.record import (
    SECONDS,
    Cell,
    Column,
    Interval,
    Notes,
    Picture,
    Report,
    Section,
    Table,
    fixed,
)
from experiments.studies.findings import AtSize, Comparison, Correlation, Findings
from experiments.studies.prediction_figures import dots, scatter

__all__ = ["ROWS", "prediction_report"]

ROWS = 20
"""Rows of a table that a reader sees, the best ones, unless another number is asked for; CSV holds all."""


def prediction_report(findings: Findings, rows: int = ROWS) -> Report:
    """The tables of all the sizes, and how to read them. ``rows`` of 0 shows all.

    Raises:
        InvalidInput: if ``rows`` is negative.
    """
    check_least("rows", rows, 0)
    data = findings.about.get("data", "")
    pictures = (
        Picture("rank correlations of every discrepancy with the accuracy", "correlations", partial(dots, findings)),
        Picture("accuracy of every set over four of the discrepancies", "scatter", partial(scatter, findings)),
    )
    return Report(
        title=f"Which discrepancy predicts {_target(findings)}{f' on {data}' if data else ''}?",
        sections=(
            *(_section(findings, size, rows) for size in findings.sizes),
            Section(parts=(Notes((_legend(findings),)), *pictures)),
        ),
        data=findings.as_dict(),
    )


def _target(findings: Findings) -> str:
    return findings.about.get("target", "accuracy")


def _section(findings: Findings, size: AtSize, rows: int) -> Section:
    shown = list(size.rows if rows == 0 else size.rows[:rows])
    shown += [row for row in size.rows[len(shown) :] if row.pair == findings.reference]
    columns = (
        Column("discrepancy"),
        Column("view"),
        Column("ρ", fixed(2)),
        Column(_percent(findings), fixed(2)),
        Column("τ", fixed(2)),
        Column("τ within", fixed(2)),
        Column("ρ left out", fixed(2)),
        *(() if findings.reference is None else (Column("> ref.", fixed(0), unit="%"),)),
        Column("sets", fixed(0)),
        Column("time", SECONDS),
    )
    table = Table(
        columns=columns,
        rows=tuple(_cells(row, findings) for row in shown),
        records=tuple(_record(size, row) for row in size.rows),
    )
    title = (
        f"{size.per_class} a class: {len(size.families)} sets of {len(set(size.families.values()))} families, "
        f"{size.networks} networks each, {_target(findings)} {_range(size)}"
    )
    return Section(
        title, (table, Notes((*_notes(size, len(shown), _target(findings)), *findings.about.get("warnings", ()))))
    )


def _cells(row: Correlation, findings: Findings) -> tuple[Cell, ...]:
    versus: tuple[Cell, ...] = ()
    if findings.reference is not None:
        share = None if row.above_reference is None else 100 * row.above_reference
        versus = ("ref." if row.pair == findings.reference else share,)
    interval = None if row.spearman_interval is None else Interval(*row.spearman_interval)
    left_out = _span(list(row.left_out.values()))
    measured = (row.spearman, interval, row.kendall, row.within, left_out)
    return row.discrepancy, row.view, *measured, *versus, row.sets, row.seconds


def _notes(size: AtSize, shown: int, target: str) -> list[str]:
    lines = [f"... and {len(size.rows) - shown} more rows in the CSV file"] if shown < len(size.rows) else []
    if size.ceiling is not None:
        lines.append(f"a perfect predictor would reach ρ = {size.ceiling:.2f}, given how well the networks agree")
    if size.rows and all(math.isnan(row.spearman) for row in size.rows):
        same = len(set(map(size.mean, size.accuracies))) < 2
        why = f"all sets have the same {target}" if same else "no discrepancy has a value on two sets or more"
        lines.append(f"there are no correlations: {why}")
    clean = size.clean
    if clean is not None and math.isfinite(clean.spearman):
        within = f", and τ = {clean.within:.2f} within families" if math.isfinite(clean.within) else ""
        lines.append(
            f"the accuracy without an attack has ρ = {clean.spearman:.2f} {_bounds(clean.spearman_interval)}{within}"
        )
    lines += [_compared(item) for item in size.comparisons]
    noted = dict.fromkeys(row.discrepancy for row in size.rows if row.notes)
    if noted:
        lines.append(f"with warnings, which are in the CSV file: {', '.join(noted)}")
    return lines + _missing(size)


def _compared(item: Comparison) -> str:
    names = " less ".join(f"{discrepancy} in {view}" for view, discrepancy in (item.first, item.second))
    share = f", larger in {100 * item.share:.0f} % of the resamples" if math.isfinite(item.share) else ""
    difference = f"{item.difference:.2f}" if math.isfinite(item.difference) else "-"
    return f"ρ of {names}: {difference} {_bounds(item.interval)}{share}"


def _bounds(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def _missing(size: AtSize) -> list[str]:
    """A line for every reason, with the discrepancies that it concerns."""
    concerned: dict[str, dict[str, list[str]]] = {}
    for row in size.rows:
        for reason, count in row.missing.items():
            concerned.setdefault(reason, {}).setdefault(f"{row.discrepancy} of {count} sets", []).append(row.view)
    lines = []
    for reason, rows in concerned.items():
        places = [f"{name} in {views[0] if len(views) == 1 else f'{len(views)} views'}" for name, views in rows.items()]
        lines.append(f"missing: {', '.join(places)}: {reason}")
    return lines


def _legend(findings: Findings) -> str:
    about = findings.about
    evaluation = (
        f"{about['data']}, {_target(findings)} on {about['examples']:,} {about['part']} examples, last epoch, protocol "
        f"{about['protocol']} ({about['protocol_hash']}); {about['real']} real examples a class; seed {about['seed']}. "
        if about
        else ""
    )
    return (
        f"{evaluation}ρ, τ: Spearman's and Kendall's (b) rank correlation of minus the discrepancy with the "
        f"{_target(findings)}; {_percent(findings)} of {findings.resamples:,} resamples of families, and of sets within them; "
        "τ within: over pairs of sets of one family; ρ left out: least and largest ρ when one family is left out. The best of "
        "many rows is flattered by the choice."
    )


def _percent(findings: Findings) -> str:
    return f"{100 * findings.confidence:g} %"


def _range(size: AtSize) -> str:
    means = [size.mean(key) for key in size.accuracies]
    return f"{100 * min(means):.1f} to {100 * max(means):.1f} %"


def _span(values: Sequence[float]) -> Interval | None:
    known = [value for value in values if math.isfinite(value)]
    return Interval(min(known), max(known)) if known else None


def _record(size: AtSize, row: Correlation) -> dict[str, Any]:
    flat: dict[str, Any] = {"per_class": size.per_class, "view": row.view, "discrepancy": row.discrepancy}
    for name in ("spearman", "kendall", "within"):
        low, high = getattr(row, f"{name}_interval") or (None, None)
        flat |= {name: getattr(row, name), f"{name}_low": low, f"{name}_high": high}
    known = [(value, family) for family, value in row.left_out.items() if math.isfinite(value)]
    least, largest = (min(known), max(known)) if known else ((None, None), (None, None))
    flat |= {"left_out_least": least[0], "left_out_least_family": least[1]}
    flat |= {
        "left_out_mean": sum(value for value, _ in known) / len(known) if known else None,
        "left_out_largest": largest[0],
    }
    missing = [f"{reason} ({count})" for reason, count in row.missing.items()]
    flat |= {"above_reference": row.above_reference, "sets": row.sets}
    return flat | {"missing": missing, "notes": row.notes, "seconds": round(row.seconds, 3)}
