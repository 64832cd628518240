"""The one trainer of networks: of contexts, teachers, selections and evaluations."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.networks.base import NetworkParameters, Statistics
from objectives.attacks import UnitSpace
from objectives.data.labels import predicted_classes
from objectives.data.real import RealData
from objectives.synthetic.parameterisation import Decoded
from objectives.training.augmentation import Augmentation
from objectives.training.batch_gradient import BatchGradient, PlainGradient
from objectives.training.mixing import Mixing

__all__ = ["Batch", "NetworkTrainer", "TrainingData", "TrainingPlan"]

RUNNING = 0.1
"""The share of the newest batch in the running statistics of batch normalisation."""

OPTIMISERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class TrainingPlan:
    """How a network is trained, in rounds: what :class:`NetworkTrainer` asks."""

    batch: int
    momentum: float
    weight_decay: float
    optimizer: Any
    """A key of :data:`OPTIMISERS`."""
    augment: Augmentation | None
    mix: Mixing | None

    @abstractmethod
    def rate(self, rounds: int) -> float:
        """The learning rate after so many rounds."""

    @abstractmethod
    def minibatches(self, examples: int, generator: torch.Generator) -> Iterator[Tensor]:
        """The rows of each minibatch of a round."""

    def restarts(self, rounds: int) -> bool:
        """Whether the optimiser is a new one after so many rounds, without momentum."""
        return False

    def gradient(self, plain: PlainGradient, space: UnitSpace) -> BatchGradient:
        """What is followed, given the gradient at points and weights as they are, and the units of attacks."""
        return plain

    @property
    def passes_each(self) -> int:
        """Forward passes that each example of a minibatch takes, a backward pass counted as two."""
        return 3


Batch = tuple[Tensor, Tensor, Tensor]
"""Points in normalised units, labels (class numbers or rows) and weights."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """``size`` labelled examples to train on, of which ``batch(rows)`` gives those with these numbers.

    The loss of a minibatch is the sum of wᵢ · loss of example i over the sum of its weights; with ``mean_weight`` 1, over the
    number of its examples.
    """

    size: int
    batch: Callable[[Tensor], Batch]
    outputs: int
    mean_weight: Literal[1] | None = None

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

        return cls(len(data), batch, data.outputs)

    @classmethod
    def of_synthetic(cls, synthetic: Decoded, classes: int) -> "TrainingData":
        """Synthetic examples as they are now, with labels as rows."""
        points, weights = synthetic.points.detach(), synthetic.weights.detach()
        labels = synthetic.label_vectors(classes).detach()
        return cls.of_tensors(points, labels, weights, classes)

    @classmethod
    def of_tensors(cls, points: Tensor, labels: Tensor, weights: Tensor, outputs: int) -> "TrainingData":
        """Examples in normalised units, all on one device, with class numbers or rows of ``outputs`` numbers as labels."""

        def batch(rows: Tensor) -> Batch:
            here = rows.to(points.device)
            return points[here], labels[here], weights[here]

        return cls(len(points), batch, outputs)


class NetworkTrainer:
    """A network's weights in training, and the rounds that they have had.

    Args:
        plan: minibatches, rates, and what is done to examples.
        parameters: the weights to begin with.
        counted: whether to count the training accuracy: the share of the examples of all minibatches that were correctly
            classified, each just before the step on it.
    """

    def __init__(self, plan: TrainingPlan, parameters: NetworkParameters, *, counted: bool = True) -> None:
        self.plan, self.rounds, self.counted = plan, 0, counted
        self._correct, self._shown = torch.zeros((), dtype=torch.float64), 0
        self._leaves = {name: value.detach().clone().requires_grad_(True) for name, value in parameters.items()}
        self._running: dict[str, tuple[Tensor, Tensor]] = {}
        self._optimiser = self._new_optimiser()

    def _new_optimiser(self) -> torch.optim.Optimizer:
        plan = self.plan
        momentum = {"momentum": plan.momentum} if plan.optimizer == "sgd" else {}
        make: Any = OPTIMISERS[plan.optimizer]
        return make(list(self._leaves.values()), plan.rate(self.rounds), weight_decay=plan.weight_decay, **momentum)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The weights as they are now, which further rounds leave alone."""
        return {name: value.detach().clone() for name, value in self._leaves.items()}

    @property
    def statistics(self) -> Statistics | None:
        """The running means and variances of batch normalisation, where the gradient takes statistics."""
        return self._running or None

    @property
    def nbytes(self) -> int:
        """Bytes of the weights, their gradients and what the optimiser remembers of them."""
        remembered = (item for of in self._optimiser.state.values() for item in of.values())
        gradients = (leaf.grad for leaf in self._leaves.values())
        return sum(
            item.nbytes for item in (*self._leaves.values(), *gradients, *remembered) if isinstance(item, Tensor)
        )

    @property
    def accuracy(self) -> Float[Tensor, ""]:
        """The training accuracy since the last recount; 0 where there was no minibatch yet."""
        return self._correct / max(self._shown, 1)

    def recount(self) -> None:
        """Counts anew."""
        self._correct, self._shown = torch.zeros((), dtype=torch.float64), 0

    @torch.enable_grad()
    def round(
        self,
        gradient: BatchGradient,
        examples: TrainingData,
        order: torch.Generator,
        augmentation: torch.Generator | None = None,
        mixing: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """One round of training; the sum of the losses of its minibatches.

        Args:
            order: the random stream of the minibatches, and of the augmentation and the mixing where these have none.
        """
        if self.rounds and self.plan.restarts(self.rounds):
            self._optimiser = self._new_optimiser()
        for group in self._optimiser.param_groups:
            group["lr"] = self.plan.rate(self.rounds)
        size, total = gradient.size(min(self.plan.batch, len(examples))), None
        for rows in self.plan.minibatches(len(examples), order):
            points, labels, weights = examples.batch(rows)
            targets = labels if labels.ndim == 2 else functional.one_hot(labels, examples.outputs).to(weights.dtype)
            scale = 1 / weights.sum() if examples.mean_weight is None else None
            points = self._augmented(points, augmentation or order)
            points, targets, weights = self._mixed(points, targets, weights, gradient, mixing or order)
            weights = weights / len(points) if scale is None else weights * scale
            self._optimiser.zero_grad()
            found = gradient(self._leaves, points, targets, weights, size, order)
            self._optimiser.step()
            total = found["loss"] if total is None else total + found["loss"]
            self._watch(found, targets)
        self.rounds += 1
        assert total is not None
        return total

    def _augmented(self, points: Tensor, generator: torch.Generator) -> Tensor:
        augment = self.plan.augment
        if augment is None:
            return points
        draws = augment.draw_batch(generator, len(points), tuple(points.shape[1:]))
        return augment(points, draws, torch.arange(len(points)))

    def _mixed(
        self, points: Tensor, targets: Tensor, weights: Tensor, gradient: BatchGradient, generator: torch.Generator
    ) -> Batch:
        """The batch, mixed; weights are mixed along with the targets, which they multiply, for squares in that measure."""
        mix = self.plan.mix
        if mix is None:
            return points, targets, weights
        draws = mix.draw(generator, len(points), tuple(points.shape[1:]))
        masses = mix.masses(weights[:, None] * targets, draws)
        if gradient.criterion == "cross_entropy":
            return mix.points(points, draws), masses, torch.ones_like(weights)
        mixed = mix.masses(weights[:, None], draws)
        return mix.points(points, draws), masses / torch.where(mixed > 0, mixed, 1.0), mixed[:, 0]

    def _watch(self, found: Mapping[str, Tensor], targets: Tensor) -> None:
        """Training accuracy and running statistics after one more minibatch."""
        if self.counted:
            correct = (predicted_classes(found["logits"]) == targets.argmax(1)).sum()
            self._correct = self._correct.to(correct.device) + correct
            self._shown += len(targets)
        for name, mean in found.items():
            layer, _, what = name.rpartition(".")
            if what != "mean":
                continue
            count = found[f"{layer}.count"]
            variance = found[f"{layer}.variance"] * (count / (count - 1).clamp(min=1))
            before = self._running.get(layer, (torch.zeros_like(mean), torch.ones_like(mean)))
            self._running[layer] = (
                torch.lerp(before[0], mean, RUNNING),
                torch.lerp(before[1], variance, RUNNING),
            )

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
    def restored(cls, plan: TrainingPlan, state: Mapping[str, Any], device: torch.device) -> "NetworkTrainer":
        """The trainer of a state."""
        made = cls(plan, {name: value.to(device) for name, value in state["parameters"].items()})
        made.rounds, made._shown = state["rounds"], state["shown"]
        made._correct = torch.tensor(state["correct"], dtype=torch.float64, device=device)
        for leaf, memory in zip(made._leaves.values(), state["memory"], strict=True):
            for name, value in memory.items():  # torch counts the steps of Adam on the CPU
                made._optimiser.state[leaf][name] = value.to(device if value.ndim else "cpu").clone()
        return made
