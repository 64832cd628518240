"""A pool of networks that are trained where they are used, and replaced by new ones when they are old."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch

from discrepancy.networks.base import Network
from discrepancy.parts import check_least
from objectives.contexts.base import Context, Draw, TrainingSchedule
from objectives.data.sampling import RandomRows, Sampling
from objectives.rng import rng
from objectives.training.augmentation import Augmentation
from objectives.training.training import Training

__all__ = ["Renewed"]


class Turn(NamedTuple):
    """Of one step: its network, whether that is trained afterwards, and the oldest of the pool then."""

    network: int
    trained: bool
    oldest: int


class Turns:
    """The networks of all the steps, found one after the other, since each depends on those before it."""

    def __init__(self, size: int, keep: int, seed: int) -> None:
        self.keep, self.seed, self.joined = keep, seed, size
        self.numbers = list(range(size))
        self.ages = [keep // size * (size - 1 - number) for number in range(size)]
        self.found: list[Turn] = []

    def at(self, step: int) -> Turn:
        while len(self.found) <= step:
            self.found.append(self._next())
        return self.found[step]

    def _next(self) -> Turn:
        generator = rng(self.seed, "context", len(self.found))
        place = int(torch.randint(len(self.numbers), (), generator=generator))
        network, trained = self.numbers[place], self.ages[place] <= self.keep
        if trained:
            self.ages[place] += 1
        else:
            self.numbers[place], self.ages[place] = self.joined, 0
            self.joined += 1
        return Turn(network, trained, min(self.numbers))


@functools.lru_cache(maxsize=8)
def turns(size: int, keep: int, seed: int) -> Turns:
    """Those of a pool: a function of its arguments, of which what was found is kept."""
    return Turns(size, keep, seed)


class Renewed(Context, kind="renewed"):
    """A pool of networks of all ages (FRePo): a step takes one of them at random, which then has a round of training, or, if it
    had more than ``keep``, makes way for a new random one.

    At the start all are random, but counted as of different ages, so that they are not all replaced at once.

    Args:
        network: the architecture.
        size: networks in the pool.
        keep: K; as in the released code a network has K + 1 rounds of training and one more step.
        training: a round of training.
        augment: applied to both sides with the same draw; None for none.
        batch: real examples a class in a step.
        sampling: how they are chosen.

    References: Dataset Distillation using Neural Feature Regression (Zhou, Nezhadarya and Ba, 2022), algorithm 1.
    """

    network: Network
    size: int = 10
    keep: int = 100
    training: Training = Training(on="synthetic", steps=1)
    augment: Augmentation | None = None
    batch: int = 100
    sampling: Sampling = RandomRows()

    def __post_init__(self) -> None:
        self._check_batch()
        check_least("size", self.size, 1)
        check_least("keep", self.keep, 0)

    def _turn(self, step: int, seed: int) -> Turn:
        return turns(self.size, self.keep, seed).at(step)

    def at(self, step: int, seed: int) -> Draw:
        return Draw(network=self._turn(step, seed).network, augmentation=step, batch=step)

    @property
    def n_draws(self) -> None:
        return None

    @property
    def training_schedule(self) -> TrainingSchedule:
        def trained_after(step: int, seed: int) -> Sequence[int]:
            turn = self._turn(step, seed)
            return [turn.network] if turn.trained else []

        return TrainingSchedule(
            self.training, 0, trained_after, lambda step, network, seed: self._turn(step, seed).oldest
        )

    def rounds(self, steps: int) -> int:
        return steps

    def kept(self, steps: int) -> int:
        return min(self.size, steps)
