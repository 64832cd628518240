"""Synthetic examples that are stored as they are."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from discrepancy.parts import check_choice
from objectives.data.real import RealData
from objectives.data.units import Normalisation
from objectives.rng import rng
from objectives.synthetic.parameterisation import Choose, Labels, Layout, Parameterisation, Units, Weights, in_range

__all__ = ["Pixels"]

Start = Literal["noise", "real", "class-mean"]


class Pixels(Parameterisation, kind="pixels"):
    """Every example is stored as it is: the parameters are the points.

    Args:
        per_class: examples of each class.
        start: ``noise`` (standard normal in normalised units), ``real`` (distinct random training examples of the class),
            ``class-mean`` (the mean of the class plus a tenth of normal noise, which tells the copies apart).
        examples: all of them, in place of ``per_class``.
        labels: ``hard``; ``soft``: a learned distribution softmax(ℓ) that starts with 0.9 on its own class; ``learned``:
            scores, any real numbers, that start one-hot. Of targets, ``hard`` ones stay as they are, and ``learned`` ones are
            learned.
        weights: ``equal``, or ``learned``: w = exp(ω), starting at 1.
        clip: keep the points within the source's range of valid values (0 to 255 for images).
        units: of the stored points, and so of the learning rate; see :data:`Units`.
    """

    per_class: int = 10
    examples: int | None = None
    start: Start = "real"
    labels: Labels = "hard"
    weights: Weights = "equal"
    clip: bool = False
    units: Units = "normalised"

    def __post_init__(self) -> None:
        self._check(get_args(Start))
        check_choice("units", self.units, get_args(Units))

    @property
    def direct(self) -> bool:
        return True

    def stored_units(self, data: RealData) -> Normalisation | None:
        return None if self.units == "normalised" else in_range(data)

    def content(self, data: RealData, seed: int, choose: Choose) -> dict[str, Tensor]:
        if self.start == "real":
            return {"points": self._stored(self._real(data, choose), data)}
        noise = torch.randn(len(self.slots(data)), *data.shape, generator=rng(seed, "start"))
        if self.start == "noise":
            return {"points": self._stored(noise, data)}
        data.require_classes("start: class-mean")
        data.require_rows("start: class-mean")
        means = data.class_means()[self.slots(data)]
        return {"points": self._stored(means + 0.1 * noise, data)}

    def points(self, parameters: Mapping[str, Tensor], layout: Layout) -> Tensor:
        return layout.normalised(parameters["points"])

    @property
    def clips(self) -> bool:
        return self.clip

    def project(self, parameters: Mapping[str, Tensor], data: RealData) -> None:
        if self.clip:
            self._clip(parameters["points"], data)
