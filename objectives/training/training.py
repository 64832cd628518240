"""How the network of a context is trained while a set is condensed: on the real data, or on the synthetic set as it is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Forward
from discrepancy.parts import Part, check_choice
from objectives.data.real import RealData
from objectives.synthetic.parameterisation import Decoded
from objectives.training.augmentation import Augmentation
from objectives.training.mixing import Mixing

__all__ = ["TrainingData", "NetworkTrainer", "Training"]


class Training(Part, family=True, kind="sgd"):
    """A round of training: steps of stochastic gradient descent, by minibatches.

    Args:
        on: ``real`` examples, or the ``synthetic`` ones as they are at that moment.
        steps: minibatches of a round, all of one size; 50 unless ``epochs`` are given instead.
        epochs: passes over all the examples that a round takes, the last minibatch of each with what is left.
        batch: examples of a minibatch, drawn without replacement until all were seen.
        lr, momentum, weight_decay: of the descent, as in ``torch.optim.SGD``; the momentum lasts over the rounds of a network.
        optimizer: ``sgd``, or ``adam``, which takes no ``momentum`` and has torch's own constants.
        loss: ``cross_entropy``, or ``squared``: ½ Σ_k (f_k - y_k + 1/c)², for labels that are any real numbers too, about the
            mean of classes (FRePo).
        milestones: the rounds of a network, counted from 0, before which its rate is multiplied by ``decay``.
        decay: see ``milestones``.
        augment: a transformation of its own for each image; None for none.
        mix: makes examples of two, after the augmentation; None for none.
    """

    on: Literal["real", "synthetic"] = "real"
    steps: int | None = None
    epochs: int | None = None
    batch: int = 256
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    augment: Augmentation | None = None
    mix: Mixing | None = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"

    def __post_init__(self) -> None:
        check_choice("on", self.on, get_args(Literal["real", "synthetic"]))
        check_choice("optimizer", self.optimizer, get_args(Literal["sgd", "adam"]))
        check_choice("loss", self.loss, get_args(Literal["cross_entropy", "squared"]))
        if self.optimizer == "adam" and self.momentum:
            raise InvalidInput(f"'momentum' is {self.momentum}, but optimizer adam has none; leave it out")
        if self.loss == "squared" and self.mix is not None:
            raise InvalidInput("'mix' mixes examples for loss: cross_entropy; leave it out")
        if self.steps is not None and self.epochs is not None:
            raise InvalidInput(
                f"a round is given by 'steps' or by 'epochs', got {self.steps} and {self.epochs}; set one of them to null"
            )
        if self.steps is None and self.epochs is None:
            object.__setattr__(self, "steps", 50)
        for name in ("steps", "epochs", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput(f"'{name}' must be at least 1, got {value}")
        if not self.lr > 0:
            raise InvalidInput(f"'lr' must be > 0, got {self.lr}")
        for name in ("momentum", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise InvalidInput(f"'{name}' must be >= 0, got {getattr(self, name)}")
        if not 0 < self.decay <= 1:
            raise InvalidInput(f"'decay' must be > 0 and at most 1, got {self.decay}")
        if any(later <= earlier for earlier, later in pairwise((0, *self.milestones))):
            raise InvalidInput(f"'milestones' must be numbers of rounds >= 1 that increase, got {self.milestones}")

    @property
    def needs_classes(self) -> bool:
        """Whether the labels must be classes or distributions."""
        return self.loss == "cross_entropy"

    def rate(self, rounds: int) -> float:
        """The learning rate after so many rounds."""
        return self.lr * self.decay ** sum(milestone <= rounds for milestone in self.milestones)

    def images(self, examples: int) -> int:
        """Examples that a round goes through, where there are so many."""
        return self.epochs * examples if self.epochs is not None else (self.steps or 0) * min(self.batch, examples)

    def minibatches(self, examples: int, generator: torch.Generator) -> Iterator[Tensor]:
        """The rows of each minibatch of a round."""
        if self.epochs is not None:
            for _ in range(self.epochs):
                yield from torch.randperm(examples, generator=generator).split(self.batch)
            return
        order = torch.zeros(0, dtype=torch.long)
        for _ in range(self.steps or 0):
            if len(order) < min(self.batch, examples):
                order = torch.randperm(examples, generator=generator)
            rows, order = order[: self.batch], order[self.batch :]
            yield rows


Batch = tuple[Tensor, Tensor, Tensor]
"""Points in normalised units, labels (class numbers or rows) and weights."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """``size`` labelled examples to train on, of which ``batch(rows)`` gives those with these numbers."""

    size: int
    batch: Callable[[Tensor], Batch]

    def __len__(self) -> int:
        return self.size

    @classmethod
    def of_real(cls, data: RealData, device: torch.device, dtype: torch.dtype = torch.float32) -> "TrainingData":
        """All the real examples, with the label distributions that they may have."""
        data.require_rows("training a network on real examples")

        def batch(rows: Tensor) -> Batch:
            examples = data.rows(rows)
            labels = examples.labels.rows if examples.labels.kind == "soft" else examples.numbers("class")
            labels = labels.to(dtype) if labels.is_floating_point() else labels
            points = data.normalised(examples, device, dtype)
            return points, labels.to(device), torch.ones(len(rows), device=device, dtype=dtype)

        return cls(len(data), batch)

    @classmethod
    def of_synthetic(cls, synthetic: Decoded, classes: int) -> "TrainingData":
        """Synthetic examples as they are now, with labels as rows."""
        points, weights = synthetic.points.detach(), synthetic.weights.detach()
        labels = synthetic.label_vectors(classes).detach()
        return cls.of_tensors(points, labels, weights)

    @classmethod
    def of_tensors(cls, points: Tensor, labels: Tensor, weights: Tensor) -> "TrainingData":
        """Examples in normalised units, all on one device."""

        def batch(rows: Tensor) -> Batch:
            here = rows.to(points.device)
            return points[here], labels[here], weights[here]

        return cls(len(points), batch)


class NetworkTrainer:
    """A network's weights in training, the rounds that they have had, and their training accuracy: the share of the examples of
    all minibatches that were correctly classified, each just before the step on it."""

    def __init__(self, training: Training, parameters: Mapping[str, Tensor]) -> None:
        self.training, self.rounds = training, 0
        self._correct, self._shown = torch.zeros((), dtype=torch.float64), 0
        self._leaves = {name: value.detach().clone().requires_grad_(True) for name, value in parameters.items()}
        leaves, decay = self._leaves.values(), training.weight_decay
        self._optimiser: torch.optim.Optimizer = (
            torch.optim.Adam(leaves, training.lr, weight_decay=decay)
            if training.optimizer == "adam"
            else torch.optim.SGD(leaves, training.lr, momentum=training.momentum, weight_decay=decay)
        )

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The weights as they are now, which further rounds leave alone."""
        return {name: value.detach().clone() for name, value in self._leaves.items()}

    @property
    def accuracy(self) -> Float[Tensor, ""]:
        """The training accuracy since the last recount; 0 where there was no minibatch yet."""
        return self._correct / max(self._shown, 1)

    def recount(self) -> None:
        """Counts anew."""
        self._correct, self._shown = torch.zeros((), dtype=torch.float64), 0

    @torch.enable_grad()
    def round(self, network: Forward, examples: TrainingData, generator: torch.Generator) -> None:
        """One round of training."""
        for group in self._optimiser.param_groups:
            group["lr"] = self.training.rate(self.rounds)
        for rows in self.training.minibatches(len(examples), generator):
            self._step(network, examples, rows, generator)
        self.rounds += 1

    def _step(self, network: Forward, examples: TrainingData, rows: Tensor, generator: torch.Generator) -> None:
        points, labels, weights = examples.batch(rows)
        augment = self.training.augment
        if augment is not None:
            draws = augment.draw_batch(generator, len(points), tuple(points.shape[1:]))
            points = augment(points, draws, torch.arange(len(points)))
        loss = self._loss(network, points, labels, weights, generator)
        self._optimiser.zero_grad()
        (loss / weights.sum()).backward()
        self._optimiser.step()

    def _loss(
        self, network: Forward, points: Tensor, labels: Tensor, weights: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The weighted sum of the cross-entropies, of the mixed examples if they are mixed."""
        mix = self.training.mix
        if mix is None:
            logits = network(self._leaves, points)["logits"]
            self._count(logits, labels if labels.ndim == 1 else labels.argmax(1))
            if self.training.loss == "squared":
                vectors = functional.one_hot(labels, logits.shape[1]).to(logits) if labels.ndim == 1 else labels
                return 0.5 * (weights * (logits - vectors + 1 / logits.shape[1]).square().sum(1)).sum()
            return (weights * functional.cross_entropy(logits, labels, reduction="none")).sum()
        draws = mix.draw(generator, len(points), tuple(points.shape[1:]))
        logits = network(self._leaves, mix.points(points, draws))["logits"]
        vectors = labels if labels.ndim == 2 else functional.one_hot(labels, logits.shape[1])
        masses = mix.masses(weights[:, None] * vectors, draws)
        self._count(logits, masses.argmax(1))
        return functional.cross_entropy(logits, masses, reduction="sum")

    def _count(self, logits: Tensor, labels: Tensor) -> None:
        correct = (logits.detach().argmax(1) == labels).sum()
        self._correct = self._correct.to(correct.device) + correct
        self._shown += len(labels)

    def state(self) -> dict[str, Any]:
        """Weights, what the optimiser remembers of each, rounds and counts."""
        memory = [self._optimiser.state.get(leaf, {}) for leaf in self._leaves.values()]
        return {
            "rounds": self.rounds,
            "correct": self._correct.item(),
            "shown": self._shown,
            "parameters": self.parameters,
            "memory": [{name: value.clone() for name, value in of.items() if value is not None} for of in memory],
        }

    @classmethod
    def restored(cls, training: Training, state: Mapping[str, Any], device: torch.device) -> "NetworkTrainer":
        """The network_trainer of a state."""
        made = cls(training, {name: value.to(device) for name, value in state["parameters"].items()})
        made.rounds, made._shown = state["rounds"], state["shown"]
        made._correct = torch.tensor(state["correct"], dtype=torch.float64, device=device)
        for leaf, memory in zip(made._leaves.values(), state["memory"], strict=True):
            for name, value in memory.items():  # torch counts the steps of Adam on the CPU
                made._optimiser.state[leaf][name] = value.to(device if value.ndim else "cpu").clone()
        return made
