"""What a solver is: a frozen description that starts a stateful :class:`Solving`, advanced one step at a time."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part
from objectives.contexts import Context
from objectives.data.labelled import LabelledData
from objectives.engine.compile import Policy
from objectives.engine.engine import Engine
from objectives.engine.extractor import Extractor
from objectives.rng import rng
from objectives.synthetic.parameterisation import Decoded, Layout, Parameterisation
from objectives.terms.objective import Match, Objective
from objectives.terms.scores import check_scores

__all__ = ["Problem", "Record", "Solver", "Solving"]


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that is to be solved: data, objective, context, the form of the synthetic set, and where to run."""

    data: LabelledData
    objective: Objective
    context: Context
    synthetic: Parameterisation
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (a constant)
    policy: Policy = "auto"
    dtype: torch.dtype = torch.float32

    def engine(self, steps: int, examples: int | None = None) -> Engine:
        """The objective bound to the data, for so many steps of so many synthetic examples, by default all."""
        if self.synthetic.scored(self.data):
            check_scores(self.objective, self.context)
        self._check_classes()
        return Engine(
            self.data,
            self.objective,
            self.context,
            seed=self.seed,
            examples=len(self.layout) * self.synthetic.copies if examples is None else examples,
            steps=steps,
            device=self.device,
            policy=self.policy,
            dtype=self.dtype,
        )

    def _check_classes(self) -> None:
        """Refuse terms that compare each class where some have no synthetic example."""
        by_class = [name for name, term in self.objective.terms if isinstance(term, Match) and term.by == "class"]
        if by_class and 0 in self.synthetic.sizes(self.data):
            raise InvalidInput(
                f"term '{by_class[0]}' is by: class, but {sum(self.synthetic.sizes(self.data))} synthetic examples leave "
                f"some of the {self.data.count} classes of '{self.data.name}' without any; raise 'examples', or use by: none"
            )

    def initial(self) -> dict[str, Tensor]:
        """The synthetic parameters at the start, where the problem is solved."""
        return {name: value.to(self.device, self.dtype, copy=True) for name, value in self._start.items()}

    @cached_property
    def _start(self) -> dict[str, Tensor]:
        choose = None if self.context.sampling.lasts is None else self._representative
        return self.synthetic.initial(self.data, self.seed, choose)

    @torch.no_grad()
    def _representative(self, each: int) -> Tensor:
        """So many real examples of every class, chosen as the context chooses its batches, by its first network."""
        extractor = Extractor(
            self.data,
            self.context,
            frozenset({"features"}),
            seed=self.seed,
            examples=1,
            steps=1,
            device=self.device,
            policy="never",
            dtype=self.dtype,
        )
        first = extractor.parameters(self.context.at(0, self.seed).network)
        generator = rng(self.seed, "start")
        return self.context.sampling.rows(
            self.data, each, generator, lambda members: extractor.features(members, first)
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
    def extractor(self) -> Extractor | None:
        """Where the terms are evaluated; None where they are not."""
        return None

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
        """Memory beyond that of the extractor; for an estimate."""
        return 0

    @property
    def multiplications(self) -> float:
        """Multiplications beyond the passes of the extractor; for an estimate."""
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

    def examples(self, problem: Problem) -> int:
        """Synthetic examples of a step."""
        return len(problem.layout) * problem.synthetic.copies

    @abstractmethod
    def passes(self, problem: Problem, extractor: Extractor) -> int:
        """Forward passes of one example that it will take, a backward pass counted as two; for an estimate of its time."""


def decoded(problem: Problem, parameters: Mapping[str, Tensor]) -> Decoded:
    """All the synthetic examples."""
    return problem.synthetic.decode(parameters, problem.layout)
