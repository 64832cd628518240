"""The pictures of the study of prediction: correlations with their intervals, and the accuracy of every set over some of the
discrepancies."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.report.figures import FAINT, INK, MORE_COLOURS, PALE, blank, framed, verbatim
from experiments.studies.findings import AtSize, Correlation, Findings, Pair

__all__ = ["dots", "scatter"]

MARKERS = "osD^vPX*"


# --- correlations ---------------------------------------------------------------------------------------------------------


def dots(findings: Findings) -> Figure:
    """ρ over all the sets, and τ within families, with their intervals: a line a discrepancy, the best first, a colour a view,
    two panels a size."""
    views = list(dict.fromkeys(view for view, _ in findings.sizes[0].values))
    names = _by_best(findings)
    height = 1.4 + len(names) * max(0.2, 0.085 * len(views))
    width = 1.8 + 6.6 * len(findings.sizes)
    figure = blank(width, height)
    ratios = [3.0, 2.0] * len(findings.sizes)
    panels = figure.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for number, size in enumerate(findings.sizes):
        overall, within = panels[2 * number : 2 * number + 2]
        _intervals(overall, size, names, views, "spearman")
        _intervals(within, size, names, views, "within")
        if size.ceiling is not None:
            overall.axvline(size.ceiling, color=PALE, linewidth=0.8, linestyle=(0, (4, 3)))
        overall.set_title(f"{size.per_class} a class, all {len(size.families)} sets", loc="left", size=9, color=INK)
        overall.set_xlabel("Spearman's ρ of minus the discrepancy with the accuracy", color=INK, size=8)
        within.set_title("within families", loc="left", size=9, color=INK)
        within.set_xlabel("Kendall's τ", color=INK, size=8)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    panels[0].set_yticks(range(len(names)), [verbatim(name) for name in names])
    if findings.reference is not None:
        panels[0].get_yticklabels()[names.index(findings.reference[1])].set_fontweight("bold")
    _key(figure, panels[0], findings, views)
    return figure


def _intervals(axes: Any, size: AtSize, names: Sequence[str], views: Sequence[str], what: str) -> None:
    """A coefficient of every row, with its interval; and for ρ the least one without a family."""
    framed(axes)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.axvline(0, color=PALE, linewidth=0.8)
    apart, ends = 0.8 / max(len(views), 2), [0.0]
    for row in size.rows:
        value, found = getattr(row, what), getattr(row, f"{what}_interval")
        if not math.isfinite(value):
            continue
        shade = _shade(views.index(row.view))
        place = names.index(row.discrepancy) + apart * (views.index(row.view) - (len(views) - 1) / 2)
        ends += [value, *(found or ())]
        if found is not None:
            axes.plot(found, [place] * 2, color=shade, linewidth=1.1, alpha=0.45, zorder=2)
        if what == "spearman" and math.isfinite(row.worst_left_out):
            axes.plot(row.worst_left_out, place, "|", color=shade, markersize=4.5, markeredgewidth=1.1, zorder=3)
        axes.plot(value, place, "o", color=shade, markersize=3.6, markeredgewidth=0, zorder=4)
    for line in range(1, len(names)):
        axes.axhline(line - 0.5, color=FAINT, linewidth=0.5, zorder=1)
    axes.set_xlim(min(ends) - 0.04, 1.04)
    axes.xaxis.set_major_locator(MaxNLocator(6))


def _key(figure: Figure, axes: Any, findings: Findings, views: Sequence[str]) -> None:
    handles = [
        axes.plot([], [], "o", color=_shade(number), markersize=4.5, label=verbatim(view))[0]
        for number, view in enumerate(views)
    ]
    handles += axes.plot(
        [], [], "-", color=PALE, linewidth=1.1, label=f"{100 * findings.confidence:g} % of the resamples"
    )
    handles += axes.plot([], [], "|", color=PALE, markersize=5, label="least with one family left out")
    if any(size.ceiling is not None for size in findings.sizes):
        dashes = (0, (4, 3))
        handles += axes.plot([], [], color=PALE, linewidth=0.8, linestyle=dashes, label="a perfect predictor")
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(4, len(handles)),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )


def _by_best(findings: Findings) -> list[str]:
    """The names of the discrepancies, sorted by their best ρ in any view, averaged over the sizes."""
    best: dict[str, list[float]] = {}
    for size in findings.sizes:
        here: dict[str, float] = {}
        for row in size.rows:
            value = row.spearman if math.isfinite(row.spearman) else -1.0
            here[row.discrepancy] = max(value, here.get(row.discrepancy, -1.0))
        for name, value in here.items():
            best.setdefault(name, []).append(value)
    return sorted(best, key=lambda name: -float(np.mean(best[name])))


# --- accuracies -----------------------------------------------------------------------------------------------------------


def scatter(findings: Findings) -> Figure:
    """The accuracy of every set over the two best discrepancies, the reference and the worst: a row a size."""
    target = findings.about.get("target", "accuracy")
    families = list(dict.fromkeys(family for size in findings.sizes for family in size.families.values()))
    rows = [_chosen(size, findings.reference) for size in findings.sizes]
    columns = max(map(len, rows), default=0)
    figure = blank(1.7 + 2.6 * max(columns, 1), 0.4 + 2.6 * len(rows))
    panels = figure.subplots(len(rows), max(columns, 1), squeeze=False, sharey="row")
    for size, line, chosen in zip(findings.sizes, panels, rows, strict=True):
        for axes, (role, row) in zip(line, chosen, strict=False):
            _cloud(axes, size, row, families)
            axes.set_title(
                verbatim(f"{role}: {row.discrepancy}\nin {row.view}, ρ = {row.spearman:.2f}"),
                loc="left",
                size=8,
                color=INK,
            )
        for axes in line[len(chosen) :]:
            axes.set_visible(False)
        line[0].set_ylabel(f"{target} in %\n{size.per_class} a class", color=INK, size=8)
    handles = [
        panels[0][0].plot([], [], _marker(i), color=_shade(i), markersize=4.5, linestyle="", label=verbatim(family))[0]
        for i, family in enumerate(families)
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8, labelcolor=INK)
    return figure


def _chosen(size: AtSize, reference: Pair | None) -> list[tuple[str, Correlation]]:
    """The two best rows (of different discrepancies), the reference and the worst, each once."""
    rows = [row for row in size.rows if math.isfinite(row.spearman)]
    chosen = [("best", row) for row in rows[:1]]
    chosen += [("second", row) for row in rows if row.discrepancy != rows[0].discrepancy][:1]
    chosen += [("reference", row) for row in rows if row.pair == reference]
    chosen += [("worst", row) for row in rows[-1:]]
    return [item for number, item in enumerate(chosen) if item[1] not in [row for _, row in chosen[:number]]]


def _cloud(axes: Any, size: AtSize, row: Correlation, families: Sequence[str]) -> None:
    values = size.values[row.pair]
    for key, value in values.items():
        number, measured = families.index(size.families[key]), 100 * np.array(size.accuracies[key])
        error = measured.std(ddof=1) / math.sqrt(len(measured)) if len(measured) > 1 else 0.0
        axes.errorbar(
            value,
            measured.mean(),
            error,
            fmt=_marker(number),
            color=_shade(number),
            markersize=4.2,
            markeredgecolor="white",
            markeredgewidth=0.4,
            elinewidth=0.7,
        )
    framed(axes)
    axes.grid(color=FAINT, linewidth=0.8)
    low, high = min(values.values()), max(values.values())
    if low > 0 and high / low > 20:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=5) if high / low > 300 else LogLocator(subs=(1, 3)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _shade(number: int) -> str:
    return MORE_COLOURS[number % len(MORE_COLOURS)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]
