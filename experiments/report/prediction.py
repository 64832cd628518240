"""The study of prediction as a table, a file of values and two pictures: correlations with their intervals, and the accuracy of
every set over some of the discrepancies."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.report.tables import duration, table
from experiments.studies.findings import AtSize, Comparison, Correlation, Findings, Pair
from objectives.storage import replacing

__all__ = ["dots", "save_csv", "save_pictures", "scatter", "text"]

DPI = 150
INK, PALE, FAINT = "#222222", "#777777", "#e6e6e6"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's colours, which remain distinct to colour-blind readers."""
FURTHER = ("#882255", "#999933", "#332288", "#44aa99", "#aa4499")
"""Some of Tol's, for more families than those; markers differ too."""
MARKERS = "osD^vPX*"
ROWS = 20
"""Rows of the printed table, the best ones, unless there is a wish; the file holds all."""


# --- words ---------------------------------------------------------------------------------------------------------------


def text(findings: Findings, rows: int = ROWS) -> str:
    """The tables of all the sizes, with what is missing and how to read them. ``rows`` of 0 shows all."""
    return "\n\n".join([*(_size(findings, size, rows) for size in findings.sizes), _legend(findings)])


def _size(findings: Findings, size: AtSize, rows: int) -> str:
    shown = list(size.rows if rows == 0 else size.rows[:rows])
    shown += [row for row in size.rows[len(shown) :] if row.pair == findings.reference]
    versus = [] if findings.reference is None else ["> ref."]
    columns = ["discrepancy", "view", "ρ", _percent(findings), "τ", "τ within", "ρ left out", *versus, "sets", "time"]
    lines = [_cells(row, findings) for row in shown]
    head = (
        f"{size.per_class} a class: {len(size.families)} sets of {len(set(size.families.values()))} families, "
        f"{size.networks} networks each, accuracy {_range(size)}"
    )
    parts = [head, table(columns, lines, columns[2:])]
    if len(shown) < len(size.rows):
        parts.append(f"... and {len(size.rows) - len(shown)} more rows in the file")
    if size.ceiling is not None:
        parts.append(f"a perfect predictor would reach ρ = {size.ceiling:.2f}, by how far the networks agree")
    parts += [_compared(item) for item in size.comparisons]
    noted = dict.fromkeys(row.discrepancy for row in size.rows if row.notes)
    if noted:
        parts.append(f"warnings, told in the file: {', '.join(noted)}")
    return "\n".join([*parts, *_missing(size)])


def _cells(row: Correlation, findings: Findings) -> list[str]:
    cells = [
        row.discrepancy,
        row.view,
        _number(row.spearman),
        _interval(row.spearman_interval),
        _number(row.kendall),
        _number(row.within),
        _span(list(row.left_out.values())),
    ]
    if findings.reference is not None:
        above = "ref." if row.pair == findings.reference else "-"
        cells.append(above if row.above_reference is None else f"{100 * row.above_reference:.0f} %")
    return [*cells, str(row.sets), duration(row.seconds)]


def _compared(item: Comparison) -> str:
    names = " less ".join(f"{discrepancy} in {view}" for view, discrepancy in (item.first, item.second))
    share = f", larger in {100 * item.share:.0f} % of the resamples" if math.isfinite(item.share) else ""
    return f"ρ of {names}: {_number(item.difference)} {_interval(item.interval)}{share}"


def _missing(size: AtSize) -> list[str]:
    """A line for every reason, with those whom it concerns."""
    concerned: dict[str, dict[str, list[str]]] = {}
    for row in size.rows:
        for reason, count in row.missing.items():
            concerned.setdefault(reason, {}).setdefault(f"{row.discrepancy} of {count} sets", []).append(row.view)
    lines = []
    for reason, rows in concerned.items():
        told = [f"{name} in {views[0] if len(views) == 1 else f'{len(views)} views'}" for name, views in rows.items()]
        lines.append(f"missing: {', '.join(told)}: {reason}")
    return lines


def _legend(findings: Findings) -> str:
    about = findings.about
    judged = (
        f"{about['data']}, accuracy on {about['examples']:,} {about['part']} examples, last epoch, protocol "
        f"{about['protocol']} ({about['protocol_hash']}); {about['real']} real examples a class; seed {about['seed']}. "
        if about
        else ""
    )
    return (
        f"{judged}ρ, τ: Spearman's and Kendall's (b) rank correlation of minus the discrepancy with the accuracy; "
        f"{_percent(findings)} of {findings.resamples:,} resamples of families, and of sets within them; τ within: over pairs "
        "of sets of one family; ρ left out: least and largest ρ when one family is left out. The best of many rows is "
        "flattered by the choice."
    )


def _percent(findings: Findings) -> str:
    return f"{100 * findings.confidence:g} %"


