"""Points with given features: networks that reach every feature vector are undone layer by layer, each by what is least.

A layer x ↦ W x + b reaches everything if W has full row rank, so if it does not widen; W⁺ (y - b) is then the least of all that
it maps to y, and x + W⁺ (y - b - W x) the nearest to a given x. One that widens reaches what lies in its range. Activations
that rise everywhere and reach every number are undone number by number.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput, out_of_memory

__all__ = ["UNDONE", "Preimage", "least", "least_convolved", "undone"]

sparse: Any = scipy.sparse  # whose types do not know its own operators

UNDONE = ("leaky_relu", "identity")
"""Activations that rise everywhere and reach every number."""


@dataclass(frozen=True, eq=False)
class Preimage:
    """Points with given features, and the factor by which a relative error of these may have grown, to first order: the
    product of the condition numbers of the layers."""

    points: Float[Tensor, "n d"]
    condition: float


def least(
    name: str,
    weight: Float[Tensor, "q d"],
    values: Float[Tensor, "n q"],
    nearest: bool = False,
    near: Float[Tensor, "n d"] | None = None,
) -> tuple[Float[Tensor, "n d"], float]:
    """x + W⁺ (y - W x) for each y, with x = 0 unless it is given as ``near``, and an estimate of the condition number of W, in
    float64, by an LU factorisation of W, or a QR factorisation of Wᵀ where that is higher than wide; or W⁺ y by one of W, where
    that is higher than wide: then not every y is reached.

    Args:
        nearest: take what comes nearest where a y is not reached.

    Raises:
        InvalidInput: if W, the weight of this name, has not the largest rank that its shape allows, or a y is not reached.
    """
    weight, values = weight.double(), values.double()
    rows, columns = weight.shape
    factor = (_Square if rows == columns else _Narrow)(weight.mT if rows <= columns else weight)
    condition = _condition(factor, min(rows, columns))
    if not condition < 1 / (max(rows, columns) * torch.finfo(torch.float64).eps):
        rank = int(torch.linalg.matrix_rank(weight))
        raise InvalidInput(
            f"'{name}', {rows} x {columns}, has rank {rank}, and so cannot be undone; draw other weights, or use fewer units"
        )
    if rows <= columns:
        found = values.new_zeros(1, columns) if near is None else near.double()
        for _ in range(2):  # the second time mends the rounding errors of the first
            found = found + factor.spread((values - found @ weight.mT).mT).mT
        return found, condition
    found = factor.solved(values.mT).mT
    missed = float((found @ weight.mT - values).norm() / values.norm().clamp(min=1e-300))
    if missed > 1e-9 and not nearest:
        raise InvalidInput(
            f"'{name}', {rows} x {columns}, reaches only a part of all the features, and misses these by {missed:.1e} of their "
            f"norm; a layer must not be wider than what it follows: use a width of at most {columns}"
        )
    return found, condition


def _condition(factor: "_Square | _Narrow", size: int, rounds: int = 30) -> float:
    """σ₁/σ_q of a matrix by the power method for AᵀA and for its inverse, from below, and good to some per cent; not finite if
    it is singular."""
    ends = []
    for step in (factor.gram, factor.gram_solved):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(size, 1, generator=generator, dtype=torch.float64, device="cpu").to(factor.device)
        for _ in range(rounds):
            x = step(x / x.norm())
        ends.append(float(x.norm()))
    return (ends[0] * ends[1]) ** 0.5


class _Square:
    """A = P L U."""

    def __init__(self, matrix: Float[Tensor, "q q"]) -> None:
        self.device, self._matrix = matrix.device, matrix
        self._factors, self._pivots, _ = torch.linalg.lu_factor_ex(matrix)

    def solved(self, y: Float[Tensor, "q n"]) -> Float[Tensor, "q n"]:
        """A⁻¹ y."""
        return torch.linalg.lu_solve(self._factors, self._pivots, y)

    def spread(self, y: Float[Tensor, "q n"]) -> Float[Tensor, "q n"]:
        """(Aᵀ)⁻¹ y."""
        return torch.linalg.lu_solve(self._factors, self._pivots, y, adjoint=True)

    def gram(self, x: Float[Tensor, "q n"]) -> Float[Tensor, "q n"]:
        """AᵀA x."""
        return self._matrix.mT @ (self._matrix @ x)

    def gram_solved(self, x: Float[Tensor, "q n"]) -> Float[Tensor, "q n"]:
        """(AᵀA)⁻¹ x."""
        return self.solved(self.spread(x))


class _Narrow:
    """A = Q R, of a matrix that is higher than wide."""

    def __init__(self, matrix: Float[Tensor, "d q"]) -> None:
        self.device = matrix.device
        self._q, self._r = torch.linalg.qr(matrix)

    def solved(self, y: Float[Tensor, "d n"]) -> Float[Tensor, "q n"]:
        """A⁺ y."""
        return torch.linalg.solve_triangular(self._r, self._q.mT @ y, upper=True)

    def spread(self, y: Float[Tensor, "q n"]) -> Float[Tensor, "d n"]:
        """(Aᵀ)⁺ y."""
        return self._q @ torch.linalg.solve_triangular(self._r.mT, y, upper=False)

    def gram(self, x: Float[Tensor, "q n"]) -> Float[Tensor, "q n"]:
        """AᵀA x."""
        return self._r.mT @ (self._r @ x)

    def gram_solved(self, x: Float[Tensor, "q n"]) -> Float[Tensor, "q n"]:
        """(AᵀA)⁻¹ x."""
        half = torch.linalg.solve_triangular(self._r.mT, x, upper=False)
        return torch.linalg.solve_triangular(self._r, half, upper=True)


def least_convolved(
    name: str,
    weight: Float[Tensor, "q c k k"],
    border: int,
    values: Float[Tensor, "n q h w"],
    sides: tuple[int, int],
    near: Float[Tensor, "n c *sides"] | None = None,
) -> tuple[Float[Tensor, "n c *sides"], float]:
    """The same of a convolution, whose matrix C is sparse, and C⁺ = Cᵀ (C Cᵀ)⁻¹ by one sparse factorisation, refined, for maps
    of these sides; the condition number is an estimate from the 1-norm of C Cᵀ and of its inverse.

    Raises:
        InvalidInput: if C has no full row rank, to working precision.
    """
    matrix = _convolution(weight.detach().double().cpu().numpy(), border, sides)
    if matrix.shape[0] > matrix.shape[1]:
        raise InvalidInput(_narrow(name, matrix.shape))
    gram = (matrix @ matrix.T).tocsc()
    try:
        factor = sparse.linalg.splu(gram)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise InvalidInput(_narrow(name, matrix.shape)) from error
    solve = factor.solve
    inverse = sparse.linalg.LinearOperator(gram.shape, matvec=solve, rmatvec=solve, dtype=gram.dtype)
    squared = float(sparse.linalg.norm(gram, 1) * sparse.linalg.onenormest(inverse))
    if not squared < 1 / np.finfo(np.float64).eps:
        raise InvalidInput(_narrow(name, matrix.shape))
    wanted = values.detach().double().cpu().flatten(1).numpy().T
    start = (
        np.zeros((matrix.shape[1], len(values))) if near is None else near.detach().cpu().flatten(1).double().numpy().T
    )
    found = start + matrix.T @ factor.solve(wanted - matrix @ start)
    for _ in range(2):
        found += matrix.T @ factor.solve(wanted - matrix @ found)
    points = torch.from_numpy(np.ascontiguousarray(found.T)).to(values.device)
    return points.reshape(len(values), weight.shape[1], *sides), squared**0.5


def _convolution(weight: np.ndarray, border: int, sides: tuple[int, int]) -> Any:
    """The matrix of a convolution of maps of these sides."""
    size, height, width = weight.shape[-1], *sides
    rows, columns = (side + 2 * border - size + 1 for side in sides)
    terms = (
        sparse.kron(
            weight[:, :, i, j],
            sparse.kron(sparse.eye(rows, height, k=i - border), sparse.eye(columns, width, k=j - border), "csr"),
            "csr",
        )
        for i in range(size)
        for j in range(size)
    )
    return functools.reduce(lambda a, b: a + b, terms)


def _narrow(name: str, shape: tuple[int, int]) -> str:
    rank = f"rank {shape[1]} at most" if shape[0] > shape[1] else "no full row rank"
    return (
        f"'{name}', as a matrix {shape[0]} x {shape[1]}, has {rank}, and so reaches only a part of all the features; a "
        f"convolution must not have more channels than it takes, nor larger maps (padding: same keeps 28 x 28)"
    )


def undone(activation: str, slope: float, values: Tensor) -> tuple[Tensor, float]:
    """What the activation maps to the values, and by what factor it stretches at most more than elsewhere.

    Raises:
        InvalidInput: if it does not reach every number, or several numbers at one.
    """
    if activation not in UNDONE:
        raise InvalidInput(
            f"'activation' must be one of {', '.join(UNDONE)}, to be undone for every number, got '{activation}'"
        )
    if activation == "identity":
        return values, 1.0
    return torch.where(values > 0, values, values / slope), 1 / slope
