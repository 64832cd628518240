"""Maximum mean discrepancy: the distance of two mean embeddings in the Hilbert space of a kernel.

    MMD²(μ, ν) = ‖E_μ k(x, ·) - E_ν k(y, ·)‖² = E_μμ k(x, x') - 2 E_μν k(x, y) + E_νν k(y, y')

Where the kernel is finite, k(x, y) = ⟨φ(x), φ(y)⟩, this is ‖E_μ φ - E_ν φ‖²: the real side is summarised by a sum, which
merges, and a step does not know how large the real set is. Otherwise the real points are kept, their own term is computed
once, and a step sums over pairs (:mod:`discrepancy.numerics.pairwise`).
"""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import SUMMARY_POINTS, Discrepancy, Draws, MeanSummary, SampleSummary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Kernel, Linear
from discrepancy.mean_embeddings.gains import Gains, OfMeans, OfPairs
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import safe_root
from discrepancy.numerics.pairwise import cross_sum, self_sum

__all__ = ["MMD", "debiased", "distance_of_means", "summary_of_means"]


class MMD(Discrepancy, kind="mmd"):
    """The squared maximum mean discrepancy ‖E_μ φ - E_ν φ‖², without the factor 1/2 that some libraries put in front.

    With ``root`` it is a metric where the kernel is characteristic (gaussian, mixture, laplace, matern, rational_quadratic,
    imq; energy where first moments are finite), else a semi-metric: a linear kernel sees means, a polynomial one moments up to
    its power. The kernel need be positive for weights that sum to zero only, since both masses are normalised.

    Points (g, n, d) and (g, m, d), (g,) values. With a finite kernel the summary is the mean embedding in p dimensions, which
    merges: O(n p) once, O(m p) a step. Else it is the points and their own term: O(n² d) once, O((n + m) m d) a step at
    O((n + m) d) memory. No bound is stated, as no finite kernel here is bounded (‖φ‖ = 1 for the features of the embedding
    ``random_fourier``, under the linear kernel).

    Args:
        kernel: the kernel; the linear one compares means.
        estimator: how the real side's own term E k(x, x') is estimated. ``"v"`` takes the weighted points for the measure
            itself: a norm, zero at equality. ``"u"`` takes them for a sample and leaves out the pairs (i, i):
            (Σᵢⱼ wᵢ wⱼ k(xᵢ, xⱼ) - Σᵢ wᵢ² k(xᵢ, xᵢ)) / ((Σᵢ wᵢ)² - Σᵢ wᵢ²), unbiased, and at times negative. The synthetic
            side is the measure itself, so its term is always of the first sort; the gradient is the same for both.
        root: the square root of the value, with gradient zero where the value is zero.

    References: A Kernel Two-Sample Test (Gretton et al., 2012, JMLR 13), equation 5 ("v") and Lemma 6 ("u").

    Raises:
        InvalidInput: if ``estimator`` is unknown, or ``root`` is asked of estimator "u".

    Example:
        >>> import torch
        >>> from discrepancy import MMD, Measure, kernels
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = MMD(kernel=kernels.Gaussian(lengthscale=1.5))
        >>> round(float(D(mu, nu)), 4)
        0.1699
        >>> summary = D.merge(D.summarise(mu), D.summarise(Measure(torch.tensor([[3.0]]))))
        >>> round(float(D.compare(summary, nu)), 4)
        0.0116
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
        claimed: set[Tag] = {"differentiable"}
        # With unequal weights the pairs i ≠ j have another mean than the points, so the linear "u" sees the origin.
        if self.kernel.radial or (self.kernel.affine and self.estimator == "v"):
            claimed |= {"translation-invariant"}
        # A polynomial kernel may hold a point back on the other side of the origin.
        if self.kernel.radial or self.kernel.affine:
            claimed |= {"pulls"}
        if self.kernel.finite:
            claimed |= {"mergeable"}
        if self.estimator == "v":
            claimed |= {"zero-at-equality", "nonnegative", "symmetric", "splits"}
        if not self.root:
            claimed |= {"twice-differentiable"}
        return frozenset(claimed)

    @property
    def degree(self) -> float | None:
        degree = self.kernel.degree
        return degree if degree is None or not self.root else degree / 2

    @property
    def resolved(self) -> bool:
        return self.kernel.resolved

    def resolve(self, sample: Measure) -> "MMD":
        return replace(self, kernel=self.kernel.resolve(sample))

    @property
    def has_statistic(self) -> bool:
        return self.kernel.finite and self.estimator == "v"

    def statistics(self, measure: Measure, draws: Draws) -> Float[Tensor, "g n p"]:
        return self.kernel.features(measure.rows.double())

    def v_statistic(self) -> "MMD":
        return replace(self, estimator="v")

    def as_mmd(self) -> "MMD":
        return self

    def summarise_groups(self, real: Measure, draws: Draws) -> MeanSummary | SampleSummary:
        """The mean embedding of a grouped measure, or its points and their own term.

        Raises:
            InvalidInput: with estimator "u" and a kernel that is not finite, if a group has only one point.
        """
        if self.kernel.finite:
            return functools.reduce(merged_means, map(self._means, real.split(SUMMARY_POINTS)))
        return SampleSummary(real, self.constants(real))

    def constants(self, real: Measure) -> dict[str, Tensor]:
        """E k(x, x') of the real side, of a kernel that is not finite."""
        points, weights = self.kernel.precise(real.rows), real.masses
        total, mass = self_sum(self.kernel, points, weights), weights.sum(-1)
        if self.estimator == "u":
            spread = (weights.square() * self.kernel.diagonal(points)).sum(-1)
            own = debiased(total, spread, mass, weights.square().sum(-1))
        else:
            own = total / mass.square()
        return {"own": own}

    def merge_groups(self, first: Any, second: Any, draws: Draws) -> MeanSummary | SampleSummary:
        if isinstance(first, MeanSummary):
            return merged_means(first, second)
        return self.summarise_groups(Measure.merged([first.real, second.real]), draws)

    def compare_groups(
        self, summary: MeanSummary | SampleSummary, synthetic: Measure, draws: Draws
    ) -> Float[Tensor, " g"]:
        """MMD² (or its root) of each group.

        Raises:
            InvalidInput: with estimator "u" and a finite kernel, if a group of the summary has only one point.
        """
        points = synthetic.rows
        if isinstance(summary, MeanSummary):
            mean = torch.einsum("gm,gmp->gp", synthetic.shares, self.kernel.features(points).double())
            value = distance_of_means(summary, mean, self.estimator)
            if self.root:
                value = without_rounding(value, mean)
        else:
            value = self._of_pairs(summary, points, synthetic.shares)
        return (safe_root(value) if self.root else value).to(points.dtype)

    def gains(self, summary: MeanSummary | SampleSummary, candidates: Measure, draws: Draws = None) -> Gains:
        """A subset of these candidates (a flat measure) under way, against a summary of one group: O(n p) a step with a finite
        kernel; else O(N n d) once and O(n d) a step, at O(n) memory."""
        rows, ending = candidates.rows, safe_root if self.root else torch.clone
        if isinstance(summary, MeanSummary):
            rest = distance_of_means(summary, summary.mean, self.estimator)[0]
            return OfMeans(self.kernel.features, summary.mean[0], rest, rows, ending)
        present = summary.real.weights[0] > 0
        real = summary.real.rows[0, present], summary.real.shares[0, present]
        return OfPairs(self.kernel, real, summary.constants["own"][0], rows, ending)

    def _means(self, real: Measure) -> MeanSummary:
        values, weights = self.kernel.features(real.rows).double(), real.weights.double()
        total = torch.einsum("gn,gnp->gp", weights, values)
        return summary_of_means(total, weights, values.square().sum(-1), self.estimator)

    def _of_pairs(self, real: SampleSummary, y: Float[Tensor, "g m d"], v: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
        x, w, y = self.kernel.precise(real.real.rows.detach()), real.real.shares.detach(), self.kernel.precise(y)
        return real.constants["own"] - 2 * cross_sum(self.kernel, x, w, y, v) + self_sum(self.kernel, y, v)


def summary_of_means(
    total: Float[Tensor, "g p"],
    weights: Float[Tensor, "g n"],
    norms: Float[Tensor, "g n"],
    estimator: Literal["u", "v"],
) -> MeanSummary:
    """Σ w φ and Σ w, with :func:`squares_of` for the unbiased estimate (``norms`` are the ‖φ‖²)."""
    return MeanSummary(total, weights.sum(-1), squares_of(weights, norms) if estimator == "u" else {})


def squares_of(weights: Float[Tensor, "g n"], norms: Float[Tensor, "g n"]) -> dict[str, Float[Tensor, " g"]]:
    """Σ w² and Σ w² ``norms``, each divided by Σ w, so that small and large weights may be squared."""
    mass = weights.sum(-1, keepdim=True)
    squares = weights * (weights / mass.clamp(min=torch.finfo(mass.dtype).tiny))
    return {"squares": squares.sum(-1), "spread": (squares * norms).sum(-1)}


def merged_squares(
    first: Mapping[str, Float[Tensor, " g"]],
    mass: Float[Tensor, " g"],
    second: Mapping[str, Float[Tensor, " g"]],
    other: Float[Tensor, " g"],
) -> dict[str, Float[Tensor, " g"]]:
    """:func:`squares_of` all points, from those of two parts and their masses."""
    share = mass / (mass + other).clamp(min=torch.finfo(mass.dtype).tiny)
    return {name: share * first[name] + (1 - share) * second[name] for name in ("squares", "spread") if name in first}


def merged_means(first: MeanSummary, second: MeanSummary) -> MeanSummary:
    """The summary of all points, from those of two parts."""
    sums = merged_squares(first.sums, first.mass, second.sums, second.mass)
    return MeanSummary(first.total + second.total, first.mass + second.mass, sums)


def distance_of_means(
    real: MeanSummary, synthetic: Float[Tensor, "g p"], estimator: Literal["u", "v"]
) -> Float[Tensor, " g"]:
    """‖E_μ φ - E_ν φ‖², with the real side's own term replaced by the unbiased one for the estimator "u"."""
    mean = real.mean
    value = (mean - synthetic).square().sum(-1)
    if estimator == "v":
        return value
    spread, squares = real.sums["spread"] / real.mass, real.sums["squares"] / real.mass
    own = debiased(mean.square().sum(-1), spread, torch.ones_like(squares), squares)
    return value + (own - mean.square().sum(-1))


def without_rounding(value: Float[Tensor, " g"], mean: Float[Tensor, "g p"]) -> Float[Tensor, " g"]:
    """A squared distance from this mean, zero where it is one of rounding, whose root has a direction that means nothing."""
    rounding = 16 * torch.finfo(torch.float64).eps * torch.linalg.vector_norm(mean.detach(), dim=-1)
    return torch.where(value < rounding.square(), torch.zeros_like(value), value)


def debiased(
    total: Float[Tensor, " g"], spread: Float[Tensor, " g"], mass: Float[Tensor, " g"], squares: Float[Tensor, " g"]
) -> Float[Tensor, " g"]:
    """The mean of k over pairs of two points, from Σᵢⱼ wᵢ wⱼ k, Σᵢ wᵢ² k(xᵢ, xᵢ), Σ w and Σ w², of weights near 1."""
    pairs = mass.square() - squares
    if bool((pairs <= 1e-12 * mass.square()).any()):
        raise InvalidInput(
            "estimator 'u' needs at least 2 real points of positive weight in each group, got 1; use estimator 'v'"
        )
    return (total - spread) / pairs
