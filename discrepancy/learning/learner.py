"""What a learner is, and what it learns: a map from a labelled measure to a predictor."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws, MeanSummary, SampleSummary
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure, as_measure
from discrepancy.networks.base import Network, NetworkParameters
from discrepancy.numerics.systems import RANK, pseudo_inverse
from discrepancy.parts import Part

__all__ = [
    "Learner",
    "LinearPredictor",
    "Predictor",
    "check_penalty",
    "label_rows",
    "least_squares",
    "or_one",
    "with_own_labels",
]


@runtime_checkable
class Predictor(Protocol):
    """What a learner learns: a function of points, one for each group.

    Example:
        >>> import torch
        >>> from discrepancy import learners
        >>> isinstance(learners.LinearPredictor(torch.ones(1, 2, 3)), learners.Predictor)
        True
    """

    @property
    def parts(self) -> tuple[Callable[..., "Predictor"], tuple[Tensor, ...]]:
        """What makes it of tensors, and those."""
        ...

    def __call__(self, points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n c"]:
        """The predictions at these points, in float64."""
        ...


class Learner(Part, family=True):
    """A learner A: it maps a labelled measure to a predictor, and computes the risk of a predictor from a summary of the real
    side.

    Example:
        >>> from discrepancy import learners
        >>> [learner.mergeable for learner in (learners.Ridge(), learners.KernelRidge())]
        [True, False]
    """

    mergeable: ClassVar[bool] = False
    """Whether that summary is one of moments, which merge."""

    needs_classes: ClassVar[bool] = False
    """Whether labels must be shares of classes; else any real numbers will do."""

    @property
    def scale_free(self) -> bool:
        """Whether multiplying all the points changes no prediction."""
        return False

    @property
    def translation_free(self) -> bool:
        """Whether moving all the points together changes no prediction."""
        return False

    @property
    def resolved(self) -> bool:
        """Whether every data-dependent constant is a number."""
        return True

    def resolve(self, sample: Measure) -> "Learner":
        """This learner with its data-dependent constants turned into numbers, from a sample of the real side."""
        return self

    @property
    def undecided(self) -> bool:
        """Whether its penalty is yet to be chosen, on held-out examples of the real side."""
        return False

    def with_penalty(self, penalty: float) -> "Learner":
        """This learner with a number as its penalty.

        Raises:
            Unsupported: if it has no penalty to choose.
        """
        raise Unsupported(f"'{self.kind}' has no penalty to choose")

    @property
    def predicts_centred(self) -> bool:
        """Whether it predicts labels less 1/c."""
        return False

    @abstractmethod
    def fit(
        self,
        measure: Measure,
        network: Network | None = None,
        parameters: NetworkParameters | None = None,
        draws: Draws = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> Any:
        """The predictor of each group of a grouped measure with label vectors, differentiable in points, weights and labels.

        Args:
            network, parameters: where learning starts, for learners that train a network.
            draws: the random parts of learning, such as the order of minibatches.
            extras: parameters that are learned beside the measure, such as step sizes, by name.
        """

    @abstractmethod
    def summarise(self, real: Measure) -> MeanSummary | SampleSummary:
        """What :meth:`risk` needs of a grouped measure with label vectors."""

    @abstractmethod
    def risk(self, summary: Any, predictor: Any) -> Float[Tensor, " g"]:
        """E ‖f(x) - y‖² over the measure that was summarised, in float64."""

    def best_labels(self, summary: Any, measure: Measure) -> Float[Tensor, "g m c"]:
        """The labels of a measure's points with which the :meth:`risk` of what is learned from it is least, in float64; of
        several such, the shortest. No gradient.

        Raises:
            Unsupported: if predictions are not linear in the labels.
        """
        raise Unsupported(f"what '{self.kind}' predicts is not linear in the labels, so the best ones are not known")


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """The linear predictor x ↦ V φ, one for each group, where φ is x, or (x, 1) where there is an intercept.

    Args:
        table: V, ``(g, c, p)``.

    Example:
        >>> import torch
        >>> from discrepancy import learners
        >>> predictor = learners.LinearPredictor(torch.tensor([[[2.0, 1.0]]]).double())
        >>> predictor(torch.tensor([[[3.0]]]))
        tensor([[[7.]]], dtype=torch.float64)
    """

    table: Float[Tensor, "g c p"]

    @property
    def parts(self) -> tuple[Callable[..., "LinearPredictor"], tuple[Tensor, ...]]:
        return LinearPredictor, (self.table,)

    def __call__(self, points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n c"]:
        d, points = points.shape[-1], points.double()
        return points @ self.table[..., :d].mT + self.table[..., d:].sum(-1)[:, None]

    def select(self, groups: Tensor) -> "LinearPredictor":
        return LinearPredictor(self.table[groups])


def label_rows(measure: Measure, centred: bool = False) -> Float[Tensor, "g n c"]:
    """The label vectors of a measure in float64, ``(g, n, c)``; ``centred`` subtracts 1/c from each entry.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, learners
        >>> side = Measure(torch.zeros(2, 1), labels=torch.tensor([0, 1])).with_label_vectors(2).as_groups()
        >>> learners.label_rows(side, centred=True)[0].tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    labels = as_measure(measure, "measure").labels
    if labels is None:
        raise InvalidInput("learning looks at labels, and the measure has none; give Measure(labels=...)")
    labels = labels.double()
    return labels - 1 / labels.shape[-1] if centred else labels


def with_own_labels(measure: Measure) -> Measure:
    """The measure with a label of its own for each point, a unit vector: predictions learned from it are the factors of the
    labels in predictions that are linear in these."""
    size = measure.rows.shape[1]
    labels = torch.eye(size, dtype=torch.float64, device=measure.rows.device).expand(len(measure.rows), -1, -1)
    return replace(measure, labels=labels)


def least_squares(
    gram: Float[Tensor, "g m m"], products: Float[Tensor, "g m c"], centred: bool
) -> Float[Tensor, "g m c"]:
    """The shortest Y that minimises E ‖Yᵀ b - y‖², from E b bᵀ and E b yᵀ; 1/c more where y was centred."""
    labels = pseudo_inverse(gram, RANK, hermitian=True) @ products
    return labels + 1 / labels.shape[-1] if centred else labels


def or_one(scale: Tensor, rounding: Tensor | float = 0.0) -> Tensor:
    """``scale``, and 1 where it is no more than ``rounding``: where all points are zero, so that nothing is learned there."""
    return torch.where(scale <= rounding, torch.ones_like(scale), scale)


def check_penalty(penalty: float) -> None:
    if not 0 <= penalty < float("inf"):
        raise InvalidInput(f"'penalty' must be finite and >= 0, got {penalty}")
