"""Penalties: terms that look at the synthetic side alone."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.embeddings.base import Taken
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.parts import Part, check_choice
from discrepancy.reductions import Proportional, Reduction
from objectives.contexts import Context
from objectives.data.spec import Described
from objectives.terms.bound import BoundTerm, TermEngine, View
from objectives.terms.objective import Objective, Summand, Term
from objectives.terms.weights import WeightSchedule

__all__ = ["BoundPenalty", "ExamplePenalty", "Penalised", "Penalty"]


class Penalty(Part, Summand, family=True):
    """R: looks at the synthetic side only. An average over the examples, so that it adds up over the classes: where a solver
    takes the classes in turn, the penalty of one class counts by its share of the examples."""

    needs_classes: ClassVar[bool] = False
    """Whether its labels must be those of classes."""

    of_examples: ClassVar[bool] = False
    """Whether it is Σ wᵢ rᵢ / Σ wᵢ for a value rᵢ of each example, which can be had: :meth:`values`."""

    @property
    @abstractmethod
    def takes(self) -> frozenset[str]:
        """What it needs of the context, as a term does."""

    @property
    def differentiates(self) -> bool:
        """Whether it differentiates the context's network, and so is given that: :meth:`of_network`."""
        return False

    @abstractmethod
    def __call__(self, taken: Taken, labels: Tensor, weights: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        """The penalty, given what the context offers of the m synthetic examples, their labels (m,) or (m, c), weights."""

    def of_network(
        self,
        classify: Callable[[Tensor], Float[Tensor, "m c"]],
        points: Float[Tensor, "m ..."],
        labels: Float[Tensor, "m c"],
        weights: Float[Tensor, " m"],
    ) -> Float[Tensor, ""]:
        """The penalty, given the logits of the context's network as a function of points, where it differentiates these."""
        raise Unsupported(f"'{self.kind}' looks at what is taken of a network; call it")

    def values(self, taken: Taken, labels: Tensor) -> Float[Tensor, " m"]:
        """rᵢ of each example, given what the context offers of them and their labels."""
        raise Unsupported(f"'{self.kind}' has no values of single examples; ask 'of_examples' first")

    def values_of_network(
        self,
        classify: Callable[[Tensor], Float[Tensor, "m c"]],
        points: Float[Tensor, "m ..."],
        labels: Float[Tensor, "m c"],
    ) -> Float[Tensor, " m"]:
        """rᵢ of each example, given the network as a function of points, where the penalty differentiates that."""
        raise Unsupported(f"'{self.kind}' has no values of single examples; ask 'of_examples' first")

    def as_objective(self) -> Objective:
        return Penalised(penalty=self).as_objective()


class ExamplePenalty(Penalty):
    """A penalty that is an average over the examples, Σ wᵢ rᵢ / Σ wᵢ; a subclass says what rᵢ is."""

    of_examples = True

    @abstractmethod
    def values(self, taken: Taken, labels: Tensor) -> Float[Tensor, " m"]:
        """rᵢ of each example, given what the context offers of them and their labels."""

    def __call__(self, taken: Taken, labels: Tensor, weights: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        values = self.values(taken, labels)
        return torch.dot(values, weights.to(values)) / weights.sum()


class Penalised(Term, kind="penalty"):
    """A penalty as a term, with its weight.

    Args:
        penalty: R.
        by: ``none`` takes it of the whole set, ``class`` of the examples of each class, and adds these up: for an average over
            examples that is, with c equal classes, c times as much.
        reduce: how the values of the examples become one: ``proportional`` (the average), ``cvar`` (the average over the worst
            share of the mass of the synthetic examples) or ``max``; with ``by: class``, for the examples of each class.
        times_accuracy: multiplies it by the training accuracy of the context's network, from 0 to 1; that of a network that has
            not been trained is 0 (IDM).
        weight: λ in the sum above; a number, or a schedule over the steps.
    """

    penalty: Penalty = field(kw_only=False)
    by: Literal["class", "none"] = "none"
    reduce: Reduction = Proportional()
    times_accuracy: bool = False
    weight: float | WeightSchedule = 1.0

    def __post_init__(self) -> None:
        check_choice("by", self.by, ("class", "none"))
        if not self.reduce.of_examples:
            raise InvalidInput(
                f"'reduce' of a penalty is over examples, which count by their mass, got '{self.reduce.kind}'; use "
                "proportional, cvar or max"
            )
        if not self.reduce.separable and not self.penalty.of_examples:
            raise InvalidInput(
                f"'{self.penalty.kind}' has no values of single examples, so 'reduce' cannot be '{self.reduce.kind}'; leave it "
                "out"
            )

    @property
    def separable(self) -> bool:
        return self.by == "class" or self.reduce.separable

    @property
    def grouping(self) -> str:
        return f"by: {self.by} and reduce: {self.reduce.kind}"

    @property
    def takes(self) -> frozenset[str]:
        return self.penalty.takes

    @property
    def default_name(self) -> str:
        return self.penalty.kind

    def needs_classes(self, name: str) -> tuple[str, str] | None:
        if not self.penalty.needs_classes:
            return None
        return f"term '{name}' is a {self.penalty.kind}", "a risk of ridge or kernel_ridge"

    def check(self, name: str, data: Described, context: Context) -> None:
        if self.times_accuracy and context.training_schedule is None:
            raise InvalidInput(
                f"'times_accuracy' of term '{name}' asks for the accuracy of a network in training, but "
                f"'{context.kind}' trains none; use the context 'queue', or leave it out"
            )
        if self.penalty.needs_classes:
            data.require_classes(f"term '{name}' is a {self.penalty.kind}, which")

    def bind(self, name: str, engine: TermEngine) -> "BoundPenalty":
        self.check(name, engine.data, engine.context)
        return BoundPenalty(name, self, self.times_accuracy, self.penalty.differentiates)


@dataclass(frozen=True, eq=False)
class BoundPenalty(BoundTerm):
    """A penalty on data.

    It sees the points themselves, where a match sees the augmented ones. What is taken of the network is of the augmented
    points for both."""

    name: str
    term: Penalised
    asks_accuracy: bool = False
    needs_graph: bool = False

    def value(self, view: View) -> Float[Tensor, " 1"]:
        value = self._penalty(view)
        if self.asks_accuracy and view.at.accuracy is not None:
            value = view.at.accuracy.to(value) * value
        return value[None]

    def _penalty(self, view: View) -> Float[Tensor, ""]:
        here = view.synthetic
        if self.term.by == "none":
            return view.share * self._of(view, slice(None))
        slots = here.slots.unique()
        rows = [(here.slots == label).nonzero()[:, 0].to(here.points.device) for label in slots]
        return torch.stack([self._of(view, own) for own in rows]).sum()

    def _of(self, view: View, rows: Tensor | slice) -> Float[Tensor, ""]:
        """The penalty of these examples."""
        here, penalty, reduce = view.synthetic, self.term.penalty, self.term.reduce
        points, weights = here.points[rows], here.weights[rows]
        if not penalty.differentiates:
            taken = {**{name: value[rows] for name, value in view.taken.items()}, "points": points}
            if reduce.separable:
                return penalty(taken, here.labels[rows], weights)
            return reduce(penalty.values(taken, here.labels[rows]), weights / weights.sum())
        network, parameters = view.engine.context.network, view.at.parameters
        assert network is not None

        def classify(x: Tensor) -> Tensor:
            return network(parameters, x, ("logits",))["logits"]

        if reduce.separable:
            return penalty.of_network(classify, points, view.labels[rows], weights)
        return reduce(penalty.values_of_network(classify, points, view.labels[rows]), weights / weights.sum())
