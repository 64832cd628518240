"""Maximum mean discrepancy: the distance of two mean embeddings in the Hilbert space of a kernel.

    MMD²(μ, ν) = ‖E_μ k(x, ·) - E_ν k(y, ·)‖² = E_μμ k(x, x') - 2 E_μν k(x, y) + E_νν k(y, y')

Where the kernel is finite, k(x, y) = ⟨φ(x), φ(y)⟩, this is ‖E_μ φ - E_ν φ‖²: the real side is summarised by a sum, which
merges, and a step does not know how large the real set is. Otherwise the real points are kept, their own term is computed
once, and a step sums over pairs (:mod:`discrepancy.pairwise`).
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.kernels import Kernel, Linear
from discrepancy.measure import Measure
from discrepancy.pairwise import cross_sum, self_sum
from discrepancy.sorts import (
    Discrepancy,
    Draws,
    MeanSummary,
    SampleSummary,
    Tag,
    weighted_mean,
)

__all__ = ["MMD"]


class MMD(Discrepancy, kind="mmd"):
    """Squared maximum mean discrepancy, without the factor 1/2 that some libraries put in front.

    Args:
        kernel: the kernel; the linear one compares means.
        estimator: how the real side's own term E k(x, x') is estimated. ``"v"`` takes the weighted points for the measure
            itself: a norm, zero at equality. ``"u"`` takes them for a sample and leaves out the pairs (i, i):
            (Σᵢⱼ wᵢ wⱼ k(xᵢ, xⱼ) - Σᵢ wᵢ² k(xᵢ, xᵢ)) / ((Σᵢ wᵢ)² - Σᵢ wᵢ²), unbiased, and at times negative. The synthetic
            side is the measure itself, so its term is always of the first sort; the gradient is the same for both.
        root: the square root of the value, with gradient zero where the value is zero.

    References: A Kernel Two-Sample Test (Gretton et al., 2012, JMLR 13), equation 5 ("v") and Lemma 6 ("u").
    """

    kernel: Kernel = Linear()
    estimator: Literal["u", "v"] = "v"
    root: bool = False

    def __post_init__(self) -> None:
        if self.estimator not in ("u", "v"):
            raise InvalidInput(f"'estimator' must be 'u' or 'v', got {self.estimator!r}")
        if self.root and self.estimator == "u":
            raise InvalidInput("'root' needs estimator 'v', got 'u', whose values can be negative")

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {"pulls"}
        # With unequal weights the pairs i ≠ j have another mean than the points, so the linear "u" sees the origin.
        if self.kernel.radial or (isinstance(self.kernel, Linear) and self.estimator == "v"):
            claimed |= {"translation-invariant"}
        if self.streams:
            claimed |= {"mergeable"}
        if self.estimator == "v":
            claimed |= {"zero-at-equality", "nonnegative", "symmetric", "splits"}
        if not self.root:
            claimed |= {"twice-differentiable"}
        return frozenset(claimed)

    @property
    def streams(self) -> bool:
        return self.kernel.finite

    @property
    def resolved(self) -> bool:
        return self.kernel.resolved

    def resolve(self, sample: Measure) -> "MMD":
        return replace(self, kernel=self.kernel.resolve(sample))

    @torch.no_grad()
    def summarise(self, real: Measure, draws: Draws = None) -> MeanSummary | SampleSummary:
        """The mean embedding of a grouped measure, or its points and their own term.

        Raises:
            InvalidInput: with estimator "u" and a kernel that is not finite, if a group has only one point.
        """
        points, weights = _rows(real), real.mass_of.double()
        if self.streams:
            return MeanSummary.of(self.kernel.features(points), weights)
        total, mass = self_sum(self.kernel, points, weights), weights.sum(-1)
        if self.estimator == "u":
            spread = (weights.square() * self.kernel.diagonal(points)).sum(-1)
            own = _debiased(total, spread, mass, weights.square().sum(-1))
        else:
            own = total / mass.square()
        return SampleSummary(real, {"own": own})

    def merge(self, first: MeanSummary | SampleSummary, second: MeanSummary | SampleSummary) -> MeanSummary:
        if isinstance(first, MeanSummary) and isinstance(second, MeanSummary):
            return first.merge(second)
        raise Unsupported(
            f"the kernel '{self.kernel.kind}' compares points: merge the measures (Measure.merged), then summarise once"
        )

    def compare(
        self, summary: MeanSummary | SampleSummary, synthetic: Measure, draws: Draws = None
    ) -> Float[Tensor, " g"]:
        """MMD² (or its root) of each group.

        Raises:
            InvalidInput: with estimator "u" and a finite kernel, if a group of the summary has only one point.
        """
        points = _rows(synthetic)
        if isinstance(summary, MeanSummary):
            value = self._of_means(summary, points, synthetic.mass_of)
        else:
            value = self._of_pairs(summary, points, synthetic.mass_of)
        return (_root(value) if self.root else value).to(points.dtype)

    def _of_means(self, real: MeanSummary, y: Float[Tensor, "g m d"], v: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
        mean = real.mean
        value = (mean - weighted_mean(self.kernel.features(y), v)).square().sum(-1)
        if self.estimator == "v":
            return value
        own = _debiased(real.total.square().sum(-1), real.spread, real.mass, real.squares)
        return value + (own - mean.square().sum(-1))

    def _of_pairs(self, real: SampleSummary, y: Float[Tensor, "g m d"], v: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
        x, w = _rows(real.real).detach(), _shares(real.real.mass_of.detach())
        v = _shares(v)
        return real.constants["own"] - 2 * cross_sum(self.kernel, x, w, y, v) + self_sum(self.kernel, y, v)


def _rows(measure: Measure) -> Float[Tensor, "g n d"]:
    """The points of a grouped measure as vectors, in float32 unless they are in float64."""
    points = measure.tensors[""]
    points = points.reshape(*points.shape[:2], -1)
    return points if points.dtype in (torch.float32, torch.float64) else points.float()


def _shares(weights: Float[Tensor, "g n"]) -> Float[Tensor, "g n"]:
    return weights.double() / weights.double().sum(-1, keepdim=True)


def _debiased(
    total: Float[Tensor, " g"], spread: Float[Tensor, " g"], mass: Float[Tensor, " g"], squares: Float[Tensor, " g"]
) -> Float[Tensor, " g"]:
    """The mean of k over pairs of two points, from Σᵢⱼ wᵢ wⱼ k, Σᵢ wᵢ² k(xᵢ, xᵢ), Σ w and Σ w²."""
    pairs = mass.square() - squares
    if bool((pairs <= 1e-12 * mass.square()).any()):
        raise InvalidInput(
            "estimator 'u' needs at least 2 real points of positive weight in each group, got 1; use estimator 'v'"
        )
    return (total - spread) / pairs


def _root(value: Tensor) -> Tensor:
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, torch.ones_like(value)).sqrt(), torch.zeros_like(value))
