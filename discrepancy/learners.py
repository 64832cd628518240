"""Learners: maps from a labelled measure to a predictor, in closed form; the ridges by

    A(μ) = argmin_f  E_μ ‖f(x) - y‖² + λ ‖f‖²

The expectation is of *normalised* weights. Where a source sums over n points of weight one (Chen et al., 2024; Nguyen et al.,
2021), its penalty is n λ. Everything is solved in float64, and a solution is twice differentiable in the points, weights and
labels that it was learned from; with λ > 0 also at a weight of zero (with λ = 0 it jumps there, as a rank may).
"""

import functools
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy import sorts
from discrepancy.base import Part
from discrepancy.derivatives import safe_root
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Kernel, Linear
from discrepancy.measure import Measure
from discrepancy.risks import sample_risk
from discrepancy.sorts import MeanSummary, SampleSummary
from discrepancy.systems import RANK, solve

__all__ = ["ClassMeans", "KernelPredictor", "KernelRidge", "Learner", "LinearPredictor", "Predictor", "Ridge"]


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

    streams: ClassVar[bool] = False
    """Whether that summary is one of moments, which merge."""

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

    @abstractmethod
    def fit(self, measure: Measure) -> Any:
        """The predictor of each group of a grouped measure with label vectors, differentiable in all three."""

    @abstractmethod
    def summarise(self, real: Measure) -> MeanSummary | SampleSummary:
        """What :meth:`risk` needs of a grouped measure with label vectors."""

    @abstractmethod
    def risk(self, summary: Any, predictor: Any) -> Float[Tensor, " g"]:
        """E ‖f(x) - y‖² over the measure that was summarised, in float64."""


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


