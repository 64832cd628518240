"""Roots of symmetric positive semidefinite matrices, with derivatives that do not differentiate an eigenvector."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.numerics.derivatives import refused

__all__ = ["above_rounding", "spectrum", "trace_root"]


def trace_root(matrix: Float[Tensor, "*g d d"], factor: Float[Tensor, "*g d m"] | None = None) -> Float[Tensor, "*g"]:
    """tr M^½ of symmetric positive semidefinite matrices, twice differentiable where the rank does not change.

    The gradient is ½ M^(-½), and the derivative of M^(-½) is that of Daleckii and Krein: Q (F ∘ Qᵀ δM Q) Qᵀ with
    F_ij = -1/(√λ_i √λ_j (√λ_i + √λ_j)), in which equal eigenvalues divide nothing by zero. On the null space M^(-½) is zero:
    there F_ij = λ_i^(-3/2) between an eigenvalue and a zero, and 0 between two zeros.

    With a factor K, M = K Kᵀ, √λ_i = ‖Kᵀ q_i‖ of an eigenvector is good to the rounding of the largest √λ, where that of λ_i
    itself is good to √rounding only. The factor gets no gradient.
    """
    return _TraceRoot.apply((matrix + matrix.mT) / 2, None if factor is None else factor.detach())[0]  # pyright: ignore


def above_rounding(values: Float[Tensor, "*g d"]) -> Float[Tensor, "*g d"]:
    """Ascending eigenvalues, with zero in place of those that may be a rounding error of the largest."""
    floor = values[..., -1:].clamp(min=0) * torch.finfo(values.dtype).eps * values.shape[-1]
    return torch.where(values <= floor, torch.zeros_like(values), values)


def spectrum(matrix: Float[Tensor, "*g d d"]) -> tuple[Float[Tensor, "*g d"], Float[Tensor, "*g d d"]]:
    """Eigenvalues and eigenvectors; NaN for the eigenvalues of a matrix that is not finite, where LAPACK would stop."""
    finite = torch.isfinite(matrix).all(-1).all(-1)[..., None]
    values, vectors = torch.linalg.eigh(torch.where(finite[..., None], matrix, torch.zeros_like(matrix)))
    return torch.where(finite, values, torch.nan), vectors


def _inverse_roots(values: Float[Tensor, "*g d"]) -> Float[Tensor, "*g d"]:
    absent = values <= 0
    return torch.where(absent, torch.zeros_like(values), torch.where(absent, torch.ones_like(values), values).rsqrt())


class _TraceRoot(Function):
    """Σ √λ, with the spectrum as two further outputs for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, factor: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore
        values, vectors = spectrum(matrix)
        values = above_rounding(values)
        roots = values.sqrt() if factor is None else torch.linalg.vector_norm(vectors.mT @ factor, dim=-1)
        return roots.sum(-1), values, vectors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(inputs[0], *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return grads[0][..., None, None] / 2 * _InverseRoot.apply(*ctx.saved_tensors), None  # pyright: ignore


class _InverseRoot(Function):
    """M^(-½) on the range of M, whose spectrum is known."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, values: Tensor, vectors: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (vectors * _inverse_roots(values)[..., None, :]) @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        matrix, values, vectors = ctx.saved_tensors
        return _turned(matrix, values, vectors, grads[0]), None, None


class _Turned(Function):
    """The derivative of M^(-½) in a direction: symmetric, so its derivative in the direction is the same map; it has none in
    M."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, values: Tensor, vectors: Tensor, direction: Tensor) -> Tensor:  # pyright: ignore
        inverse, roots = _inverse_roots(values), values.sqrt()
        rows, columns = inverse[..., :, None], inverse[..., None, :]
        between = -rows * columns * _inverse_roots((roots[..., :, None] + roots[..., None, :]).square())
        rate = torch.where((rows <= 0) | (columns <= 0), rows**3 + columns**3, between)
        return vectors @ (rate * (vectors.mT @ direction @ vectors)) @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        matrix, values, vectors = ctx.saved_tensors
        return None, None, None, _turned(matrix, values, vectors, grads[0])


def _turned(matrix: Tensor, values: Tensor, vectors: Tensor, direction: Tensor) -> Tensor:
    fixed = refused(matrix, "the trace of a root of a matrix has no third derivative here; use first or second ones")
    return _Turned.apply(fixed, values, vectors, direction)  # pyright: ignore[reportReturnType]
