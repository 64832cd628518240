"""Two sets of images side by side: a row of each for every class."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from discrepancy.errors import InvalidInput
from experiments.report.grid import tiles
from objectives.storage import writing
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["side_by_side"]

DPI = 100
GAP, MARGIN, HEADING = 2, 12, 30
BETWEEN = 36


def side_by_side(sets: dict[str, SyntheticSet], path: Path) -> None:
    """Write one PNG with a panel for each set, under the headings that are the keys: one row a class, its examples in order.

    Raises:
        InvalidInput: if a set holds no images with classes, or the sets differ in their classes or the shape of their images.
    """
    first = next(iter(sets.values()))
    for name, each in sets.items():
        if each.points.ndim != 4 or not each.classes:
            raise InvalidInput(
                f"'{name}' must hold images with classes, got points of shape {tuple(each.points.shape)}"
            )
        if (each.points.shape[1:], each.classes) != (first.points.shape[1:], first.classes):
            raise InvalidInput(f"'{name}' must have the images and classes of '{next(iter(sets))}'")
    panels = [_panel(each) for each in sets.values()]
    wide = 2 * MARGIN + sum(panel.shape[1] for panel in panels) + BETWEEN * (len(panels) - 1)
    tall = 2 * MARGIN + HEADING + panels[0].shape[0]
    canvas = np.full((tall, wide, 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(wide / DPI, tall / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    left = MARGIN
    for name, panel in zip(sets, panels, strict=True):
        canvas[MARGIN + HEADING : MARGIN + HEADING + panel.shape[0], left : left + panel.shape[1]] = panel
        figure.text(
            left / wide, 1 - (MARGIN + HEADING / 2) / tall, name, size=12, ha="left", va="center", color="#222222"
        )
        left += panel.shape[1] + BETWEEN
    figure.figimage(canvas, origin="upper")
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=DPI)


def _panel(synthetic: SyntheticSet) -> np.ndarray:
    images, labels = tiles(synthetic), synthetic.numbers
    height, width = images.shape[1:3]
    columns = int(torch.bincount(labels).max())
    shape = (len(synthetic.classes) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    panel = np.full(shape, 255, dtype=np.uint8)
    for row in range(len(synthetic.classes)):
        for column, image in enumerate(images[labels == row]):
            y, x = row * (height + GAP), column * (width + GAP)
            panel[y : y + height, x : x + width] = image.numpy()
    return panel