class Ridge(Learner, kind="ridge"):
    """Linear ridge regression: min over W of Σᵢ wᵢ ‖W xᵢ - yᵢ‖² + λ ‖W‖² with Σᵢ wᵢ = 1.

    Solved by Cholesky from E x xᵀ and E x yᵀ, or from the m x m products of the points where m < d: the same solution, O(m d²
    + d³) or O(m² d + m³). Without penalty it is the least-norm solution of least squares, by a pseudo-inverse that takes
    eigenvalues below 1e-12 of the largest for zero; its derivatives are right as long as the rank stays.

    Args:
        penalty: λ >= 0; the penalty of a sum over n points of weight one is n λ.
        intercept: adds an intercept b, without penalty.
        relative: multiplies the penalty by E ‖x‖² (about the mean, with an intercept) of what is learned from.

    The real side is summarised by Σ w z zᵀ with z = (x, 1, y), the 1 with an intercept only: it merges, takes (d + c)² numbers
    and is exact, up to a rounding error of 1e-16 times the largest second moment: points far from the origin, compared with
    their spread, lose digits in the square.

    References: Provable and Efficient Dataset Distillation for Kernel Ridge Regression (Chen, Huang, Weng, 2024, NeurIPS).
    """

    streams: ClassVar[bool] = True
    penalty: float = 1e-6
    intercept: bool = False
    relative: bool = False

    def __post_init__(self) -> None:
        _check_penalty(self.penalty)

    @property
    def scale_free(self) -> bool:
        return self.penalty == 0 or self.relative

    @property
    def translation_free(self) -> bool:
        return self.intercept

    def fit(self, measure: Measure) -> LinearPredictor:
        x, y, shares = measure.rows.double(), _labels(measure), measure.shares[..., None]
        centre = [(shares * side).sum(1, keepdim=True) for side in (x, y)] if self.intercept else None
        if centre:
            x, y = x - centre[0], y - centre[1]
        if self.penalty == 0:
            root = safe_root(shares)
            weights = (torch.linalg.pinv(root * x, rtol=RANK**0.5) @ (root * y)).mT
        elif x.shape[1] >= x.shape[2]:
            weights = self._primal((shares * x).mT @ x, (shares * x).mT @ y)
        else:
            scale = self._scale((shares * x.square()).sum((1, 2)))
            weights = (solve(x @ x.mT / scale, shares[..., 0], y, self.penalty).mT @ x) / scale
        return self._predictor(weights, *centre) if centre else LinearPredictor(weights)

    def summarise(self, real: Measure) -> MeanSummary:
        parts = (self._moments(part) for part in real.split(sorts.SUMMARY_POINTS))
        return functools.reduce(MeanSummary.merge, parts)

    def risk(self, summary: MeanSummary, predictor: LinearPredictor) -> Float[Tensor, " g"]:
        table = predictor.table
        negative = -torch.eye(table.shape[1], dtype=table.dtype, device=table.device)
        return _weighted_square(torch.cat([table, negative.expand(len(table), -1, -1)], -1), second_moments(summary))

    def of_summary(self, summary: MeanSummary, classes: int) -> LinearPredictor:
        """What is learned from a measure that was summarised."""
        moments = second_moments(summary)
        p = moments.shape[-1] - classes
        if not self.intercept:
            return LinearPredictor(self._primal(moments[:, :p, :p], moments[:, :p, p:]))
        d = p - 1
        x, y = moments[:, d : d + 1, :d], moments[:, d : d + 1, p:]
        gram, products = moments[:, :d, :d] - x.mT @ x, moments[:, :d, p:] - x.mT @ y
        return self._predictor(self._primal(gram, products), x, y)

    def distance(self, summary: MeanSummary, first: LinearPredictor, second: LinearPredictor) -> Float[Tensor, " g"]:
        """E ‖f(x) - g(x)‖² over the measure that was summarised."""
        p = first.table.shape[-1]
        return _weighted_square(first.table - second.table, second_moments(summary)[:, :p, :p])

    def _moments(self, part: Measure) -> MeanSummary:
        x, weights = part.rows.double(), part.mass_of.double()
        ones = [torch.ones_like(x[..., :1])] if self.intercept else []
        z = torch.cat([x, *ones, _labels(part)], -1)
        return MeanSummary(((weights[..., None] * z).mT @ z).flatten(1), weights.sum(-1))

    def _primal(self, gram: Float[Tensor, "g d d"], products: Float[Tensor, "g d c"]) -> Float[Tensor, "g c d"]:
        scale = self._scale(gram.diagonal(dim1=1, dim2=2).sum(-1))
        ones = torch.ones_like(gram[..., 0])
        return solve(gram / scale, ones, products / scale, self.penalty).mT

    def _scale(self, spread: Float[Tensor, " g"]) -> Float[Tensor, "g 1 1"]:
        return (_or_one(spread) if self.relative else torch.ones_like(spread))[:, None, None]

    def _predictor(
        self, weights: Float[Tensor, "g c d"], x: Float[Tensor, "g 1 d"], y: Float[Tensor, "g 1 c"]
    ) -> LinearPredictor:
        return LinearPredictor(torch.cat([weights, y.mT - weights @ x.mT], -1))


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

    The real points are kept. A risk costs O(n m (d + c)) in float64, in blocks (:func:`~discrepancy.risks.sample_risk`).

    References: Dataset Meta-Learning from Kernel Ridge-Regression (Nguyen, Chen, Lee, 2021, ICLR), "KIP".
    """

    kernel: Kernel = Linear()
    penalty: float = 1e-6
    relative: bool = False

    def __post_init__(self) -> None:
        _check_penalty(self.penalty)
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

    def fit(self, measure: Measure) -> KernelPredictor:
        points, shares = measure.rows.double(), measure.shares
        gram, scale = self.kernel(points, points), torch.ones_like(shares[:, :1, None])
        if self.relative:
            scale = _or_one((shares * gram.diagonal(dim1=1, dim2=2)).sum(-1))[:, None, None]
        coefficients = solve(gram / scale, shares, _labels(measure), self.penalty) / scale
        return KernelPredictor(self.kernel, points, coefficients)

    def summarise(self, real: Measure) -> SampleSummary:
        return SampleSummary(real)

    def risk(self, summary: SampleSummary, predictor: KernelPredictor) -> Float[Tensor, " g"]:
        make, tensors = predictor.parts
        return sample_risk(summary, make, *tensors)


class ClassMeans(Learner, kind="class_means"):
    """Scores of the classes by their means: x ↦ (⟨m₁, x⟩, ..., ⟨m_c, x⟩) with m_k = Σᵢ wᵢ yᵢₖ xᵢ / Σᵢ wᵢ yᵢₖ, O(m c d).

    The mean of a class without mass is zero. Scores are no estimates of labels: a risk of them takes ``loss: cross_entropy``.

    References: CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., 2022), the discrimination loss.
    """

    def fit(self, measure: Measure) -> LinearPredictor:
        mass = measure.shares[..., None] * _labels(measure)
        of_class = mass.sum(1)[..., None]
        return LinearPredictor(mass.mT @ measure.rows.double() / _or_one(of_class))

    def summarise(self, real: Measure) -> SampleSummary:
        return SampleSummary(real)

    def risk(self, summary: SampleSummary, predictor: LinearPredictor) -> Float[Tensor, " g"]:
        make, tensors = predictor.parts
        return sample_risk(summary, make, *tensors)


def second_moments(summary: MeanSummary) -> Float[Tensor, "g z z"]:
    """E z zᵀ from the flat sums of a summary."""
    size = round(summary.total.shape[-1] ** 0.5)
    return summary.mean.unflatten(-1, (size, size))


def _weighted_square(table: Float[Tensor, "g c p"], moments: Float[Tensor, "g p p"]) -> Float[Tensor, " g"]:
    """tr(V M Vᵀ)."""
    return ((table @ moments) * table).sum((1, 2))


def _labels(measure: Measure) -> Float[Tensor, "g n c"]:
    assert measure.labels is not None
    return measure.labels.double()


def _or_one(scale: Tensor) -> Tensor:
    """``scale``, and 1 where all the points are zero, so that nothing is learned there."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _check_penalty(penalty: float) -> None:
    if not 0 <= penalty < float("inf"):
        raise InvalidInput(f"'penalty' must be finite and >= 0, got {penalty}")
