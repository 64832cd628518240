"""A term on data, and what it is evaluated on in a step.

    bound = term.bind(name, engine)          once
    bound.value(view)                        every step: one value for each group, in the graph of the synthetic side

The engine adds the values of all the terms and differentiates once. It knows no kind of term.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Adversary, Discrepancy, Draws
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.networks.base import Forward, NetworkParameters
from objectives.contexts import Context, Draw
from objectives.data.examples import Examples
from objectives.data.real import Accumulator, RealData
from objectives.synthetic.parameterisation import Decoded

__all__ = ["BoundTerm", "Candidates", "DrawView", "Random", "TermEngine", "View"]


@dataclass(frozen=True, eq=False)
class Random:
    """The random parts of one term in one draw of the context: of its embedding, and of its discrepancy on each block."""

    embedding: Draws = None
    blocks: Mapping[str, Draws] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DrawView:
    """One draw of the context: the weights of its network; those of the trained network beside it, and its training accuracy,
    where a term asks for them; the augmentation; for each term by name its random parts, and its summary of the real side by
    block."""

    draw: Draw
    parameters: NetworkParameters
    trained: NetworkParameters
    accuracy: Tensor | None
    augmentation: Mapping[str, Tensor]
    random: Mapping[str, Random]
    summaries: Mapping[str, Mapping[str, Any]]

    @property
    def nbytes(self) -> int:
        held = [summary.nbytes for blocks in self.summaries.values() for summary in blocks.values()]
        return sum(held) + sum(value.nbytes for value in (*self.parameters.values(), *self.trained.values()))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Real examples of one class as one block of a term sees them: what a selection needs to value a subset.

    Args:
        features: of the examples.
        discrepancy: that compares a subset with the summary.
        summary: of the class; None where none was asked for.
        draws: the random parts of the discrepancy.
        factor: of this block in the objective.
    """

    features: Measure
    discrepancy: Discrepancy
    summary: Any
    draws: Draws
    factor: float


class TermEngine(ABC):
    """What a term may know when it is bound, and use when it is evaluated."""

    data: RealData
    """The real side."""
    context: Context
    """The context, as it was declared."""
    device: torch.device
    """Where everything is computed."""
    dtype: torch.dtype
    """The precision of examples, networks and gradients."""
    shapes: Mapping[str, tuple[int, ...]]
    """The shape, for one example, of everything that the terms take."""
    logits: Forward
    """(parameters, points) -> {"logits": ...}, for one batch of any size that is always the same."""
    whole_batches: bool
    """Whether an example's outputs depend on the others of its batch, so that batches are not divided."""

    @property
    @abstractmethod
    def sample(self) -> tuple[Measure, NetworkParameters]:
        """A balanced sample of real examples as the first network sees them, and the weights of that network."""

    @abstractmethod
    def chunk(self, n: int) -> int:
        """The rows of each chunk that ``n`` examples are cut into."""

    @abstractmethod
    def rng(self, *names: str | int) -> torch.Generator:
        """The random stream of this name."""

    @abstractmethod
    def extract(self, view: DrawView, points: Tensor) -> Mapping[str, Tensor]:
        """What the terms take of points in normalised units, in a draw: differentiable in the points."""

    @abstractmethod
    def augmented(self, view: DrawView, points: Tensor, labels: Tensor, first: int = 0) -> Tensor:
        """Points under the augmentation of a draw; they are numbered from ``first`` on."""

    @abstractmethod
    def real_batch(self, view: DrawView) -> Examples:
        """The real examples of a draw.

        Raises:
            InvalidInput: if the real side gives none away.
        """


@dataclass(frozen=True, eq=False)
class View:
    """What a term is evaluated on in one step.

    Args:
        engine: for networks and real examples, where a term needs more than what is here.
        at: the current draw of the context.
        taken: what the context offers of the augmented synthetic examples: ``points``, and outputs of its networks.
        synthetic: the synthetic examples themselves.
        only: the class to which all of them belong, where classes are evaluated one at a time.
        share: of all the synthetic examples of a step, those that are here.
        learned: parameters of adversaries, by block, of the term that is evaluated.
    """

    engine: TermEngine
    at: DrawView
    taken: Mapping[str, Tensor]
    synthetic: Decoded
    only: int | None = None
    share: float = 1.0
    learned: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def labels(self) -> Float[Tensor, "m c"]:
        """The labels of the synthetic examples as rows."""
        return self.synthetic.label_vectors(self.engine.data.count)


class BoundTerm(ABC):
    """A term on data.

    Args:
        name: of the term.
    """

    name: str

    asks_accuracy: bool = False
    """Whether it needs the training accuracy of the current network."""

    needs_graph: bool = False
    """Whether its value depends on the synthetic points in other ways than through what is taken of them.

    Then all the synthetic examples go through the network at once."""

    @abstractmethod
    def value(self, view: View) -> Float[Tensor, " g"]:
        """Its value for each group, without the weight, differentiable in what the view holds of the synthetic side."""

    def reduced(self, values: Float[Tensor, " g"]) -> Float[Tensor, ""]:
        """The values of the groups as one: their sum."""
        return values.sum()

    def random(self, generator: torch.Generator) -> Random:
        """The random parts in one draw of the context."""
        return Random()

    def accumulator(self, parameters: NetworkParameters, random: Random) -> Accumulator | None:
        """The summary of the real side in one draw, under way; None where it asks for none."""
        return None

    @property
    def adversaries(self) -> Mapping[str, tuple[Adversary, Mapping[str, Tensor]]]:
        """Of a supremum, by block: the adversary, and where its parameters start, with a leading axis of groups."""
        return {}

    def best_labels(self, view: View) -> Float[Tensor, "m c"]:
        """The labels of the synthetic examples for which it is smallest.

        Raises:
            InvalidInput: if they are not known in closed form.
        """
        raise InvalidInput(
            f"the best labels are not known in closed form for term '{self.name}'; use a risk of squares"
        )

    def candidates(
        self,
        taken: Mapping[str, Tensor],
        examples: Examples,
        label: int,
        random: Random,
        made: Mapping[str, Any] | None,
        *,
        summaries: bool,
    ) -> list[Candidates]:
        """Real examples of one class, by block, as subsets of them are valued.

        Args:
            taken: what the context offers of the examples.
            made: the summary of the real side by block; None where it is that of these examples.
            summaries: whether any is wanted.

        Raises:
            InvalidInput: if the term does not value single examples.
        """
        raise InvalidInput(f"term '{self.name}' does not value single real examples; leave it out of a selection")

    @property
    def resolved(self) -> dict[str, Any]:
        """Its parts with data-dependent constants as numbers, for the record; empty where there is nothing to record."""
        return {}
