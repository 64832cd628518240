"""What all the figures have in common: colours and frames. Nothing global of matplotlib is changed."""

from typing import Any, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "DPI",
    "FAINT",
    "INK",
    "MORE_COLOURS",
    "PALE",
    "blank",
    "framed",
    "verbatim",
]

DPI = 150
INK, PALE, FAINT = "#222222", "#777777", "#e6e6e6"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, which remain distinct to colour-blind readers."""
MORE_COLOURS = (*COLOURS, "#000000", "#882255", "#999933", "#332288", "#44aa99", "#aa4499")
"""The same, their black, and some of Tol's, where many families or views must be distinguished."""


def blank(width: float, height: float, dpi: int = DPI, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """A white figure with a canvas of its own. ``width`` and ``height`` are in inches."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def framed(axes: Any, label_size: int = 8) -> None:
    """Only the left and the lower edge, in pale, behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(colors=PALE, labelcolor=INK, labelsize=label_size)
    axes.set_axisbelow(True)


def verbatim(name: str) -> str:
    """A name in which matplotlib takes nothing for mathematics."""
    return name.replace("$", r"\$")
