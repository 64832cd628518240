"""Training networks from scratch on a small labelled set, one after another, and their accuracy on the test examples."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput, NonFinite
from discrepancy.networks import NetworkParameters, Statistics
from discrepancy.networks.norms import warn_of_few
from experiments.evaluate.protocol import Protocol
from experiments.evaluate.records import Evaluation, TrainingSet
from objectives.data.labelled import LabelledData
from objectives.engine.batch_gradient import batch_gradient
from objectives.engine.extractor import Extractor
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.training.trainer import NetworkTrainer

__all__ = ["Progress", "Trainer", "errors_of", "evaluate", "evaluate_each", "held_out"]

Progress = Callable[[int, int], None]
"""Called with the epochs done and their total, over all the networks."""

VALIDATION = 0.1
"""The share of the training examples that is held out for validation."""

WATCH = 20
"""Epochs between looks at the losses, each of which waits for the device."""


def evaluate(
    training_set: TrainingSet,
    data: LabelledData,
    protocol: Protocol,
    runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
    *,
    validation: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Train the protocol's networks on the set, and measure each on the test examples of the data.

    The streams of network i (its initial weights, the order of the examples, the augmentation) depend on the seed and i
    alone, so that two sets are compared on the same networks.

    Args:
        validation: measure on a held-out part of the training examples, that of :func:`held_out`, for choices that must not
            look at the test examples; the set itself should then be made from what is left.

    Raises:
        InvalidInput: if the set, the data and the protocol do not fit together.
        NonFinite: if a loss is NaN or infinite, with the network and the epoch.
    """
    return evaluate_each(
        lambda data, network: training_set,
        data,
        protocol,
        runtime,
        validation=validation,
        progress=progress,
    )


