"""Symmetric matrices by LAPACK: sums of outer products, and systems of one matrix with many penalties.

torch's own functions do at least twice the work: they multiply both triangles, and solve for many penalties only through all
the eigenvectors.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import get_blas_funcs, get_lapack_funcs
from threadpoolctl import ThreadpoolController
from torch import Tensor

from discrepancy.errors import InvalidInput

__all__ = ["OuterProducts", "Penalised"]

SYTRD, ORMQR, PTSV = cast("list[Any]", get_lapack_funcs(("sytrd", "ormqr", "ptsv"), dtype=np.float64))

ROWS = 4096
"""Rows that are collected before they are multiplied: to add few costs as much as to add many."""

BLOCK = 512
"""Rows of one triangle that are copied to the other at once."""


class OuterProducts:
    """Σ w z zᵀ of each group, for weights >= 0, in float64: O(n z²), and z² numbers beside ``ROWS`` rows.

    Args:
        products: the type in which products are computed; float32 moves half the bytes, and has an error of 1e-7 of the
            largest moment.
    """

    def __init__(self, products: torch.dtype = torch.float64) -> None:
        self.products = products
        self._rows: Float[Tensor, "g rows z"] | None = None
        self._used = 0
        self._sums: list[np.ndarray] | Float[Tensor, "g z z"] = []

    def add(self, blocks: Sequence[Float[Tensor, "g n _"]], weights: Float[Tensor, "g n"]) -> None:
        """Rows whose columns come in blocks."""
        root = weights.to(self.products).sqrt()[..., None]
        groups, count, _ = root.shape
        if self._rows is None:
            size = sum(block.shape[-1] for block in blocks)
            self._rows = root.new_empty(groups, max(1, ROWS // groups), size)
        done = 0
        while done < count:
            taken = min(count - done, self._rows.shape[1] - self._used)
            here, there = slice(done, done + taken), slice(self._used, self._used + taken)
            places = self._rows[:, there].split([block.shape[-1] for block in blocks], -1)
            for place, block in zip(places, blocks, strict=True):
                torch.mul(block[:, here], root[:, here], out=place)
            done, self._used = done + taken, self._used + taken
            if self._used == self._rows.shape[1]:
                self._multiply()

    @property
    def total(self) -> Float[Tensor, "g z z"]:
        """Of all that was added.

        Raises:
            InvalidInput: if nothing was.
        """
        self._multiply()
        if isinstance(self._sums, Tensor):
            return self._sums
        return torch.stack([_mirrored(torch.from_numpy(total.T)) for total in self._sums])

    def _multiply(self) -> None:
        if self._rows is None:
            raise InvalidInput(
                "there are no rows whose products could be added up; give at least an empty part of them"
            )
        z, size = self._rows[:, : self._used], self._rows.shape[-1]
        self._used = 0
        if z.device.type != "cpu":
            product = (z.mT @ z).double()
            self._sums = self._sums + product if isinstance(self._sums, Tensor) else product
            return
        sums = self._sums or [np.zeros((size, size), order="F") for _ in z]
        syrk: Any = get_blas_funcs("syrk", dtype=np.dtype(str(self.products).removeprefix("torch.")))
        with _libraries().limit(limits=torch.get_num_threads(), user_api="blas"):
            for group, rows in enumerate(z.numpy()):
                if not len(rows):
                    continue
                if self.products == torch.float64:
                    sums[group] = syrk(1.0, rows.T, beta=1.0, c=sums[group], lower=1, overwrite_c=1)
                else:
                    sums[group] += syrk(1.0, rows.T, lower=1)
        self._sums = sums


class Penalised:
    """(A + λ)⁻¹ B of one symmetric matrix for many λ: A = Q T Qᵀ with T tridiagonal takes 4/3 d³ operations once, and then
    each λ O(d² c)."""

    def __init__(self, matrix: Float[Tensor, "d d"]) -> None:
        self.matrix = matrix
        size = len(matrix)
        with _libraries().limit(limits=torch.get_num_threads(), user_api="blas"):
            columns = np.array(matrix.detach().cpu().numpy(), dtype=np.float64, order="F")
            made, self._diagonal, self._beside, self._factors, _ = SYTRD(
                columns, lower=1, lwork=BLOCK * size, overwrite_a=1
            )
        self._reflectors = np.asfortranarray(made[1:, :-1])

    def solutions(self, right: Float[Tensor, "d c"], numbers: Iterable[float]) -> dict[float, Float[Tensor, "d c"]]:
        """The solution for each λ, without those λ with which the matrix is not positive definite to working precision."""
        turned = self._turned(right.detach().cpu().double().numpy(), "T")
        found = {number: self._solved(turned, number) for number in numbers}
        positive = {number: solution for number, solution in found.items() if solution is not None}
        if not positive:
            return {}
        together = torch.from_numpy(self._turned(np.concatenate(list(positive.values()), 1), "N")).to(self.matrix)
        return dict(zip(positive, together.split(right.shape[1], 1), strict=True))

    def _solved(self, turned: np.ndarray, number: float) -> np.ndarray | None:
        diagonal = self._diagonal + number
        if len(diagonal) == 1:
            return turned / diagonal if diagonal > 0 else None
        *_, solution, failed = PTSV(diagonal, self._beside, turned)
        return None if failed else solution

    def _turned(self, block: np.ndarray, transposed: str) -> np.ndarray:
        """Q times a block, or Qᵀ times it: reflections, which leave the first row."""
        if len(block) == 1:
            return block
        with _libraries().limit(limits=torch.get_num_threads(), user_api="blas"):
            rest, *_ = ORMQR(
                "L",
                transposed,
                self._reflectors,
                self._factors,
                np.asfortranarray(block[1:]),
                lwork=BLOCK * block.shape[1],
            )
        return np.concatenate([block[:1], rest])


@cache
def _libraries() -> ThreadpoolController:
    """Those that are loaded; to look for them takes milliseconds, more than the products of small matrices."""
    return ThreadpoolController()


def _mirrored(matrix: Float[Tensor, "z z"]) -> Float[Tensor, "z z"]:
    """In place, the upper triangle below the diagonal too."""
    for first in range(0, len(matrix), BLOCK):
        last = first + BLOCK
        here = matrix[first:last, first:last].triu()
        matrix[first:last, first:last] = here + here.triu(1).mT
        matrix[last:, first:last] = matrix[first:last, last:].mT
    return matrix
