"""A discrepancy has two sides, and they are not alike: the real side is huge and fixed, the synthetic one tiny and moving.

    summary = D.summarise(real, draws)                  # once a context; no gradient reaches the real side
    value   = D.compare(summary, synthetic, draws)      # every step; one value a group

``D(mu, nu)`` is short for ``D.compare(D.summarise(mu), nu)``. What the summary is decides what can be done with it:

- :class:`MeanDiscrepancy` compares means of a statistic of single points. Its summary is a sum and a mass, so it merges over
  batches and workers, and a step costs nothing that depends on the size of the real set.
- :class:`SampleDiscrepancy` keeps the points, with whatever depends on the real side alone computed once.

Which sort a discrepancy is may depend on the instance (MMD with a linear kernel is a difference of means, with a gaussian
one it is not), so the rest of the library asks ``D.mergeable`` and never the class.
"""

import functools
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure
from discrepancy.parts import Part

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


@runtime_checkable
class Summary(Protocol):
    """What is kept of the real side."""

    def select(self, groups: Tensor) -> "Summary":
        """The summary of the groups with these numbers only."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        ...


SUMMARY_POINTS = 1024
"""Real points (of each group) whose statistics are held at once while they are added up."""


@dataclass(frozen=True, eq=False)
class MeanSummary:
    """Σ w t(x) and Σ w of each group in float64, and further sums by name, one row a group."""

    total: Float[Tensor, "g p"]
    mass: Float[Tensor, " g"]
    sums: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def mean(self) -> Float[Tensor, "g p"]:
        return self.total / self.mass[:, None]

    def merge(self, other: "MeanSummary") -> "MeanSummary":
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        return MeanSummary(self.total + other.total, self.mass + other.mass, sums)

    def select(self, groups: Tensor) -> "MeanSummary":
        sums = {name: value[groups] for name, value in self.sums.items()}
        return MeanSummary(self.total[groups], self.mass[groups], sums)

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for item in (self.total, self.mass, *self.sums.values()))


@dataclass(frozen=True, eq=False)
class SampleSummary:
    """The real points themselves (grouped), and ``constants``: what depends on them alone, one row a group."""

    real: Measure
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def select(self, groups: Tensor) -> "SampleSummary":
        constants = {name: value[groups] for name, value in self.constants.items()}
        return SampleSummary(self.real.select(groups), constants)

    @property
    def nbytes(self) -> int:
        held = [*self.real.tensors.values(), self.real.mass_of, self.real.labels, *self.constants.values()]
        return sum(tensor.nbytes for tensor in held if tensor is not None)


@dataclass(frozen=True)
class Adversary:
    """Who takes the supremum: the draws of these names are moved uphill, so many steps of Adam at this rate where D is
    evaluated on its own; in a run they are part of its state and move once a step."""

    names: frozenset[str]
    steps: int
    rate: float


class Discrepancy(Part, family=True):
    """A dissimilarity of two measures, in two sides. Subclass one of the sorts, not this class, where one fits.

    Measures arrive grouped, and with labels as vectors ``(g, n, c)`` where ``labelled``.
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
    def needs_classes(self) -> bool:
        """Whether labels must be classes or probabilities of classes; else any real numbers will do."""
        return False

    @property
    def of_means(self) -> bool:
        """Whether it is a function of the means of the two sides alone, so that these may be all that is known of them."""
        return False

    @property
    def has_best_labels(self) -> bool:
        """Whether :meth:`best_labels` is known in closed form."""
        return False

    @property
    def order(self) -> float:
        """p of the norm ‖x - y‖_p by which it measures how far two points are apart; 2 unless it says otherwise."""
        return 2.0

    @property
    def compared_parameters(self) -> "tuple[Any, Any] | None":
        """The learners of the synthetic and of the real side, where it is the distance of the parameters that they learn; None
        for others."""
        return None

    @property
    def learners(self) -> "tuple[Any, Any] | None":
        """What learns from the synthetic and from the real side, where what is learned is compared; None for others."""
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
        """Who takes the supremum, where there is one. It sees the real points at every step, so nothing is merged."""
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
    def summarise(self, real: Measure, draws: Draws = None) -> Any:
        """The summary of a grouped measure of the real side. No gradient reaches it."""

    @abstractmethod
    def compare(self, summary: Any, synthetic: Measure, draws: Draws = None) -> Float[Tensor, " g"]:
        """The discrepancy of each group, differentiable in the synthetic points and weights."""

    def merge(self, first: Any, second: Any) -> Any:
        """The summary of the union of two samples."""
        raise Unsupported(f"summaries of '{self.kind}' do not merge; summarise all the points at once")

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

    def sharpened(self, summary: Any, synthetic: Measure, draws: Draws = None) -> Draws:
        """The draws after the adversary, one for each group, has moved uphill; the same where there is none."""
        adversary = self.adversary
        if adversary is None or draws is None:
            return draws
        count = len(synthetic.mass_of)
        fixed = Measure(
            {name: tensor.detach() for name, tensor in synthetic.tensors.items()}
            if isinstance(synthetic.points, Mapping)
            else synthetic.points.detach(),
            synthetic.mass_of.detach(),
            None if synthetic.labels is None else synthetic.labels.detach(),
        )
        moving = {
            name: draws[name].expand(count, *draws[name].shape).clone().requires_grad_() for name in adversary.names
        }
        optimizer = torch.optim.Adam(moving.values(), lr=adversary.rate, maximize=True)
        with torch.enable_grad():
            for _ in range(adversary.steps):
                value = self.compare(summary, fixed, {**draws, **moving}).sum()
                for tensor, slope in zip(
                    moving.values(), torch.autograd.grad(value, list(moving.values())), strict=True
                ):
                    tensor.grad = slope
                optimizer.step()
        return {**draws, **{name: tensor.detach() for name, tensor in moving.items()}}

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
            _same_labels(mu, nu)
        total = torch.zeros(())
        for (name, real), (_, synthetic) in zip(mu.blocks(), nu.blocks(), strict=True):
            _same_space(name, real, synthetic)
            real, synthetic = real.as_groups(), synthetic.as_groups()
            summary = self.summarise(real, draws)
            value = self.compare(summary, synthetic, self.sharpened(summary, synthetic, draws))
            total = value + total.to(value)
        return total if mu.grouped else total[0]


