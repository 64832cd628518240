"""Points from which ridge regression learns given weights: all of them, in closed form.

Of m points with features Φ (rows) and label vectors Y (rows), least squares with a penalty λ over the *sum* of points learns

    W_S = Yᵀ E(Φ),    E(Φ) = Φ (ΦᵀΦ + λ)⁻¹,    the transposed pseudo-inverse of Φ for λ = 0.

So W_S = W exactly where E(Φ) is one of the solutions D of Yᵀ D = W,

    D = (Yᵀ)⁺ W + (I - Y Y⁺) Z,    Z (m, p) free,

which exist if Y has rank c, from one point a class on; and Φ is found from E(Φ) = D (:func:`features_of`). All in float64.

References: Provable and Efficient Dataset Distillation for Kernel Ridge Regression (Chen, Huang, Weng, 2024, NeurIPS), Theorems
4.1, 4.2 and 5.1 and Corollary 4.1.1. There, points and labels are columns; W, D and Z are the same.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.arguments import checked_arguments
from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice

__all__ = [
    "conditioned",
    "duals",
    "features_of",
    "labels_for",
    "largest_penalty",
    "learned",
    "nearest_solution",
    "reachable",
    "turned",
]

Root = Literal["small", "large"]

EPS = torch.finfo(torch.float64).eps

RANK = 1e-12
"""Singular values of the labels below this part of the largest are rounding: labels that sum to zero lose a rank."""


@checked_arguments
def turned(features: Float[Tensor, "m p"], penalty: float = 0.0) -> Float[Tensor, "m p"]:
    """The matrix E(Φ) = Φ (ΦᵀΦ + λ)⁻¹, the transposed pseudo-inverse for λ = 0: with Φ = V σ Uᵀ it is V σ/(σ² + λ) Uᵀ.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> turned = recovery.turned(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
        >>> torch.allclose(turned, torch.tensor([[0.5, 0.0], [0.0, 0.25]]).double())
        True
    """
    v, sigma, u = _decomposed(features)
    return (v * (sigma / (sigma.square() + penalty))) @ u


@checked_arguments
def learned(features: Float[Tensor, "m p"], labels: Float[Tensor, "m c"], penalty: float = 0.0) -> Float[Tensor, "c p"]:
    """The weights W_S = Yᵀ E(Φ) that ridge regression learns from m points.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> features, labels = torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.eye(2)
        >>> torch.allclose(recovery.learned(features, labels), recovery.turned(features))
        True
    """
    return conditioned(features, labels, penalty)[0]


@checked_arguments
def conditioned(
    features: Float[Tensor, "m p"], labels: Float[Tensor, "m c"], penalty: float = 0.0
) -> tuple[Float[Tensor, "c p"], float]:
    """The weights W_S that are learned, and the factor ‖Y‖ σ₁ / (σ_r² ‖W_S‖) >= 1, in the spectral norm: by how much a
    relative error of the features, of rank r, may grow in W_S for λ = 0, to first order.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> features, labels = torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.eye(2)
        >>> weights, growth = recovery.conditioned(features, labels)
        >>> round(growth, 4)
        2.0
    """
    v, sigma, u = _decomposed(features)
    labels = labels.double()
    found = (labels.mT @ (v * (sigma / (sigma.square() + penalty)))) @ u
    whole = float(torch.linalg.matrix_norm(found, 2))
    if len(sigma) == 0 or whole == 0:
        return found, 1.0
    return found, max(1.0, float(torch.linalg.matrix_norm(labels, 2) * sigma[0] / sigma[-1] ** 2) / whole)


@checked_arguments
def duals(
    weights: Float[Tensor, "c p"], labels: Float[Tensor, "m c"], free: Float[Tensor, "m p"] | None = None
) -> Float[Tensor, "m p"]:
    """The solution of Yᵀ D = W that is nearest to Z in the Frobenius norm, D = (Yᵀ)⁺ W + (I - Y Y⁺) Z; Z = 0 without
    ``free``.

    With Z = E(Φ̂) the solution is the nearest to that of chosen points Φ̂ (Corollary 4.1.1). Where Y has a rank below c, so for
    fewer points than classes, the least-squares solution: no set with these labels learns W better.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> weights, labels = torch.tensor([[0.5, 0.0, 1.0], [0.0, 0.25, 0.0]]), torch.eye(2)
        >>> features = recovery.features_of(recovery.duals(weights, labels))
        >>> torch.allclose(recovery.learned(features, labels), weights.double())
        True
    """
    weights, labels = weights.double(), labels.double()
    inverse = torch.linalg.pinv(labels, rtol=RANK)
    found = inverse.mT @ weights
    if free is None:
        return found
    free = free.double()
    return found + free - labels @ (inverse @ free)


@checked_arguments
def reachable(weights: Float[Tensor, "c p"], labels: Float[Tensor, "m c"]) -> Float[Tensor, "c p"]:
    """The weights nearest to W that are learned from points with these labels, Yᵀ (Yᵀ)⁺ W; W itself if Y has rank c.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> labels = torch.tensor([[1.0, 0.0]])
        >>> torch.allclose(recovery.reachable(torch.eye(2), labels), torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double())
        True
    """
    labels = labels.double()
    return labels.mT @ (torch.linalg.pinv(labels, rtol=RANK).mT @ weights.double())


@checked_arguments
def largest_penalty(dual: Float[Tensor, "m p"]) -> float:
    """The largest penalty λ_S for which features with this D exist, 1/(4 σ'₁²); σ'₁ is the largest singular value of D.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> round(recovery.largest_penalty(torch.tensor([[0.5, 0.0], [0.0, 0.25]])), 4)
        1.0
    """
    largest = float(torch.linalg.matrix_norm(dual.double(), 2))
    return 1 / (4 * largest**2) if largest > 0 else float("inf")


@checked_arguments
def features_of(dual: Float[Tensor, "m p"], penalty: float = 0.0, root: Root = "small") -> Float[Tensor, "m p"]:
    """The features Φ with E(Φ) = D: of D = V σ' Uᵀ it is V σ Uᵀ, with σ/(σ² + λ) = σ', so for λ = 0 the transposed
    pseudo-inverse, else

        σ = (1 ± √(1 - 4 λ σ'²)) / (2 σ')        (σ = 0 where σ' = 0).

    Singular values of D are left out from the one on from which the share that is lost is less than what they cost, the
    rounding error of features as far apart in size as σ'₁ / σ'_r: weights whose sum over the classes is zero, as of centred
    features, have such a direction, of rounding alone.

    Args:
        root: of the quadratic equation with λ > 0, for all the singular values: ``small`` (the minus) gives the features of
            least norm, which vanish with λ; ``large`` those that λ = 0 has as their limit.

    Raises:
        InvalidInput: if the penalty is above :func:`largest_penalty`.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> found = recovery.features_of(torch.tensor([[0.5, 0.0], [0.0, 0.25]]))
        >>> torch.allclose(found, torch.tensor([[2.0, 0.0], [0.0, 4.0]]).double())
        True
    """
    check_choice("root", root, get_args(Root))
    v, sigma, u = _decomposed(dual, _worth)
    if penalty == 0:
        return (v / sigma) @ u
    bound = largest_penalty(dual)
    if not 0 < penalty <= bound * (1 + 1e-12):
        raise InvalidInput(
            f"'penalty' of the synthetic set, over the sum of its points, must be at most 1/(4 σ²) = {bound:.4g}, with σ the "
            f"largest singular value of D, got {penalty:.4g}: no points are learned from like that; lower it"
        )
    inside = (1 - 4 * penalty * sigma.square()).clamp(min=0).sqrt()
    # The small root without cancellation: the product of both is λ.
    found = 2 * penalty * sigma / (1 + inside) if root == "small" else (1 + inside) / (2 * sigma)
    return (v * found) @ u


@checked_arguments
def labels_for(
    features: Float[Tensor, "m p"], weights: Float[Tensor, "c p"], penalty: float = 0.0
) -> Float[Tensor, "m c"]:
    """The labels Y = Φ_λ Wᵀ, with Φ_λ = E(Φ)⁺ transposed, for which the weights learned from the given points are nearest to
    W; they are W if the rows of W lie in the span of the points, as they do for m >= p points in general position (Theorem
    4.2).

    With λ = 0 they are the predictions of W.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> features, weights = torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([[1.0, 1.0]])
        >>> recovery.labels_for(features, weights).round(decimals=4).tolist()
        [[2.0], [4.0]]
    """
    return torch.linalg.pinv(turned(features, penalty)).mT @ weights.double().mT


@checked_arguments
def nearest_solution(
    weights: Float[Tensor, "c p"], wanted: Float[Tensor, " c"], rounding: float = 0.0
) -> Float[Tensor, " p"]:
    """The shortest x with W x = ``wanted``, as far as rounding allows: of W = V σ Uᵀ the fewest directions take part with which
    the larger of what is missed, of the rounding error ε σ₁ ‖x‖, and of the error of ``wanted`` itself is least. Weights whose
    sum over the classes is zero have a direction of rounding alone.

    Args:
        rounding: the error of ``wanted``.

    Example:
        >>> import torch
        >>> from discrepancy import recovery
        >>> weights = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-15]], dtype=torch.float64)
        >>> recovery.nearest_solution(weights, torch.tensor([1.0, 1.0]).double()).round(decimals=6).tolist()
        [0.5, 0.5]
    """
    v, sigma, u = torch.linalg.svd(weights.double(), full_matrices=False)
    rank = int((sigma > RANK * sigma[:1]).sum())
    parts, none = v.mT @ wanted.double(), sigma.new_zeros(1)
    steps = parts[:rank] / sigma[:rank]
    missed = torch.cat([parts.square().flip(0).cumsum(0).flip(0), none]).sqrt()[: rank + 1]
    moved = EPS * sigma[:1] * torch.cat([none, steps.square().cumsum(0)]).sqrt()
    error = torch.maximum(missed, moved).clamp(min=rounding)
    kept = int((error <= error.min()).nonzero()[0])
    return steps[:kept] @ u[:kept]


def _decomposed(matrix: Tensor, rank: Callable[[Tensor], int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """V, σ and Uᵀ of a reduced singular value decomposition in float64, of this rank; by default without what is zero to
    working precision."""
    v, sigma, u = torch.linalg.svd(matrix.double(), full_matrices=False)
    found = _rank(sigma, matrix.shape) if rank is None else rank(sigma)
    return v[:, :found], sigma[:found], u[:found]


def _rank(sigma: Float[Tensor, " r"], shape: tuple[int, ...]) -> int:
    """How many singular values of a matrix of this shape are not zero to working precision."""
    return int((sigma > max(shape) * EPS * sigma[:1]).sum())


def _worth(sigma: Float[Tensor, " r"]) -> int:
    """The rank at which the larger of the share lost, σ_{r+1} / σ₁, and the rounding error, ε σ₁ / σ_r, is least."""
    kept = sigma[sigma > 0]
    if len(kept) == 0:
        return 0
    lost = torch.cat([kept[1:], kept.new_zeros(1)]) / kept[0]
    return int(torch.maximum(lost, EPS * kept[0] / kept).argmin()) + 1
