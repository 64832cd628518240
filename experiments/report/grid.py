"""A picture of a synthetic set: one row of examples for each class, with its name."""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from experiments.report.figures import INK, PALE, blank, verbatim
from experiments.report.files import save_png
from experiments.report.record import Picture
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["drawn", "picture", "save", "tiles"]

DPI = 100
TILE, LARGEST_TILE = 64, 96
"""Pixels a side: small images are magnified by a whole factor to about the first, large ones averaged down to the second."""
GAP, MARGIN, SPACE = 3, 16, 10
MOST_EXAMPLES, MOST_CLASSES, LINE = 20, 50, 10
PROPORTION = 1.4
OUTSIDE = 0.1
"""Images are stretched if more than this share of the values lie outside of the valid range by more than its own width."""


def save(synthetic: SyntheticSet, path: Path) -> bool:
    """Write the picture as PNG. Sets whose examples are not images have none; says whether there is one."""
    found = picture(synthetic)
    if found is not None:
        save_png(found.png, path)
    return found is not None


def picture(synthetic: SyntheticSet) -> Picture | None:
    """The picture; None where the examples are not images."""
    if synthetic.points.ndim != 4:
        return None
    return Picture("the synthetic examples by class", "examples", lambda: drawn(synthetic))


def tiles(synthetic: SyntheticSet) -> UInt8[Tensor, "m h w 3"]:
    """The examples as 8-bit colour images, with the valid range (or, where none is stated, that of the values) from black
    to white. Values outside are clipped; where many are, each image is shown from its least value to its largest. Images with
    neither one nor three channels are shown by their first."""
    points = synthetic.points.detach().cpu().double().nan_to_num()
    if stretched(synthetic):
        low, high = points.amin((1, 2, 3), keepdim=True), points.amax((1, 2, 3), keepdim=True)
        shades = (points - low) / (high - low).clamp(min=1e-300)
    else:
        least, largest = synthetic.limits or (float(points.min()), float(points.max()))
        shades = ((points - least) / ((largest - least) or 1.0)).clamp(0, 1)
    shades = shades if shades.shape[1] == 3 else shades[:, :1].expand(-1, 3, -1, -1)
    longest = max(shades.shape[2:])
    if longest > LARGEST_TILE:
        height, width = (max(1, round(side * LARGEST_TILE / longest)) for side in shades.shape[2:])
        shades = functional.interpolate(shades, (height, width), mode="area")
    else:
        factor = max(1, round(TILE / longest))
        shades = shades.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return (255 * shades).round().to(torch.uint8).permute(0, 2, 3, 1)


def stretched(synthetic: SyntheticSet) -> bool:
    """Whether too many values lie outside of the valid range for the images to be shown clipped to it."""
    if synthetic.limits is None:
        return False
    low, high = synthetic.limits
    points, slack = synthetic.points.nan_to_num(), high - low
    return float(((points < low - slack) | (points > high + slack)).double().mean()) > OUTSIDE


def drawn(synthetic: SyntheticSet) -> Figure:
    """The figure, a line a class (ten examples a line where there are none). Its pixels are those of the images, magnified by a
    whole factor."""
    images = tiles(synthetic)
    labels = synthetic.numbers
    count = len(synthetic.classes)
    if count:
        members = [(labels == c).nonzero()[:, 0] for c in range(min(count, MOST_CLASSES))]
        most = int(torch.bincount(labels, minlength=count).max())
        columns = min(most, MOST_EXAMPLES)
        names = [_cut(name) for name in synthetic.classes[:MOST_CLASSES]]
        note = _note(synthetic, most, columns, count)
    else:
        members, names = _lines(synthetic)
        most = columns = len(members[0])
        note = _note(synthetic, len(synthetic), sum(map(len, members)), 0)
    rows = [images[chosen[:columns]] for chosen in members]

    height, width = images.shape[1:3]
    size = min(11.0, max(7.0, 0.22 * (height + GAP)))
    labels_width = math.ceil(max(_text_width(name, size) for name in names))
    block = labels_width + SPACE + columns * (width + GAP)
    blocks = _blocks(len(rows), block, height + GAP)
    deep = math.ceil(len(rows) / blocks)
    wide = 2 * MARGIN + blocks * block + (blocks - 1) * 2 * SPACE
    tall = 2 * MARGIN + deep * (height + GAP) - GAP + (2 * MARGIN if note else 0)
    wide = max(wide, 2 * MARGIN + math.ceil(_text_width(note, 8.0)))

    figure = _figure(wide, tall)
    canvas = np.full((tall, wide, 3), 255, dtype=np.uint8)
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        x = MARGIN + (number // deep) * (block + 2 * SPACE) + labels_width
        y = MARGIN + (number % deep) * (height + GAP)
        middle = 1 - (y + height / 2) / tall
        figure.text(x / wide, middle, name, size=size, color=INK, ha="right", va="center_baseline")
        for position, image in enumerate(row):
            left = x + SPACE + position * (width + GAP)
            canvas[y : y + height, left : left + width] = image.numpy()
    figure.figimage(canvas, origin="upper")
    if note:
        figure.text(MARGIN / wide, MARGIN / tall, note, size=8.0, color=PALE, ha="left", va="bottom")
    return figure


def _lines(synthetic: SyntheticSet) -> tuple[list[Tensor], list[str]]:
    """Examples without classes, line by line with what is written before it: the range of the first target, by which they are
    sorted."""
    order, columns = torch.arange(len(synthetic)), min(len(synthetic), LINE)
    if synthetic.labels is None:
        members = order[: MOST_CLASSES * columns].split(columns)
        return list(members), [""] * len(members)
    first = synthetic.labels.reshape(len(order), -1)[:, 0]
    members = first.argsort(stable=True)[: MOST_CLASSES * columns].split(columns)
    return list(members), [f"{float(first[m[0]]):.4g} … {float(first[m[-1]]):.4g}" for m in members]


def _figure(width: int, height: int) -> Figure:
    return blank(width / DPI, height / DPI, DPI, layout=None)


def _text_width(text: str, size: float) -> float:
    """Width in pixels."""
    figure = _figure(10, 10)
    drawn_text = figure.text(0, 0, text, size=size)
    return drawn_text.get_window_extent(figure.canvas.get_renderer()).width  # pyright: ignore[reportAttributeAccessIssue]


def _blocks(rows: int, width: int, height: int) -> int:
    """How many columns of rows bring the picture nearest to a pleasant proportion."""

    def badness(blocks: int) -> float:
        return abs(math.log(blocks * width / (math.ceil(rows / blocks) * height) / PROPORTION))

    return min(range(1, rows + 1), key=badness)


def _note(synthetic: SyntheticSet, most: int, columns: int, count: int) -> str:
    parts = ["each image from its least value to its largest"] if stretched(synthetic) else []
    if most > columns:
        parts.append(f"the first {columns} of {most} examples{' a class' if count else ''}")
    if count > MOST_CLASSES:
        parts.append(f"the first {MOST_CLASSES} of {count} classes")
    if synthetic.points.shape[1] not in (1, 3):
        parts.append(f"the first of {synthetic.points.shape[1]} channels")
    return ", ".join(parts)


def _cut(name: str, length: int = 24) -> str:
    line = verbatim(" ".join(name.split()))
    return line if len(line) <= length else f"{line[: length - 1]}…"
