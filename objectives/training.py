"""How the network of a context is trained while a set is condensed: on the real data, or on the synthetic set as it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.base import Part, check_choice
from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from objectives.augment import Augmentation

__all__ = ["Lesson", "Trainee", "Training"]


class Training(Part, family=True, kind="sgd"):
    """A round of training: steps of stochastic gradient descent on the cross-entropy, by minibatches.

    Args:
        on: ``real`` examples, or the ``synthetic`` ones as they are at that moment.
        steps: minibatches of a round.
        batch: examples of a minibatch, drawn without replacement until all were seen.
        lr, momentum, weight_decay: of the descent, as in ``torch.optim.SGD``; the momentum lasts over the rounds of a network.
        augment: a transformation of its own for each image; None for none.
    """

    on: Literal["real", "synthetic"] = "real"
    steps: int = 50
    batch: int = 256
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        check_choice("on", self.on, get_args(Literal["real", "synthetic"]))
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"'{name}' must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise InvalidInput(f"'lr' must be > 0, got {self.lr}")
        for name in ("momentum", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise InvalidInput(f"'{name}' must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Lesson:
    """n labelled examples to train on: ``points(rows)`` in normalised units, with label distributions and weights."""

    points: Callable[[Tensor], Tensor]
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.weights)


class Trainee:
    """A network's weights in training, and how many rounds they have had."""

    def __init__(self, training: Training, parameters: Mapping[str, Tensor]) -> None:
        self.training, self.rounds = training, 0
        self._leaves = {name: value.detach().clone().requires_grad_(True) for name, value in parameters.items()}
        self._optimiser = torch.optim.SGD(
            self._leaves.values(), training.lr, momentum=training.momentum, weight_decay=training.weight_decay
        )

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The weights as they are now, which further rounds leave alone."""
        return {name: value.detach().clone() for name, value in self._leaves.items()}

    def round(self, network: Network, lesson: Lesson, generator: torch.Generator) -> None:
        """One round of training."""
        training, order = self.training, torch.zeros(0, dtype=torch.long)
        for _ in range(training.steps):
            if len(order) < min(training.batch, len(lesson)):
                order = torch.randperm(len(lesson), generator=generator)
            rows, order = order[: training.batch], order[training.batch :]
            self._step(network, lesson, rows, generator)
        self.rounds += 1

    def _step(self, network: Network, lesson: Lesson, rows: Tensor, generator: torch.Generator) -> None:
        points, augment = lesson.points(rows), self.training.augment
        if augment is not None:
            draws = augment.draw_batch(generator, len(points), tuple(points.shape[1:]))
            points = augment(points, draws, torch.arange(len(points)))
        rows = rows.to(points.device)
        weights = lesson.weights[rows]
        surprise = functional.cross_entropy(
            network(self._leaves, points, ("logits",))["logits"], lesson.labels[rows], reduction="none"
        )
        self._optimiser.zero_grad()
        ((weights * surprise).sum() / weights.sum()).backward()
        self._optimiser.step()

    def state(self) -> dict[str, Any]:
        """Weights, momentum and rounds."""
        momenta = [self._optimiser.state.get(leaf, {}).get("momentum_buffer") for leaf in self._leaves.values()]
        return {
            "rounds": self.rounds,
            "parameters": self.parameters,
            "momenta": [None if value is None else value.clone() for value in momenta],
        }

    @classmethod
    def restored(cls, training: Training, state: Mapping[str, Any], device: torch.device) -> "Trainee":
        """The trainee of a state."""
        made = cls(training, {name: value.to(device) for name, value in state["parameters"].items()})
        made.rounds = state["rounds"]
        for leaf, momentum in zip(made._leaves.values(), state["momenta"], strict=True):
            if momentum is not None:
                made._optimiser.state[leaf]["momentum_buffer"] = momentum.to(device).clone()
        return made
