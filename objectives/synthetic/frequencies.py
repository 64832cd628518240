"""Images by their low frequencies."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.real import RealData
from objectives.rng import rng
from objectives.synthetic.parameterisation import Choose, Labels, Layout, Parameterisation, Weights, image_sides

__all__ = ["Frequencies", "cosines"]

Start = Literal["noise", "real"]


class Frequencies(Parameterisation, kind="frequencies"):
    r"""Every channel of an image is stored as the ``keep`` x ``keep`` lowest coefficients of its orthonormal cosine transform,

        x = Aᵀ Z B,   A_{kn} = s_k cos(π k (n + ½) / height),   s_0 = √(1 / height),   s_k = √(2 / height),

    B the same of the width. Rows of A and B are orthonormal: a step of a learning rate is as long in coefficients as in pixels,
    and with ``keep`` = height = width nothing is lost. Stored floats: keep² in place of height x width a channel, and so
    ``per_class`` may be the larger. The range of valid values is not a box in coefficients, so there is no ``clip``.

    Args:
        per_class: stored images of each class.
        examples: all of them, in place of ``per_class``.
        keep: frequencies kept of each direction, the lowest.
        start: ``real`` (the coefficients of distinct random training examples of the class), ``noise`` (standard normal
            coefficients: smooth noise).
        labels: ``hard``, ``soft`` or ``learned``, as of pixels.
        weights: ``equal``, or ``learned``, as of pixels.

    References:
        Frequency Domain-based Dataset Distillation (Shin et al., 2023), https://arxiv.org/abs/2311.08819, which keeps those
        coefficients that explain most of the variance; here they are the lowest ones.
    """

    per_class: int = 10
    examples: int | None = None
    keep: int = 8
    start: Start = "real"
    labels: Labels = "hard"
    weights: Weights = "equal"

    def __post_init__(self) -> None:
        self._check(get_args(Start))
        if self.keep < 1:
            raise InvalidInput(f"'keep' must be at least 1, got {self.keep}")

    def content(self, data: RealData, seed: int, choose: Choose) -> dict[str, Tensor]:
        height, width = image_sides(self.kind, data)
        if self.keep > min(height, width):
            raise InvalidInput(
                f"'keep' must be at most {min(height, width)}, the number of frequencies of images of {height} x {width}, "
                f"got {self.keep}"
            )
        if self.start == "noise":
            shape = (len(self.slots(data)), data.shape[0], self.keep, self.keep)
            return {"coefficients": torch.randn(shape, generator=rng(seed, "start"))}
        real = self._real(data, choose).double()
        found = cosines(self.keep, height, real) @ real @ cosines(self.keep, width, real).T
        return {"coefficients": found.float()}

    def points(self, parameters: Mapping[str, Tensor], layout: Layout) -> Float[Tensor, "m channels height width"]:
        coefficients = parameters["coefficients"]
        rows, columns = (cosines(self.keep, side, coefficients) for side in layout.shape[1:])
        return rows.T @ coefficients @ columns


def cosines(keep: int, side: int, like: Tensor) -> Float[Tensor, "keep side"]:
    """The ``keep`` slowest of the orthonormal cosines on ``side`` points (DCT-II), as rows, in the type of ``like``."""
    numbers = torch.arange(side, dtype=torch.float64, device=like.device)
    angles = math.pi / side * numbers[:keep, None] * (numbers + 0.5)
    scale = ((1 + (numbers[:keep] > 0).double()) / side).sqrt()
    return (scale[:, None] * angles.cos()).to(like.dtype)
