"""Selection by covering: the real examples nearest to no chosen one come next."""

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.mean_embeddings.gains import row_blocks
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Engine
from objectives.solvers.base import Problem, Solver
from objectives.solvers.selection.base import Choice, WithinClasses, check_embeddings, check_positive
from objectives.terms.bound import Candidates

__all__ = ["KCentre"]


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
            blocks = [_Block(match) for match in engine.real_side.candidates(members, label, summaries=False)]
            return farthest_first(blocks, count)

        return WithinClasses(problem, self.kind, choose)


class _Block:
    """The candidates as one block of one match sees them, and their distances."""

    def __init__(self, match: Candidates) -> None:
        self.rows, self.factor = match.features.rows, match.factor
        self.order = match.discrepancy.order

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


def farthest_first(blocks: list[_Block], count: int) -> Choice:
    """So many candidates, each the farthest from those before it, and the radius within which they cover all."""
    start = torch.stack([block.squares(block.mean) for block in blocks]).sum(0).argmin()
    chosen = [int(start)]
    nearest = torch.full_like(blocks[0].rows[:, 0], torch.inf, dtype=torch.float64)
    while True:
        here = torch.stack([block.squares(block.rows[chosen[-1]].double()) for block in blocks]).sum(0)
        nearest = torch.minimum(nearest, here)
        if len(chosen) == count:
            return Choice(torch.tensor(chosen), nearest.max().sqrt())
        open_ = nearest.clone()
        open_[chosen] = -1
        chosen.append(int(open_.argmax()))
