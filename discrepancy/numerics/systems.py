"""The linear systems of ridge regression: symmetric, with a weight for each row, solved in float64 with their derivatives.

One form serves primal (all weights one) and dual. With D = diag(w), a Gram matrix K and a right side T,

    N T = (K + λ D⁻¹)⁻¹ T = D^½ (D^½ K D^½ + λ)⁻¹ D^½ T

has the derivatives -(N G)(N T)ᵀ by K and (G - K N G)(T - K N T) / λ by w, summed over columns, which need the same
factorisation once more and no division by a weight.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.numerics.derivatives import safe_root

__all__ = ["JITTERS", "RANK", "pseudo_inverse", "solve", "solver"]

RANK = 1e-12
"""Eigenvalues of a Gram matrix below this part of the largest count as zero where there is no penalty (so singular values of
the points below 1e-6 of the largest)."""

JITTERS = tuple(10.0**power for power in range(-15, -6))
"""What is added to a diagonal, as a part of its mean, where a factorisation fails."""


def solve(
    gram: Float[Tensor, "g m m"], weights: Float[Tensor, "g m"], targets: Float[Tensor, "g m c"], penalty: float
) -> Float[Tensor, "g m c"]:
    """(K + λ D⁻¹)⁻¹ T for a symmetric K, where points of weight zero count for nothing; the pseudo-inverse if λ = 0.

    Where Cholesky fails, the diagonal of D^½ K D^½ is raised, which acts as a larger penalty and gives a `NumericalWarning`.
    """
    if penalty == 0:
        root = safe_root(weights)[..., None]
        inverse = pseudo_inverse(root * gram * root.mT, RANK, hermitian=True)
        return root * (inverse @ (root * targets))
    factor, total = _Factor.apply(gram, weights, penalty)  # pyright: ignore
    return _Solve.apply(gram, weights, targets, factor, total)  # pyright: ignore


def pseudo_inverse(matrix: Float[Tensor, "*g m n"], rank: float, hermitian: bool = False) -> Float[Tensor, "*g n m"]:
    """The pseudo-inverse, of singular values above this part of the largest; NaN of a matrix that is not finite, where LAPACK
    would stop."""
    finite = torch.isfinite(matrix).all(-1).all(-1)[..., None, None]
    found = torch.linalg.pinv(torch.where(finite, matrix, torch.zeros_like(matrix)), rtol=rank, hermitian=hermitian)
    return torch.where(finite, found, torch.nan)


@torch.no_grad()
def solver(gram: Float[Tensor, "g m m"], penalty: float) -> Callable[[Float[Tensor, "g m c"]], Float[Tensor, "g m c"]]:
    """T ↦ (K + λ)⁻¹ T, factorised once for all T."""
    if penalty == 0:
        inverse = pseudo_inverse(gram, RANK, hermitian=True)
        return lambda targets: inverse @ targets
    factor, _ = _Factor.apply(gram, torch.ones_like(gram[..., 0]), penalty)  # pyright: ignore
    return lambda targets: torch.cholesky_solve(targets, factor)


class _Factor(Function):
    """The Cholesky factor of D^½ K D^½ + λ, and λ with the jitter that it took."""

    @staticmethod
    def forward(gram: Tensor, weights: Tensor, penalty: float) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        root = weights.sqrt()[..., None]
        matrix = root * gram * root.mT
        plain, diagonal = matrix.diagonal(dim1=-2, dim2=-1).clone(), matrix.diagonal(dim1=-2, dim2=-1)
        size = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
        total = torch.full_like(size, penalty)
        for jitter in JITTERS:
            diagonal.copy_(plain + total[..., None])
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if not bool(failed.any()) or not bool(torch.isfinite(size).all()):
                break
            total = torch.where(failed > 0, penalty + jitter * size, total)
        else:
            raise InvalidInput(
                f"'penalty' must make the Gram matrix positive definite, got {penalty:.1e}, and raising its diagonal by "
                f"{JITTERS[-2]:.0e} of its mean did not help; raise it, or use a kernel that is positive definite"
            )
        if jitter > JITTERS[0]:  # not the first try
            _report(total - penalty, size)
        return factor, total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None]:
        return None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        folded = []
        for dim, tensor in zip(in_dims[:2], args[:2], strict=True):
            moved = tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
            folded.append(moved.expand(info.batch_size, *moved.shape[1:]).flatten(0, 1))
        outputs = _Factor.apply(*folded, args[2])
        return tuple(output.unflatten(0, (info.batch_size, -1)) for output in outputs), (0, 0)  # pyright: ignore


class _Solve(Function):
    """N T, given the factor; its derivatives are made of further N T."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gram: Tensor, weights: Tensor, targets: Tensor, factor: Tensor, penalty: Tensor) -> Tensor:  # pyright: ignore
        root = weights.sqrt()[..., None]
        return root * torch.cholesky_solve(root * targets, factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        gram, weights, targets, factor, penalty, solution = ctx.saved_tensors
        (grad,) = grads
        turned: Tensor = _Solve.apply(gram, weights, grad, factor, penalty)  # pyright: ignore
        residuals = (grad - gram @ turned) * (targets - gram @ solution)
        return -turned @ solution.mT, residuals.sum(-1) / penalty[..., None], turned, None, None


def _report(jitter: Tensor, size: Tensor) -> None:
    largest = float(jitter.max())
    if largest > 0:
        warnings.warn(
            f"{largest:.1e} ({float((jitter / size).nan_to_num().max()):.0e} of its mean) was added to the diagonal of a Gram "
            f"matrix that is singular to working precision, and acts as a penalty; raise 'penalty', or set it to 0",
            NumericalWarning,
            stacklevel=2,
        )
