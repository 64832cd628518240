"""How uncertain a discrepancy D(P, S) is when P is known by n points only, and S is fixed.

A condensed set is not a sample of anything: only the real side is resampled. A bootstrap of it repeats points, and a repeated
point is at distance zero from itself, so the own term of a V-statistic is too small and the whole interval is shifted. Halves
repeat nothing. The n points are split at random into halves h and h', many times over, and D is taken of each:

    error² = mean over splits of ((D_h - D_h') / 2)²           estimate = 2 D - mean over splits of (D_h + D_h') / 2

For D that are smooth in P, D_h and D_h' are nearly independent, each with twice the variance of D, so the first is the
variance of D; and a bias c / n, which is 2 c / n at halves, cancels in the second. Where D has an unbiased form (MMD with
estimator "u") that is the estimate. The interval is estimate ± t · error, with Student's t at as many degrees of freedom as
there are independent contrasts. Near D = 0, where the error is of second order, it is too wide rather than too narrow.

References:
    A General Theory for Jackknife Variance Estimation (Shao & Wu, 1989), for the jackknife that deletes a part of the sample;
    Pseudo-Replication: Half Samples (McCarthy, 1969), for the contrasts of halves;
    Notes on Bias in Estimation (Quenouille, 1956), for the estimate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int
from scipy import stats
from torch import Tensor

__all__ = ["Halved", "Interval", "blocks_of", "splits_of"]


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``; infinite where nothing is known."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Halved:
    """D of one real side and one set, and of both halves of every split. They add up over blocks, networks and classes.

    Args:
        value: D of the two measures as they are.
        estimate: D(P, S) without the bias of a finite real side, where that is known.
        first, second: D of the halves of every split; none where the halves are too small.
        degrees: how many independent contrasts the splits hold.
    """

    value: float
    estimate: float
    first: Float64[Tensor, " s"]
    second: Float64[Tensor, " s"]
    degrees: int

    @classmethod
    def corrected(cls, value: float, first: Tensor, second: Tensor, degrees: int) -> "Halved":
        """With the bias taken off that halves show, where there are some."""
        bias = float((first + second).mean()) / 2 - value if len(first) else 0.0
        return cls(value, value - bias, first, second, degrees)

    def as_it_is(self) -> "Halved":
        """The value without correction and without halves, where the set is not independent of the real side."""
        return Halved(self.value, self.value, self.first[:0], self.second[:0], self.degrees)

    @property
    def error(self) -> float:
        """The standard error; NaN where there are no halves."""
        return float(((self.first - self.second) / 2).square().mean().sqrt()) if len(self.first) else math.nan

    def interval(self, confidence: float) -> Interval | None:
        """The central interval; None where there are no halves."""
        if not len(self.first) or not math.isfinite(self.error):
            return None
        reach = float(stats.t.ppf((1 + confidence) / 2, self.degrees)) * self.error
        return Interval(self.estimate - reach, self.estimate + reach)

    @staticmethod
    def total(parts: Sequence["Halved"], scale: float = 1.0) -> "Halved":
        """The sum of several, times ``scale``, split by split."""
        count = min(len(part.first) for part in parts)
        return Halved(
            scale * sum(part.value for part in parts),
            scale * sum(part.estimate for part in parts),
            scale * torch.stack([part.first[:count] for part in parts]).sum(0),
            scale * torch.stack([part.second[:count] for part in parts]).sum(0),
            min(part.degrees for part in parts),
        )


def blocks_of(n: int, count: int, generator: torch.Generator) -> list[Int[Tensor, " b"]]:
    """A random partition of n points into at most ``count`` blocks of nearly equal size."""
    return list(torch.randperm(n, generator=generator).tensor_split(min(n, count)))


def splits_of(n: int, count: int, generator: torch.Generator) -> Bool[Tensor, "s n"]:
    """``count`` random splits of n things into halves: True is the first half, which has the odd one."""
    order = torch.rand(count, n, generator=generator).argsort(1).argsort(1)
    return order < (n + 1) // 2
