"""Training networks from scratch on a small labelled set, one after another, and their accuracy on the test examples.

A fresh network is new inputs to one function: the loss of a chunk of examples, compiled where that pays. A batch is passed in
chunks of one shape, small enough that a chunk's activations stay in the cache of a processor, and their gradients are added
up, which for pointwise networks is exact; chunks are filled up with examples of weight zero. Batch normalisation sees its
true batch instead.

Many networks at once (vmap, grouped convolutions) were measured to be slower than one after another on a CPU.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput, NonFinite
from discrepancy.networks import Network, NetworkParameters, Statistics
from discrepancy.networks.norms import warn_of_few
from discrepancy.numerics.blocks import padded
from experiments.evaluate.protocol import Protocol
from experiments.evaluate.records import Evaluation, TrainingSet
from objectives.data.labelled import LabelledData
from objectives.engine.extractor import Extractor
from objectives.engine.runtime import Runtime
from objectives.rng import rng

__all__ = ["Progress", "Trainer", "errors_of", "evaluate", "evaluate_each", "held_out"]

Progress = Callable[[int, int], None]
"""Called with the epochs done and their total, over all the networks."""

VALIDATION = 0.1
"""The share of the training examples that is held out for validation."""

RUNNING = 0.1
"""The share of the newest batch in the running statistics of batch normalisation."""

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
            trained = trainer.train(own.to(runtime.device), runtime.seed, network, report)
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
    """The compiled functions of one network architecture on one kind of data, for sets of one size."""

    def __init__(
        self, protocol: Protocol, data: LabelledData, examples: int, runtime: Runtime, labels: str = "hard"
    ) -> None:
        assert data.test is not None
        self.protocol, self.shape, self.outputs = protocol, data.shape, data.outputs
        self.device, network = runtime.device, protocol.network
        self.augment = None if protocol.augment is None else protocol.augment.for_data(mirror=data.mirror)
        self.test, self.test_labels = data.test, data.test.labels.to(runtime.device).rows
        self.extractor = Extractor(network, ("logits",), data.shape, data.outputs, runtime)
        largest = min(protocol.batch, examples)
        warn_of_few(network, largest, "a batch")
        self.chunk = largest
        if network.pointwise:
            # A backward pass holds twice what a forward pass does; chunks of equal size waste least.
            parts = math.ceil(largest / max(1, self.extractor.chunk // 2))
            self.chunk = math.ceil(largest / parts)
        passes = protocol.passes(examples, len(data.test)) * protocol.networks
        seconds = self.extractor.seconds(passes)
        self.squared = protocol.squared(labels if data.classes else "targets")
        self.loss = runtime.compiled(_squares if self.squared else _loss, seconds)
        self.extractor.compile(runtime.compiles(seconds))

    def train(
        self, examples: TrainingSet, seed: int, network: int, report: Callable[[int], None] | None = None
    ) -> tuple[NetworkParameters, Statistics | None]:
        """NetworkParameters and running statistics after the last epoch."""
        protocol = self.protocol
        initial = protocol.network.initial(rng(seed, "evaluate", network, "network"), self.shape, self.outputs)
        parameters = {name: value.to(self.device).requires_grad_() for name, value in initial.items()}
        order = rng(seed, "evaluate", network, "order")
        augmentation, mixing = (rng(seed, "evaluate", network, name) for name in ("augment", "mix"))
        running: dict[str, tuple[Tensor, Tensor]] = {}
        losses = torch.zeros(protocol.epochs, device=self.device)
        descent = self._descent(parameters, protocol.lr)
        for epoch in range(protocol.epochs):
            if epoch == protocol.full_rate_epochs and not protocol.milestones:
                descent = self._descent(parameters, protocol.rate(epoch))
            for group in descent.param_groups:
                group["lr"] = protocol.rate(epoch)
            for indices in torch.randperm(len(examples), generator=order).split(protocol.batch):
                points, targets, weights = examples.batch(indices.to(self.device), self.outputs)
                descent.zero_grad()
                batch = self._combined(self._augmented(points, augmentation), targets, weights, mixing)
                loss, moments = self._backward(parameters, *batch)
                descent.step()
                losses[epoch] += loss
                running = _mixed(running, moments)
            if (epoch + 1) % WATCH == 0 or epoch + 1 == protocol.epochs:
                _check_finite(losses)
            if report is not None:
                report(epoch + 1)
        return parameters, running or None

    def _descent(self, parameters: NetworkParameters, lr: float) -> torch.optim.Optimizer:
        """A new optimiser, without momentum."""
        protocol = self.protocol
        if protocol.optimizer == "adamw":
            return torch.optim.AdamW(list(parameters.values()), lr, weight_decay=protocol.weight_decay)
        return torch.optim.SGD(
            list(parameters.values()), lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay
        )

    def _augmented(self, points: Tensor, generator: torch.Generator) -> Tensor:
        if self.augment is None:
            return points
        draws = self.augment.draw_batch(generator, len(points), self.shape)
        return self.augment(points, draws, torch.arange(len(points)))

    def _combined(
        self, points: Tensor, targets: Tensor, weights: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The batch, mixed; weights are mixed along with the targets, which they multiply, for squares in that measure."""
        mix = self.protocol.mix
        if mix is None:
            return points, targets, weights
        draws = mix.draw(generator, len(points), self.shape)
        masses = mix.masses(weights[:, None] * targets, draws)
        if not self.squared:
            return mix.points(points, draws), masses, torch.ones_like(weights)
        mixed = mix.masses(weights[:, None], draws)
        return mix.points(points, draws), masses / torch.where(mixed > 0, mixed, 1.0), mixed[:, 0]

    def _backward(
        self, parameters: NetworkParameters, points: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Adds the gradient of a batch's loss to the parameters' own; the loss, and the batch's own statistics."""
        network, total, moments = self.protocol.network, torch.zeros((), device=self.device), {}
        weights = weights / len(points)
        for part in zip(points.split(self.chunk), targets.split(self.chunk), weights.split(self.chunk), strict=True):
            filled = _filled(*part, self.chunk) if network.pointwise else part
            loss, moments = self.loss(network, parameters, *filled)
            loss.backward()
            total += loss.detach()
        return total, moments

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
        parameters = {name: value.detach() for name, value in parameters.items()}
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


def _loss(
    network: Network, parameters: NetworkParameters, points: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ wᵢ · cross-entropy, and the statistics of batch normalisation where there is some."""
    take = ("logits",) if network.pointwise else ("logits", "statistics")
    outputs = dict(network(parameters, points, take))
    loss = -(targets * functional.log_softmax(outputs.pop("logits"), 1)).sum(1)
    return (weights * loss).sum(), {name: value.detach() for name, value in outputs.items()}


def _squares(
    network: Network, parameters: NetworkParameters, points: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ wᵢ ‖f(xᵢ) - yᵢ‖², and the statistics of batch normalisation where there is some."""
    take = ("logits",) if network.pointwise else ("logits", "statistics")
    outputs = dict(network(parameters, points, take))
    loss = (outputs.pop("logits") - targets).square().sum(1)
    return (weights * loss).sum(), {name: value.detach() for name, value in outputs.items()}


def _filled(points: Tensor, targets: Tensor, weights: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A chunk of ``size`` rows; those beyond the given ones have weight zero."""
    missing = size - len(points)
    return padded(points, size), padded(targets, size), functional.pad(weights, (0, missing))


def _mixed(
    running: Mapping[str, tuple[Tensor, Tensor]], moments: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Running statistics after one more batch; they start at mean 0 and variance 1, and take the unbiased variance."""
    mixed = {}
    for name, mean in moments.items():
        layer, _, what = name.rpartition(".")
        if what != "mean":
            continue
        count = moments[f"{layer}.count"]
        variance = moments[f"{layer}.variance"] * (count / (count - 1).clamp(min=1))
        old_mean, old_variance = running.get(layer, (torch.zeros_like(mean), torch.ones_like(mean)))
        mixed[layer] = (torch.lerp(old_mean, mean, RUNNING), torch.lerp(old_variance, variance, RUNNING))
    return mixed


def _check_finite(losses: Tensor) -> None:
    finite = torch.isfinite(losses)
    if not bool(finite.all()):
        epoch = int((~finite).nonzero()[0])
        raise NonFinite(
            f"epoch {epoch}: the training loss is {losses[epoch].item()}; lower 'lr' of the protocol, or look at the "
            "values of the training set"
        )
