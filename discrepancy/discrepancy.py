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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure
from discrepancy.parts import Part
from discrepancy.summaries import BlockSummary, MeanSummary, SampleSummary, SideSummary, Space, Summary

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

Draws = Mapping[str, Tensor] | None
"""The random parts of one context (frequencies, directions), by name; None where there are none."""

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

``mergeable``: summaries of batches merge into that of the whole. ``differentiable``: the gradient at the synthetic points is
that of the value almost everywhere; without it the value is for reports, and no objective takes it. ``splits``: a real
point may be split into two with half its weight each (a synthetic one always may). ``pulls``: following the gradient takes a
lone point to a lone target.
"""


SUMMARY_POINTS = 1024
"""Real points (of each group) whose statistics are held at once while they are added up."""


@dataclass(frozen=True)
class Adversary:
    """Who takes the supremum: the draws of these names are moved uphill, so many steps of Adam at this rate where D is
    evaluated on its own; in a run they are part of its state and move once a step."""

    names: frozenset[str]
    steps: int
    rate: float


class Discrepancy(Part, family=True):
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

    @property
    def mergeable(self) -> bool:
        """Whether summaries of batches merge exactly into that of the whole, in bounded memory: the tag ``mergeable``."""
        return "mergeable" in self.tags

    @property
    def labelled(self) -> bool:
        """Whether it looks at labels."""
        return False

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
        """Who takes the supremum, where there is one. It sees the real points at every step."""
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

    @abstractmethod
    def summarise_groups(self, real: Measure, draws: Draws) -> Any:
        """The summary of a grouped measure, with a ``select`` and a size ``nbytes`` as in :class:`Summary`; runs without
        gradient."""

    @abstractmethod
    def compare_groups(self, summary: Any, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """The discrepancy of each group, differentiable in the synthetic points and weights."""

    @abstractmethod
    def merge_groups(self, first: Any, second: Any, draws: Draws) -> Any:
        """The summary of the union, from two summaries of the same groups; runs without gradient."""

    @torch.no_grad()
    def summarise(self, real: Measure, draws: Draws = None) -> Any:
        """The summary of the real side. No gradient reaches it.

        Values are not looked at, since this runs for every batch: ``Measure.checked`` and ``D(mu, nu)`` do that.

        Args:
            real: flat, grouped, or with named blocks, of which each gets a summary of its own with the same ``draws``.
            draws: what :meth:`draw` gave for the shape of a point.

        Raises:
            InvalidInput: if the discrepancy looks at labels and there are none, or needs draws and there are none.
        """
        if isinstance(real.points, Mapping):
            return BlockSummary({name: self.summarise(block, draws) for name, block in real.blocks()})
        if real.grouped and (not self.labelled or real.has_label_vectors):
            return self.summarise_groups(real, draws)
        classes = real.classes if self.labelled else None
        side = real if classes is None else real.with_label_vectors(classes)
        return SideSummary(self.summarise_groups(side.as_groups(), draws), not real.grouped, Space.of(real), classes)

    def compare(self, summary: Any, synthetic: Measure, draws: Draws = None) -> Tensor:
        """The discrepancy, differentiable in the synthetic points and weights: a scalar for flat measures, one value a group
        for grouped ones, summed over named blocks.

        The values are those of ``D(mu, nu)``, which moves an adversary first, where there is one: :meth:`sharpened`.

        Args:
            summary: of the real side, by :meth:`summarise` or :meth:`merge`.
            synthetic: flat where the real side was flat, with the same groups where it was grouped.
            draws: those of the summary.

        Raises:
            InvalidInput: if the two sides do not fit each other.
        """
        if isinstance(summary, BlockSummary):
            parts = summary.paired(dict(synthetic.blocks()))
            return _summed(self.compare(part, block, draws) for part, block in parts)
        groups, synthetic = self._grouped(summary, synthetic)
        value = self.compare_groups(groups, synthetic, draws)
        return value[0] if isinstance(summary, SideSummary) and summary.flat else value

    @torch.no_grad()
    def merge(self, first: Any, second: Any, draws: Draws = None) -> Any:
        """The summary of the union of two samples, whose weights stay as they are: each counts by its mass.

        Sums add up, in bounded memory where the discrepancy is :attr:`mergeable`. Where the points are kept they are
        concatenated, and the constants of the real side are computed again.

        Args:
            first, second: summaries of the same groups, blocks and classes.
            draws: those of both summaries.

        Raises:
            InvalidInput: if the two are summaries of different sorts of measures, or draws are needed and missing.
        """
        if isinstance(first, BlockSummary):
            parts = first.paired(second.blocks if isinstance(second, BlockSummary) else {"": second})
            return BlockSummary(
                {name: self.merge(*pair, draws) for name, pair in zip(first.blocks, parts, strict=True)}
            )
        if isinstance(first, SideSummary):
            return first.merged(second, functools.partial(self.merge_groups, draws=draws))
        if isinstance(second, SideSummary | BlockSummary):
            return self.merge(second, first, draws)
        return self.merge_groups(first, second, draws)

    def sharpened(self, summary: Any, synthetic: Measure, draws: Draws = None) -> Draws:
        """The draws after the adversary, one for each group, has moved uphill; the same where there is none.

        Raises:
            Unsupported: for measures with named blocks, each of which has an adversary of its own.
        """
        if self.adversary is None or draws is None:
            return draws
        if isinstance(summary, BlockSummary):
            raise Unsupported(f"each block has an adversary of its own; call '{self.kind}' for one block at a time")
        return self.sharpen_groups(*self._grouped(summary, synthetic), draws)

    def sharpen_groups(self, summary: Any, synthetic: Measure, draws: Mapping[str, Tensor]) -> Draws:
        """:meth:`sharpened` for grouped measures and a discrepancy with an adversary."""
        adversary = self.adversary
        assert adversary is not None
        count = len(synthetic.mass_of)
        fixed = synthetic.detached()
        moving = {
            name: draws[name].expand(count, *draws[name].shape).clone().requires_grad_() for name in adversary.names
        }
        optimizer = torch.optim.Adam(moving.values(), lr=adversary.rate, maximize=True)
        with torch.enable_grad():
            for _ in range(adversary.steps):
                value = self.compare_groups(summary, fixed, {**draws, **moving}).sum()
                for tensor, slope in zip(
                    moving.values(), torch.autograd.grad(value, list(moving.values())), strict=True
                ):
                    tensor.grad = slope
                optimizer.step()
        return {**draws, **{name: tensor.detach() for name, tensor in moving.items()}}

    def _grouped(self, summary: Any, synthetic: Measure) -> tuple[Any, Measure]:
        """The summary of the groups, and the synthetic side grouped and with label vectors.

        Raises:
            InvalidInput: if the two do not fit each other.
        """
        if isinstance(synthetic.points, Mapping):
            raise InvalidInput("'synthetic' has named blocks and the summary has none; summarise the same blocks")
        if isinstance(summary, SideSummary):
            return summary.groups, summary.of_other(synthetic, "synthetic")
        if not synthetic.grouped:
            raise InvalidInput(
                "the summary is that of a grouped measure and 'synthetic' is flat; condition both sides or neither"
            )
        if self.labelled and not synthetic.has_label_vectors:
            raise InvalidInput(
                f"the summary was made of label vectors and 'synthetic' has {synthetic.classes} classes by number; use "
                f"Measure.with_label_vectors(classes)"
            )
        return summary, synthetic

    def __call__(self, mu: Measure, nu: Measure, draws: Draws = None) -> Tensor:
        """D(mu, nu): a scalar for flat measures, one value a group for grouped ones, summed over named blocks.

        Raises:
            InvalidInput: if the values of a measure are unusable, or the two do not fit each other.
        """
        mu.checked("mu")
        nu.checked("nu")
        if mu.grouped != nu.grouped:
            raise InvalidInput("one measure is grouped and the other is not; condition both or neither")
        if mu.grouped and len(mu.mass_of) != len(nu.mass_of):
            raise InvalidInput(
                f"the measures have {len(mu.mass_of)} and {len(nu.mass_of)} groups; condition both alike"
            )
        if mu.tensors.keys() != nu.tensors.keys():
            raise InvalidInput(f"the measures have different blocks: {sorted(mu.tensors)} and {sorted(nu.tensors)}")
        if self.labelled:
            classes = max(mu.classes, nu.classes)
            mu, nu = mu.with_label_vectors(classes), nu.with_label_vectors(classes)
            if mu.classes != nu.classes:
                raise InvalidInput(
                    f"labels of {mu.classes} and {nu.classes} classes cannot be compared; use one list of classes"
                )
        values = []
        for (name, real), (_, synthetic) in zip(mu.blocks(), nu.blocks(), strict=True):
            Space.of(real).check(Space.of(synthetic), f" in block '{name}'" if name else "")
            real, synthetic = real.as_groups(), synthetic.as_groups()
            summary = self.summarise(real, draws)
            values.append(self.compare(summary, synthetic, self.sharpened(summary, synthetic, draws)))
        total = _summed(values)
        return total if mu.grouped else total[0]


def _summed(values: Iterable[Tensor]) -> Tensor:
    """The sum over blocks, in the dtype of the last."""
    total = torch.zeros(())
    for value in values:
        total = value + total.to(value)
    return total


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

    @abstractmethod
    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        """t of every point."""

    @abstractmethod
    def distance(self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"]) -> Float[Tensor, " g"]:
        """The distance of two means, which are given in float64."""

    def total(self, measure: Measure, draws: Draws) -> Float[Tensor, "g p"]:
        """Σ w t(x) of each group in float64, differentiable."""
        points = measure.tensors[""]
        values = self.statistic(points if points.is_floating_point() else points.float(), draws)
        return torch.einsum("gn,gnp->gp", measure.mass_of.double(), values.double())

    def summarise_groups(self, real: Measure, draws: Draws) -> MeanSummary:
        parts = (
            MeanSummary(self.total(part, draws), part.mass_of.double().sum(-1)) for part in real.split(SUMMARY_POINTS)
        )
        return functools.reduce(MeanSummary.merge, parts)

    def compare_groups(self, summary: MeanSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        mean = self.total(synthetic, draws) / synthetic.mass_of.double().sum(-1, keepdim=True)
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
