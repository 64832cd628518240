"""What a solver is: a frozen description that starts a stateful :class:`Solving`, advanced one step at a time."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part
from objectives.contexts import Context
from objectives.data.real import RealData
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Engine
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.parameterisation import EXTRA, Decoded, Layout, Parameterisation
from objectives.terms.objective import Objective

__all__ = ["Problem", "Record", "Solver", "Solving"]


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that is to be solved: data, objective, context, the form of the synthetic set, and where to run."""

    data: RealData
    objective: Objective
    context: Context
    synthetic: Parameterisation
    runtime: Runtime = Runtime()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        """Refuses more synthetic examples than fit into memory, before one of them is made."""
        count = sum(self.synthetic.sizes(self.data))
        needed = count * math.prod(self.data.shape) * self.runtime.dtype.itemsize
        if needed > self.runtime.free_bytes:
            how = "per_class" if self.synthetic.examples is None else "examples"
            raise InvalidInput(
                f"'{how}' is {getattr(self.synthetic, how)}: the {count:,} synthetic examples alone take "
                f"{needed / 2**30:.3g} GiB, and {self.runtime.free_bytes / 2**30:.3g} GiB are free; lower it"
            )

    def engine(self, steps: int, examples: int | None = None, held: int | None = None) -> Engine:
        """The objective bound to the data, for so many steps of so many synthetic examples, by default all, of which so many
        have their graph held at once."""
        if self.synthetic.scored(self.data):
            self.objective.check_scores(self.context)
        self._check_classes()
        count = len(self.layout) * self.synthetic.copies if examples is None else examples
        return Engine(self.data, self.objective, self.context, self.runtime, examples=count, steps=steps, held=held)

    def _check_classes(self) -> None:
        """Refuse terms that compare each class where some have no synthetic example."""
        by_class = [name for name, term in self.objective.terms if term.compares == "class"]
        if by_class and 0 in self.synthetic.sizes(self.data):
            raise InvalidInput(
                f"term '{by_class[0]}' is by: class, but {sum(self.synthetic.sizes(self.data))} synthetic examples leave "
                f"some of the {self.data.count} classes of '{self.data.name}' without any; raise 'examples', or use by: none"
            )

    def initial(self) -> dict[str, Tensor]:
        """The parameters at the start, where the problem is solved: those of the synthetic set, and further ones that terms
        learn beside it."""
        runtime = self.runtime
        found = {name: value.to(runtime.device, runtime.dtype, copy=True) for name, value in self._start.items()}
        for _, term in self.objective.terms:
            for name, value in term.extras.items():
                found[EXTRA + name] = torch.tensor([value], dtype=runtime.dtype, device=runtime.device)
        return found

    @property
    def shared(self) -> frozenset[str]:
        """The parameters that belong to all the synthetic examples together."""
        extras = (EXTRA + name for _, term in self.objective.terms for name in term.extras)
        return self.synthetic.shared | frozenset(extras)

    @cached_property
    def _start(self) -> dict[str, Tensor]:
        choose = None if self.context.sampling.lasts is None else self._representative
        return self.synthetic.initial(self.data, self.runtime.seed, choose, self.runtime.dtype)

    @torch.no_grad()
    def _representative(self, each: int) -> Tensor:
        """So many real examples of every class, chosen as the context chooses its batches, by its first network."""
        runtime = replace(self.runtime, compile="never")
        context = BoundContext(self.data, self.context, frozenset({"features"}), runtime, examples=1, steps=1)
        first = context.initial(self.context.at(0, runtime.seed).network)
        return self.context.sampling.rows(
            self.data, each, rng(runtime.seed, "start"), lambda members: context.features(members, first)
        )

    @cached_property
    def layout(self) -> Layout:
        """What is fixed of the stored examples."""
        return self.synthetic.layout(self.data)

    @property
    def slots(self) -> Tensor:
        """The class of each stored example."""
        return self.layout.slots

    @property
    def groups(self) -> Tensor:
        """The group of each stored example."""
        return self.layout.groups


@dataclass(frozen=True, eq=False)
class Record:
    """What one step measured, before it moved: the loss and the weighted value of every term (no host synchronisation)."""

    step: int
    loss: Tensor
    terms: Mapping[str, Tensor]


class Solving(ABC):
    """A solution under way."""

    steps: int
    step: int = 0

    @property
    def bound_context(self) -> BoundContext | None:
        """The context in which terms are evaluated; None where they are not."""
        return None

    @property
    def compiled(self) -> bool:
        """Whether networks run compiled, with other last bits than without."""
        return self.bound_context is not None and self.bound_context.compiled

    @abstractmethod
    def advance(self) -> Record:
        """Do one step."""

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """The synthetic parameters as they are now, detached."""

    @property
    @abstractmethod
    def chosen(self) -> Tensor | None:
        """The numbers of the training examples that the set consists of; None where it is made."""

    @property
    def working_bytes(self) -> int:
        """Memory beyond that of a step; for an estimate."""
        return 0

    @property
    def later_bytes(self) -> int:
        """Memory that later steps will hold and the last one did not; for an estimate."""
        return 0

    @property
    def multiplications(self) -> float:
        """Multiplications beyond the passes through the network; for an estimate."""
        return 0.0

    @property
    def findings(self) -> dict[str, Any]:
        """What the solver found out, for the record: plain numbers by name."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which :meth:`restore` continues bit for bit."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state."""

    @property
    @abstractmethod
    def resolved(self) -> dict[str, Any]:
        """The data-dependent constants that were turned into numbers, for the record."""


class Solver(Part, family=True):
    """How the objective is minimised."""

    takes: ClassVar[frozenset[str]] = frozenset()
    """What the solver itself takes of the context's network, beside the terms."""

    @abstractmethod
    def start(self, problem: Problem) -> Solving:
        """Check that the problem can be solved this way, and begin."""

    @abstractmethod
    def duration(self, problem: Problem) -> int:
        """The number of steps it will take."""

    @property
    def planned(self) -> int:
        """The steps that its settings state; 1 where it takes no steps in which networks could be trained."""
        return 1

    @property
    def stepwise(self) -> bool:
        """Whether it reaches a set after any number of steps, so that ``steps`` can be stated."""
        return False

    def with_steps(self, steps: int) -> "Solver":
        """The same with another number of steps.

        Raises:
            InvalidInput: if its settings state none.
        """
        raise InvalidInput(f"'steps' has no meaning for the solver '{self.kind}'; leave it out")

    def examples(self, problem: Problem) -> int:
        """Synthetic examples of a step."""
        return len(problem.layout) * problem.synthetic.copies

    @abstractmethod
    def passes(self, problem: Problem, context: BoundContext) -> int:
        """Forward passes of one example that it will take, a backward pass counted as two; for an estimate of its time."""

    def search_seconds(self, problem: Problem) -> float:
        """A rough estimate of the time of searches, which may be long from the first step on; 0 where it has none."""
        return 0.0


def decoded(problem: Problem, parameters: Mapping[str, Tensor]) -> Decoded:
    """All the synthetic examples."""
    return problem.synthetic.decode(parameters, problem.layout)
