"""Real images as a corruption changes them."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice
from objectives.attacks.corruptions import CORRUPTIONS, Corruption, corrupted
from objectives.data.cache import Cache
from objectives.data.examples import Examples
from objectives.data.real import RealData
from objectives.data.spec import Described
from objectives.data.transform import ChangedPoints, RealTransform
from objectives.data.units import moved_by, moved_type
from objectives.rng import rng

__all__ = ["Corrupted"]

SMALLEST = 0.04
"""Of the changes that corruptions make, for values in 0 .. 1: the standard deviation of the least noise."""


class Corrupted(RealTransform, kind="corrupted"):
    """Every real image is corrupted once (:func:`~objectives.attacks.corruptions.corrupted`), and kept so.

    Args:
        corruption: ``gaussian_noise``, ``gaussian_blur``, ``brightness``, ``contrast`` or ``jpeg``.
        severity: 1 to 5.
    """

    corruption: Corruption = "gaussian_noise"
    severity: int = 3

    def __post_init__(self) -> None:
        check_choice("corruption", self.corruption, CORRUPTIONS)
        if self.severity not in range(1, 6):
            raise InvalidInput(f"'severity' must be 1, 2, 3, 4 or 5, got {self.severity}")

    def check(self, data: Described) -> None:
        if len(data.shape) != 3 or data.shape[0] not in (1, 3) or data.limits is None:
            raise InvalidInput(
                f"'corrupted' needs images of 1 or 3 channels with known limits, but '{data.name}' has examples of shape "
                f"{data.shape}; leave the transform out"
            )

    def applied(self, data: RealData, seed: int, device: torch.device, cache: Cache | None = None) -> RealData:
        self.check(data)
        return _Corrupted(data, self, seed)


class _Corrupted(ChangedPoints):
    def __init__(self, of: RealData, transform: Corrupted, seed: int) -> None:
        super().__init__(of)
        self.transform, self.seed = transform, seed

    def changed(self, examples: Examples, block: int) -> Shaped[Tensor, "b ..."]:
        assert self.limits is not None
        low, high = self.limits
        units = (examples.points.float() - low) / (high - low)
        generator = rng(self.seed, "transform", self.transform.corruption, block)
        found = corrupted(units, self.transform.corruption, self.transform.severity, generator)
        dtype = moved_type(examples.points, (high - low) * SMALLEST)
        return moved_by(examples.points, (found - units) * (high - low), dtype, self.limits)
