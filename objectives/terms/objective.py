"""What is minimised: a named, weighted sum of discrepancies between embeddings of the two sides, and of penalties.

    min over S   Σ_k  w_k · E_ξ [ D_k( φ_k^ξ # P ,  φ_k^ξ # Q_S ) ]   +   Σ_l  λ_l · R_l(S)

A :class:`~objectives.terms.match.Match` is one D with its embedding φ and its grouping by label; a
:class:`~objectives.terms.penalty.Penalty` R looks at S alone, and at the context's network if it asks for it. They add up:

    objective = Match(MMD(), via=Features(), by="class") + 0.5 * TotalVariation()
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from discrepancy.errors import InvalidInput
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.parts import Part, named
from objectives.contexts import Context
from objectives.data.examples import Grouped
from objectives.data.spec import Described
from objectives.data.transform import RealTransform
from objectives.terms.bound import BoundTerm, TermEngine
from objectives.terms.weights import WeightSchedule

__all__ = ["Objective", "Summand", "TRAINED", "Term"]

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
        return Objective(tuple((name, term.scaled(factor)) for name, term in self.as_objective().terms))

    __rmul__ = __mul__


class Term(Part, Summand, family=True):
    """One named summand of an objective. In a configuration the name of its first field (match, penalty, worst) is its kind.

    A term evaluates itself: :meth:`bind` gives a :class:`~objectives.terms.bound.BoundTerm`, and the engine asks that for its
    value. What solvers have to know of a term is said by the properties here.
    """

    tagged_by_field: ClassVar[bool] = True
    weight: float | WeightSchedule

    @property
    @abstractmethod
    def takes(self) -> frozenset[str]:
        """What it needs of the context: ``points``, ``features``, ``layers``, ``logits``; ``trained.logits`` and the like of
        the trained network that a context may have beside the current one."""

    @property
    @abstractmethod
    def default_name(self) -> str:
        """Its name where none is given."""

    @abstractmethod
    def bind(self, name: str, engine: TermEngine) -> BoundTerm:
        """This term on data, with its data-dependent constants as numbers.

        Raises:
            InvalidInput: if it does not suit the data or the context.
        """

    @property
    def settled(self) -> bool:
        """Whether it needs no sample of the real examples to turn data-dependent constants into numbers."""
        return True

    @property
    def compares(self) -> Grouped | None:
        """How both sides are divided into groups that are compared; None where it looks at the synthetic side alone."""
        return None

    @property
    def separable(self) -> bool:
        """Whether it is a sum over classes, or an average over examples, so that classes may be stepped one at a time."""
        return True

    @property
    def grouping(self) -> str:
        """How its groups become one value, for messages."""
        return "none"

    @property
    def labelled(self) -> bool:
        """Whether it compares labels."""
        return False

    @property
    def averages(self) -> bool:
        """Whether only the means of the features of each group are known, and no features of single examples."""
        return False

    @property
    def factors(self) -> tuple[float, ...]:
        """Factors of its parts, such as layers, beside its weight."""
        return ()

    def as_mmd(self) -> "MMD | None":
        """The MMD that it compares, where it is one."""
        return None

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
    def has_best_labels(self) -> bool:
        """Whether the labels of all the synthetic examples for which it is smallest are known in closed form."""
        return False

    @property
    def real_transform(self) -> RealTransform | None:
        """What changes the real side before it is embedded; None where it is taken as it is."""
        return None

    @property
    def real_passes(self) -> int:
        """Forward passes of the real batch at every step, beside those of the summaries; a backward pass counts as two."""
        return 0

    @property
    def extras(self) -> Mapping[str, float]:
        """Further parameters that are learned beside the synthetic examples (a step size), by name, with their start values."""
        return {}

    def needs_classes(self, name: str) -> tuple[str, str] | None:
        """What of the term of this name needs labels that are classes or distributions, for a message, and what to use instead;
        None where any real numbers will do."""
        return None

    def check(self, name: str, data: Described, context: Context) -> None:
        """Refuse data or a context that the term of this name cannot have, before anything is read.

        Raises:
            InvalidInput: naming the term.
        """

    def weight_at(self, step: int, steps: int) -> float:
        """The weight at a step, of so many."""
        return self.weight.at(step, steps) if isinstance(self.weight, WeightSchedule) else self.weight

    def scaled(self, factor: float) -> "Term":
        """This term with its weight multiplied."""
        weight = self.weight
        product = weight.scaled(factor) if isinstance(weight, WeightSchedule) else factor * weight
        return replace(self, weight=product)

    def named(self, name: str) -> "Objective":
        """This term as an objective, under the given name."""
        return Objective(((name, self),))

    def as_objective(self) -> "Objective":
        return self.named(self.default_name)


@dataclass(frozen=True)
class Objective(Summand):
    """Named terms, in order. A mapping from names to terms, or to what :class:`Summand` makes a single term of, is accepted.

    Raises:
        InvalidInput: without a term, or if two terms have one name.
    """

    terms: tuple[tuple[str, Term], ...]

    def __post_init__(self) -> None:
        terms = tuple((name, _single(term)) for name, term in named(self.terms))
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

    @property
    def real_sides(self) -> tuple[RealTransform | None, ...]:
        """The different transforms of the real side, and None where a term compares the data as they are."""
        found = [term.real_transform for _, term in self.terms if term.compares is not None]
        return tuple(dict.fromkeys(found)) or (None,)

    def check_scores(self, context: Context) -> None:
        """Refuse terms, and training of the context's networks, that treat labels as probabilities of classes, where labels are
        scores.

        Raises:
            InvalidInput: naming it.
        """
        schedule = context.training_schedule
        if schedule is not None and schedule.training.on == "synthetic" and schedule.training.needs_classes:
            raise _refused(
                f"the context '{context.kind}' trains its networks on the synthetic set by cross-entropy",
                "a training with loss: squared",
            )
        for name, term in self.terms:
            needed = term.needs_classes(name)
            if needed is not None:
                raise _refused(*needed)

    def as_objective(self) -> "Objective":
        return self


def _single(term: Term | Summand) -> Term:
    if isinstance(term, Term):
        return term
    ((_, made),) = term.as_objective().terms
    return made


def _refused(what: str, remedy: str) -> InvalidInput:
    return InvalidInput(
        f"'labels' is learned, so labels are scores (any real numbers), but {what}, which needs classes or probabilities; use "
        f"labels: soft, or {remedy}"
    )