def _range(size: AtSize) -> str:
    means = [size.mean(key) for key in size.accuracies]
    return f"{100 * min(means):.1f} to {100 * max(means):.1f} %"


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _interval(found: tuple[float, float] | None) -> str:
    return "-" if found is None else f"[{found[0]:.2f}, {found[1]:.2f}]"


def _span(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    return f"{min(known):.2f} .. {max(known):.2f}" if known else "-"


# --- files ---------------------------------------------------------------------------------------------------------------


def save_csv(findings: Findings, path: Path) -> None:
    """Every row of every size."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(_flat(findings.sizes[0], findings.sizes[0].rows[0])))
        writer.writeheader()
        for size in findings.sizes:
            writer.writerows(_flat(size, row) for row in size.rows)


def _flat(size: AtSize, row: Correlation) -> dict[str, Any]:
    flat: dict[str, Any] = {"per_class": size.per_class, "view": row.view, "discrepancy": row.discrepancy}
    for name in ("spearman", "kendall", "within"):
        low, high = getattr(row, f"{name}_interval") or ("", "")
        flat |= {name: _bare(getattr(row, name)), f"{name}_low": low, f"{name}_high": high}
    known = [(value, family) for family, value in row.left_out.items() if math.isfinite(value)]
    least, largest = (min(known), max(known)) if known else (("", ""), ("", ""))
    flat |= {"left_out_least": least[0], "left_out_least_family": least[1]}
    flat |= {
        "left_out_mean": sum(value for value, _ in known) / len(known) if known else "",
        "left_out_largest": largest[0],
    }
    flat |= {"above_reference": "" if row.above_reference is None else row.above_reference, "sets": row.sets}
    missing = "; ".join(f"{reason} ({count})" for reason, count in row.missing.items())
    return flat | {"missing": missing, "notes": "; ".join(row.notes), "seconds": round(row.seconds, 3)}


def _bare(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def save_pictures(findings: Findings, correlations: Path, accuracies: Path) -> None:
    """Both pictures as PNG."""
    for figure, path in ((dots(findings), correlations), (scatter(findings), accuracies)):
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)


# --- correlations ---------------------------------------------------------------------------------------------------------


def dots(findings: Findings) -> Figure:
    """ρ over all the sets, and τ within families, with their intervals: a line a discrepancy, the best first, a colour a view,
    two panels a size."""
    views = list(dict.fromkeys(view for view, _ in findings.sizes[0].values))
    names = _by_best(findings)
    height = 1.4 + len(names) * max(0.2, 0.085 * len(views))
    width = 1.8 + 6.6 * len(findings.sizes)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
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
    panels[0].set_yticks(range(len(names)), [_verbatim(name) for name in names])
    if findings.reference is not None:
        panels[0].get_yticklabels()[names.index(findings.reference[1])].set_fontweight("bold")
    _key(figure, panels[0], findings, views)
    return figure


def _intervals(axes: Any, size: AtSize, names: Sequence[str], views: Sequence[str], what: str) -> None:
    """A coefficient of every row, with its interval; and for ρ the least one without a family."""
    _frame(axes)
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
        axes.plot([], [], "o", color=_shade(number), markersize=4.5, label=_verbatim(view))[0]
        for number, view in enumerate(views)
    ]
    handles += axes.plot([], [], "-", color=PALE, linewidth=1.1, label=f"{_percent(findings)} of the resamples")
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
    families = list(dict.fromkeys(family for size in findings.sizes for family in size.families.values()))
    rows = [_chosen(size, findings.reference) for size in findings.sizes]
    columns = max(map(len, rows), default=0)
    figure = Figure(
        figsize=(1.7 + 2.6 * max(columns, 1), 0.4 + 2.6 * len(rows)), dpi=DPI, facecolor="white", layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), max(columns, 1), squeeze=False, sharey="row")
    for size, line, chosen in zip(findings.sizes, panels, rows, strict=True):
        for axes, (role, row) in zip(line, chosen, strict=False):
            _cloud(axes, size, row, families)
            axes.set_title(
                _verbatim(f"{role}: {row.discrepancy}\nin {row.view}, ρ = {row.spearman:.2f}"),
                loc="left",
                size=8,
                color=INK,
            )
        for axes in line[len(chosen) :]:
            axes.set_visible(False)
        line[0].set_ylabel(f"accuracy in %, {size.per_class} a class", color=INK, size=8)
    handles = [
        panels[0][0].plot([], [], _marker(i), color=_shade(i), markersize=4.5, linestyle="", label=_verbatim(family))[0]
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
    _frame(axes)
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
    shades = (*COLOURS, *FURTHER)
    return shades[number % len(shades)]


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _frame(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(colors=PALE, labelcolor=INK, labelsize=8)
    axes.set_axisbelow(True)


def _verbatim(name: str) -> str:
    """A name in which nothing is taken for mathematics."""
    return name.replace("$", r"\$")
