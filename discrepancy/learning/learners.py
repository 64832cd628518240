"""Learners: maps from a labelled measure to a predictor, in closed form; the ridges by

    A(μ) = argmin_f  E_μ ‖f(x) - y‖² + λ ‖f‖²

The expectation is of *normalised* weights. Where a source sums over n points of weight one (Chen et al., 2024; Nguyen et al.,
2021), its penalty is n λ. Everything is solved in float64, and a solution is twice differentiable in the points, weights and
labels that it was learned from; with λ > 0 also at a weight of zero (with λ = 0 it jumps there, as a rank may).
"""

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws, MeanSummary, SampleSummary
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.kernels import Kernel, Linear
from discrepancy.learning.risks import sample_moments, sample_risk
from discrepancy.measure import Measure
from discrepancy.networks.base import Network, NetworkParameters
from discrepancy.numerics.systems import RANK, solve
from discrepancy.parts import Part

__all__ = [
    "ClassMeans",
    "KernelPredictor",
    "KernelRidge",
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
    """What is learned, one a group."""

    @property
    def parts(self) -> tuple[Callable[..., "Predictor"], tuple[Tensor, ...]]:
        """What makes it of tensors, and those."""
        ...

    def __call__(self, points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n c"]:
        """The predictions at these points, in float64."""
        ...


class Learner(Part, family=True):
    """A: a labelled measure -> a predictor, and how the risk of its predictors is known from a summary of the real side."""

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
    """x ↦ V φ, where φ is x, or (x, 1) where there is an intercept."""

    table: Float[Tensor, "g c p"]

    @property
    def parts(self) -> tuple[Callable[..., "LinearPredictor"], tuple[Tensor, ...]]:
        return LinearPredictor, (self.table,)

    def __call__(self, points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n c"]:
        d, points = points.shape[-1], points.double()
        return points @ self.table[..., :d].mT + self.table[..., d:].sum(-1)[:, None]

    def select(self, groups: Tensor) -> "LinearPredictor":
        return LinearPredictor(self.table[groups])


@dataclass(frozen=True, eq=False)
class KernelPredictor:
    """x ↦ Σⱼ αⱼ k(sⱼ, x)."""

    kernel: Kernel
    points: Float[Tensor, "g m d"]
    coefficients: Float[Tensor, "g m c"]

    @property
    def parts(self) -> tuple[Callable[..., "KernelPredictor"], tuple[Tensor, ...]]:
        return functools.partial(KernelPredictor, self.kernel), (self.points, self.coefficients)

    def __call__(self, points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n c"]:
        return self.kernel(self.points, points.double()).mT @ self.coefficients


class KernelRidge(Learner, kind="kernel_ridge"):
    """Kernel ridge regression: min over f of Σᵢ wᵢ ‖f(xᵢ) - yᵢ‖² + λ ‖f‖² with Σᵢ wᵢ = 1 and the norm of the kernel's space.

    f = Σⱼ αⱼ k(sⱼ, ·) with α = (K + λ D⁻¹)⁻¹ Y, by Cholesky: O(m² d + m³). Without penalty it is the least-norm interpolation,
    by a pseudo-inverse that takes eigenvalues below 1e-12 of the largest for zero.

    Args:
        kernel: positive definite.
        penalty: λ >= 0; the penalty of a sum over m points of weight one is m λ.
        relative: multiplies the penalty by E k(x, x) of what is learned from. KIP's 1e-6 tr K / m is then penalty 1e-6 / m.
        centred: takes 1/c off the labels of both sides, so that those of classes sum to zero, as KIP does.

    The real points are kept. A risk costs O(n m (d + c)) in float64, in blocks
    (:func:`~discrepancy.learning.risks.sample_risk`).

    References: Dataset Meta-Learning from Kernel Ridge-Regression (Nguyen, Chen, Lee, 2021, ICLR), "KIP".
    """

    kernel: Kernel = Linear()
    penalty: float = 1e-6
    relative: bool = False
    centred: bool = False

    @property
    def predicts_centred(self) -> bool:
        return self.centred

    def __post_init__(self) -> None:
        check_penalty(self.penalty)
        if not self.kernel.positive:
            raise InvalidInput(
                f"'kernel' must be positive definite, got '{self.kernel.kind}', which is so for weights that sum to zero only; "
                f"use another kernel, such as laplace"
            )

    @property
    def scale_free(self) -> bool:
        return self.kernel.degree is not None and (self.penalty == 0 or self.relative)

    @property
    def translation_free(self) -> bool:
        return self.kernel.radial

    @property
    def resolved(self) -> bool:
        return self.kernel.resolved

    def resolve(self, sample: Measure) -> "KernelRidge":
        return replace(self, kernel=self.kernel.resolve(sample))

    def fit(
        self,
        measure: Measure,
        network: Network | None = None,
        parameters: NetworkParameters | None = None,
        draws: Draws = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> KernelPredictor:
        points, shares = measure.rows.double(), measure.shares
        gram, scale = self.kernel(points, points), torch.ones_like(shares[:, :1, None])
        if self.relative:
            scale = or_one((shares * gram.diagonal(dim1=1, dim2=2)).sum(-1))[:, None, None]
        coefficients = solve(gram / scale, shares, label_rows(measure, self.centred), self.penalty) / scale
        return KernelPredictor(self.kernel, points, coefficients)

    @torch.no_grad()
    def best_labels(self, summary: SampleSummary, measure: Measure) -> Float[Tensor, "g m c"]:
        make, tensors = replace(self, centred=False).fit(with_own_labels(measure)).parts
        return least_squares(*sample_moments(summary, make, *tensors), centred=self.centred)

    def summarise(self, real: Measure) -> SampleSummary:
        return SampleSummary(replace(real, labels=label_rows(real, self.centred).to(real.rows.dtype)))

    def risk(self, summary: SampleSummary, predictor: KernelPredictor) -> Float[Tensor, " g"]:
        make, tensors = predictor.parts
        return sample_risk(summary, make, *tensors)


class ClassMeans(Learner, kind="class_means"):
    """Scores of the classes by their means: x ↦ (⟨m₁, x⟩, ..., ⟨m_c, x⟩) with m_k = Σᵢ wᵢ yᵢₖ xᵢ / Σᵢ wᵢ yᵢₖ, O(m c d).

    The mean of a class without mass is zero. Scores are no estimates of labels: a risk of them takes ``loss: cross_entropy``.

    References: CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., 2022), the discrimination loss.
    """

    needs_classes: ClassVar[bool] = True

    def fit(
        self,
        measure: Measure,
        network: Network | None = None,
        parameters: NetworkParameters | None = None,
        draws: Draws = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> LinearPredictor:
        mass = measure.shares[..., None] * label_rows(measure)
        of_class = mass.sum(1)[..., None]
        return LinearPredictor(mass.mT @ measure.rows.double() / or_one(of_class))

    def summarise(self, real: Measure) -> SampleSummary:
        return SampleSummary(real)

    def risk(self, summary: SampleSummary, predictor: LinearPredictor) -> Float[Tensor, " g"]:
        make, tensors = predictor.parts
        return sample_risk(summary, make, *tensors)


def label_rows(measure: Measure, centred: bool = False) -> Float[Tensor, "g n c"]:
    """The label vectors in float64; ``centred`` ones are 1/c less."""
    assert measure.labels is not None
    labels = measure.labels.double()
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
    labels = torch.linalg.pinv(gram, rtol=RANK, hermitian=True) @ products
    return labels + 1 / labels.shape[-1] if centred else labels


def or_one(scale: Tensor) -> Tensor:
    """``scale``, and 1 where all the points are zero, so that nothing is learned there."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def check_penalty(penalty: float) -> None:
    if not 0 <= penalty < float("inf"):
        raise InvalidInput(f"'penalty' must be finite and >= 0, got {penalty}")
