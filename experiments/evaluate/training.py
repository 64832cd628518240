"""Evaluation by networks that are trained from scratch on a small labelled set, one after another."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput, NonFinite
from discrepancy.kernels import Linear
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.networks import NetworkParameters, Statistics
from discrepancy.networks.norms import warn_of_few
from experiments.evaluate.evaluator import Evaluator, Progress, errors_of, evaluate_each
from experiments.evaluate.protocol import Protocol, whole_budget
from experiments.evaluate.records import Evaluation, TrainingSet
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.data.labels import predicted_classes
from objectives.engine.batch_gradient import batch_gradient
from objectives.engine.extractor import Extractor
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.teacher import Taught
from objectives.terms.match import Match
from objectives.training.batch_gradient import BatchGradient
from objectives.training.trainer import NetworkTrainer

__all__ = ["NetworkEvaluator", "evaluate"]

WATCH = 20
"""Epochs between looks at the losses, each of which waits for the device."""


class NetworkEvaluator(Evaluator[Protocol]):
    """Trains the networks of a protocol on a set, each from its own initial weights, and tests them after the last epoch.

    The random streams of network i (its initial weights, the order of the examples, the augmentation) depend on the seed and i
    alone, so that two sets are compared on the same networks.
    """

    gradient: BatchGradient
    """Of the loss of a minibatch; :meth:`suited` makes it."""

    def __init__(
        self,
        data: LabelledData,
        protocol: Protocol,
        *,
        runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
        validation: bool = False,
        teacher: Taught | None = None,
    ) -> None:
        super().__init__(data, runtime=runtime, validation=validation, teacher=teacher)
        if protocol.augment is not None and len(data.shape) != 3:
            raise InvalidInput(f"'augment' needs images (C, H, W); these examples have shape {data.shape}: remove it")
        if protocol.mix is not None:
            data.require_classes("'mix' of the protocol")
        self.protocol = protocol
        self.measures = ("accuracies",) if data.classes else ("rmse", "r2")
        self.extractor = Extractor(protocol.network, ("logits",), data.shape, data.outputs, runtime)

    @property
    def trials(self) -> int:
        return self.protocol.networks

    @property
    def epochs(self) -> int:
        return self.protocol.epochs

    def steps(self, examples: int) -> int:
        return self.protocol.steps(examples)

    def suited(self, first: TrainingSet) -> "NetworkEvaluator":
        """The same with code for such sets, compiled where that pays; the loss is the squared one for scores and targets."""
        made, runtime, kind = copy.copy(self), self.runtime, first.labels.kind
        made.protocol = protocol = self.protocol.learning(kind)
        made.loss = "squared" if protocol.squared(kind) else "cross_entropy"
        warn_of_few(protocol.network, min(protocol.batch, len(first)), "a batch")
        extractor = made.extractor = Extractor(
            protocol.network, ("logits",), self.data.shape, self.data.outputs, runtime
        )
        passes = protocol.passes(len(first), len(self.test)) * protocol.networks
        compiled = runtime.compiles(extractor.seconds(passes))
        made.gradient = batch_gradient(extractor, protocol, self.data, made.loss, compiled=compiled, statistics=True)
        extractor.compile(compiled)
        return made

    def whole(self, examples: int) -> "NetworkEvaluator":
        """The same with as many passes over all the data as fit into the steps of so many examples; the record states them."""
        made = copy.copy(self)
        made.protocol = whole_budget(examples, self.data, self.protocol)
        return made

    def herding(self) -> tuple[Match, Pool]:
        """The mean of the features of one random network."""
        match = Match(MMD(kernel=Linear()), via=Features(), by="class" if self.data.classes else "none")
        return match, Pool(network=self.protocol.network, size=1)

    def score(self, examples: TrainingSet, trial: int, report: Progress) -> tuple[Any, ...]:
        trained = self.checked(examples, trial, report)
        return (self.accuracy(*trained),) if self.data.classes else self.errors(*trained)

    def checked(
        self, examples: TrainingSet, network: int, report: Progress
    ) -> tuple[NetworkParameters, Statistics | None]:
        """:meth:`trained`, whose error names the network."""
        try:
            return self.trained(examples, network, report)
        except NonFinite as error:
            raise NonFinite(f"network {network} of {self.protocol.networks}, {error}") from None

    def trained(
        self, examples: TrainingSet, network: int, report: Progress = lambda share: None
    ) -> tuple[NetworkParameters, Statistics | None]:
        """The weights of a network, and its running statistics, after the last epoch on a set that this one is suited to.

        Raises:
            NonFinite: if a loss is NaN or infinite, with the epoch.
        """
        protocol, shape, device = self.protocol, self.data.shape, self.runtime.device
        augment = None if protocol.augment is None else protocol.augment.for_data(mirror=self.data.mirror)
        streams = [rng(self.runtime.seed, "evaluate", network, name) for name in ("network", "order", "augment", "mix")]
        initial = protocol.network.initial(streams[0], shape, self.data.outputs)
        parameters = {name: value.to(device) for name, value in initial.items()}
        trainer = NetworkTrainer(replace(protocol, augment=augment), parameters, counted=False)
        training_data = examples.training_data(device, self.data.outputs)
        losses = torch.zeros(protocol.epochs, device=device)
        for epoch in range(protocol.epochs):
            losses[epoch] = trainer.round(self.gradient, training_data, *streams[1:])
            if (epoch + 1) % WATCH == 0 or epoch + 1 == protocol.epochs:
                _check_finite(losses)
            report((epoch + 1) / protocol.epochs)
        return trainer.parameters, trainer.statistics

    def accuracy(self, parameters: NetworkParameters, statistics: Statistics | None) -> float:
        """The share of the test examples whose largest logit is that of their class."""
        device = self.runtime.device
        numbers, correct = self.test.strata.to(device), torch.zeros((), dtype=torch.long, device=device)
        for rows, logits in self._predictions(parameters, statistics):
            correct += (predicted_classes(logits) == numbers[rows]).sum()
        return correct.item() / len(self.test)

    def errors(self, parameters: NetworkParameters, statistics: Statistics | None) -> tuple[float, float]:
        """The root mean squared error on the test examples, in the units of the targets, and the coefficient of
        determination."""
        units = self.test.target_units
        assert units is not None
        found = torch.cat([logits.double() for _, logits in self._predictions(parameters, statistics)])
        return errors_of(units.invert(found), self.test.labels.rows.to(found))

    @torch.no_grad()
    def _predictions(
        self, parameters: NetworkParameters, statistics: Statistics | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The outputs for the test examples, chunk by chunk, with their numbers."""
        device, size = self.runtime.device, min(self.extractor.chunk, len(self.test))
        for rows in torch.arange(len(self.test)).split(self.extractor.chunk):
            points = self.test.normalised(rows, device)
            yield rows.to(device), self.extractor(parameters, points, size, statistics)["logits"]


def evaluate(
    training_set: TrainingSet,
    data: LabelledData,
    protocol: Protocol,
    runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
    *,
    validation: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Train the protocol's networks on the set, and test each on the test examples of the data (:class:`NetworkEvaluator`).

    Raises:
        InvalidInput: if the set, the data and the protocol do not fit together.
        NonFinite: if a loss is NaN or infinite, with the network and the epoch.
    """
    evaluator = NetworkEvaluator(data, protocol, runtime=runtime, validation=validation)
    return evaluate_each(evaluator, lambda trial: training_set, progress=progress)


def _check_finite(losses: Tensor) -> None:
    finite = torch.isfinite(losses)
    if not bool(finite.all()):
        epoch = int((~finite).nonzero()[0])
        raise NonFinite(
            f"epoch {epoch}: the training loss is {losses[epoch].item()}; lower 'lr' of the protocol, or look at the "
            "values of the training set"
        )
