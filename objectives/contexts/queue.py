"""Networks of mixed ages."""

from collections.abc import Sequence

import torch

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from discrepancy.parts import check_least
from objectives.contexts.base import Context, Draw, TrainingSchedule
from objectives.data.sampling import RandomRows, Sampling
from objectives.rng import rng
from objectives.training.augmentation import Augmentation
from objectives.training.training import Training

__all__ = ["Queue"]


class Queue(Context, kind="queue"):
    """Networks of mixed ages (IDM): a step takes one of them at random, and then some of them, again at random, have a round of
    training. From time to time a new random one joins, and the oldest leaves where there would be too many.

    Args:
        network: the architecture.
        size: the most networks at a time.
        first: networks of the first step.
        every: steps after which a new one joins.
        trained_after: networks that have a round after a step.
        training: a round of training.
        recount: steps after which the training accuracies, with which a penalty may be multiplied, are counted anew; None for
            never.
        augment: applied to both sides with the same draw; None for none.
        batch: real examples a class in a step.
        sampling: how they are chosen.

    References: Improved Distribution Matching for Dataset Condensation (Zhao, Li, Qin and Yu, 2023), section 4.2; the schedule
    is that of the released code.
    """

    network: Network
    size: int = 100
    first: int = 4
    every: int = 30
    trained_after: int = 2
    training: Training = Training(on="real", steps=10)
    recount: int | None = None
    augment: Augmentation | None = None
    batch: int = 256
    sampling: Sampling = RandomRows()

    def __post_init__(self) -> None:
        self._check_batch()
        for name in ("size", "first", "every", "trained_after"):
            check_least(name, getattr(self, name), 1)
        if self.recount is not None:
            check_least("recount", self.recount, 1)
        if self.first > self.size:
            raise InvalidInput(f"'first' must be at most 'size', {self.size}, got {self.first}")

    def present(self, step: int) -> range:
        """The numbers of the networks in the queue at a step."""
        joined = self.first + step // self.every
        return range(max(0, joined - self.size), joined)

    def at(self, step: int, seed: int) -> Draw:
        present = self.present(step)
        place = int(torch.randint(len(present), (), generator=rng(seed, "context", step)))
        return Draw(network=present[place], augmentation=step, batch=step)

    @property
    def n_draws(self) -> None:
        return None

    @property
    def training_schedule(self) -> TrainingSchedule:
        def trained_after(step: int, seed: int) -> Sequence[int]:
            present = self.present(step)
            order = torch.randperm(len(present), generator=rng(seed, "pupils", step))
            return [present[place] for place in order[: self.trained_after].tolist()]

        def oldest(step: int, network: int, seed: int) -> int:
            return self.present(step + 1).start

        return TrainingSchedule(self.training, 0, trained_after, oldest, self.recount)

    def rounds(self, steps: int) -> int:
        return sum(min(self.trained_after, len(self.present(step))) for step in range(steps))

    def kept(self, steps: int) -> int:
        return len(self.present(max(steps - 1, 0)))
