"""The report of the study of exact ridge regression: its tables, beside what was published."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from experiments.report.record import (
    Cell,
    Column,
    MeanStd,
    Report,
    Section,
    Table,
    fixed,
    scientific,
    significant,
)
from experiments.report.values import shown
from experiments.studies.exact import Noise, Row

__all__ = ["exact_report"]

TABLE_3: dict[tuple[str, str], tuple[float, ...]] = {
    ("MNIST", "linear"): (86.41, 86.41, 86.41, 86.41),
    ("MNIST", "fcnn"): (93.89, 93.89, 93.89, 93.85),
    ("MNIST", "rff"): (93.82, 93.82, 93.82, 93.82),
    ("CIFAR10", "linear"): (39.48, 39.48, 39.48, 39.48),
    ("CIFAR10", "fcnn"): (47.86, 47.87, 47.84, 47.81),
    ("CIFAR10", "rff"): (42.84, 42.84, 42.87, 42.73),
    ("CIFAR100", "linear"): (14.37, 14.37, 14.37, 14.37),
    ("CIFAR100", "fcnn"): (21.42, 21.41, 21.52, 21.49),
    ("CIFAR100", "rff"): (18.71, 18.70, 18.69, 18.57),
}
"""Accuracies in %, original and at 1, 10 and 50 examples a class: Chen, Huang, Weng (2024), Table 3."""

TABLE_4: dict[tuple[str, int], tuple[float, float, float, float]] = {
    ("MNIST", 1): (93.44, 159, 93.72, 16),
    ("MNIST", 10): (93.75, 554, 93.69, 16),
    ("MNIST", 50): (93.72, 3114, 93.62, 16),
    ("CIFAR10", 1): (45.83, 225, 47.85, 21),
    ("CIFAR10", 10): (47.50, 594, 47.76, 20),
    ("CIFAR10", 50): (47.48, 3510, 47.77, 20),
    ("CIFAR100", 1): (20.08, 616, 21.58, 20),
    ("CIFAR100", 10): (21.56, 9323, 21.59, 20),
}
"""KIP % and seconds, exact % and seconds, on a GPU: the same, Table 4."""

SIZES = (1, 10, 50)


def exact_report(rows: Sequence[Row], noise: Sequence[Noise] = ()) -> Report:
    """A table of accuracies; one that has KIP beside it, and one of what noise hides, where there are any."""
    exact, kip = ([row for row in rows if row.method == method] for method in ("ridge", "kip"))
    sections = [Section("Accuracy in %, after learning from all the real data and from the set", (_accuracies(exact),))]
    if kip:
        sections.append(
            Section("Compared with KIP on the same features, stopped after the given minutes", (_beside(exact, kip),))
        )
    if noise:
        sections.append(
            Section("W computed from points and labels, with noise Z: the noise hides nothing", (_noise(noise),))
        )
    return Report(
        title="Exact ridge regression",
        sections=tuple(sections),
        data={"rows": [row.as_dict() for row in rows], "noise": [row.as_dict() for row in noise]},
    )


def _noise(noise: Sequence[Noise]) -> Table:
    return Table(
        columns=(
            Column("data"),
            Column("features"),
            Column("a class", fixed(0)),
            Column("noise", significant(6)),
            Column("error of W", scientific(1)),
            Column("accuracy", fixed(2), unit="%"),
        ),
        rows=tuple((row.data, row.features, row.per_class, row.noise, row.error, 100 * row.accuracy) for row in noise),
        records=tuple(row.as_dict() for row in noise),
        name="noise",
    )


def _accuracies(rows: Sequence[Row]) -> Table:
    sizes = sorted({row.per_class for row in rows})
    columns = (
        Column("data"),
        Column("features"),
        Column("original", fixed(2)),
        *(Column(f"{size} a class", fixed(2)) for size in sizes),
        Column("published", align="right"),
        Column("error of W", scientific(1)),
        Column("condition", scientific(1)),
        Column("as float32", align="right"),
        Column("as bytes", align="right"),
        Column("seconds", align="right"),
    )
    places = dict.fromkeys((row.data, row.features) for row in rows)
    lines = [_line([row for row in rows if (row.data, row.features) == place], sizes) for place in places]
    return Table(columns=columns, rows=tuple(lines), records=tuple(row.as_dict() for row in rows), name="accuracies")


def _line(rows: Sequence[Row], sizes: Sequence[int]) -> tuple[Cell, ...]:
    """One data set and features; ``seconds`` are those of the real side, and those of a set beyond them."""
    by_size = [[row for row in rows if row.per_class == size] for size in sizes]
    known = TABLE_3.get((rows[0].data, rows[0].features))
    published = [known[0], *(known[1 + SIZES.index(size)] for size in sizes if size in SIZES)] if known else []
    return (
        rows[0].data,
        rows[0].features,
        _mean([row.original for row in by_size[0]]),
        *(_mean([row.condensed for row in each]) for each in by_size),
        " / ".join(f"{value:.2f}" for value in published) or None,
        max(row.error or 0 for row in rows),
        max(row.condition or 0 for row in rows),
        " / ".join(shown(_mean([row.accuracy_float32 for row in each]), fixed(2)) for each in by_size),
        " / ".join(shown(_mean([row.accuracy_bytes for row in each]), fixed(2)) for each in by_size),
        f"{fmean(row.real_seconds for row in by_size[0]):.2f} + {fmean(row.own_seconds for row in rows):.2f}",
    )


def _beside(exact: Sequence[Row], kip: Sequence[Row]) -> Table:
    columns = (
        Column("data"),
        Column("a class", fixed(0)),
        Column("KIP", fixed(2), unit="%"),
        Column("KIP", fixed(0), unit="s"),
        Column("steps", fixed(0)),
        Column("exact", fixed(2), unit="%"),
        Column("exact", fixed(2), unit="s"),
        Column("ratio", fixed(1)),
        Column("published", align="right"),
    )
    lines: list[tuple[Cell, ...]] = []
    for key in dict.fromkeys(_place(row) for row in kip):
        theirs, ours = ([row for row in rows if _place(row) == key] for rows in (kip, exact))
        seconds = [fmean(row.seconds for row in rows) for rows in (theirs, ours)]
        known = TABLE_4.get((key[0], key[2]))
        lines.append(
            (
                key[0],
                key[2],
                _mean([row.condensed for row in theirs]),
                seconds[0],
                fmean(row.steps for row in theirs),
                _mean([row.condensed for row in ours]),
                seconds[1],
                seconds[0] / seconds[1],
                f"{known[0]} in {known[1]:,.0f} s, {known[2]} in {known[3]:.0f} s" if known else None,
            )
        )
    records: tuple[dict[str, Any], ...] = tuple(row.as_dict() for row in kip)
    return Table(columns=columns, rows=tuple(lines), records=records, name="kip")


def _place(row: Row) -> tuple[str, str, int]:
    return row.data, row.features, row.per_class


def _mean(values: Sequence[float | None]) -> MeanStd | None:
    """The mean in %, with the standard deviation where there are several."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return None
    return MeanStd(fmean(known), stdev(known) if len(known) > 1 else None)
