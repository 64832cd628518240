"""How far data sets are apart, as a table, as CSV and as a picture with the yardstick on every axis."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.compare.answer import ALL, CLASSES, Answer, Row
from experiments.compare.halves import Interval
from experiments.compare.yardstick import Curve, PowerLaw
from experiments.report.curves import COLOURS, DPI, FAINT, INK, PALE
from experiments.report.tables import duration, table
from objectives.storage import StorageError, replacing

__all__ = ["FILES", "as_csv", "drawn", "footnotes", "prepare", "save", "text"]

FILES = ("comparison.json", "comparison.csv", "comparison.png")


def save(answer: Answer, folder: Path) -> None:
    """Write JSON, CSV and picture into the folder."""
    prepare(folder)
    data, plain, picture = (folder / name for name in FILES)
    with replacing(data) as temporary:
        temporary.write_text(json.dumps(answer.as_dict(), indent=1) + "\n", encoding="utf-8")
    with replacing(plain) as temporary:
        temporary.write_text(as_csv(answer), encoding="utf-8")
    with replacing(picture) as temporary:
        drawn(answer).savefig(temporary, format="png", dpi=DPI)


def prepare(folder: Path) -> None:
    """Make the folder.

    Raises:
        StorageError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"'{folder}' cannot be made ({error.strerror or error}); name another with --out") from error


def as_csv(answer: Answer) -> str:
    """A line for every row, with the yardstick in columns of its own; empty where there is nothing."""
    out = io.StringIO()
    lines = []
    for row in answer.rows:
        plain = row.as_dict()
        size = plain.pop("yardstick") or dict.fromkeys(("k", "low", "high", "least", "most", "closed"))
        lines.append(plain | {f"yardstick_{name}": value for name, value in size.items()})
    writer = csv.DictWriter(out, lines[0])
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


# --- the table ------------------------------------------------------------------------------------------------------------


def text(answer: Answer) -> str:
    """The table and what must be known to read it. Single classes are shown where nothing else was asked for."""
    rows = _shown(answer)
    by_class = any(row.group not in (ALL, CLASSES) for row in rows)
    tested = any(row.p is not None for row in rows)
    columns = ["discrepancy", "set", "group", "estimate", f"{_percent(answer)} interval", "as close as"]
    if tested:
        columns.append("p")
    lines = []
    for row in rows:
        line = [
            row.discrepancy,
            row.set,
            "class mean" if row.group == CLASSES else row.group,
            "-" if row.estimate is None else _number(row.estimate),
            _interval(row.interval),
            _size(row),
        ]
        lines.append(line + ([("-" if row.p is None else f"{row.p:.3f}")] if tested else []))
    if not by_class and len({row.group for row in rows}) == 1:
        columns, lines = [columns[0], columns[1], *columns[3:]], [[*line[:2], *line[3:]] for line in lines]
    numeric = [name for name in columns if name not in ("discrepancy", "set", "group")]
    return "\n".join([table(columns, lines, numeric), *footnotes(answer)])


def footnotes(answer: Answer) -> list[str]:
    """What the columns mean, what was left out, and how it can be made again."""
    name, real = answer.real
    split = next((row for row in answer.rows if row.group == CLASSES), None)
    about = f"real side: {name}, {real.examples:,} examples"
    if split is not None and real.per_class is not None:
        about += f", {real.per_class:,.4g} a class"
    lines = [f"{about}; intervals: the real side resampled by halves, each set held fixed"]
    sizes = {type(row.yardstick) for row in answer.rows if row.size is not None}
    if sizes:
        how = " and ".join(
            words for sort, words in ((PowerLaw, "in closed form"), (Curve, "by simulation")) if sort in sizes
        )
        each = " (of each class)" if split else ""
        lines.append(f"as close as: a fresh real sample of so many examples{each} has this value on average, {how}")
    if any(row.p is not None for row in answer.rows):
        lines.append(f"p: permutation test of two independent samples, {answer.config['permutations']} deals")
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


def _number(value: float) -> str:
    """Three significant digits."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.2e}"


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"[{_number(interval.low)}, {_number(interval.high)}]"


def _size(row: Row) -> str:
    """``37 a class [31, 44]``."""
    if row.size is None:
        return "-"
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
    figure = Figure(figsize=(max(width, 5.0), height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
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
    figure.supxlabel(_verbatim(caption), size=8, color=PALE, x=0.01, ha="left")
    return figure


def _panel(axes: Any, rows: Sequence[Row], sets: Sequence[str], group: str, first: bool, title: str) -> None:
    here = [row for row in rows if row.group == group]
    single = [row for row in rows if row.group not in (ALL, CLASSES)] if group == CLASSES else []
    axes.set_ylim(len(sets) - 0.4, -0.6)
    axes.set_yticks(range(len(sets)), [_verbatim(_cut(name)) for name in sets] if first else [""] * len(sets))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(PALE)
    axes.tick_params(colors=PALE, labelcolor=INK, labelsize=8)
    axes.tick_params(axis="y", length=0)
    if first:
        axes.set_title(_verbatim(title), loc="left", size=10, color=INK, weight="bold", pad=15)
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
    axes.set_xlim(low, high)
    _marks(axes, here[0], low, high)


def _limits(axes: Any, here: Sequence[Row], single: Sequence[Row]) -> tuple[float, float, bool]:
    """The range of the axis, logarithmic where the estimates are positive."""
    estimates = [row.estimate for row in (*here, *single) if row.estimate is not None]
    ends = [end for row in here if row.interval for end in (row.interval.low, row.interval.high)]
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


def _verbatim(name: str) -> str:
    """A name in which nothing is taken for mathematics."""
    return name.replace("$", r"\$")
