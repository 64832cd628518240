"""A discrepancy has two sides, and they are not alike: the real side is huge and fixed, the synthetic one tiny and moving.

    summary = D.summarise(real, draws)                  # once a context; no gradient reaches the real side
    value   = D.compare(summary, synthetic, draws)      # every step; one value a group
    summary = D.merge(summary, another, draws)          # the summary of the union of two real samples

``D(mu, nu)`` is short for ``D.compare(D.summarise(mu), nu)``. All four take flat measures (the value is a scalar), grouped ones
(one value a group) and measures with named blocks (the sum over the blocks). What the summary is decides what can be done
with it:

- :class:`MeanDiscrepancy` compares means of a statistic of single points. Its summary is a sum and a mass, so it merges over
  batches and workers in bounded memory, and a step costs nothing that depends on the size of the real set.
- :class:`SampleDiscrepancy` keeps the points, with whatever depends on the real side alone computed once. Merging
  concatenates the points and computes this again.

Which sort a discrepancy is may depend on the instance (MMD with a linear kernel is a difference of means, with a gaussian
one it is not), so the rest of the library asks ``D.mergeable`` and never the class.
"""

import functools
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.arrays import in_floats
from discrepancy.calls import Adversary, Draws, TwoSided
from discrepancy.errors import Unsupported
from discrepancy.measure import Measure
from discrepancy.summaries import MeanSummary, SampleSummary, Summary

__all__ = [
    "Adversary",
    "Discrepancy",
    "Draws",
    "MeanDiscrepancy",
    "MeanSummary",
    "SampleDiscrepancy",
    "SampleSummary",
    "SUMMARY_POINTS",
    "Summary",
    "Tag",
]

Tag = Literal[
    "zero-at-equality",
    "nonnegative",
    "symmetric",
    "mergeable",
    "differentiable",
    "twice-differentiable",
    "translation-invariant",
    "splits",
    "pulls",
]
"""What a discrepancy promises; the contract tests check each promise where it is made.

``mergeable``: summaries are sums, so they merge in bounded memory. ``differentiable``: the gradient at the synthetic points is
that of the value almost everywhere; without it the value is for reports, and no objective takes it. ``splits``: a real
point may be split into two with half its weight each (a synthetic one always may). ``pulls``: following the gradient takes a
lone point to a lone target.
"""


SUMMARY_POINTS = 1024
"""Real points (of each group) whose statistics are held at once while they are added up."""


class Discrepancy(TwoSided, family=True):
    """A dissimilarity of two measures, computed in two steps: a summary of the real side, then comparisons with it. Subclass
    :class:`MeanDiscrepancy` or :class:`SampleDiscrepancy` where one of them fits.

    Users call :meth:`summarise`, :meth:`compare`, :meth:`merge`, or the object itself. A subclass implements
    :meth:`summarise_groups`, :meth:`compare_groups` and :meth:`merge_groups`, which see grouped measures only, points
    ``(g, n, *shape)`` and weights ``(g, n)``, with label vectors ``(g, n, c)`` where ``labelled``.

    Example:
        >>> import torch
        >>> from discrepancy import Discrepancy, Measure, Moments
        >>> D: Discrepancy = Moments(orders=(1,))
        >>> real, synthetic = Measure(torch.tensor([[0.0], [2.0]])), Measure(torch.tensor([[4.0]]))
        >>> float(D(real, synthetic)), float(D.compare(D.summarise(real), synthetic)), D.mergeable
        (9.0, 9.0, True)
    """

    @property
    @abstractmethod
    def tags(self) -> frozenset[Tag]:
        """The laws that this instance obeys."""

    @functools.cached_property
    def mergeable(self) -> bool:
        """Whether summaries of batches merge exactly into that of the whole, in bounded memory: the tag ``mergeable``."""
        return "mergeable" in self.tags

    @property
    def needs_classes(self) -> bool:
        """Whether labels must be classes or probabilities of classes; else any real numbers will do."""
        return False

    @property
    def of_means(self) -> bool:
        """Whether it is a function of the means of the two sides alone, so that these may be all that is known of them."""
        return False

    @property
    def has_statistic(self) -> bool:
        """Whether it reads of the real side only the mean of a statistic of single points, :meth:`statistics`: then that mean
        may be replaced by another one, ``MeanSummary(mean, mass 1)``."""
        return False

    @property
    def merges(self) -> bool:
        """Whether summaries can be merged at all; else they are made of all points at once."""
        return True

    @property
    def has_best_labels(self) -> bool:
        """Whether :meth:`best_labels` is known in closed form."""
        return False

    @property
    def order(self) -> float:
        """p of the norm ‖x - y‖_p by which it measures how far two points are apart; 2 unless it says otherwise."""
        return 2.0

    @property
    def learners(self) -> "tuple[Any, Any] | None":
        """What learns from the synthetic and from the real side, where what is learned is compared; None for others."""
        return None

    @property
    def compared_parameters(self) -> "tuple[Any, Any] | None":
        """The learners of the synthetic and of the real side, where it is the distance of the parameters that they learn; None
        for others."""
        return None

    @property
    def degree(self) -> float | None:
        """p where D(aμ, aν) = aᵖ D(μ, ν) for points multiplied by a > 0; None where a length of its own stands against it."""
        return None

    @property
    def bound(self) -> float | None:
        """sup ‖t(x)‖ of a statistic whose mean is compared, and so the sensitivity: n times the most that one of n equal
        points can move the mean (twice that if it is replaced). None where it is not bounded, or there is no statistic."""
        return None

    @property
    def adversary(self) -> Adversary | None:
        """How the supremum is computed, for a discrepancy that is one: which draws are moved to increase the value. None for
        others. It reads the real points at every step."""
        return None

    @property
    def resolved(self) -> bool:
        """Whether every data-dependent constant is a number."""
        return True

    def resolve(self, sample: Measure) -> "Discrepancy":
        """This discrepancy with every data-dependent constant turned into a number, from a sample of the real side."""
        return self

    def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
        """The random parts for points of this shape; None where there are none."""
        return None

    def statistics(self, measure: Measure, draws: Draws) -> Float[Tensor, "g n p"]:
        """The statistic of every point of a grouped measure, computed in float64.

        Raises:
            Unsupported: where there is none: ``has_statistic`` says so.
        """
        raise Unsupported(f"'{self.kind}' does not compare the means of a statistic; ask 'has_statistic' first")

    def best_labels(self, summary: Any, synthetic: Measure) -> Float[Tensor, "g m c"]:
        """The labels of the synthetic points for which the value is smallest, in closed form.

        Raises:
            Unsupported: where no closed form is known.
        """
        raise Unsupported(
            f"the best labels are not known in closed form for '{self.kind}'; use a risk with loss: squared"
        )

    def v_statistic(self) -> "Discrepancy":
        """The same discrepancy as a V-statistic: with no correction for the bias of a sample, so that it is never negative."""
        return self

    def as_mmd(self) -> "Any | None":
        """The squared MMD that this is (a multiple of), where it is one: then it has a kernel, and is quadratic in the weights
        of the synthetic points. None for others."""
        return None


