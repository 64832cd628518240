"""The units of a data set, and those in which networks see it."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from discrepancy.arrays import as_tensor
from discrepancy.errors import InvalidInput
from discrepancy.parts import fits, shown

__all__ = ["Normalisation", "moved_by", "moved_type"]

COARSE = 1e-4
"""Part of a standard deviation by which values may be rounded on the way back to the units of the source."""

FLOAT64_ROUNDING = 1e-12
"""Part of the mean that rounding may leave as the standard deviation of a constant column of float64."""

CHUNK = 1 << 22
"""Values converted to float64 at a time when statistics are measured."""


@dataclass(frozen=True)
class Normalisation:
    """x ↦ (x - mean) / std by channel (the first axis of an example), in the source's own units.

    For images the first axis is the colour, for tables it is the feature. A single value stands for all of them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    of_examples: bool = field(default=False, compare=False, repr=False)
    """Whether it was measured on examples, so that it says something of them."""

    def __post_init__(self) -> None:
        if not fits(self.mean, tuple[float, ...]) or not fits(self.std, tuple[float, ...]):
            raise InvalidInput(
                f"'mean' and 'std' must be tuples of numbers, got {shown(self.mean)} and {shown(self.std)}"
            )
        if len(self.mean) != len(self.std) or not self.mean:
            raise InvalidInput(
                f"'mean' and 'std' must have one value, or one a channel, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise InvalidInput(f"'mean' must be finite and 'std' > 0, got {self.mean} and {self.std}")

    @classmethod
    def measured(cls, points: Shaped[Tensor, "n channels ..."]) -> "Normalisation":
        """Mean and standard deviation (divided by n) of each channel, in float64.

        A channel that is constant, up to the resolution of the type of the points, gets the standard deviation 1: it carries
        nothing, and is only centred; dividing by its rounding error would make noise of it.
        """
        points = as_tensor(points, "points")
        if points.ndim < 2 or not points.shape[1]:
            raise InvalidInput(f"'points' must have shape (n, channels, ...), got {tuple(points.shape)}")
        count = points.numel() // points.shape[1]
        if points.dtype == torch.uint8:  # exact, and five times faster
            columns = points.transpose(0, 1).flatten(1)
            counts = torch.stack([torch.bincount(column, minlength=256) for column in columns]).double()
            values = torch.arange(256, dtype=torch.float64)
            mean = counts @ values / count
            squares = (counts * (values - mean[:, None]).square()).sum(1)
        else:
            chunks = points.reshape(*points.shape[:2], -1).split(max(1, CHUNK // max(points[0].numel(), 1)))
            mean = torch.stack([chunk.double().sum((0, 2)) for chunk in chunks]).sum(0) / count
            squares = torch.stack([(chunk - mean[:, None]).square().sum((0, 2)) for chunk in chunks]).sum(0)
        std = (squares / count).sqrt()
        resolution = FLOAT64_ROUNDING if points.dtype == torch.float64 else torch.finfo(torch.float32).eps
        constant = std <= resolution * mean.abs()
        std = torch.where(constant, torch.ones_like(std), std)
        return cls(tuple(mean.tolist()), tuple(std.tolist()), of_examples=True)

    def apply(
        self, points: Shaped[Tensor, "n channels ..."], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n channels ..."]:
        """Source units (uint8 allowed) -> normalised units, in ``dtype``."""
        points = as_tensor(points, "points")
        mean, std = self._columns(points, dtype)
        return points.to(mean.dtype, copy=True).sub_(mean).div_(std).to(dtype)

    def invert(self, points: Float[Tensor, "n channels ..."]) -> Float[Tensor, "n channels ..."]:
        """Normalised units -> source units, in the precision of ``points``, or in float64 where that is too coarse so far from
        zero; nothing is rounded or clipped."""
        farthest = max(abs(mean) / std for mean, std in zip(self.mean, self.std, strict=True))
        dtype = torch.float64 if torch.finfo(points.dtype).eps * farthest > COARSE else points.dtype
        mean, std = self._columns(points, dtype)
        return points.to(dtype) * std + mean

    def _columns(self, points: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if len(self.mean) not in (1, points.shape[1]):
            raise InvalidInput(
                f"the normalisation has {len(self.mean)} channels, but points of shape {tuple(points.shape)} "
                f"have {points.shape[1]}"
            )
        dtype = torch.promote_types(points.dtype, dtype)
        column = (-1, *[1] * (points.ndim - 2))
        mean = torch.tensor(self.mean, dtype=dtype, device=points.device).reshape(column)
        return mean, torch.tensor(self.std, dtype=dtype, device=points.device).reshape(column)


COARSEST = 7.99
"""Moves of points that are whole numbers are rounded to whole numbers where they have at least this size: 8/255 on bytes."""


def moved_type(points: Tensor, size: float) -> torch.dtype:
    """The type of points that are moved by about this ``size``: their own, or float32 where they are whole numbers and too much
    of the moves would be lost."""
    return points.dtype if points.is_floating_point() or size >= COARSEST else torch.float32


def moved_by(
    points: Shaped[Tensor, "n ..."],
    moves: Float[Tensor, "n ..."],
    dtype: torch.dtype,
    limits: tuple[float, float] | None,
) -> Shaped[Tensor, "n ..."]:
    """Points in the units of the source, moved so far, in this type and within the limits.

    What is rounded is rounded towards where the points were, so that none moves farther than it should. A move is a whole
    number where it is one but for the rounding of float32.
    """
    if not dtype.is_floating_point:
        return (
            (points.double() + (moves.double() + 1e-4 * moves.sign()).trunc()).clamp(*limits or (None, None)).to(dtype)
        )
    here = points.to(dtype)
    there = (here.double() + moves.double()).to(dtype)
    too_far = (there.double() - here.double()).abs() > moves.double().abs()
    there = torch.where(too_far, torch.nextafter(there, here), there)
    return there if limits is None else there.clamp(*limits)
