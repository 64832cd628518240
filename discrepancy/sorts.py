"""A discrepancy has two sides, and they are not alike: the real side is huge and fixed, the synthetic one tiny and moving.

    summary = D.summarise(real, draws)                  # once a context; no gradient reaches the real side
    value   = D.compare(summary, synthetic, draws)      # every step; one value a group

``D(mu, nu)`` is short for ``D.compare(D.summarise(mu), nu)``. What the summary is decides what can be done with it:

- :class:`MeanDiscrepancy` compares means of a statistic of single points. Its summary is a sum and a mass, so it merges over
  batches and workers, and a step costs nothing that depends on the size of the real set.
- :class:`SampleDiscrepancy` keeps the points, with whatever depends on the real side alone computed once.

Which sort a discrepancy is may depend on the instance (MMD with a linear kernel is a difference of means, with a gaussian
one it is not), so the rest of the library asks ``D.streams`` and never the class.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.base import Part
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure

__all__ = [
    "Discrepancy",
    "Draws",
    "MeanDiscrepancy",
    "MeanSummary",
    "SampleDiscrepancy",
    "SampleSummary",
    "Summary",
    "Tag",
    "weighted_mean",
]

Draws = Mapping[str, Tensor] | None
"""The random parts of one context (frequencies, directions), by name; None where there are none."""

Tag = Literal[
    "zero-at-equality",
    "nonnegative",
    "symmetric",
    "mergeable",
    "twice-differentiable",
    "translation-invariant",
    "splits",
    "pulls",
]
"""What a discrepancy promises; the contract tests check each promise where it is made.

``mergeable``: summaries of batches merge into that of the whole. ``splits``: a real point may be split into two with half
its weight each (a synthetic one always may). ``pulls``: following the gradient takes a lone point to a lone target.
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


@dataclass(frozen=True, eq=False)
class MeanSummary:
    """Σ w t(x) and Σ w of each group, in float64, with Σ w² and Σ w² ‖t(x)‖² for an unbiased estimate."""

    total: Float[Tensor, "g p"]
    mass: Float[Tensor, " g"]
    squares: Float[Tensor, " g"]
    spread: Float[Tensor, " g"]

    @classmethod
    def of(cls, values: Float[Tensor, "g n p"], weights: Float[Tensor, "g n"]) -> "MeanSummary":
        """The summary of the points with these values of t."""
        values, weights = values.double(), weights.double()
        return cls(
            torch.einsum("gn,gnp->gp", weights, values),
            weights.sum(-1),
            weights.square().sum(-1),
            torch.einsum("gn,gnp->g", weights.square(), values.square()),
        )

    @property
    def mean(self) -> Float[Tensor, "g p"]:
        return self.total / self.mass[:, None]

    def merge(self, other: "MeanSummary") -> "MeanSummary":
        return MeanSummary(
            self.total + other.total, self.mass + other.mass, self.squares + other.squares, self.spread + other.spread
        )

    def select(self, groups: Tensor) -> "MeanSummary":
        return MeanSummary(self.total[groups], self.mass[groups], self.squares[groups], self.spread[groups])

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for item in (self.total, self.mass, self.squares, self.spread))


@dataclass(frozen=True, eq=False)
class SampleSummary:
    """The real points themselves (grouped), and ``constants``: what depends on them alone, one row a group."""

    real: Measure
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def select(self, groups: Tensor) -> "SampleSummary":
        real = Measure(
            {name: tensor[groups] for name, tensor in self.real.tensors.items()}
            if isinstance(self.real.points, Mapping)
            else self.real.points[groups],
            self.real.mass_of[groups],
            None if self.real.labels is None else self.real.labels[groups],
        )
        return SampleSummary(real, {name: value[groups] for name, value in self.constants.items()})

    @property
    def nbytes(self) -> int:
        held = [*self.real.tensors.values(), self.real.mass_of, *self.constants.values()]
        return sum(tensor.nbytes for tensor in held)


class Discrepancy(Part, family=True):
    """A dissimilarity of two measures, in two sides. Subclass one of the sorts, not this class, where one fits."""

    @property
    @abstractmethod
    def tags(self) -> frozenset[Tag]:
        """The laws that this instance obeys."""

    @property
    def streams(self) -> bool:
        """Whether summaries of batches merge exactly into the summary of the whole at bounded memory."""
        return False

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
        total = torch.zeros(())
        for (name, real), (_, synthetic) in zip(mu.blocks(), nu.blocks(), strict=True):
            _same_space(name, real, synthetic)
            real, synthetic = real.as_groups(), synthetic.as_groups()
            total = self.compare(self.summarise(real, draws), synthetic, draws) + total.to(synthetic.mass_of)
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


class MeanDiscrepancy(Discrepancy):
    """D(μ, ν) = distance(E_μ t(x), E_ν t(x)), with a statistic t of one point at a time."""

    @property
    def streams(self) -> bool:
        return True

    @abstractmethod
    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        """t of every point."""

    @abstractmethod
    def distance(self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"]) -> Float[Tensor, " g"]:
        """The distance of two means, which are given in float64."""

    @torch.no_grad()
    def summarise(self, real: Measure, draws: Draws = None) -> MeanSummary:
        return MeanSummary.of(self.statistic(real.tensors[""], draws), real.mass_of)

    def compare(self, summary: MeanSummary, synthetic: Measure, draws: Draws = None) -> Float[Tensor, " g"]:
        values = self.statistic(synthetic.tensors[""], draws)
        return self.distance(summary.mean, weighted_mean(values, synthetic.mass_of)).to(values.dtype)

    def merge(self, first: MeanSummary, second: MeanSummary) -> MeanSummary:
        return first.merge(second)


def weighted_mean(values: Float[Tensor, "g n p"], weights: Float[Tensor, "g n"]) -> Float[Tensor, "g p"]:
    """Σ w t / Σ w in float64, since it is about to be subtracted from a mean close to it."""
    shares = weights.double() / weights.double().sum(-1, keepdim=True)
    return torch.einsum("gn,gnp->gp", shares, values.double())


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