class MeanDiscrepancy(Discrepancy):
    """A discrepancy of two means, D(μ, ν) = distance(E_μ t(x), E_ν t(x)), with a statistic t of one point at a time.

    Where t is large and its sum is cheaper than its parts (a Gram matrix), override ``total`` too.

    Example:
        >>> import torch
        >>> from discrepancy import MeanDiscrepancy, Measure
        >>> class SecondMoment(MeanDiscrepancy):
        ...     tags = frozenset({"zero-at-equality", "nonnegative", "symmetric", "mergeable", "splits"})
        ...     def statistic(self, points, draws):
        ...         return points.flatten(2) ** 2
        ...     def distance(self, real, synthetic):
        ...         return (real - synthetic).square().sum(-1)
        ...
        >>> float(SecondMoment()(Measure(torch.tensor([[0.0], [2.0]])), Measure(torch.tensor([[1.0]]))))
        1.0
    """

    @property
    def of_means(self) -> bool:
        return True

    @property
    def has_statistic(self) -> bool:
        return True

    @abstractmethod
    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        """t of every point."""

    @abstractmethod
    def distance(self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"]) -> Float[Tensor, " g"]:
        """The distance of two means, which are given in float64."""

    def total(self, measure: Measure, draws: Draws) -> Float[Tensor, "g p"]:
        """Σ w t(x) of each group in float64, differentiable."""
        points = measure.tensors[""]
        values = self.statistic(in_floats(points), draws)
        return torch.einsum("gn,gnp->gp", measure.weights.double(), values.double())

    def statistics(self, measure: Measure, draws: Draws) -> Float[Tensor, "g n p"]:
        return self.statistic(measure.tensors[""].double(), draws).double()

    def summarise_groups(self, real: Measure, draws: Draws) -> MeanSummary:
        parts = (
            MeanSummary(self.total(part, draws), part.weights.double().sum(-1)) for part in real.split(SUMMARY_POINTS)
        )
        return functools.reduce(MeanSummary.merge, parts)

    def compare_groups(self, summary: MeanSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        mean = self.total(synthetic, draws) / synthetic.weights.double().sum(-1, keepdim=True)
        return self.distance(summary.mean, mean).to(synthetic.rows.dtype)

    def merge_groups(self, first: MeanSummary, second: MeanSummary, draws: Draws) -> MeanSummary:
        return first.merge(second)


class SampleDiscrepancy(Discrepancy):
    """A discrepancy that keeps the real points, since every comparison needs them. A subclass implements :meth:`constants`
    and :meth:`compare_groups`.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, SampleDiscrepancy
        >>> class Range(SampleDiscrepancy):
        ...     tags = frozenset({"nonnegative", "symmetric", "zero-at-equality", "splits"})
        ...     def constants(self, real, draws):
        ...         return {"largest": real.rows.amax((1, 2))}
        ...     def compare_groups(self, summary, synthetic, draws):
        ...         return (summary.constants["largest"] - synthetic.rows.amax((1, 2))).abs()
        ...
        >>> D, parts = Range(), [Measure(torch.tensor([[0.0], [2.0]])), Measure(torch.tensor([[5.0]]))]
        >>> summary = D.merge(*(D.summarise(part) for part in parts))
        >>> float(D.compare(summary, Measure(torch.tensor([[1.0]]))))
        4.0
    """

    @abstractmethod
    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        """What depends on the real side alone, one row a group; computed once a summary, without gradient."""

    def summarise_groups(self, real: Measure, draws: Draws) -> SampleSummary:
        return SampleSummary(real, self.constants(real, draws))

    def merge_groups(self, first: SampleSummary, second: SampleSummary, draws: Draws) -> SampleSummary:
        return self.summarise_groups(Measure.merged([first.real, second.real]), draws)
