"""Moments: sums of polynomials of a point, compared where they are central.

A sum of powers of x loses its digits where the points lie far from the origin, so the sums are kept about the mean of the
points that went in:

    Σ w t(x - c),    c = Σ w x / Σ w.

Two such sums are merged after both were moved to the common mean, which is exact: t(x + s) is a polynomial in s whose
coefficients are lower moments. The synthetic side is taken about the mean of the real one. All of it is in float64.
"""

import functools
import math
from abc import abstractmethod
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import SUMMARY_POINTS, Draws, MeanDiscrepancy, MeanSummary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Length
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import safe_root
from discrepancy.parts import check_choice

__all__ = [
    "ALWAYS",
    "AboutMean",
    "Coral",
    "Moments",
    "covariance",
    "moved_powers",
    "moved_products",
    "origin_of",
    "powers",
    "products",
    "total_products",
]


ALWAYS: frozenset[Tag] = frozenset(
    {"zero-at-equality", "nonnegative", "symmetric", "mergeable", "differentiable", "splits", "translation-invariant"}
)
"""What differences of central moments obey."""


class AboutMean(MeanDiscrepancy):
    """A comparison of means of polynomials, whose sums are kept about the mean of the real points.

    A summary without ``origin`` among its sums is one about 0, as a sum of :meth:`statistic` over points is.
    """

    @property
    def has_statistic(self) -> bool:
        return False

    @abstractmethod
    def moved(self, total: Float[Tensor, "g p"], mass: Float[Tensor, " g"], step: Float[Tensor, "g d"]) -> Tensor:
        """Σ w t(x + step), from Σ w t(x) and Σ w."""

    def vectors(self, measure: Measure) -> Measure:
        """The vectors whose moments are taken, in float64."""
        return Measure(measure.rows.double(), measure.weights.double())

    def summarise_groups(self, real: Measure, draws: Draws) -> MeanSummary:
        parts = (self._about_mean(self.vectors(part)) for part in real.split(SUMMARY_POINTS))
        return functools.reduce(functools.partial(self.merge_groups, draws=draws), parts)

    def merge_groups(self, first: MeanSummary, second: MeanSummary, draws: Draws) -> MeanSummary:
        mass = first.mass + second.mass
        share = (second.mass / mass.clamp(min=torch.finfo(mass.dtype).tiny))[:, None]
        origins = origin_of(first), origin_of(second)
        origin = origins[0] + share * (origins[1] - origins[0])
        totals = [
            self.moved(side.total, side.mass, place - origin)
            for side, place in zip((first, second), origins, strict=True)
        ]
        sums = {name: value + second.sums[name] for name, value in first.sums.items()}
        return MeanSummary(totals[0] + totals[1], mass, {**sums, "origin": origin})

    def compare_groups(self, summary: MeanSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        side = self.vectors(synthetic)
        mass, origin = side.weights.sum(-1, keepdim=True), _mean(side).detach()
        mean = self.total(Measure(side.rows - origin[:, None], side.weights), draws) / mass
        return self.distance(summary.mean, mean, origin - origin_of(summary)).to(synthetic.rows.dtype)

    @abstractmethod
    def distance(
        self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"], step: Float[Tensor, "g d"] | float = 0.0
    ) -> Float[Tensor, " g"]:
        """The distance of two means, of which the synthetic one is taken about a point that lies ``step`` beyond the origin of
        the real one: each about its own mean, so that moments of a far cluster do not cancel."""

    def _about_mean(self, side: Measure) -> MeanSummary:
        mass, origin = side.weights.sum(-1), _mean(side)
        total = self.total(Measure(side.rows - origin[:, None], side.weights), None)
        return MeanSummary(total, mass, {"origin": origin, "points": (side.weights > 0).double().sum(-1)})


class Moments(AboutMean, kind="moments"):
    """Differences of the moments of single features, order by order:

        Σ_k ‖c_k(P) - c_k(Q)‖² / u^(2k),    c_1 = E x,  c_k = E (x - E x)^k,

    with ``root`` Σ_k ‖c_k(P) - c_k(Q)‖ / u^k, of which the orders 1 and 2 are the distance of batch-norm statistics that
    SRe2L takes, and 1 .. K the central moment discrepancy (CMD) on an interval of length u. A squared pseudo-metric, with
    ``root`` a pseudo-metric: zero where these moments agree. All are moments of the measure itself, without n/(n - 1).

    A summary holds K·d numbers (K the largest order) and merges; a step costs O(m d K), whatever n. A moment of unbounded
    points has unbounded sensitivity.

    Args:
        orders: the orders k, each at most once.
        over: ``"features"`` gives every coordinate of a point its own moments. ``"channels"`` takes points (n, c, ...) and
            pools over positions too, as batch norm does: c moments, of all n·(positions) values of a channel.
        unit: the length u in which points are measured, which weighs the orders; a number or a rule.
        root: the sum of norms in place of the sum of squares, with gradient zero for an order that agrees.

    References: Central Moment Discrepancy (CMD) for Domain-Invariant Representation Learning (Zellinger et al., ICLR 2017);
    Squeeze, Recover and Relabel (Yin, Xing, Shen, NeurIPS 2023).

    Raises:
        InvalidInput: if orders repeat or are below 1, or the unit is not > 0.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, Moments
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = Moments(orders=(1, 2))
        >>> round(float(D(mu, nu)), 4)
        1.1111
    """

    orders: tuple[int, ...] = (1,)
    over: Literal["features", "channels"] = "features"
    unit: float | Length = 1.0
    root: bool = False

    def __post_init__(self) -> None:
        if not self.orders or min(self.orders) < 1 or len(set(self.orders)) < len(self.orders):
            raise InvalidInput(f"'orders' must be different numbers >= 1, at least one, got {self.orders}")
        check_choice("over", self.over, ("features", "channels"))
        if not isinstance(self.unit, Length) and not (math.isfinite(self.unit) and self.unit > 0):
            raise InvalidInput(f"'unit' must be finite and > 0, got {self.unit}")

    @property
    def tags(self) -> frozenset[Tag]:
        claimed = set(ALWAYS)
        if 1 in self.orders and self.over == "features":
            claimed |= {"pulls"}
        if not self.root:
            claimed |= {"twice-differentiable"}
        return frozenset(claimed)

    @property
    def degree(self) -> float | None:
        return None if len(self.orders) > 1 else float(max(self.orders) * (1 if self.root else 2))

    @property
    def resolved(self) -> bool:
        return not isinstance(self.unit, Length)

    def resolve(self, sample: Measure) -> "Moments":
        return replace(self, unit=self.unit.measured(sample)) if isinstance(self.unit, Length) else self

    def vectors(self, measure: Measure) -> Measure:
        rows, weights, shape = measure.rows.double(), measure.weights.double(), measure.tensors[""].shape
        if self.over == "features" or len(shape) < 4:
            return Measure(rows, weights)
        pixels = rows.unflatten(-1, (shape[2], -1)).mT
        count = pixels.shape[2]
        return Measure(pixels.flatten(1, 2), (weights / count).repeat_interleave(count, -1))

    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        """x, x², ..., x^K of each point, averaged over the positions of a channel where ``over`` says so."""
        if self.over == "channels" and points.ndim > 3:
            return powers(points.flatten(3).mT, max(self.orders)).mean(2)
        return powers(points.flatten(2) if points.ndim > 2 else points[..., None], max(self.orders))

    def moved(self, total: Float[Tensor, "g p"], mass: Float[Tensor, " g"], step: Float[Tensor, "g d"]) -> Tensor:
        return moved_powers(total, mass, step)

    def distance(
        self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"], step: Float[Tensor, "g d"] | float = 0.0
    ) -> Float[Tensor, " g"]:
        if isinstance(self.unit, Length):
            raise InvalidInput(
                f"'unit' is the rule '{self.unit.kind}' and not yet a number; call resolve(sample) with real points first"
            )
        gaps = self._central(real) - self._central(synthetic)
        squares = torch.cat([(gaps[:, 0] - step)[:, None], gaps[:, 1:]], 1).square().sum(-1)
        terms = torch.stack([squares[:, k - 1] / self.unit ** (2 * k) for k in self.orders])
        return (safe_root(terms) if self.root else terms).sum(0)

    def _central(self, mean: Float[Tensor, "g p"]) -> Float[Tensor, "g k d"]:
        """c_1 .. c_K, from the means of the powers."""
        raw = mean.unflatten(-1, (max(self.orders), -1))
        central = moved_powers(mean, torch.ones_like(mean[:, 0]), -raw[:, 0]).view_as(raw)
        return torch.cat([raw[:, :1], central[:, 1:]], 1)


class Coral(AboutMean, kind="coral"):
    """Correlation alignment, ‖C_P - C_Q‖_F² / (4 d²), with C the covariance of the measure itself.

    The factor is that of Deep CORAL, whose covariances carry n/(n - 1) besides. A squared pseudo-metric: it does not see
    means. A summary holds Σ w, Σ w x and Σ w x xᵀ, that is d² + d numbers, and merges; a step costs O(m d²), whatever n. The
    products of unbounded points have unbounded sensitivity.

    References: Deep CORAL: Correlation Alignment for Deep Domain Adaptation (Sun, Saenko, ECCV Workshops 2016).

    Example:
        >>> import torch
        >>> from discrepancy import Coral, Measure
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = Coral()
        >>> round(float(D(mu, nu)), 4)
        0.0278
    """

    @property
    def tags(self) -> frozenset[Tag]:
        return ALWAYS.union({"twice-differentiable"})

    @property
    def degree(self) -> float:
        return 4.0

    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        return products(points.flatten(2))

    def total(self, measure: Measure, draws: Draws) -> Float[Tensor, "g p"]:
        return total_products(measure)

    def moved(self, total: Float[Tensor, "g p"], mass: Float[Tensor, " g"], step: Float[Tensor, "g d"]) -> Tensor:
        return moved_products(total, mass, step)

    def distance(
        self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"], step: Float[Tensor, "g d"] | float = 0.0
    ) -> Float[Tensor, " g"]:
        (mean, first), (_, second) = covariance(real), covariance(synthetic)
        return (first - second).square().sum((-1, -2)) / (4 * mean.shape[-1] ** 2)


def _mean(side: Measure) -> Float[Tensor, "g d"]:
    """The mean of each group; anything where there is no mass."""
    mass = side.weights.sum(-1, keepdim=True)
    return torch.einsum("gn,gnd->gd", side.weights, side.rows) / mass.clamp(min=torch.finfo(mass.dtype).tiny)


def origin_of(summary: MeanSummary) -> Float[Tensor, "g #d"]:
    """The point about which the sums of a summary are taken."""
    return summary.sums["origin"] if "origin" in summary.sums else torch.zeros_like(summary.mass)[:, None]


def powers(points: Float[Tensor, "*g n d"], order: int) -> Float[Tensor, "*g n p"]:
    """x, x², ..., x^order, coordinate by coordinate, one after another."""
    made = [points]
    for _ in range(1, order):
        made.append(made[-1] * points)
    return torch.cat(made, -1)


def moved_powers(
    total: Float[Tensor, "g p"], mass: Float[Tensor, " g"], step: Float[Tensor, "g d"]
) -> Float[Tensor, "g p"]:
    """Σ w (x + s)^k = Σ_j binomial(k, j) s^(k - j) Σ w x^j, for every k, from the sums over x."""
    sums = [mass[:, None], *total.unflatten(-1, (-1, step.shape[-1])).unbind(1)]
    steps = [torch.ones_like(step), *powers(step, len(sums)).unflatten(-1, (-1, step.shape[-1])).unbind(1)]
    return torch.cat(
        [
            torch.stack([math.comb(k, j) * steps[k - j] * sums[j] for j in range(k + 1)]).sum(0)
            for k in range(1, len(sums))
        ],
        -1,
    )


def products(points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n p"]:
    """x and x xᵀ of each point."""
    return torch.cat([points, (points[..., None] * points[..., None, :]).flatten(2)], -1)


def total_products(measure: Measure) -> Float[Tensor, "g p"]:
    """Σ w x and Σ w x xᵀ of each group in float64, the latter as one product of matrices."""
    points, weights = measure.rows.double(), measure.weights.double()[..., None]
    weighted = weights * points
    return torch.cat([weighted.sum(1), (weighted.mT @ points).flatten(1)], -1)


def moved_products(
    total: Float[Tensor, "g p"], mass: Float[Tensor, " g"], step: Float[Tensor, "g d"]
) -> Float[Tensor, "g p"]:
    """Σ w (x + s) and Σ w (x + s)(x + s)ᵀ, from the sums over x."""
    size = step.shape[-1]
    first, second = total[:, :size], total[:, size:].unflatten(-1, (size, size))
    turned = first[..., None] * step[:, None]
    grown = second + turned + turned.mT + mass[:, None, None] * step[..., None] * step[:, None]
    return torch.cat([first + mass[:, None] * step, grown.flatten(1)], -1)


def covariance(mean: Float[Tensor, "g p"]) -> tuple[Float[Tensor, "g d"], Float[Tensor, "g d d"]]:
    """E x and the covariance E x xᵀ - E x E xᵀ, from the mean of :func:`products`."""
    size = (math.isqrt(4 * mean.shape[-1] + 1) - 1) // 2
    first = mean[:, :size]
    return first, mean[:, size:].unflatten(-1, (size, size)) - first[..., None] * first[:, None]
