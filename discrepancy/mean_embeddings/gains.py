"""Greedy selection: what a growing subset of real examples is worth as the synthetic side, with one more of them.

    D(P, uniform on {x₁, ..., x_t, x})   for every candidate x

By default each of these subsets is compared as a group of its own, which costs as much as n t points a step. A discrepancy
that is a quadratic form in the weights (MMD) keeps sums from step to step instead, and a step costs n points.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Discrepancy, Draws
from discrepancy.kernels import Kernel
from discrepancy.measure import Measure
from discrepancy.numerics.distances import block_bytes

__all__ = ["CANDIDATES_BYTES", "Compared", "Gains", "OfMeans", "OfPairs", "kernel_means", "row_blocks"]

CANDIDATES_BYTES = 64 << 20
"""Memory for the candidate subsets that are compared at once."""


class Gains(ABC):
    """A subset of n candidates, grown one at a time, with equal weights."""

    @abstractmethod
    def after(self) -> Float[Tensor, " n"]:
        """D with each candidate added to those taken, in the dtype of the points. What it is for one that is taken already
        means nothing."""

    @abstractmethod
    def take(self, candidate: int) -> None:
        """Add this one."""


class Compared(Gains):
    """For any discrepancy: every subset is one group of a comparison, in blocks of bounded memory."""

    def __init__(self, discrepancy: Discrepancy, summary: Any, candidates: Measure, draws: Draws) -> None:
        self.discrepancy, self.summary, self.candidates, self.draws = discrepancy, summary, candidates, draws
        self.taken: list[int] = []

    @torch.no_grad()
    def after(self) -> Tensor:
        points, labels = self.candidates.tensors[""], self.candidates.labels
        device = points.device
        size = points[0].numel() * points.element_size() * (len(self.taken) + 1) + self.summary.nbytes
        taken, values = torch.tensor(self.taken, dtype=torch.long, device=device), []
        for rows in torch.arange(len(points), device=device).split(max(1, CANDIDATES_BYTES // size)):
            members = torch.cat([taken.expand(len(rows), -1), rows[:, None]], 1)
            weights = torch.ones(members.shape, dtype=torch.float32, device=device)
            subsets = Measure(points[members], weights, None if labels is None else labels[members])
            summary = self.summary.select(torch.zeros(len(rows), dtype=torch.long, device=device))
            values.append(self.discrepancy.compare(summary, subsets, self.draws))
        return torch.cat(values)

    def take(self, candidate: int) -> None:
        self.taken.append(candidate)


class OfMeans(Gains):
    """For a squared distance of means of φ: with S the sum of φ over the t points that are taken,

        ‖φ(x) + S - (t + 1) E_P φ‖² / (t + 1)² + rest,

    so a step costs O(n p), and equal candidates have equal values to the last bit.

    Args:
        features: φ.
        mean: E_P φ.
        rest: what the value is at equality.
        rows: the candidates.
        value: what becomes of the squared distance at last.
    """

    def __init__(
        self,
        features: Callable[[Tensor], Tensor],
        mean: Float[Tensor, " p"],
        rest: Float[Tensor, ""],
        rows: Float[Tensor, "n d"],
        value: Callable[[Tensor], Tensor],
    ) -> None:
        self.features, self.mean, self.rest, self.rows, self.value = features, mean, rest, rows, value
        self.total, self.count = torch.zeros_like(mean), 0

    @torch.no_grad()
    def after(self) -> Tensor:
        missing = (self.count + 1) * self.mean - self.total
        parts = (self.features(part).double() - missing for part in row_blocks(self.rows, len(self.mean)))
        squares = torch.cat([torch.linalg.vector_norm(part, dim=1).square() for part in parts])
        return self.value(squares / (self.count + 1) ** 2 + self.rest).to(self.rows.dtype)

    @torch.no_grad()
    def take(self, candidate: int) -> None:
        self.total, self.count = self.total + self.features(self.rows[candidate, None])[0].double(), self.count + 1


class OfPairs(Gains):
    """For a squared MMD: with A the sum of E_P k(·, y) and B(x) that of k(x, y) over the t points y that are taken, and C the
    sum of k over their pairs,

        own - 2 (A + E_P k(·, x)) / (t + 1) + (C + 2 B(x) + k(x, x)) / (t + 1)².

    E_P k(·, x) costs O(N n d) once, and then a step O(n d). Memory O(n).

    Args:
        kernel: k.
        real: the real points of P, and their weights, which sum to one.
        own: the real side's own term.
        rows: the candidates.
        value: what becomes of the squared MMD at last.
    """

    def __init__(
        self,
        kernel: Kernel,
        real: tuple[Float[Tensor, "N d"], Float[Tensor, " N"]],
        own: Float[Tensor, ""],
        rows: Float[Tensor, "n d"],
        value: Callable[[Tensor], Tensor],
    ) -> None:
        self.kernel, self.own, self.rows, self.value = kernel, own, rows, value
        self.means = kernel_means(kernel, *real, rows)
        self.diagonal = torch.cat([kernel.diagonal(part.double()) for part in row_blocks(rows, rows.shape[1])])
        self.sums = torch.zeros_like(self.means)
        self.along = self.within = torch.zeros_like(own, dtype=torch.float64)
        self.count = 0

    def after(self) -> Tensor:
        along, within = self.along + self.means, self.within + 2 * self.sums + self.diagonal
        value = self.own - 2 * along / (self.count + 1) + within / (self.count + 1) ** 2
        return self.value(value).to(self.rows.dtype)

    def take(self, candidate: int) -> None:
        self.along = self.along + self.means[candidate]
        self.within = self.within + 2 * self.sums[candidate] + self.diagonal[candidate]
        one = torch.ones(1, dtype=torch.float64, device=self.rows.device)
        self.sums = self.sums + kernel_means(self.kernel, self.rows[candidate, None], one, self.rows)
        self.count += 1


@torch.no_grad()
def kernel_means(
    kernel: Kernel, x: Float[Tensor, "N d"], w: Float[Tensor, " N"], y: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """Σᵢ wᵢ k(xᵢ, y) for each y, in float64 throughout, in tiles."""
    side = math.isqrt(_budget(y) // 8)
    found = []
    for part in y.split(side):
        part = part.double()
        tiles = zip(x.split(side), w.double().split(side), strict=True)
        found.append(torch.stack([weights @ kernel(points.double(), part) for points, weights in tiles]).sum(0))
    return torch.cat(found)


def row_blocks(rows: Float[Tensor, "n d"], width: int) -> Iterator[Tensor]:
    """The rows in parts, so many that ``width`` numbers in float64 for each fit into a block."""
    yield from rows.split(max(1, _budget(rows) // (8 * max(width, 1))))


def _budget(points: Tensor) -> int:
    return block_bytes(points.device)
