"""Evaluation by the learner of an objective: what it learns from a condensed set, and from its controls.

Features are made chunk by chunk: those of all the test examples, or of all the real ones, never lie in memory together.
"""

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.kernels import Linear
from discrepancy.learning.learned import FittedSummary, fitted
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.measure import Measure
from discrepancy.networks import NetworkParameters
from experiments.evaluate.by_learner import ByLearner, LearningSetup, learners, learning_setup_of
from experiments.evaluate.evaluator import Evaluator, Progress, errors_of
from experiments.evaluate.records import TrainingSet
from objectives.contexts import Context, Draw, Pool
from objectives.data.labelled import LabelledData
from objectives.data.labels import predicted_classes
from objectives.engine.engine import Engine
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Taught
from objectives.terms.match import BoundMatch, Match
from objectives.terms.objective import Objective
from objectives.training.trainer import Batch, NetworkTrainer, TrainingData

__all__ = ["LearnerEvaluator", "rounded"]

PART_EXAMPLES = 4096
"""Examples whose features are made, and predicted, together."""

UNSEEN = 1_000_000_000
"""The first number of the networks that no step of a run has met."""

STEPS = 5000
"""Steps of a run after which the ages of its networks are treated as constant."""


@dataclass(frozen=True)
class EvaluationDraw:
    """A network, and random features, by which sets are evaluated, after so many rounds of training."""

    draw: Draw
    rounds: int


