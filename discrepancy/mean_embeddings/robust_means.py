"""Robust means: the real side's mean is replaced by one that a few wrong points cannot move far.

A discrepancy D(μ, ν) = D(E_μ t, E_ν t) of means of a statistic t reads of the real side its mean alone. One wrong point in a
hundred moves a plain mean by a hundredth of its own distance, without bound. The means here are robust in each coordinate of t:

    median of means    the median of the means of fixed blocks of points; block sums add up, so summaries merge
    trimmed mean       the mean without the smallest and the largest values; it needs all points at once

The synthetic side is the measure itself, and keeps its plain mean.
"""

import functools
from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.discrepancy import SUMMARY_POINTS, Discrepancy, Draws, MeanSummary, Tag
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure
from discrepancy.parts import check_least

__all__ = ["BlockMeans", "MedianOfMeans", "TrimmedMean"]

KEPT: frozenset[Tag] = frozenset({"nonnegative", "differentiable", "twice-differentiable", "pulls"})
"""Laws that hold with any mean of the real side that is the plain one where all points are the same."""

SORTED_BYTES = 2**26
"""Values of the statistic that are sorted at once, in bytes; at least one coordinate of all points."""


@dataclass(frozen=True, eq=False)
class BlockMeans:
    """Σ w t(x) and Σ w of each block of each group, and the number of points with weight of each group."""

    total: Float[Tensor, "g b p"]
    mass: Float[Tensor, "g b"]
    count: Int[Tensor, " g"]

    @functools.cached_property
    def mean(self) -> Float[Tensor, "g p"]:
        """The median over blocks with mass of the means of the blocks; the mean of the two in the middle where their number is
        even. NaN where a point is not finite: every block adds it up, with weight zero but for its own."""
        present = (self.mass > 0)[..., None]
        means = torch.where(present, self.total / self.mass[..., None], torch.inf)
        ordered, number = means.sort(1).values, present.sum(1, keepdim=True)
        middle = torch.cat([(number - 1).clamp(min=0) // 2, number // 2], 1).expand(-1, -1, means.shape[-1])
        return ordered.gather(1, middle.clamp(max=means.shape[1] - 1)).mean(1)

    def merge(self, other: "BlockMeans") -> "BlockMeans":
        """The points of the other follow those of this one: its first point goes to the block after that of the last."""
        blocks = self.mass.shape[1]
        source = (torch.arange(blocks, device=self.count.device) - self.count[:, None]) % blocks
        total = other.total.gather(1, source[..., None].expand_as(other.total))
        return BlockMeans(
            self.total + total, self.mass + other.mass.gather(1, source), (self.count + other.count) % blocks
        )

    def select(self, groups: Tensor) -> "BlockMeans":
        return BlockMeans(self.total[groups], self.mass[groups], self.count[groups])

    @property
    def nbytes(self) -> int:
        return self.total.nbytes + self.mass.nbytes + self.count.nbytes


class OfRobustMean(Discrepancy):
    """A discrepancy of means with another mean of the real side."""

    of: Discrepancy

    @abstractmethod
    def summarise_groups(self, real: Measure, draws: Draws) -> BlockMeans | MeanSummary:
        """A summary whose ``mean`` is the robust one."""

    @property
    def labelled(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.labelled

    @property
    def needs_classes(self) -> bool:
        return self.of.needs_classes

    @property
    def degree(self) -> float | None:
        return self.of.degree

    @property
    def resolved(self) -> bool:
        return self.of.resolved

    def resolve(self, sample: Measure) -> "OfRobustMean":
        return replace(self, of=self.of.resolve(sample))

    def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
        return self.of.draw(generator, shape)

    def compare_groups(
        self, summary: BlockMeans | MeanSummary, synthetic: Measure, draws: Draws
    ) -> Float[Tensor, " g"]:
        mean = summary.mean
        return self.of.compare_groups(MeanSummary(mean, torch.ones_like(mean[:, 0])), synthetic, draws)


class MedianOfMeans(OfRobustMean, kind="median_of_means"):
    """A discrepancy of means D with the median of means as the mean of the real side, in each coordinate of the statistic.

    The points of each group are dealt to the blocks in turn: the i-th point that has weight goes to block i modulo ``blocks``.
    The mean is the median over the blocks with mass of E_block t, in each coordinate; each block counts once. While fewer than
    half of the blocks have a wrong point, that is up to ⌊(blocks - 1)/2⌋ wrong points, each coordinate lies within the range of
    the means of the other blocks, whatever the wrong values are. With fewer points than blocks it is the median of the points.

    It is not zero for equal sides, and for a statistic with a skewed distribution it differs from the mean: more so with more
    blocks. It depends on the order of the real points (which block a point is in), as the plain mean does not, but not on the
    parts in which they come: the points of a merged summary follow those of the first. The gradient is D's.

    The summary holds ``blocks`` times the numbers of D's and merges in bounded memory; O(n p blocks) once, and a step costs
    what D's costs. No bound is stated: one point moves the mean of its block by ``blocks`` times what it moves the plain mean.

    Args:
        of: D, which compares the means of a statistic of single points: ``mmd`` or ``joint_mmd`` with kernel linear and
            estimator ``"v"``, ``characteristic_function`` with fixed frequencies, ``mean_gradients``,
            ``linear_hypotheses``, a ``joint`` of these.
        blocks: their number, at least 3.

    References: Sub-Gaussian mean estimators (Devroye, Lerasle, Lugosi, Oliveira, 2016, Annals of Statistics 44);
    MONK: Outlier-Robust Mean Embedding Estimation by Median-of-Means (Lerasle, Szabó, Mathieu, Lecué, 2019, ICML), which takes
    a median in the Hilbert space where this one takes one in each coordinate.

    Raises:
        InvalidInput: if ``of`` compares other things than means of a statistic, or ``blocks`` is below 3.

    Example:
        >>> import torch
        >>> from discrepancy import MMD, Measure, MedianOfMeans
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0], [3.0], [1e6]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> float(MedianOfMeans(of=MMD(), blocks=5)(mu, nu)), float(MMD()(mu, nu)) > 1e10
        (0.0, True)
    """

    of: Discrepancy
    blocks: int = 11

    def __post_init__(self) -> None:
        check_statistic(self.of)
        check_least("blocks", self.blocks, 3)

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset({*(self.of.tags & KEPT), "mergeable"})

    def summarise_groups(self, real: Measure, draws: Draws) -> BlockMeans:
        return functools.reduce(BlockMeans.merge, (self._dealt(part, draws) for part in real.split(SUMMARY_POINTS)))

    def merge_groups(self, first: BlockMeans, second: BlockMeans, draws: Draws) -> BlockMeans:
        return first.merge(second)

    def _dealt(self, real: Measure, draws: Draws) -> BlockMeans:
        places = (real.weights > 0).cumsum(-1)
        block = (places - 1) % self.blocks
        each = torch.arange(self.blocks, device=block.device)[:, None] == block[:, None]
        weights = torch.where(each, real.weights.double()[:, None], 0.0)
        return BlockMeans(weights @ self.of.statistics(real, draws), weights.sum(-1), places[:, -1] % self.blocks)


class TrimmedMean(OfRobustMean, kind="trimmed_mean"):
    """A discrepancy of means D with the trimmed mean as the mean of the real side, in each coordinate of the statistic.

    In each coordinate the ``share`` s of the mass with the smallest values and that with the largest are left out, and the rest
    is averaged: a point at the edge counts with what is left of its weight. While wrong points have at most the mass s of their
    group, each coordinate lies within the range of the right values.

    It is not zero for equal sides, and differs from the mean where the statistic is skewed. The gradient is that of D.

    The summary is the mean alone, as small as D's, but it needs the values of all points at once: it refuses to merge.
    O(n p log n) and 8 n p bytes once; a step costs what D's costs. No bound is stated.

    Args:
        of: D, as in :class:`MedianOfMeans`.
        share: s, the share of the mass that is left out at each end, >= 0 and < 0.5.

    References: Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates (Yin, Chen, Ramchandran, Bartlett,
    2018, ICML), for the trimmed mean of each coordinate.

    Raises:
        InvalidInput: if ``of`` compares other things than means of a statistic, or ``share`` is out of its range.
        Unsupported: by ``merge``.

    Example:
        >>> import torch
        >>> from discrepancy import MMD, Measure, TrimmedMean
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0], [3.0], [1e6]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> round(float(TrimmedMean(of=MMD(), share=0.2)(mu, nu)), 4), float(MMD()(mu, nu)) > 1e10
        (0.0, True)
    """

    of: Discrepancy
    share: float = 0.05

    def __post_init__(self) -> None:
        check_statistic(self.of)
        if not 0 <= self.share < 0.5:
            raise InvalidInput(f"'share' must be >= 0 and < 0.5, got {self.share}")

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset({*(self.of.tags & KEPT), "splits"})

    @property
    def merges(self) -> bool:
        return False

    def summarise_groups(self, real: Measure, draws: Draws) -> MeanSummary:
        values = torch.cat([self.of.statistics(part, draws) for part in real.split(SUMMARY_POINTS)], 1)
        width = max(1, SORTED_BYTES // max(1, 8 * real.weights.numel()))
        mean = torch.cat([self._trimmed(part, real.shares) for part in values.split(width, -1)], -1)
        return MeanSummary(mean, torch.ones_like(mean[:, 0]))

    def merge_groups(self, first: MeanSummary, second: MeanSummary, draws: Draws) -> MeanSummary:
        raise Unsupported(
            f"summaries of '{self.kind}' cannot be merged, since a trimmed mean needs all points at once; summarise them "
            f"together, or use 'median_of_means'"
        )

    def _trimmed(self, values: Float[Tensor, "g n q"], shares: Float[Tensor, "g n"]) -> Float[Tensor, "g q"]:
        ordered, places = torch.where(shares[..., None] > 0, values, 0.0).sort(1)
        ends = shares[..., None].expand_as(values).gather(1, places).cumsum(1).clamp(self.share, 1 - self.share)
        start = torch.full_like(ends[:, :1], self.share)
        return (ordered * ends.diff(dim=1, prepend=start)).sum(1) / (1 - 2 * self.share)


def check_statistic(of: Discrepancy) -> None:
    """Refuses a discrepancy that compares other things than the means of a statistic of single points."""
    if not of.has_statistic:
        raise InvalidInput(
            f"'of' must compare the means of a statistic of single points, and '{of.kind}' with these settings does not; use "
            f"mmd or joint_mmd with kernel linear and estimator v, characteristic_function with fixed "
            f"frequencies, mean_gradients or linear_hypotheses"
        )
