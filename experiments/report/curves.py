"""Loss curves: the total and every named term over the steps, from the lines of ``metrics.jsonl``."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.metrics import read_metrics
from experiments.report.figures import COLOURS, DPI, FAINT, INK, PALE, blank, framed, verbatim
from experiments.report.files import save_png
from experiments.report.record import Picture

__all__ = ["drawn", "picture", "save"]

SMOOTHED_FROM = 100
"""Measurements from which a running mean is drawn over the raw values."""


def save(metrics: Path, path: Path) -> bool:
    """Write the curves as PNG. One measurement makes no curve; says whether there is a picture."""
    found = picture(metrics)
    if found is not None:
        save_png(found.png, path)
    return found is not None


def picture(metrics: Path) -> Picture | None:
    """The curves; None where there are fewer than two measurements."""
    lines = read_metrics(metrics)
    return Picture("loss over the steps", "losses", lambda: drawn(lines)) if len(lines) > 1 else None


def drawn(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """The figure: a curve for each term, and one for the total where there are several; logarithmic where all are positive."""
    steps = np.array([line["step"] for line in lines])
    names = list(dict.fromkeys(name for line in lines for name in line["terms"]))
    curves = {name: np.array([float(line["terms"].get(name, math.nan)) for line in lines]) for name in names}
    total = np.array([line["loss"] for line in lines], dtype=float)
    if len(names) != 1:
        curves = {"total": total} | curves
    shades = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)} | {"total": INK}

    figure = blank(6.4, 3.6)
    axes = figure.add_subplot()
    values = np.concatenate(list(curves.values()))
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0:
        _logarithmic(axes, finite.max() / finite.min())
    window = max(1, len(lines) // 40) if len(lines) >= SMOOTHED_FROM else 1
    ends = {}
    for name, raw in curves.items():
        if window > 1:
            axes.plot(steps, raw, color=shades[name], linewidth=0.6, alpha=0.25)
        smooth = _running_mean(raw, window)
        axes.plot(steps, smooth, color=shades[name], linewidth=1.5 if name != "total" else 1.8)
        ends[name] = smooth[np.isfinite(smooth)][-1] if np.isfinite(smooth).any() else math.nan
    framed(axes, label_size=9)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel("loss" if len(names) != 1 else verbatim(f"loss, {names[0]}"), color=INK)
    if window > 1:
        axes.set_title(
            f"bold: mean of {window} measurements   pale: single measurements", loc="left", size=8, color=PALE
        )
    if len(curves) > 1:
        _label_ends(figure, axes, ends, shades)
    return figure


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean over the window around each value, shorter at the ends."""
    if window == 1:
        return values
    positions = np.arange(len(values))
    first = np.maximum(positions - window // 2, 0)
    last = np.minimum(positions + (window + 1) // 2, len(values))
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums[last] - sums[first]) / (counts[last] - counts[first])


def _logarithmic(axes: Any, ratio: float) -> None:
    """A logarithmic axis with enough numbers on it, however small the ratio of its ends."""
    axes.set_yscale("log")
    if ratio < 4:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    elif ratio < 300:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if ratio < 300:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _label_ends(figure: Figure, axes: Any, ends: Mapping[str, float], shades: Mapping[str, str]) -> None:
    """The names at the right ends of the curves, moved apart where they would overlap."""
    figure.canvas.draw()
    apart = 12 * DPI / 72
    low, high = (axes.transAxes.transform((0, height))[1] for height in (0, 1))
    wished = {name: axes.transData.transform((1, end))[1] for name, end in ends.items() if math.isfinite(end)}
    order = sorted(wished, key=wished.__getitem__)
    places: list[float] = []
    for name in order:
        places.append(max(wished[name], places[-1] + apart if places else low))
    excess = max(0.0, places[-1] - high) if places else 0.0
    for index in reversed(range(len(places))):  # push back down whatever has left the frame
        limit = places[index + 1] - apart if index + 1 < len(places) else places[index] - excess
        places[index] = min(places[index], limit)
    for name, place in zip(order, places, strict=True):
        height = (place - low) / (high - low)
        axes.annotate(
            verbatim(name),
            (1, height),
            xytext=(6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=shades[name],
            size=9,
            va="center",
            annotation_clip=False,
        )