class LearnerEvaluator(Evaluator[ByLearner]):
    """Fits the learner of an artefact to a set, and tests its predictions; networks and random features take turns.

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
        super().__init__(data, runtime=runtime, validation=validation, teacher=teacher)
        self.measures = ("accuracies", "risk") if data.classes else ("rmse", "r2")
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
        self.protocol, self.learns_all = self._described(protocol), False

    @property
    def trials(self) -> int:
        return len(self.evaluation_draws)

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

    def condensed(self, synthetic: SyntheticSet) -> dict[str, TrainingSet]:
        """The set, and the same with its points rounded, where they are more exact than that."""
        made = replace(TrainingSet.made(synthetic, self.data, self.dtype), factor=self.setup.factor)
        variants = rounded(synthetic) if synthetic.points.dtype == torch.float64 else {}
        apply = self.data.normalisation.apply
        return {"condensed": made} | {
            name: replace(made, points=apply(points, self.dtype), stored=stored)
            for name, (points, stored) in variants.items()
        }

    def herding(self) -> tuple[Match, Pool]:
        """The mean of the features that are learned from."""
        match = Match(MMD(kernel=Linear()), via=self.match.via, by="class" if self.data.classes else "none")
        return match, Pool(network=self.setup.context.network, size=1)

    def whole(self, examples: int) -> "LearnerEvaluator":
        """What learns from all the real examples: from summaries of their parts where the learner needs moments alone.

        Raises:
            InvalidInput: if the learner needs them all at once, and they are too many, saying what to do instead.
        """
        count = len(self.train)
        if not self.whole_learner.mergeable and count > self.protocol.most:
            raise InvalidInput(
                f"'{self.whole_learner.kind}' would learn from all {count:,} real examples at once, a system of as many "
                f"equations; leave the control 'whole' out, or allow it: --set most={count}"
            )
        made = copy.copy(self)
        made.learns_all = True
        return made

    # --- learning -----------------------------------------------------------------------------------------------------

    def score(self, examples: TrainingSet, trial: int, report: Progress) -> tuple[float, ...]:
        evaluation_draw = self.evaluation_draws[trial % len(self.evaluation_draws)]
        small = None if self.learns_all else self._tensors(examples)
        weights = self._weights(evaluation_draw, small)
        if small is not None:
            predictor: Any = self.learner.fit(self._embedded(evaluation_draw, weights, small))
        elif self.whole_learner.mergeable:
            predictor = self._fitted(evaluation_draw, weights).predictor
        else:
            predictor = self.whole_learner.fit(Measure.merged(list(self._real(evaluation_draw, weights))))
        report(1.0)
        return self._score(evaluation_draw, weights, predictor, examples)

    def _tensors(self, examples: TrainingSet) -> Batch:
        """A set in normalised units, with labels as rows, and its weights, on the device."""
        device, points, weights = self.runtime.device, examples.points, examples.weights
        points = points if examples.units is None else examples.units.apply(points.to(device), self.dtype)
        labels = examples.labels.vectors(self.data.count, self.dtype)
        assert labels is not None
        weights = torch.ones(len(examples)) if weights is None else weights
        return points.to(device, self.dtype), labels.to(device, self.dtype), weights.to(device, self.dtype)

    def _fitted(self, evaluation_draw: EvaluationDraw, weights: NetworkParameters) -> FittedSummary:
        return fitted(self.whole_learner, self._real(evaluation_draw, weights))

    def _real(self, evaluation_draw: EvaluationDraw, weights: NetworkParameters) -> Iterator[Measure]:
        """The features of all the real examples, part by part, in one group."""
        for rows in torch.arange(len(self.train)).split(PART_EXAMPLES):
            yield self._embedded(evaluation_draw, weights, self._tensors(self.real(rows)))

    def _embedded(self, evaluation_draw: EvaluationDraw, weights: NetworkParameters, small: Batch) -> Measure:
        """The features of examples, in one group."""
        points, labels, masses = small
        return Measure(self._features(evaluation_draw, weights, points), masses, labels).as_groups()

    def _weights(self, evaluation_draw: EvaluationDraw, small: Batch | None) -> NetworkParameters:
        """The network of a draw; where its context trains on a synthetic set, it is trained on this one, else on all the real
        examples."""
        initial = self.context.initial(evaluation_draw.draw.network)
        schedule = self.context.context.training_schedule
        if schedule is None or not self.context.has_network or not evaluation_draw.rounds:
            return initial
        examples = TrainingData.of_real(self.train, self.runtime.device, self.dtype)
        if small is not None and schedule.training.on == "synthetic":
            examples = TrainingData.of_tensors(*small, self.data.outputs)
        gradient, trainer = self.context.training_gradient, NetworkTrainer(schedule.training, initial)
        assert gradient is not None
        for number in range(evaluation_draw.rounds):
            generator = rng(self.runtime.seed, "judge", evaluation_draw.draw.network, number)
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
        examples: TrainingSet,
    ) -> tuple[float, ...]:
        """The accuracy on the test examples and the risk; of targets, the error and the coefficient of determination."""
        test, data, device = self.test, self.data, self.runtime.device
        part = max(1, min(PART_EXAMPLES, self.engine.runtime.free_bytes // (64 * len(examples))))
        centre = 1 / data.outputs if self.learner.predicts_centred else 0.0
        outputs, correct, squares = [], 0, 0.0
        for rows in torch.arange(len(test)).split(part):
            points = test.normalised(rows, device, self.dtype)
            found = predictor(self._features(evaluation_draw, weights, points)[None])[0] / examples.factor + centre
            if not data.classes:
                outputs.append(found)
                continue
            labels = test.strata[rows].to(device)
            correct += int((predicted_classes(found) == labels).sum())
            squares += float((found - functional.one_hot(labels, data.count)).square().sum())
        if data.classes:
            return correct / len(test), squares / len(test)
        units = data.target_units
        assert units is not None
        return errors_of(units.invert(torch.cat(outputs)), test.labels.rows.to(device).double())


def rounded(synthetic: SyntheticSet) -> dict[str, tuple[Tensor, int]]:
    """The points of a set, in its units, after rounding to float32 and, of images, to 8 bits as an export to a folder does; and
    the bytes that are then to be stored."""
    plain = replace(synthetic, record={name: value for name, value in synthetic.record.items() if name != "decoder"})
    single = synthetic.points.float()
    found = {"in float32": (single.double(), replace(plain, points=single).stored_bytes)}
    if synthetic.points.ndim == 4:
        pixels, (low, high) = synthetic.pixels, synthetic.range
        found["in 8 bits"] = (
            low + pixels.double() / 255 * (high - low),
            replace(plain, points=pixels).stored_bytes,
        )
    return found


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
