"""The one driver of evaluations, and what differs between them: a network is trained on a set, or a learner is fitted to it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from experiments.evaluate.by_learner import ByLearner
from experiments.evaluate.protocol import Protocol
from experiments.evaluate.records import Evaluation, TrainingSet
from objectives.contexts import Context
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Taught
from objectives.terms.match import Match

__all__ = ["Evaluator", "Progress", "errors_of", "evaluate_each", "held_out"]

Progress = Callable[[float], None]
"""Called with the share of the work that is done."""

VALIDATION = 0.1
"""The share of the training examples that is held out for validation."""


P = TypeVar("P", Protocol, ByLearner)


class Evaluator(ABC, Generic[P]):
    """What is learned from a set, and how well it predicts the test examples of the data.

    Args:
        data: with labels.
        protocol: how is learned.
        validation: test on a held-out part of the training examples, that of :func:`held_out`, for choices that must not look
            at the test examples; the set itself should then be made from what is left.
        teacher: labels the real examples of the controls.

    Raises:
        InvalidInput: if the data have no labels, or no test examples.
    """

    protocol: P
    loss: Literal["cross_entropy", "squared"] = "squared"
    """What is minimised."""
    measures: tuple[str, ...]
    """The names of the scores."""

    def __init__(
        self,
        data: LabelledData,
        *,
        runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
        validation: bool = False,
        teacher: Taught | None = None,
    ) -> None:
        data.require_labels()
        self.data = held_out(data, runtime.seed) if validation else data
        if self.data.test is None:
            raise InvalidInput(f"'{data.name}' has no test examples; give it some, or use a validation split")
        self.train, self.test = self.data.train, self.data.test
        self.runtime, self.validation, self.teacher = runtime, validation, teacher

    @property
    @abstractmethod
    def trials(self) -> int:
        """Trials of a set that is the same in all of them."""

    @property
    def epochs(self) -> int:
        """Passes over a set."""
        return 0

    def steps(self, examples: int) -> int:
        """Steps of training on so many examples."""
        return 0

    def suited(self, first: TrainingSet) -> "Evaluator[P]":
        """The same for sets with labels of this kind, and of this size."""
        return self

    @abstractmethod
    def score(self, examples: TrainingSet, trial: int, report: Progress) -> tuple[Any, ...]:
        """The scores of a set in a trial, by the names of :attr:`measures`."""

    @abstractmethod
    def whole(self, examples: int) -> "Evaluator[P]":
        """What learns from all the real examples, beside a set of so many."""

    @abstractmethod
    def herding(self) -> tuple[Match, Context]:
        """The match by which real examples are herded, and the context of its network."""

    def condensed(self, synthetic: SyntheticSet) -> dict[str, TrainingSet]:
        """The set by the name ``condensed``, and variants of it by theirs."""
        return {"condensed": TrainingSet.made(synthetic, self.data)}

    def real(self, rows: Int[Tensor, " m"] | None = None) -> TrainingSet:
        """These real examples, or all, with their own labels or the teacher's."""
        return TrainingSet.of(self.train.rows(rows), self.data).labelled(self.teacher)


def evaluate_each(
    evaluator: Evaluator[P],
    draw: Callable[[int], TrainingSet],
    *,
    trials: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a set of its own for each trial, ``draw(trial)``; all have the size and the kind of labels of the first."""
    started, first = time.perf_counter(), draw(0)
    evaluator = evaluator.suited(first)
    number, scores = trials or evaluator.trials, []
    for trial in range(number):
        own = first if trial == 0 else draw(trial)
        own.check(evaluator.data)
        scores.append(evaluator.score(own, trial, _scaled(progress, trial, number)))
    measured: dict[str, Any] = dict(zip(evaluator.measures, zip(*scores, strict=True), strict=True))
    return Evaluation(
        **{"accuracies": (), **measured},
        protocol=evaluator.protocol.title,
        protocol_hash=evaluator.protocol.hash,
        examples=len(first),
        stored_bytes=first.stored_bytes,
        epochs=evaluator.epochs,
        steps=evaluator.steps(len(first)),
        test_examples=len(evaluator.test),
        validation=evaluator.validation,
        seed=evaluator.runtime.seed,
        seconds=time.perf_counter() - started,
        labels=first.labels.kind,
        loss=evaluator.loss,
    )


def _scaled(progress: Progress | None, trial: int, number: int) -> Progress:
    return lambda share: None if progress is None else progress((trial + share) / number)


def held_out(data: LabelledData, seed: int) -> LabelledData:
    """The data with a stratified tenth of the training examples in place of the test examples."""
    return data.split(VALIDATION, rng(seed, "validation"))


def errors_of(answers: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]) -> tuple[float, float]:
    """The root mean squared error of answers, and the coefficient of determination R² = 1 - Σ (y - f(x))² / Σ (y - ȳ)²; the
    mean over the targets, if these are several."""
    squares = (answers - targets).square().sum(0)
    spread = (targets - targets.mean(0)).square().sum(0)
    errors, explained = (squares / len(targets)).sqrt(), 1 - squares / spread
    return errors.mean().item(), explained.mean().item()
