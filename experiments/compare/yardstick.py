"""A scale for discrepancies: how large a discrepancy is, on average, for a new real sample of size k.

A number such as MMD² = 0.013 says little. "As close as 37 real examples" says more, and can be compared between discrepancies.
For squared distances of mean embeddings the expectation is known: with Q_k the empirical measure of k independent points of P,

    E MMD²(P, Q_k) = (E k(x, x) - E k(x, x')) / k.

For all others it is simulated at a few k, and interpolated, log D against log k.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Union

import torch
from scipy import stats

from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from experiments.compare.halves import Interval

__all__ = ["LARGEST", "REFERENCE", "SIZES", "Curve", "PowerLaw", "Size", "Yardstick", "simulated"]

SIZES = tuple(2**power for power in range(12))
LARGEST = 256
"""The largest of them where the cost of a comparison grows faster than the number of points."""
N_DRAWS = 8
REFERENCE = 4096
"""The most real points that represent P where the yardstick is simulated."""


@dataclass(frozen=True)
class Size:
    """So many real examples are as close, within an interval. ``least`` and ``most`` are the sizes between which the yardstick
    is known: an answer beyond them is one of them."""

    k: float
    interval: Interval | None
    least: float = 1.0
    most: float = math.inf

    def __str__(self) -> str:
        if self.k <= self.least:
            return f"≤ {self.least:.0f}"
        if math.isinf(self.k) and not self.interval:
            return "∞"
        if self.k >= self.most or math.isinf(self.k):
            sure = self.interval.low if self.interval else self.least
            return f"≥ {self.most:,.0f}" if math.isfinite(self.most) else f"≥ {_count(sure)}"
        return _count(self.k)


def _count(k: float) -> str:
    return f"{k:.1f}" if k < 10 else f"{k:,.0f}"


@dataclass(frozen=True)
class PowerLaw:
    """E D(P, Q_k) = coefficient · k^(-power), exactly (for a root, from above)."""

    coefficient: float
    power: float

    def rooted(self) -> "PowerLaw":
        """The yardstick of √D."""
        return PowerLaw(math.sqrt(self.coefficient), self.power / 2)

    def expected(self, k: float) -> float:
        return self.coefficient * k**-self.power

    def of(self, value: float) -> float:
        """The k at which a real sample is as far away."""
        return (self.coefficient / value) ** (1 / self.power) if value > 0 else math.inf

    def size(self, value: float, interval: Interval | None) -> Size | None:
        if self.coefficient <= 0:
            return None
        return Size(self.of(value), interval and Interval(self.of(interval.high), self.of(interval.low)))

    @staticmethod
    def total(parts: Sequence["PowerLaw"], scale: float) -> "PowerLaw":
        return PowerLaw(scale * sum(part.coefficient for part in parts), parts[0].power)


@dataclass(frozen=True)
class Curve:
    """E D(P, Q_k) at a few k with its standard error, by simulation with ``n_draws`` samples at each."""

    sizes: tuple[int, ...]
    means: tuple[float, ...]
    errors: tuple[float, ...]
    n_draws: int = N_DRAWS

    def expected(self, k: float) -> float:
        return _at(self.sizes, self.means, k)

    def size(self, value: float, interval: Interval | None) -> Size | None:
        """None where the curve does not fall, and so is not a yardstick."""
        falling = _falling(self.means)
        if len(falling) < 2 or falling[-1] >= falling[0] or falling[-1] <= 0:
            return None
        k = _inverse(self.sizes, self.means, value)
        around = None
        if interval is not None:
            reach = float(stats.t.ppf(0.975, self.n_draws - 1))
            lower = [mean - reach * error for mean, error in zip(self.means, self.errors, strict=True)]
            upper = [mean + reach * error for mean, error in zip(self.means, self.errors, strict=True)]
            around = Interval(
                _inverse(self.sizes, lower, interval.high), _inverse(self.sizes, upper, max(interval.low, 0.0))
            )
        return Size(k, around, float(self.sizes[0]), float(self.sizes[-1]))

    @staticmethod
    def total(parts: Sequence["Curve"], scale: float) -> "Curve":
        sizes = tuple(k for k in parts[0].sizes if all(k in part.sizes for part in parts))
        chosen = [[part.sizes.index(k) for part in parts] for k in sizes]
        means = [scale * sum(part.means[i] for part, i in zip(parts, at, strict=True)) for at in chosen]
        errors = [scale * math.hypot(*(part.errors[i] for part, i in zip(parts, at, strict=True))) for at in chosen]
        return Curve(sizes, tuple(means), tuple(errors), min(part.n_draws for part in parts))


Yardstick = Union[PowerLaw, Curve]  # noqa: UP007  (read by beartype)


def simulated(
    summarise: Callable[[Measure], Any],
    values: Callable[[Any, Sequence[Measure]], list[float]],
    real: Measure,
    generator: torch.Generator,
    largest: int = SIZES[-1],
    advance: Callable[[float], None] = lambda done: None,
) -> Curve | None:
    """The yardstick by drawing samples of size k, up to the ``largest``, from one half of the real points and comparing them
    with the other, whose own bias is taken off by its halves. None where there are too few points."""
    order = torch.randperm(len(real), generator=generator)
    cut = min(len(order) // 2, REFERENCE)
    reference, pool = order[:cut], order[len(order) // 2 :]
    if cut < 4:
        return None
    try:
        parts = [summarise(real.select(rows)) for rows in (reference, reference[: cut // 2], reference[cut // 2 :])]
    except InvalidInput:
        return None
    ks = [k for k in SIZES if k <= min(len(pool), largest)]
    found: list[tuple[int, float, float]] = []
    for number, k in enumerate(ks):
        samples = [real.select(pool[torch.randperm(len(pool), generator=generator)[:k]]) for _ in range(N_DRAWS)]
        try:
            of_parts = [values(part, samples) for part in parts]
        except InvalidInput:  # a single point has no covariance, say
            continue
        drawn = [2 * whole - (first + second) / 2 for whole, first, second in zip(*of_parts, strict=True)]
        if all(map(math.isfinite, drawn)):
            found.append((k, fmean(drawn), stdev(drawn) / math.sqrt(N_DRAWS)))
        advance(0.65 + 0.35 * (number + 1) / len(ks))
    if len(found) < 2:
        return None
    sizes, means, errors = zip(*found, strict=True)
    return Curve(sizes, means, errors)


def _falling(values: Sequence[float]) -> list[float]:
    """The running minimum, up to the first value that is not positive."""
    lowest, kept = math.inf, []
    for value in values:
        lowest = min(lowest, value)
        if lowest <= 0:
            break
        kept.append(lowest)
    return kept


def _inverse(sizes: Sequence[int], means: Sequence[float], value: float) -> float:
    """Where the falling curve through the means takes the value; its ends beyond them."""
    falling = _falling(means)
    if not falling or value >= falling[0]:
        return float(sizes[0])
    if value <= 0 or value <= falling[-1]:
        return float(sizes[-1])
    for i in range(1, len(falling)):
        if value >= falling[i]:
            share = math.log(falling[i - 1] / value) / math.log(falling[i - 1] / falling[i])
            return float(math.exp(math.log(sizes[i - 1]) + share * math.log(sizes[i] / sizes[i - 1])))
    return float(sizes[-1])


def _at(sizes: Sequence[int], means: Sequence[float], k: float) -> float:
    """The curve at k, which lies between the first and the last size."""
    for i in range(1, len(sizes)):
        if k <= sizes[i]:
            share = math.log(k / sizes[i - 1]) / math.log(sizes[i] / sizes[i - 1])
            if min(means[i - 1], means[i]) <= 0:
                return means[i - 1] + share * (means[i] - means[i - 1])
            return math.exp(math.log(means[i - 1]) + share * math.log(means[i] / means[i - 1]))
    return means[-1]
