"""The control of every other method."""

import torch
from torch import Tensor

from objectives.engine.bound_context import BoundContext
from objectives.rng import rng
from objectives.solvers.base import Problem, Solver
from objectives.solvers.selection.base import Selecting

__all__ = ["Random"]


class Random(Solver, kind="random"):
    """Distinct real examples of every class, uniformly at random: the control of every other method."""

    def duration(self, problem: Problem) -> int:
        return 1

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return 0

    def start(self, problem: Problem) -> "_Drawing":
        return _Drawing(problem, self.kind, 1)


class _Drawing(Selecting):
    def _advance(self) -> Tensor:
        generator = rng(self.problem.runtime.seed, "random")
        self._chosen = self.problem.data.class_batch(generator, self.sizes)
        return torch.zeros(())
