"""Selection by covering: the real examples nearest to no chosen one come next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.mean_embeddings.gains import row_blocks
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Engine
from objectives.solvers.base import Problem, Solver
from objectives.solvers.selection.base import Choice, WithinClasses, check_embeddings, check_positive
from objectives.terms.bound import Candidates

__all__ = ["Block", "KCentre", "distances", "farthest_first"]


class KCentre(Solver, kind="k_centre"):
    """Greedy k-centre: within each class, add the real example that is farthest from those chosen,

        x_{t+1} = argmax_x  min_{s ≤ t} ‖x - x_s‖,        x_1 the example nearest to the mean of the class,

    in the embedding of the objective; of equal ones the first. The radius within which the chosen ones cover the class is at
    most twice the smallest that is possible, in any metric and from any start (Gonzalez). Each step reports that radius, which
    is the value of ``covering_radius`` with ``side: cover`` where this is what the objective matches.

    Distances are those of the norm of ``covering_radius`` where a term matches it, else Euclidean, whatever else the term
    matches; over several terms and blocks d² = Σ_b f_b d_b² with their weights f. They are taken of differences in float64:
    O(n d) a step, O(n) memory beyond the features of one class.

    References: Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance" (1985); Sener and Savarese, "Active
    Learning for Convolutional Neural Networks: A Core-Set Approach" (2018), algorithm 1, which starts from labelled examples.
    """

    def duration(self, problem: Problem) -> int:
        return problem.data.count

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return len(problem.data)

    def start(self, problem: Problem) -> WithinClasses:
        check_embeddings(problem, self.kind)
        check_positive(problem, self.kind)

        def choose(engine: Engine, members: Tensor, label: int, count: int) -> Choice:
            blocks = [Block.of(match) for match in engine.real_side.candidates(members, label, summaries=False)]
            return farthest_first(blocks, count)

        return WithinClasses(problem, self.kind, choose)


@dataclass(frozen=True, eq=False)
class Block:
    """The candidates as one block of one match sees them, and their distances."""

    rows: Float[Tensor, "n d"]
    factor: float
    order: float

    @classmethod
    def of(cls, match: Candidates) -> "Block":
        return cls(match.features.rows, match.factor, match.discrepancy.order)

    def part(self, part: slice) -> "Block":
        """Some of the candidates."""
        return replace(self, rows=self.rows[part])

    @property
    def mean(self) -> Float[Tensor, " d"]:
        return torch.stack([part.double().sum(0) for part in row_blocks(self.rows, self.rows.shape[1])]).sum(0) / len(
            self.rows
        )

    def squares(self, point: Float[Tensor, " d"]) -> Float[Tensor, " n"]:
        """f d² of each candidate from a point."""
        parts = row_blocks(self.rows, self.rows.shape[1])
        far = [torch.linalg.vector_norm(part.double() - point, self.order, dim=1) for part in parts]
        return self.factor * torch.cat(far).square()


def distances(blocks: Sequence[Block], row: int) -> Float[Tensor, " n"]:
    """d² of each candidate from that of this number."""
    return torch.stack([block.squares(block.rows[row].double()) for block in blocks]).sum(0)


def farthest_first(blocks: Sequence[Block], count: int, first: Sequence[int] = ()) -> Choice:
    """So many candidates, each the farthest from those before it, and the radius within which they cover all; the ``first``
    ones are given, at least the one nearest to the mean."""
    chosen = list(first) or [int(torch.stack([block.squares(block.mean) for block in blocks]).sum(0).argmin())]
    nearest = torch.full_like(blocks[0].rows[:, 0], torch.inf, dtype=torch.float64)
    for place in range(count):
        if place == len(chosen):
            open_ = nearest.clone()
            open_[chosen] = -1
            chosen.append(int(open_.argmax()))
        nearest = torch.minimum(nearest, distances(blocks, chosen[place]))
    return Choice(torch.tensor(chosen), nearest.max().sqrt())