def _same_space(name: str, mu: Measure, nu: Measure) -> None:
    lead = mu.mass_of.ndim
    a, b = mu.tensors[""], nu.tensors[""]
    where = f" in block '{name}'" if name else ""
    if a.shape[lead:] != b.shape[lead:]:
        raise InvalidInput(
            f"points of shape {tuple(a.shape[lead:])} and {tuple(b.shape[lead:])}{where} cannot be compared"
        )
    if a.dtype != b.dtype or a.device != b.device:
        raise InvalidInput(
            f"points are {a.dtype} on {a.device} and {b.dtype} on {b.device}{where}; convert one with .to(...)"
        )


def _same_labels(mu: Measure, nu: Measure) -> None:
    first, second = mu.labels, nu.labels
    if first is not None and second is not None and first.shape[-1] != second.shape[-1]:
        raise InvalidInput(
            f"labels of {first.shape[-1]} and {second.shape[-1]} classes cannot be compared; use one list of classes"
        )


class MeanDiscrepancy(Discrepancy):
    """D(μ, ν) = distance(E_μ t(x), E_ν t(x)), with a statistic t of one point at a time.

    Where t is large and its sum is cheaper than its parts (a Gram matrix), override ``total`` too.
    """

    @property
    def of_means(self) -> bool:
        return True

    @abstractmethod
    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        """t of every point."""

    @abstractmethod
    def distance(self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"]) -> Float[Tensor, " g"]:
        """The distance of two means, which are given in float64."""

    def total(self, measure: Measure, draws: Draws) -> Float[Tensor, "g p"]:
        """Σ w t(x) of each group in float64, differentiable."""
        values = self.statistic(measure.tensors[""], draws)
        return torch.einsum("gn,gnp->gp", measure.mass_of.double(), values.double())

    @torch.no_grad()
    def summarise(self, real: Measure, draws: Draws = None) -> MeanSummary:
        parts = (
            MeanSummary(self.total(part, draws), part.mass_of.double().sum(-1)) for part in real.split(SUMMARY_POINTS)
        )
        return functools.reduce(MeanSummary.merge, parts)

    def compare(self, summary: MeanSummary, synthetic: Measure, draws: Draws = None) -> Float[Tensor, " g"]:
        mean = self.total(synthetic, draws) / synthetic.mass_of.double().sum(-1, keepdim=True)
        return self.distance(summary.mean, mean).to(synthetic.rows.dtype)

    def merge(self, first: MeanSummary, second: MeanSummary) -> MeanSummary:
        return first.merge(second)


class SampleDiscrepancy(Discrepancy):
    """A discrepancy that needs the real points at every comparison."""

    @abstractmethod
    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        """What depends on the real side alone, one row a group; computed once a summary, without gradient."""

    @torch.no_grad()
    def summarise(self, real: Measure, draws: Draws = None) -> SampleSummary:
        return SampleSummary(real, self.constants(real, draws))

    def merge(self, first: SampleSummary, second: SampleSummary) -> SampleSummary:
        raise Unsupported(f"'{self.kind}' compares points: merge the measures (Measure.merged), then summarise once")
