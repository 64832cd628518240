"""How the network of a context is trained while a set is condensed: on the real data, or on the synthetic set as it is."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part, check_choice
from objectives.attacks import PGD, Attack, UnitSpace
from objectives.training.augmentation import Augmentation
from objectives.training.batch_gradient import BatchGradient, Criterion, PlainGradient
from objectives.training.mixing import Mixing
from objectives.training.robust_gradient import AdversarialGradient, FlatGradient, SharpnessAwareGradient
from objectives.training.smoothness import Order
from objectives.training.trainer import TrainingPlan

__all__ = ["AdversarialTraining", "FlatTraining", "SharpnessAwareTraining", "Training"]


class Training(Part, TrainingPlan, family=True, kind="sgd"):
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

    @property
    def criterion(self) -> Criterion:
        """What is minimised."""
        return "centred" if self.loss == "squared" else "cross_entropy"

    def rate(self, rounds: int) -> float:
        return self.lr * self.decay ** sum(milestone <= rounds for milestone in self.milestones)

    def images(self, examples: int) -> int:
        """Examples that a round goes through, where there are so many."""
        return self.epochs * examples if self.epochs is not None else (self.steps or 0) * min(self.batch, examples)

    def minibatches(self, examples: int, generator: torch.Generator) -> Iterator[Tensor]:
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


class AdversarialTraining(Training, kind="adversarial"):
    """As ``sgd``, but every minibatch is replaced by what an attack on the network makes of it, just before the step on it
    (:class:`~objectives.training.robust_gradient.AdversarialGradient`).

    Args:
        attack: on the points after augmentation and mixing, by the loss that is trained on.

    References: Towards Deep Learning Models Resistant to Adversarial Attacks (Madry et al., 2018),
    https://arxiv.org/abs/1706.06083.
    """

    attack: Attack = PGD(steps=7)

    def gradient(self, plain: PlainGradient, space: UnitSpace) -> BatchGradient:
        return AdversarialGradient(plain, self.attack, space)

    @property
    def passes_each(self) -> int:
        return 3 + self.attack.passes


class SharpnessAwareTraining(Training, kind="sam"):
    """As ``sgd``, but every step follows the gradient at the weights that a step of length ``radius`` uphill leads to
    (:class:`~objectives.training.robust_gradient.SharpnessAwareGradient`).

    Args:
        radius: ρ, in the norm ‖·‖₂ over all the weights.

    References: Sharpness-Aware Minimization for Efficiently Improving Generalization (Foret et al., 2021),
    https://arxiv.org/abs/2010.01412.
    """

    radius: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.radius < float("inf"):
            raise InvalidInput(f"'radius' must be > 0 and finite, got {self.radius}")

    def gradient(self, plain: PlainGradient, space: UnitSpace) -> BatchGradient:
        return SharpnessAwareGradient(plain, self.radius)

    @property
    def passes_each(self) -> int:
        return 6


class FlatTraining(Training, kind="flat"):
    """As ``sgd``, but λ times the curvature of the loss along its steepest direction is added to the loss
    (:class:`~objectives.training.robust_gradient.FlatGradient`), so that the loss surface is flat around the examples.

    Args:
        step: h of the curvature, in normalised units.
        order: ``second`` or ``first``.
        factor: λ.

    References: GUARD (Xue et al., 2024), https://arxiv.org/abs/2403.10045, which trains teachers so.
    """

    step: float = 3.0
    order: Order = "second"
    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("order", self.order, get_args(Order))
        for name in ("step", "factor"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidInput(f"'{name}' must be > 0 and finite, got {getattr(self, name)}")

    def gradient(self, plain: PlainGradient, space: UnitSpace) -> BatchGradient:
        return FlatGradient(plain, self.step, self.order, self.factor)

    @property
    def passes_each(self) -> int:
        return 15 if self.order == "second" else 12  # a backward pass through a gradient counts as two of each
