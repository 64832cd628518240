"""Evaluation by the learner of an objective: what it learns from a condensed set, and from its controls.

Features are made chunk by chunk: those of all the test examples, or of all the real ones, never lie in memory together.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.learning.learned import FittedSummary, fitted
from discrepancy.measure import Measure
from discrepancy.networks import NetworkParameters
from experiments.evaluate.by_learner import ByLearner, LearningSetup, learners, learning_setup_of
from experiments.evaluate.records import Evaluation
from experiments.evaluate.training import errors_of, held_out
from objectives.contexts import Context, Draw
from objectives.data.labelled import LabelledData
from objectives.engine.engine import Engine
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Taught
from objectives.terms.match import BoundMatch
from objectives.terms.objective import Objective
from objectives.training.trainer import NetworkTrainer, TrainingData

__all__ = ["LearnerEvaluator", "SmallSet"]

PART_EXAMPLES = 4096
"""Examples whose features are made, and predicted, together."""

UNSEEN = 1_000_000_000
"""The first number of the networks that no step of a run has met."""

STEPS = 5000
"""Steps of a run after which the ages of the networks that it meets are taken to stay as they are."""


@dataclass(frozen=True, eq=False)
class SmallSet:
    """Examples in normalised units, with labels as rows and weights.

    Args:
        kind: of the labels.
        stored_bytes: what a user of them has to store.
        factor: what predictions are to be divided by.
    """

    points: Float[Tensor, "m ..."]
    labels: Float[Tensor, "m c"]
    weights: Float[Tensor, " m"]
    kind: str
    stored_bytes: int
    factor: float = 1.0

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class EvaluationDraw:
    """A network, and random features, by which sets are evaluated, after so many rounds of training."""

    draw: Draw
    rounds: int


class LearnerEvaluator:
    """Evaluates sets by the learner of an artefact, on data.

    Raises:
        InvalidInput: if the artefact holds none, or the data do not fit.
    """

    def __init__(
        self,
        synthetic: SyntheticSet,
        data: LabelledData,
        protocol: ByLearner,
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
        self.seed, self.validation, self.teacher, self.device = runtime.seed, validation, teacher, runtime.device
        self.setup, self.dtype = learning_setup_of(synthetic, protocol, runtime.seed), synthetic.points.dtype
        match, context = self.setup.match, self.setup.context
        self.engine = Engine(
            self.train,
            Objective(((self.setup.name, match),)),
            context,
            replace(runtime, seed=self.setup.seed, dtype=self.dtype),
            examples=len(synthetic),
            steps=1,
        )
        self.context = self.engine.bound_context
        self.bound = cast(BoundMatch, self.engine.terms[self.setup.name])  # it is that of a match
        if self.bound.embedding.averages or list(self.bound.discrepancies) != [""]:
            raise InvalidInput(
                f"term '{self.setup.name}' does not learn from single features; name a learner: --set learner=ridge"
            )
        self.match = replace(match, match=self.bound.discrepancies[""], via=self.bound.embedding)
        self.evaluation_draws = _evaluation_draws(self.setup, protocol.networks, random=self._is_random)
        self.learner, self.whole_learner = learners(self.match, self.setup.penalty)
        self._choose()
        self.protocol = self._described(protocol)

    @property
    def _is_random(self) -> bool:
        drawn = self.bound.embedding.draw(rng(0), self.context.shapes)
        return self.context.has_network or drawn is not None

    def _choose(self) -> None:
        """Penalties that were left to validation, as numbers: from all the real examples."""
        if not (self.learner.undecided or self.whole_learner.undecided):
            return
        chosen = self._fitted(self.evaluation_draws[0], self._weights(self.evaluation_draws[0], None)).chosen
        self.learner = chosen if self.learner.undecided else self.learner
        self.whole_learner = chosen if self.whole_learner.undecided else self.whole_learner

    def _described(self, protocol: ByLearner) -> ByLearner:
        context = self.context.context
        schedule = context.training_schedule if self.context.has_network else None
        return replace(
            protocol,
            learner=self.learner,
            via=self.bound.embedding,
            whole=None if self.whole_learner == self.learner else self.whole_learner,
            network=context.network if self.context.has_network else None,
            training=None if schedule is None else schedule.training,
            dtype="float64" if self.dtype == torch.float64 else "float32",
        )

    # --- examples -----------------------------------------------------------------------------------------------------

    def condensed(self, synthetic: SyntheticSet, points: Tensor | None = None) -> SmallSet:
        """The set in the units of these data, or with other points (in those of the source).

        Raises:
            InvalidInput: if its classes, its labels or its shape are others.
        """
        data, own = self.data, synthetic.points if points is None else points
        if synthetic.classes != data.classes or tuple(own.shape[1:]) != data.shape:
            raise InvalidInput(
                f"the classes or the shape of the set are not those of '{data.name}'; name the data that it was made from"
            )
        units, labels = data.target_units, synthetic.labelling
        if not labels.given or (units is not None) != (labels.kind == "targets"):
            raise InvalidInput(
                f"the labels of the set are not those of '{data.name}'; name the data that it was made from"
            )
        labels = labels if units is None else replace(labels, units=units)
        vectors = labels.vectors(data.count, self.dtype)
        assert vectors is not None
        return SmallSet(
            data.normalisation.apply(own.to(self.device), self.dtype),
            vectors.to(self.device, self.dtype),
            synthetic.weights.to(self.device, self.dtype),
            labels.kind,
            synthetic.stored_bytes,
            self.setup.factor,
        )

    def real(self, rows: Int[Tensor, " m"]) -> SmallSet:
        """These real examples, with their own labels, or a teacher's."""
        labels, examples = self._labels(rows), self.train.rows(rows)
        stored = examples.nbytes if self.teacher is None else examples.points.nbytes + labels.nbytes
        return SmallSet(self.context.normalised(rows), labels, labels.new_ones(len(rows)), self._kind, stored)

    @property
    def _kind(self) -> str:
        """The kind of the labels of real examples."""
        return "teacher" if self.teacher is not None else self.train.labels.kind

    def _labels(self, rows: Tensor) -> Float[Tensor, "m c"]:
        if self.teacher is not None:
            return self.teacher(self.train.rows(rows).points).to(self.device, self.dtype)
        labels = self.context.label_vectors(rows)
        assert labels is not None
        return labels

    # --- learning -----------------------------------------------------------------------------------------------------

    def evaluate(self, draw: Callable[[int], SmallSet], number: int | None = None, report: Any = None) -> Evaluation:
        """A set of its own for each of so many trials, by default one for each network; the networks take turns."""
        started, number, first = time.perf_counter(), number or len(self.evaluation_draws), draw(0)
        scores = []
        for trial in range(number):
            small = first if trial == 0 else draw(trial)
            evaluation_draw = self.evaluation_draws[trial % len(self.evaluation_draws)]
            weights = self._weights(evaluation_draw, small)
            features = self._features(evaluation_draw, weights, small.points)
            measure = Measure(features, small.weights, small.labels).as_groups()
            scores.append(self._score(evaluation_draw, weights, self.learner.fit(measure), len(small), small.factor))
            if report is not None:
                report(trial + 1, number)
        return self._evaluation(scores, first.kind, len(first), first.stored_bytes, started)

    def check_whole(self) -> None:
        """Refuse to learn from all the real examples, where the learner needs them all at once, and they are too many.

        Raises:
            InvalidInput: saying what to do instead.
        """
        count = len(self.train)
        if not self.whole_learner.mergeable and count > self.protocol.most:
            raise InvalidInput(
                f"'{self.whole_learner.kind}' would learn from all {count:,} real examples at once, a system of as many "
                f"equations; leave the control 'whole' out, or allow it: --set most={count}"
            )

    def whole(self, report: Any = None) -> Evaluation:
        """All the real examples: summarised part by part where the learner needs moments alone."""
        self.check_whole()
        started, scores, count = time.perf_counter(), [], len(self.train)
        for trial, evaluation_draw in enumerate(self.evaluation_draws):
            weights = self._weights(evaluation_draw, None)
            if self.whole_learner.mergeable:
                predictor: Any = self._fitted(evaluation_draw, weights).predictor
            else:
                parts = list(self._real(evaluation_draw, weights))
                predictor = self.whole_learner.fit(Measure.merged(parts))
            scores.append(self._score(evaluation_draw, weights, predictor, count, 1.0))
            if report is not None:
                report(trial + 1, len(self.evaluation_draws))
        return self._evaluation(scores, self._kind, count, self.train.nbytes, started)

    def _fitted(self, evaluation_draw: EvaluationDraw, weights: NetworkParameters) -> FittedSummary:
        return fitted(self.whole_learner, self._real(evaluation_draw, weights))

    def _real(self, evaluation_draw: EvaluationDraw, weights: NetworkParameters) -> Iterator[Measure]:
        """The features of all the real examples, part by part, in one group."""
        for rows in torch.arange(len(self.train)).split(PART_EXAMPLES):
            features = self._features(evaluation_draw, weights, self.context.normalised(rows))
            yield Measure(features, features.new_ones(len(rows)), self._labels(rows)).as_groups()

    def _weights(self, evaluation_draw: EvaluationDraw, small: SmallSet | None) -> NetworkParameters:
        """The network of a draw; where its context trains on a synthetic set, it is trained on this one, else on all the real
        examples."""
        initial = self.context.initial(evaluation_draw.draw.network)
        schedule = self.context.context.training_schedule
        if schedule is None or not self.context.has_network or not evaluation_draw.rounds:
            return initial
        examples = TrainingData.of_real(self.train, self.device, self.dtype)
        if small is not None and schedule.training.on == "synthetic":
            examples = TrainingData.of_tensors(small.points, small.labels, small.weights, self.data.outputs)
        gradient, trainer = self.context.training_gradient, NetworkTrainer(schedule.training, initial)
        assert gradient is not None
        for number in range(evaluation_draw.rounds):
            generator = rng(self.seed, "judge", evaluation_draw.draw.network, number)
            trainer.round(gradient, examples, generator)
        mixture = evaluation_draw.draw.mixture
        return {name: torch.lerp(initial[name], value, mixture) for name, value in trainer.parameters.items()}

    @torch.no_grad()
    def _features(self, evaluation_draw: EvaluationDraw, weights: NetworkParameters, points: Tensor) -> Tensor:
        random = self.engine.real_side.random(self.setup.name, evaluation_draw.draw).embedding
        offered = {"points": points} | self.context.extractor(weights, points)
        return self.bound.embedded(Measure(offered), random).rows

    # --- predicting ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _score(
        self,
        evaluation_draw: EvaluationDraw,
        weights: NetworkParameters,
        predictor: Callable[[Tensor], Tensor],
        examples: int,
        factor: float,
    ) -> tuple[float, ...]:
        """The accuracy on the test examples and the risk; of targets, the error and the coefficient of determination."""
        test, data = self.test, self.data
        part = max(1, min(PART_EXAMPLES, self.engine.runtime.free_bytes // (64 * max(1, examples))))
        centre = 1 / data.outputs if self.learner.predicts_centred else 0.0
        outputs, correct, squares = [], 0, 0.0
        for rows in torch.arange(len(test)).split(part):
            points = test.normalised(rows, self.device, self.dtype)
            found = predictor(self._features(evaluation_draw, weights, points)[None])[0] / factor + centre
            if not data.classes:
                outputs.append(found)
                continue
            labels = test.strata[rows].to(self.device)
            correct += int((found.argmax(1) == labels).sum())
            squares += float((found - functional.one_hot(labels, data.count)).square().sum())
        if data.classes:
            return correct / len(test), squares / len(test)
        units = data.target_units
        assert units is not None
        return errors_of(units.invert(torch.cat(outputs)), test.labels.rows.to(self.device).double())

    def _evaluation(
        self, scores: Sequence[tuple[float, ...]], labels: str, examples: int, stored: int, started: float
    ) -> Evaluation:
        names = ("accuracies", "risk") if self.data.classes else ("rmse", "r2")
        measured = dict(zip(names, zip(*scores, strict=True), strict=True))
        return Evaluation(
            **{"accuracies": (), **measured},
            protocol=self.protocol.title,
            protocol_hash=self.protocol.hash,
            examples=examples,
            stored_bytes=stored,
            epochs=0,
            steps=0,
            test_examples=len(self.test),
            validation=self.validation,
            seed=self.seed,
            seconds=time.perf_counter() - started,
            labels=labels,
            loss="squared",
        )


def _evaluation_draws(setup: LearningSetup, networks: int, *, random: bool) -> tuple[EvaluationDraw, ...]:
    """The draws in which sets are evaluated: those of the context that come back; else new ones, of the ages that networks had
    in the run; a single one if nothing is random."""
    context, seed = setup.context, setup.seed
    schedule = context.training_schedule
    before = 0 if schedule is None else schedule.before
    if not random:
        return (EvaluationDraw(context.at(0, seed), before),)
    if context.n_draws is not None:
        found = dict.fromkeys(context.at(step, seed) for step in range(20 * context.n_draws))
        return tuple(EvaluationDraw(draw, before) for draw in itertools.islice(found, networks))
    if schedule is not None and schedule.watch is not None:
        raise InvalidInput(
            f"the context '{context.kind}' ends the training of its networks by what they do in the run ('watch'), which "
            "cannot be done again; name a learner: --set learner=ridge"
        )
    ages = _ages(context, seed, min(setup.steps, STEPS), networks)
    numbers = itertools.count(UNSEEN)
    return tuple(
        EvaluationDraw(Draw(new, new, new, mixture), before + age)
        for new, (age, mixture) in zip(numbers, ages, strict=False)
    )


def _ages(context: Context, seed: int, steps: int, number: int) -> list[tuple[int, float]]:
    """The rounds of training that the networks of some steps of a run, evenly spread, had had by then; and their mixtures."""
    wanted, had, found = [int((i + 0.5) * steps / number) for i in range(number)], Counter[int](), {}
    for step in range(max(wanted) + 1):
        draw = context.at(step, seed)
        found[step] = (had[draw.network], draw.mixture)
        had.update([] if context.training_schedule is None else context.training_schedule.trained_after(step, seed))
    return [found[step] for step in wanted]
