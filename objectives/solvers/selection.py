"""Selection: the same objective, over subsets of the real examples."""

from typing import Any

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from objectives.executor import Candidates
from objectives.objective import Match
from objectives.solvers.base import Problem, Record, Solver, Solving
from objectives.streams import stream

__all__ = ["Herding", "Random"]

CANDIDATES_BYTES = 64 << 20
"""Memory for the candidate subsets that are compared at once."""


class Random(Solver, kind="random"):
    """Distinct real examples of every class, uniformly at random: the control of every other method."""

    def duration(self, problem: Problem) -> int:
        return 1

    def start(self, problem: Problem) -> "Solving":
        return _Selecting(problem, self)


class Herding(Solver, kind="herding"):
    """Greedy minimisation of the objective: within each class, add the real example after which D is smallest,

        x_{t+1} = argmin_x  D( P_c , uniform on {x_1, ..., x_t, x} ),

    without replacement, in the first draw of the context. With MMD and a linear kernel this is the rule of iCaRL.

    References: Welling, "Herding Dynamical Weights to Learn" (2009); Rebuffi et al., "iCaRL" (2017), algorithm 4.
    """

    def duration(self, problem: Problem) -> int:
        return problem.data.count

    def start(self, problem: Problem) -> "Solving":
        for name, term in problem.objective.terms:
            if not isinstance(term, Match) or term.by != "class":
                raise InvalidInput(f"'herding' selects within classes; term '{name}' must be a match with by: class")
            if term.via.averages:
                raise InvalidInput(
                    f"'herding' values one example at a time, but '{term.via.kind}' of term '{name}' gives means; choose "
                    "another embedding"
                )
        context = problem.context
        if context.augment is not None:
            raise InvalidInput("'herding' selects examples as they are; remove 'augment' from the context")
        if context.network is not None and not context.network.pointwise:
            raise InvalidInput(
                f"'herding' values one example at a time, but '{context.network.kind}' with batch normalisation is not "
                "pointwise; choose another 'norm'"
            )
        return _Selecting(problem, self)


class _Selecting(Solving):
    def __init__(self, problem: Problem, solver: Random | Herding) -> None:
        self.problem, self.solver, self.steps = problem, solver, solver.duration(problem)
        problem.data.require(problem.synthetic.per_class, f"solver: {solver.kind}")
        self.executor = problem.executor(self.steps) if isinstance(solver, Herding) else None
        self._chosen = torch.zeros(0, dtype=torch.long)

    @property
    def parameters(self) -> dict[str, Tensor]:
        data = self.problem.data
        if len(self._chosen) < len(self.problem.slots):
            return {"chosen": self._chosen}
        return self.problem.synthetic.from_points(data.normalisation.apply(data.train.points[self._chosen]), data)

    @property
    def chosen(self) -> Tensor:
        return self._chosen

    @property
    def resolved(self) -> dict[str, Any]:
        return {} if self.executor is None else self.executor.resolved

    def advance(self) -> Record:
        data, per_class = self.problem.data, self.problem.synthetic.per_class
        value = torch.zeros(())
        if self.executor is None:
            self._chosen = data.class_batch(stream(self.problem.seed, "random"), per_class)
        else:
            rows, value = self._herd(self.step, per_class)
            self._chosen = torch.cat([self._chosen, rows])
        record = Record(self.step, value, {})
        self.step += 1
        return record

    @torch.no_grad()
    def _herd(self, label: int, count: int) -> tuple[Tensor, Tensor]:
        """The chosen examples of one class, in order, and the value that they reach."""
        assert self.executor is not None
        indices = (self.problem.data.train.labels == label).nonzero()[:, 0]
        matches = self.executor.candidates(indices, label)
        chosen: list[int] = []
        value = torch.zeros(())
        for _ in range(count):
            values = torch.stack([_after(match, chosen, len(indices)) for match in matches]).sum(0)
            values[chosen] = torch.inf
            chosen.append(int(values.argmin()))
            value = values[chosen[-1]]
        return indices[chosen], value.cpu()

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "chosen": self._chosen}

    def restore(self, state: dict[str, Any]) -> None:
        self.step, self._chosen = state["step"], state["chosen"]


def _after(match: Candidates, chosen: list[int], candidates: int) -> Tensor:
    """The value of a match after adding each candidate to those chosen: every candidate subset is one group."""
    features, labels = match.features.tensors[""], match.features.labels
    size = features[0].numel() * features.element_size() * (len(chosen) + 1) + match.summary.nbytes
    values = []
    for rows in torch.arange(candidates, device=features.device).split(max(1, CANDIDATES_BYTES // size)):
        members = torch.cat(
            [torch.tensor(chosen, dtype=torch.long, device=rows.device).expand(len(rows), -1), rows[:, None]], 1
        )
        subsets = Measure(
            features[members],
            torch.ones(members.shape, device=features.device),
            None if labels is None else labels[members],
        )
        summary = match.summary.select(torch.zeros(len(rows), dtype=torch.long, device=features.device))
        values.append(match.factor * match.discrepancy.compare(summary, subsets, match.draws))
    return torch.cat(values)
