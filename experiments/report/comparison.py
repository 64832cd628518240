"""The report of a comparison: how far data sets are apart, as a table and as a picture with the yardstick on every axis."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.compare.answer import ALL, CLASSES, Answer, Row
from experiments.compare.yardstick import Curve, PowerLaw
from experiments.report.figures import COLOURS, FAINT, INK, PALE, blank, framed, verbatim
from experiments.report.files import made, save, save_png
from experiments.report.record import (
    Cell,
    Column,
    Interval,
    Notes,
    Picture,
    Report,
    Section,
    Table,
    fixed,
    significant,
)
from experiments.report.values import duration
from objectives.attacks.threat import Threat
from objectives.storage import check_free

__all__ = ["comparison_report", "drawn", "prepare_all", "save_all"]

PLAIN = "plain"
"""The column beside the worst case."""

FILES = ("comparison.json", "comparison.csv", "comparison.html")


def comparison_report(answer: Answer) -> Report:
    """The table, what must be known to read it, and the picture. Single classes are in CSV and JSON; a reader sees them where
    nothing else was asked for."""
    picture = Picture(
        "estimates with their intervals, for each discrepancy and set", "comparison", lambda: drawn(answer)
    )
    return Report(
        title=f"Distance from {answer.real[0]}",
        sections=(Section(parts=(_table(answer), Notes(tuple(_notes(answer))), picture)),),
        data=answer.as_dict(),
    )


def prepare_all(folder: Path, force: bool) -> None:
    """Make the folder that :func:`save_all` writes into, before the work starts.

    Raises:
        InvalidInput: if one of its files exists and is not to be overwritten.
        StorageError: if the folder cannot be made.
    """
    check_free((folder / name for name in (*FILES, "comparison.png")), force)
    made(folder)


def save_all(report: Report, folder: Path) -> None:
    """Write JSON, CSV, HTML and the picture into the folder, as ``comparison.*``."""
    made(folder)
    for name in FILES:
        save(report, folder / name)
    for picture in report.pictures:
        save_png(picture.png, folder / f"{picture.name}.png")


# --- the table ------------------------------------------------------------------------------------------------------------


def _table(answer: Answer) -> Table:
    rows = _shown(answer)
    columns = (
        Column("discrepancy"),
        Column("set"),
        Column("group"),
        Column("estimate", significant(3)),
        Column(f"{_percent(answer)} interval", significant(3)),
        Column("as close as", align="right"),
        Column(PLAIN, significant(3)),
        Column(_worst(answer), significant(3)),
        Column("p", fixed(3)),
    )
    lines = [_line(row) for row in rows]
    left_out = set() if any(row.p is not None for row in rows) else {"p"}
    if all(row.worst is None for row in rows):
        left_out |= {PLAIN, _worst(answer)}
    if len({row.group for row in rows}) == 1 and rows[0].group in (ALL, CLASSES):
        left_out.add("group")
    kept = [number for number, column in enumerate(columns) if column.title not in left_out]
    return Table(
        columns=tuple(columns[number] for number in kept),
        rows=tuple(tuple(line[number] for number in kept) for line in lines),
        records=tuple(_record(row) for row in answer.rows),
    )


def _line(row: Row) -> tuple[Cell, ...]:
    interval = None if row.interval is None else Interval(row.interval.low, row.interval.high)
    group = "class mean" if row.group == CLASSES else row.group
    worst = (None, None) if row.worst is None else (row.worst.plain, row.worst.largest)
    return row.discrepancy, row.set, group, row.estimate, interval, _size(row), *worst, row.p


def _worst(answer: Answer) -> str:
    """``worst linf 8/255``."""
    worst = answer.config["worst"]
    return "worst" if worst is None else f"worst {Threat(worst['norm'], worst['eps']).name}"


def _record(row: Row) -> dict[str, Any]:
    """A row with the yardstick in columns of its own."""
    plain = row.as_dict()
    size = plain.pop("yardstick") or dict.fromkeys(("k", "low", "high", "least", "most", "closed"))
    worst = plain.pop("worst") or dict.fromkeys(("real", "plain", "largest"))
    more = {"yardstick": size, "worst": worst}
    return plain | {f"{key}_{name}": value for key, found in more.items() for name, value in found.items()}


def _notes(answer: Answer) -> list[str]:
    """What the columns mean, what was left out, and how it can be made again."""
    name, real = answer.real
    split = next((row for row in answer.rows if row.group == CLASSES), None)
    about = f"real side: {name}, {real.examples:,} examples"
    if split is not None and real.per_class is not None:
        about += f", {real.per_class:,.4g} a class"
    lines = [f"{about}; intervals: the real side is resampled by halves, each set is held fixed"]
    sizes = {type(row.yardstick) for row in answer.rows if row.size is not None}
    if sizes:
        how = " and ".join(
            words for sort, words in ((PowerLaw, "in closed form"), (Curve, "by simulation")) if sort in sizes
        )
        each = " (of each class)" if split else ""
        lines.append(f"as close as: a new real sample of this size{each} has this value on average, {how}")
    if any(row.p is not None for row in answer.rows):
        lines.append(f"p: permutation test of two independent samples, {answer.config['permutations']} permutations")
    if any(row.worst is not None for row in answer.rows):
        worst = answer.config["worst"]
        lines.append(
            f"{PLAIN}, {_worst(answer)}: the value without the correction of the estimate, and the largest value found for "
            "real examples that move within the ball (radius for values in 0 .. 1 where their limits are known); steps: "
            f"{worst['steps']}, starts: {worst['restarts']}"
        )
    lines += [f"note: {note}" for note in answer.notes]
    versions = answer.versions
    lines.append(
        f"configuration {answer.hash}, discrepancy {versions['discrepancy']}, torch {versions['torch']} on {answer.device}, "
        f"{duration(answer.seconds)}"
    )
    return lines


def _shown(answer: Answer) -> list[Row]:
    if any(row.group == ALL for row in answer.rows):
        return [row for row in answer.rows if row.group in (ALL, CLASSES)]
    return list(answer.rows)


def _percent(answer: Answer) -> str:
    return f"{100 * answer.config['confidence']:g} %"


def _size(row: Row) -> str | None:
    """``37 a class [31, 44]``."""
    if row.size is None:
        return None
    around = row.size.interval
    unit = "" if row.group == ALL else " a class"
    if around is None:
        return f"{row.size}{unit}"
    low, high = (_end(k, row.size.least, row.size.most) for k in (around.low, around.high))
    return f"{row.size}{unit} [{low}, {high}]"


def _end(k: float, least: float, most: float) -> str:
    if math.isinf(k):
        return "∞"
    if k <= least:
        return f"≤ {least:.0f}"
    return f"≥ {most:,.0f}" if k >= most else (f"{k:.1f}" if k < 10 else f"{k:,.0f}")


# --- the picture ----------------------------------------------------------------------------------------------------------

MARKS = tuple(factor * 10**power for power in range(7) for factor in (1, 2, 5))
TITLES = {CLASSES: "mean of classes", ALL: "all together"}


def drawn(answer: Answer) -> Figure:
    """A panel for each discrepancy, a line for each set: estimate and interval, single classes pale behind. The marks above a
    panel are the yardstick: where real samples of that size lie on average."""
    names = list(dict.fromkeys(row.discrepancy for row in answer.rows))
    sets = list(answer.sets)
    groups = [group for group in (CLASSES, ALL) if any(row.group == group for row in answer.rows)]
    longest = max(len(_cut(name)) for name in sets)
    width = 0.075 * longest + 0.4 + 4.3 * len(groups)
    height = len(names) * (0.95 + 0.24 * len(sets)) + 0.5
    figure = blank(max(width, 5.0), height)
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.08)
    grid = figure.subplots(len(names), len(groups), squeeze=False)
    for line, name in zip(grid, names, strict=True):
        for axes, group in zip(line, groups, strict=True):
            rows = [row for row in answer.rows if row.discrepancy == name and row.estimate is not None]
            _panel(axes, rows, sets, group, first=group == groups[0], title=name)
    unit = " a class" if groups[0] == CLASSES else ""
    for axes, group in zip(grid[0], groups, strict=True):
        above = f"{TITLES[group]}, on the scale of k real examples{unit if group == CLASSES else ''}"
        axes.annotate(
            above, (0, 1), xytext=(0, 30), xycoords="axes fraction", textcoords="offset points", size=8, color=PALE
        )
    caption = f"real side: {_cut(answer.real[0], 40)}   bars: {_percent(answer)} intervals, sets held fixed"
    if CLASSES in groups:
        caption += "   pale: single classes"
    if any(row.worst for row in answer.rows):
        caption += f"   circle: {_worst(answer)}"
    figure.supxlabel(verbatim(caption), size=8, color=PALE, x=0.01, ha="left")
    return figure


def _panel(axes: Any, rows: Sequence[Row], sets: Sequence[str], group: str, first: bool, title: str) -> None:
    here = [row for row in rows if row.group == group]
    single = [row for row in rows if row.group not in (ALL, CLASSES)] if group == CLASSES else []
    axes.set_ylim(len(sets) - 0.4, -0.6)
    axes.set_yticks(range(len(sets)), [verbatim(_cut(name)) for name in sets] if first else [""] * len(sets))
    framed(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if first:
        axes.set_title(verbatim(title), loc="left", size=10, color=INK, weight="bold", pad=15)
    if not here:
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        if any(rows):
            axes.annotate("not measured", (0.02, 0.5), xycoords="axes fraction", size=8, color=PALE)
        return
    low, high, logarithmic = _limits(axes, here, single)
    for row in (*single, *here):
        place, shade = sets.index(row.set), COLOURS[sets.index(row.set) % len(COLOURS)]
        assert row.estimate is not None
        outside = row.estimate <= low and logarithmic
        at = low if outside else row.estimate
        if row in single:
            axes.plot(at, place, "|", color=shade, alpha=0.35, markersize=7, clip_on=False)
            continue
        if row.interval is not None:
            left = max(row.interval.low, low) if logarithmic else row.interval.low
            axes.plot([left, row.interval.high], [place, place], color=shade, linewidth=2.2, solid_capstyle="butt")
        axes.plot(at, place, "<" if outside else "o", color=shade, markersize=6.5, clip_on=False, zorder=3)
        if row.worst is not None:
            axes.plot(
                row.worst.largest,
                place,
                "o",
                color=shade,
                markersize=6.5,
                markerfacecolor="none",
                clip_on=False,
                zorder=3,
            )
    axes.set_xlim(low, high)
    _marks(axes, here[0], low, high)


def _limits(axes: Any, here: Sequence[Row], single: Sequence[Row]) -> tuple[float, float, bool]:
    """The range of the axis, logarithmic where the estimates are positive."""
    estimates = [row.estimate for row in (*here, *single) if row.estimate is not None]
    ends = [end for row in here if row.interval for end in (row.interval.low, row.interval.high)]
    ends += [row.worst.largest for row in here if row.worst]
    positive = [value for value in (*estimates, *ends) if value > 0]
    if positive and all(row.estimate is not None and row.estimate > 0 for row in here):
        centre = min(row.estimate for row in here if row.estimate is not None)
        low, high = max(min(positive), centre / 10) / 1.4, max(positive) * 1.4
        axes.set_xscale("log")
        near = high / low < 300
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if near else (1,), numticks=9))
        axes.xaxis.set_minor_locator(NullLocator())
        if near:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return low, high, True
    low, high = min(*estimates, *ends, 0.0), max(*estimates, *ends, 0.0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.axvline(0, color=PALE, linewidth=0.8)
    space = 0.06 * ((high - low) or 1.0)
    return low - space, high + space, False


def _marks(axes: Any, row: Row, low: float, high: float) -> None:
    """Where real samples of round sizes lie, with the sizes above."""
    yardstick = row.yardstick
    if yardstick is None or row.size is None:
        return
    known = [k for k in MARKS if row.size.least <= k <= row.size.most]
    places = [(k, yardstick.expected(k)) for k in known]
    inside = [(k, place) for k, place in places if low < place < high]
    taken: list[float] = []
    for k, place in sorted(inside, key=lambda item: (str(item[0])[0] != "1", item[0])):
        across = axes.transAxes.inverted().transform(axes.transData.transform((place, 0)))[0]
        if any(abs(across - other) < 0.09 for other in taken):
            continue
        taken.append(across)
        axes.axvline(place, color=FAINT, linewidth=1.2, zorder=0)
        axes.annotate(
            f"{k:,}",
            (across, 1),
            xytext=(0, 1),
            xycoords="axes fraction",
            textcoords="offset points",
            size=7.5,
            color=PALE,
            ha="center",
            va="bottom",
        )


def _cut(name: str, length: int = 28) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
