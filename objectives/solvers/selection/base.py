"""What all selections share: chosen examples and their weights as the state, and the synthetic set that they make."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Engine
from objectives.solvers.base import Problem, Record, Solving

__all__ = ["Choice", "Selecting", "WithinClasses", "check_embeddings", "check_mmd", "check_positive", "check_weights"]

NOTHING = -200.0
"""The logarithm of a weight that is zero in float32, and still a finite parameter."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen ones among the n candidates of a class, by number and in order; what they reach; and their weights, which
    average to one, where these are not equal; and what was found out, for the record."""

    rows: Int[Tensor, " m"]
    value: Float[Tensor, ""]
    weights: Float[Tensor, " m"] | None = None
    found: Mapping[str, Any] = field(default_factory=dict)


class Selecting(Solving):
    """A selection under way."""

    def __init__(self, problem: Problem, kind: str, steps: int) -> None:
        problem.data.require_rows(f"solver: {kind}")
        problem.data.require(problem.synthetic.each(problem.data), f"solver: {kind}")
        _held(problem)
        self.problem, self.steps, self.sizes = problem, steps, problem.synthetic.sizes(problem.data)
        self._chosen = torch.zeros(0, dtype=torch.long)
        self._weights: Tensor | None = None
        self._findings: dict[str, list[Any]] = {}

    @property
    def parameters(self) -> dict[str, Tensor]:
        data = self.problem.data
        if len(self._chosen) < len(self.problem.slots):
            return {"chosen": self._chosen}
        dtype = self.problem.runtime.dtype
        points = data.normalised(self._chosen, dtype=dtype)
        targets = None if data.target_units is None else data.label_vectors(self._chosen, dtype)
        made = self.problem.synthetic.from_points(points, data, targets)
        if self._weights is not None:
            made["weights"] = self._weights.log().clamp(min=NOTHING)
        return made

    @property
    def chosen(self) -> Tensor:
        return self._chosen

    @property
    def findings(self) -> dict[str, Any]:
        return self._findings

    @property
    def resolved(self) -> dict[str, Any]:
        return {}

    def advance(self) -> Record:
        record = Record(self.step, self._advance(), {})
        self.step += 1
        return record

    @abstractmethod
    def _advance(self) -> Tensor:
        """Do one step, and say what was reached."""

    def state(self) -> dict[str, Any]:
        found = {"step": self.step, "chosen": self._chosen, "weights": self._weights}
        return {**found, "findings": {name: list(values) for name, values in self._findings.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        self.step, self._chosen, weights = state["step"], state["chosen"].cpu(), state["weights"]
        self._weights = None if weights is None else weights.cpu()
        self._findings = {name: list(values) for name, values in state["findings"].items()}


class WithinClasses(Selecting):
    """One class a step, by a rule ``choose(engine, candidates, label, count)``, which holds so many bytes of its own."""

    def __init__(
        self, problem: Problem, kind: str, choose: Callable[[Engine, Tensor, int, int], Choice], held: int = 0
    ) -> None:
        super().__init__(problem, kind, problem.data.count)
        self.held = held
        self.choose, self.engine = choose, problem.engine(self.steps, held=0)

    @property
    def bound_context(self) -> BoundContext:
        return self.engine.bound_context

    @property
    def resolved(self) -> dict[str, Any]:
        return self.engine.resolved

    @property
    def _numbers(self) -> int:
        """Of all that is taken of an example."""
        return sum(map(math.prod, self.engine.shapes.values()))

    @property
    def working_bytes(self) -> int:
        """The features of a class, as they are taken and as they are compared, and what the rule holds."""
        return self.held + 2 * self.engine.dtype.itemsize * self._numbers * max(map(len, self.problem.data.members))

    @property
    def multiplications(self) -> float:
        """Of comparing all the pairs of a class, at most."""
        return float(self._numbers) * sum(len(members) ** 2 for members in self.problem.data.members)

    @torch.no_grad()
    def _advance(self) -> Tensor:
        members = self.problem.data.members[self.step]
        choice = self.choose(self.engine, members, self.step, self.sizes[self.step])
        self._chosen = torch.cat([self._chosen, members[choice.rows.cpu()]])
        if choice.weights is not None:
            weights = choice.weights.to("cpu", self.problem.runtime.dtype)
            self._weights = weights if self._weights is None else torch.cat([self._weights, weights])
        for name, value in choice.found.items():
            self._findings.setdefault(name, []).append(value)
        return choice.value.float().cpu()


def check_embeddings(problem: Problem, kind: str) -> None:
    """Refuse an objective whose terms do not see single examples of each class by themselves.

    Raises:
        InvalidInput: naming the term, or what of the context is in the way.
    """
    by = "class" if problem.data.classes else "none"
    for name, term in problem.objective.terms:
        if term.compares != by:
            where = "within classes" if problem.data.classes else "from all the examples"
            raise InvalidInput(f"'{kind}' selects {where}; term '{name}' must be a match with by: {by}")
        if term.averages:
            raise InvalidInput(
                f"'{kind}' values one example at a time, but term '{name}' compares means; choose another embedding"
            )
    context = problem.context
    if context.augment is not None:
        raise InvalidInput(f"'{kind}' selects examples as they are; remove 'augment' from the context")
    if context.network is not None and not context.network.pointwise:
        raise InvalidInput(
            f"'{kind}' values one example at a time, but '{context.network.kind}' with batch normalisation is not "
            "pointwise; choose another 'norm'"
        )


def check_mmd(problem: Problem, kind: str) -> None:
    """Refuse, beyond that, an objective that is not a squared MMD within each class: a sum of kernels over terms and blocks.

    Raises:
        InvalidInput: naming the term.
    """
    check_embeddings(problem, kind)
    for name, term in problem.objective.terms:
        mmd = term.as_mmd()
        if mmd is None:
            raise InvalidInput(f"'{kind}' needs a kernel, but term '{name}' matches '{term.default_name}'; match mmd")
        if mmd.root:
            raise InvalidInput(f"'{kind}' adds squared MMDs up; set 'root' of term '{name}' to false")
    check_positive(problem, kind)


def check_positive(problem: Problem, kind: str) -> None:
    """Refuse negative weights of terms and blocks, where kernels or squared distances are added up.

    Raises:
        InvalidInput: naming the term.
    """
    for name, term in problem.objective.terms:
        if min(term.weight_at(0, 1), *term.factors, 0.0) < 0:
            raise InvalidInput(f"'{kind}' needs weights >= 0, got a negative one in term '{name}'")


def check_weights(problem: Problem, kind: str) -> None:
    """Refuse a synthetic set that cannot hold weights.

    Raises:
        InvalidInput: with what to change.
    """
    if "weights" not in _held(problem):
        raise InvalidInput(
            f"'{kind}' gives the examples weights, but the synthetic set has equal ones; set synthetic: {{weights: "
            "learned}, or weights: equal of the solver"
        )


def _held(problem: Problem) -> dict[str, Tensor]:
    """The parameters of a synthetic set of given examples; refuses one that cannot hold any."""
    data, slots = problem.data, problem.slots
    targets = None if data.target_units is None else torch.zeros(len(slots), data.outputs)
    return problem.synthetic.from_points(torch.zeros(len(slots), *data.shape), data, targets)
