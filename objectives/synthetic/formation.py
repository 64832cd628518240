"""Several smaller images in the space of one."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice
from objectives.data.real import RealData
from objectives.data.units import Normalisation
from objectives.rng import rng
from objectives.synthetic.parameterisation import (
    Choose,
    Labels,
    Layout,
    Parameterisation,
    Units,
    Weights,
    image_sides,
    in_range,
)

__all__ = ["Formation"]

Start = Literal["noise", "real", "averaged"]


class Formation(Parameterisation, kind="formation"):
    """Every stored image is a table of ``factor`` x ``factor`` cells. Each cell is cut out and enlarged to the full size,
    bilinearly with corners not aligned, so that an image decodes to factor² examples, in the order of reading.

    An enlarged cell is a convex combination of its pixels, and so ``clip``, which holds the stored pixels, holds the decoded
    ones too. Stored floats: those of ``per_class`` images a class, whatever the factor.

    Args:
        per_class: stored images of each class.
        examples: all of them, in place of ``per_class``.
        factor: cells a side; it divides both sides of the images (the published code also allows others: it fills the last
            cells up with grey). With 1 these are pixels.
        start: ``real`` (every cell is another random training example of the class, one pixel in ``factor`` of each row and
            column kept, as in the published code), ``averaged`` (the same, with the mean of each square of that many pixels a
            side, as in IDM's code), ``noise`` (standard normal in normalised units).
        labels: ``hard``, ``soft`` or ``learned``, as of pixels; the cells of an image have one in common.
        weights: ``equal``, or ``learned``, as of pixels; the cells of an image have one in common.
        clip: keep the pixels within the source's range of valid values.
        units: of the stored pixels, and so of the learning rate, as of pixels; ``range`` in the published code.

    References:
        Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., 2022),
        https://arxiv.org/abs/2205.14959; its uniform multi-formation.
    """

    per_class: int = 10
    examples: int | None = None
    factor: int = 2
    start: Start = "real"
    labels: Labels = "hard"
    weights: Weights = "equal"
    clip: bool = False
    units: Units = "normalised"

    def __post_init__(self) -> None:
        self._check(get_args(Start))
        check_choice("units", self.units, get_args(Units))
        if self.factor < 1:
            raise InvalidInput(f"'factor' must be at least 1, got {self.factor}")

    @property
    def copies(self) -> int:
        return self.factor**2

    def stored_units(self, data: RealData) -> Normalisation | None:
        return None if self.units == "normalised" else in_range(data)

    def content(self, data: RealData, seed: int, choose: Choose) -> dict[str, Tensor]:
        sides = image_sides(self.kind, data)
        if any(side % self.factor for side in sides):
            known = [str(n) for n in range(1, min(sides) + 1) if not any(side % n for side in sides)]
            raise InvalidInput(
                f"'factor' must divide the sides of the images, {sides[0]} x {sides[1]}, got {self.factor}; "
                f"choose one of {', '.join(known)}"
            )
        if self.start == "noise":
            shape = (len(self.slots(data)), *data.shape)
            return {"images": self._stored(torch.randn(shape, generator=rng(seed, "start")), data)}
        real = self._real(data, choose, self.copies)
        averaged = self.start == "averaged"
        cells = functional.avg_pool2d(real, self.factor) if averaged else real[..., :: self.factor, :: self.factor]
        return {"images": self._stored(self._joined(cells), data)}

    def points(self, parameters: Mapping[str, Tensor], layout: Layout) -> Float[Tensor, "cells channels height width"]:
        cells = self._cells(parameters["images"])
        return layout.normalised(functional.interpolate(cells, layout.shape[1:], mode="bilinear", align_corners=False))

    @property
    def clips(self) -> bool:
        return self.clip

    def project(self, parameters: Mapping[str, Tensor], data: RealData) -> None:
        if self.clip:
            self._clip(parameters["images"], data)

    def _cells(self, images: Float[Tensor, "m channels height width"]) -> Float[Tensor, "cells channels h w"]:
        table = images.unflatten(3, (self.factor, -1)).unflatten(2, (self.factor, -1))
        return table.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def _joined(self, cells: Float[Tensor, "cells channels h w"]) -> Float[Tensor, "m channels height width"]:
        table = cells.unflatten(0, (-1, self.factor, self.factor))
        return table.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
