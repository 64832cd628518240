"""Labels that are solved for: of given points, those with which a risk is least."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Engine
from objectives.solvers.base import Problem, Record, Solver, Solving, decoded

__all__ = ["LabelSolve", "check_solvable", "solve_labels"]


class LabelSolve(Solver, kind="label_solve"):
    """The points stay where they start, and their labels become those of least risk, in closed form and in one step.

    Needs one risk of squares, ``by: none``, and ``labels: learned``. A context with ``batch: all`` minds all the real examples.

    References: Dataset Meta-Learning from Kernel Ridge-Regression (Nguyen, Chen, Lee, 2021, ICLR), "label solve".
    """

    def duration(self, problem: Problem) -> int:
        return 1

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return context.images(1, self.examples(problem))

    def start(self, problem: Problem) -> "_SolvingLabels":
        check_solvable(problem, f"kind: {self.kind}")
        return _SolvingLabels(problem)


def check_solvable(problem: Problem, asked: str) -> None:
    """Refuse what has no labels to solve for, or none that one risk decides on.

    Raises:
        InvalidInput: naming what ``asked`` for it.
    """
    synthetic, data = problem.synthetic, problem.data
    if synthetic.labels != "learned":
        raise InvalidInput(f"'{asked}' needs labels: learned, got {synthetic.labels}")
    if synthetic.copies > 1:
        raise InvalidInput(
            f"'{asked}' needs a label for each example, but {synthetic.copies} of '{synthetic.kind}' share one"
        )
    names = _risks(problem)
    looking = [name for name, term in problem.objective.terms if term.labelled]
    if len(names) != 1 or names != looking:
        raise InvalidInput(
            f"'{asked}' needs one term that looks at labels, a risk of squares by: none, got {looking or 'no such term'} for "
            f"'{data.name}'"
        )


def solve_labels(problem: Problem, engine: Engine, parameters: Mapping[str, Tensor], step: int) -> None:
    """Writes the labels of least risk in a step into the parameters."""
    (name,) = _risks(problem)
    with torch.no_grad():
        view = engine.view(decoded(problem, parameters), step, name)
        parameters["labels"].copy_(engine.terms[name].best_labels(view))


def _risks(problem: Problem) -> list[str]:
    return [name for name, term in problem.objective.terms if term.has_best_labels]


class _SolvingLabels(Solving):
    def __init__(self, problem: Problem) -> None:
        self.problem, self.steps = problem, 1
        self.engine = problem.engine(1)
        self._parameters = problem.initial()

    @property
    def bound_context(self) -> BoundContext:
        return self.engine.bound_context

    @property
    def parameters(self) -> dict[str, Tensor]:
        return dict(self._parameters)

    @property
    def chosen(self) -> None:
        return None

    @property
    def resolved(self) -> dict[str, Any]:
        return self.engine.resolved

    def advance(self) -> Record:
        solve_labels(self.problem, self.engine, self._parameters, self.step)
        leaves = {name: value.clone().requires_grad_(name == "labels") for name, value in self._parameters.items()}
        values = self.engine.evaluate(decoded(self.problem, leaves), self.step)
        record = Record(self.step, values.total, values.terms)
        self.step += 1
        return record

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "parameters": {name: value.clone() for name, value in self._parameters.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self._parameters = {name: value.to(self.problem.runtime.device) for name, value in state["parameters"].items()}