def evaluate_each(
    draw: Callable[[LabelledData, int], TrainingSet],
    data: LabelledData,
    protocol: Protocol,
    runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
    *,
    validation: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """The same with a set of its own for network i, ``draw(data, i)``, where ``data`` are without the held-out part."""
    data.require_labels()
    if validation:
        data = held_out(data, runtime.seed)
    if data.test is None:
        raise InvalidInput(f"'{data.name}' has no test examples; give it some, or use a validation split")
    if protocol.augment is not None and len(data.shape) != 3:
        raise InvalidInput(f"'augment' needs images (C, H, W); these examples have shape {data.shape}: remove it")
    if protocol.mix is not None:
        data.require_classes("'mix' of the protocol")
    started = time.perf_counter()
    first = draw(data, 0)
    labels = first.labels.kind
    protocol = protocol.learning(labels)
    trainer = Trainer(protocol, data, len(first), runtime, labels)
    scores: list[tuple[float, ...]] = []
    for network in range(protocol.networks):
        own = first if network == 0 else draw(data, network)
        own.check(data)
        done = network * protocol.epochs
        report = None if progress is None else partial(_report, progress, done, protocol.networks * protocol.epochs)
        try:
            trained = trainer.train(own, runtime.seed, network, report)
        except NonFinite as error:
            raise NonFinite(f"network {network} of {protocol.networks}, {error}") from None
        scores.append(trainer.errors(*trained) if labels == "targets" else (trainer.accuracy(*trained),))
    measured = dict(
        zip(("rmse", "r2") if labels == "targets" else ("accuracies",), zip(*scores, strict=True), strict=True)
    )
    return Evaluation(
        **{"accuracies": (), **measured},
        protocol=protocol.title,
        protocol_hash=protocol.hash,
        examples=len(first),
        stored_bytes=first.stored_bytes,
        epochs=protocol.epochs,
        steps=protocol.steps(len(first)),
        test_examples=len(data.test),
        validation=validation,
        seed=runtime.seed,
        seconds=time.perf_counter() - started,
        labels=labels,
        loss="squared" if protocol.squared(labels) else "cross_entropy",
    )


def held_out(data: LabelledData, seed: int) -> LabelledData:
    """The data with a stratified tenth of the training examples in place of the test examples."""
    return data.split(VALIDATION, rng(seed, "validation"))


def _report(progress: Progress, before: int, total: int, epochs: int) -> None:
    progress(before + epochs, total)


class Trainer:
    """Trains and tests the networks of a protocol on one kind of data, for sets of one size."""

    def __init__(
        self, protocol: Protocol, data: LabelledData, examples: int, runtime: Runtime, labels: str = "hard"
    ) -> None:
        assert data.test is not None
        self.device, network = runtime.device, protocol.network
        augment = None if protocol.augment is None else protocol.augment.for_data(mirror=data.mirror)
        self.protocol = replace(protocol, augment=augment)
        self.test, self.test_labels = data.test, data.test.labels.to(runtime.device).rows
        self.extractor = Extractor(network, ("logits",), data.shape, data.outputs, runtime)
        warn_of_few(network, min(protocol.batch, examples), "a batch")
        passes = protocol.passes(examples, len(data.test)) * protocol.networks
        compiled = runtime.compiles(self.extractor.seconds(passes))
        criterion = "squared" if protocol.squared(labels if data.classes else "targets") else "cross_entropy"
        self.gradient = batch_gradient(self.extractor, criterion, compiled=compiled, statistics=True)
        self.extractor.compile(compiled)

    def train(
        self, examples: TrainingSet, seed: int, network: int, report: Callable[[int], None] | None = None
    ) -> tuple[NetworkParameters, Statistics | None]:
        """Weights and running statistics after the last epoch."""
        protocol, extractor = self.protocol, self.extractor
        initial = protocol.network.initial(
            rng(seed, "evaluate", network, "network"), extractor.shape, extractor.outputs
        )
        parameters = {name: value.to(self.device) for name, value in initial.items()}
        trainer = NetworkTrainer(protocol, parameters, counted=False)
        streams = [rng(seed, "evaluate", network, name) for name in ("order", "augment", "mix")]
        training_data = examples.training_data(self.device, extractor.outputs)
        losses = torch.zeros(protocol.epochs, device=self.device)
        for epoch in range(protocol.epochs):
            losses[epoch] = trainer.round(self.gradient, training_data, *streams)
            if (epoch + 1) % WATCH == 0 or epoch + 1 == protocol.epochs:
                _check_finite(losses)
            if report is not None:
                report(epoch + 1)
        return trainer.parameters, trainer.statistics

    def accuracy(self, parameters: NetworkParameters, statistics: Statistics | None) -> float:
        """The share of the test examples whose largest logit is that of their class."""
        numbers, correct = self.test.strata.to(self.device), torch.zeros((), dtype=torch.long, device=self.device)
        for rows, logits in self._predictions(parameters, statistics):
            correct += (logits.argmax(1) == numbers[rows]).sum()
        return correct.item() / len(self.test)

    def errors(self, parameters: NetworkParameters, statistics: Statistics | None) -> tuple[float, float]:
        """The root mean squared error on the test examples, in the units of the targets, and the coefficient of
        determination."""
        units = self.test.target_units
        assert units is not None
        found = torch.cat([logits.double() for _, logits in self._predictions(parameters, statistics)])
        return errors_of(units.invert(found), self.test_labels.double())

    @torch.no_grad()
    def _predictions(
        self, parameters: NetworkParameters, statistics: Statistics | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The outputs for the test examples, chunk by chunk, with their numbers."""
        size = min(self.extractor.chunk, len(self.test))
        for rows in torch.arange(len(self.test)).split(self.extractor.chunk):
            points = self.test.normalised(rows, self.device)
            yield rows.to(self.device), self.extractor(parameters, points, size, statistics)["logits"]


def errors_of(answers: Float[Tensor, "n k"], targets: Float[Tensor, "n k"]) -> tuple[float, float]:
    """The root mean squared error of answers, and the coefficient of determination R² = 1 - Σ (y - f(x))² / Σ (y - ȳ)²; the
    mean over the targets, if these are several."""
    squares = (answers - targets).square().sum(0)
    spread = (targets - targets.mean(0)).square().sum(0)
    errors, explained = (squares / len(targets)).sqrt(), 1 - squares / spread
    return errors.mean().item(), explained.mean().item()


def _check_finite(losses: Tensor) -> None:
    finite = torch.isfinite(losses)
    if not bool(finite.all()):
        epoch = int((~finite).nonzero()[0])
        raise NonFinite(
            f"epoch {epoch}: the training loss is {losses[epoch].item()}; lower 'lr' of the protocol, or look at the "
            "values of the training set"
        )
