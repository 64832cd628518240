"""What is minimised: a named, weighted sum of discrepancies between embeddings of the two sides, and of penalties.

    min over S   Σ_k  w_k · E_ξ [ D_k( φ_k^ξ # P ,  φ_k^ξ # Q_S ) ]   +   Σ_l  λ_l · R_l(S)

A :class:`Match` is one D with its embedding φ and its grouping by label; a :class:`Penalty` R looks at S alone, and at the
context's network if it asks for it. They add up:

    objective = Match(MMD(), via=Features(), by="class") + 0.5 * TotalVariation()
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Discrepancy
from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.embeddings.points import Identity
from discrepancy.errors import InvalidInput
from discrepancy.parts import Part, check_choice, named
from objectives.terms.reductions import Reduction, Sum

__all__ = ["Grouped", "Match", "Objective", "Penalised", "Penalty", "TRAINED", "Term"]

Grouped = Literal["class", "group", "none"]

TRAINED = "trained."
"""What the names begin with of what is taken of a trained network beside the current one."""


class Summand:
    """What can be scaled and added to an objective."""

    def as_objective(self) -> "Objective":
        raise NotImplementedError

    def __add__(self, other: "Summand") -> "Objective":
        if not isinstance(other, Summand):
            return NotImplemented
        return Objective(self.as_objective().terms + other.as_objective().terms)

    def __mul__(self, factor: float) -> "Objective":
        if not isinstance(factor, int | float):
            return NotImplemented
        terms = self.as_objective().terms
        return Objective(tuple((name, replace(term, weight=factor * term.weight)) for name, term in terms))

    __rmul__ = __mul__


class Term(Part, Summand, family=True):
    """One named summand of an objective. In a configuration its kind is told by its first field."""

    tagged_by_field: ClassVar[bool] = True
    weight: float

    @property
    @abstractmethod
    def takes(self) -> frozenset[str]:
        """What it needs of the context: ``points``, ``features``, ``layers``, ``logits``; ``trained.logits`` and the like of
        the trained network that a context may have beside the current one."""

    @property
    @abstractmethod
    def default_name(self) -> str:
        """Its name where none is given."""

    def named(self, name: str) -> "Objective":
        """This term as an objective, under the given name."""
        return Objective(((name, self),))

    def as_objective(self) -> "Objective":
        return self.named(self.default_name)


class Match(Term, kind="match"):
    """E_ξ Σ_g D(φ # P_g, φ # Q_g): one discrepancy between the two sides, group by group.

    Args:
        match: the discrepancy D.
        via: the embedding φ. With named blocks (layers), D is added up over the blocks.
        by: ``class`` compares the conditional measures given the class, ``group`` those given the data's own groups
            (a hospital, a writer), ``none`` the two sets as wholes.
        reduce: how the values of the groups become one.
        layer_weights: a factor for each named block; 1 where none is given.
        weight: w in the sum above.
    """

    match: Discrepancy = field(kw_only=False)
    via: Embedding = Identity()
    by: Grouped = "class"
    reduce: Reduction = Sum()
    layer_weights: tuple[tuple[str, float], ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(Grouped))
        if "differentiable" not in self.match.tags:
            raise InvalidInput(
                f"'{self.match.kind}' is for reports: its value has no useful gradient, so it cannot be a term; use it in "
                "'condense compare', and match something differentiable (mmd, sinkhorn, ...)"
            )
        object.__setattr__(self, "layer_weights", named(self.layer_weights))

    @property
    def takes(self) -> frozenset[str]:
        return self.via.takes

    @property
    def default_name(self) -> str:
        return self.match.kind

    def block_weight(self, block: str) -> float:
        """The factor of a named block."""
        return dict(self.layer_weights).get(block, 1.0)


class Penalty(Part, Summand, family=True):
    """R: looks at the synthetic side only. An average over the examples, so that it adds up over the classes: where a solver
    takes the classes in turn, the penalty of one class counts by its share of the examples."""

    needs_classes: ClassVar[bool] = False
    """Whether its labels must be those of classes."""

    @property
    @abstractmethod
    def takes(self) -> frozenset[str]:
        """What it needs of the context, as a term does."""

    @abstractmethod
    def __call__(self, taken: Taken, labels: Tensor, weights: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        """The penalty, given what the context offers of the m synthetic examples, their labels (m,) or (m, c), weights."""

    def as_objective(self) -> "Objective":
        return Penalised(penalty=self).as_objective()


class Penalised(Term, kind="penalty"):
    """A penalty as a term, with its weight.

    Args:
        penalty: R.
        by: ``none`` takes it of the whole set, ``class`` of the examples of each class, and adds these up: for an average over
            examples that is, with c equal classes, c times as much.
        times_accuracy: multiplies it by the share, from 0 to 1, of the examples of its training that the context's network told
            rightly, of which a network that learned nothing has 0 (IDM).
        weight: λ in the sum above.
    """

    penalty: Penalty = field(kw_only=False)
    by: Literal["class", "none"] = "none"
    times_accuracy: bool = False
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_choice("by", self.by, ("class", "none"))

    @property
    def takes(self) -> frozenset[str]:
        return self.penalty.takes

    @property
    def default_name(self) -> str:
        return self.penalty.kind


@dataclass(frozen=True)
class Objective(Summand):
    """Named terms, in order. A mapping from names to terms, or to penalties, is accepted too.

    Raises:
        InvalidInput: without a term, or if two terms have one name.
    """

    terms: tuple[tuple[str, Term], ...]

    def __post_init__(self) -> None:
        terms = tuple(
            (name, Penalised(term) if isinstance(term, Penalty) else term) for name, term in named(self.terms)
        )
        object.__setattr__(self, "terms", terms)
        if not terms:
            raise InvalidInput("'terms' is empty; an objective needs at least one term")
        names = [name for name, _ in terms]
        for name in names:
            if names.count(name) > 1:
                raise InvalidInput(f"two terms are named '{name}'; give one another name with .named('...')")

    @property
    def takes(self) -> frozenset[str]:
        """What all the terms together need of the context."""
        return frozenset().union(*(term.takes for _, term in self.terms))

    def as_objective(self) -> "Objective":
        return self
