"""Lengths: numbers, or rules that measure one on real data."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch

from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure, as_measure
from discrepancy.numerics.distances import squares
from discrepancy.parts import Part

__all__ = ["Length", "Median", "Quantile", "check_length", "check_positive", "number"]


class Length(Part, family=True):
    """A rule that measures a length on real data, in the units of its points; :meth:`measured` gives the number.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, kernels
        >>> sample = Measure(torch.tensor([[0.0], [1.0], [3.0]]))
        >>> kernels.Gaussian(lengthscale=kernels.Median()).resolve(sample)
        Gaussian(lengthscale=2.0)
    """

    @abstractmethod
    def measured(self, sample: Measure) -> float:
        """The length, in the units of the sample's points."""


class Median(Length, kind="median"):
    """``factor`` times the median distance of real points, ‖xᵢ - xⱼ‖ over all pairs i < j (of any group).

    Points of weight zero (padding) are left out, other weights are not looked at. Above 2,000 points, 2,000 of them evenly
    spaced in the order given are used, the first and the last among them; in float64.

    References: Large sample analysis of the median heuristic (Garreau, Jitkrittum, Kanagawa, 2017).

    Args:
        factor: > 0.

    Raises:
        InvalidInput: if ``factor`` is not > 0; on use, for fewer than 2 points or a median of zero.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, kernels
        >>> sample = Measure(torch.tensor([[0.0], [1.0], [3.0]]))
        >>> kernels.Median(factor=0.5).measured(sample)
        1.0
    """

    shorthand: ClassVar[str] = "factor"
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_positive("factor", self.factor)

    def measured(self, sample: Measure) -> float:
        return self.factor * _quantile(sample, 0.5, self.kind)


class Quantile(Length, kind="quantile"):
    """``factor`` times the ``level`` quantile of the distances of which :class:`Median` takes the median: 0.5 is the median,
    a small level the distance of near neighbours.

    Args:
        level: of the quantile, in (0, 1).
        factor: > 0.

    Raises:
        InvalidInput: if a field is out of its range; on use, for fewer than 2 points or a quantile of zero.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, kernels
        >>> sample = Measure(torch.tensor([[0.0], [1.0], [3.0]]))
        >>> round(kernels.Quantile(level=0.1).measured(sample), 4)
        1.2
    """

    shorthand: ClassVar[str] = "level"
    level: float = 0.1
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise InvalidInput(f"'level' must be between 0 and 1, got {self.level}")
        check_positive("factor", self.factor)

    def measured(self, sample: Measure) -> float:
        return self.factor * _quantile(sample, self.level, self.kind)


@torch.no_grad()
def _quantile(sample: Measure, level: float, rule: str) -> float:
    """The quantile of the distances of all pairs of some 2,000 points."""
    sample = as_measure(sample, "sample")
    if len(sample.tensors) > 1:
        raise InvalidInput(
            f"blocks {sorted(sample.tensors)} have no common {rule} distance; give each its own term, or a number"
        )
    (points,) = sample.tensors.values()
    lead = sample.weights.ndim
    points = points.flatten(0, lead - 1)[sample.weights.flatten() > 0]
    points = points.flatten(1) if points.ndim > 1 else points[:, None]
    n = len(points)
    if n < 2:
        raise InvalidInput(f"the {rule} rule needs at least 2 real points, got {n}; give the length as a number")
    chosen = torch.linspace(0, n - 1, min(n, 2000), dtype=torch.float64, device="cpu").round().long()
    points = points[chosen.to(points.device)].double()
    pairs = torch.ones(len(points), len(points), dtype=torch.bool, device=points.device).triu(1)
    distances = squares(points, points)[pairs].sqrt()
    found = float(distances.quantile(level))
    if not (math.isfinite(found) and found > 0):
        share = "half" if level == 0.5 else f"{level:g}"
        raise InvalidInput(
            f"the {rule} distance must be finite and > 0, got {found} (at least {share} of the pairs coincide, or a "
            f"point is not finite); give the length as a number"
        )
    return found


def check_positive(name: str, value: float) -> None:
    """Refuses a number that is not finite and > 0."""
    if not (math.isfinite(value) and value > 0):
        raise InvalidInput(f"'{name}' must be finite and > 0, got {value}")


def check_length(name: str, length: float | Length) -> None:
    """Refuses a length that is neither a rule nor finite and > 0."""
    if not isinstance(length, Length):
        check_positive(name, length)


def number(name: str, length: float | Length) -> float:
    """The length as a number; a rule that was not measured yet is refused."""
    if isinstance(length, Length):
        raise InvalidInput(
            f"'{name}' is the rule '{length.kind}' and not yet a number; call resolve(sample) with real points first"
        )
    return length
