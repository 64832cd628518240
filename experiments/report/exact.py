"""The tables of the study of exact ridge regression, beside what was published."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from experiments.report.tables import table

if TYPE_CHECKING:
    from experiments.studies.exact import Noise, Row

__all__ = ["markdown", "text"]

TABLE_3: Mapping[tuple[str, str], tuple[float, ...]] = {
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

TABLE_4: Mapping[tuple[str, int], tuple[float, float, float, float]] = {
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


def text(rows: "Sequence[Row]", hidden: "Sequence[Noise]" = ()) -> str:
    """For a terminal."""
    parts = []
    for title, columns, lines in _tables(rows, hidden):
        numeric = [name for name in columns if name not in ("data", "features")]
        parts.append(f"{title}\n\n{table(columns, lines, numeric)}")
    return "\n\n".join(parts)


def markdown(rows: "Sequence[Row]", hidden: "Sequence[Noise]" = ()) -> str:
    """The same as Markdown."""
    parts = []
    for title, columns, lines in _tables(rows, hidden):
        rules = ["---" if name in ("data", "features") else "---:" for name in columns]
        drawn = [f"| {' | '.join(line)} |" for line in (columns, rules, *lines)]
        parts.append(f"## {title}\n\n" + "\n".join(drawn))
    return "\n\n".join(parts) + "\n"


def _tables(rows: "Sequence[Row]", hidden: "Sequence[Noise]") -> list[tuple[str, list[str], list[list[str]]]]:
    own = [row for row in rows if row.method == "ridge"]
    made = [("Accuracy in %, of what is learned from all the real data and from the set", *_accuracies(own))]
    kip = [row for row in rows if row.method == "kip"]
    if kip:
        made.append(("Beside KIP on the same features, stopped after the minutes that it had", *_beside(own, kip)))
    if hidden:
        made.append(("What whoever holds points and labels computes, with noise Z: it hides nothing", *_hidden(hidden)))
    return made


def _hidden(hidden: "Sequence[Noise]") -> tuple[list[str], list[list[str]]]:
    columns = ["data", "features", "a class", "noise", "error of W", "accuracy %"]
    return columns, [
        [row.data, row.features, str(row.per_class), f"{row.noise:g}", f"{row.error:.1e}", f"{100 * row.accuracy:.2f}"]
        for row in hidden
    ]


def _accuracies(rows: "Sequence[Row]") -> tuple[list[str], list[list[str]]]:
    sizes = sorted({row.per_class for row in rows})
    columns = ["data", "features", "original", *(f"{size} a class" for size in sizes), "published"]
    columns += ["error of W", "condition", "as float32", "as bytes", "seconds"]
    lines = []
    for data, features in dict.fromkeys((row.data, row.features) for row in rows):
        of = [row for row in rows if (row.data, row.features) == (data, features)]
        by_size = [[row for row in of if row.per_class == size] for size in sizes]
        known = TABLE_3.get((data, features))
        shown = [known[0], *(known[1 + SIZES.index(size)] for size in sizes if size in SIZES)] if known else []
        one = by_size[0]
        lines.append(
            [
                data,
                features,
                _mean([row.original for row in one]),
                *(_mean([row.condensed for row in each]) for each in by_size),
                " / ".join(f"{value:.2f}" for value in shown) or "-",
                f"{max(row.error or 0 for row in of):.1e}",
                f"{max(row.condition or 0 for row in of):.1e}",
                " / ".join(_mean([row.accuracy_float32 for row in each]) for each in by_size),
                " / ".join(_mean([row.accuracy_bytes for row in each]) for each in by_size),
                f"{fmean(row.real_seconds for row in one):.2f} + {fmean(row.own_seconds for row in of):.2f}",
            ]
        )
    return columns, lines


def _beside(own: "Sequence[Row]", kip: "Sequence[Row]") -> tuple[list[str], list[list[str]]]:
    columns = ["data", "a class", "KIP %", "KIP s", "steps", "exact %", "exact s", "ratio", "published"]
    lines = []
    for data, features, size in dict.fromkeys((row.data, row.features, row.per_class) for row in kip):
        key = (data, features, size)
        other = [row for row in kip if (row.data, row.features, row.per_class) == key]
        exact = [row for row in own if (row.data, row.features, row.per_class) == key]
        theirs, ours = fmean(row.seconds for row in other), fmean(row.seconds for row in exact)
        known = TABLE_4.get((data, size))
        lines.append(
            [
                data,
                str(size),
                _mean([row.condensed for row in other]),
                f"{theirs:.0f}",
                f"{fmean(row.steps for row in other):,.0f}",
                _mean([row.condensed for row in exact]),
                f"{ours:.2f}",
                f"{theirs / ours:.1f}",
                f"{known[0]} in {known[1]:,.0f} s, {known[2]} in {known[3]:.0f} s" if known else "-",
            ]
        )
    return columns, lines


def _mean(values: Sequence[float | None]) -> str:
    """The mean in %, with the standard deviation where there are several."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    return f"{fmean(known):.2f}" + (f" ± {stdev(known):.2f}" if len(known) > 1 else "")
