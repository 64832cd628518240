"""Networks of mixed ages."""

from collections.abc import Sequence

import torch

from discrepancy.base import check_least
from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from objectives.augment import Augmentation
from objectives.contexts.base import Context, Draw, Lessons
from objectives.sampling import RandomRows, Sampling
from objectives.streams import stream
from objectives.training import Training

__all__ = ["Queue"]


class Queue(Context, kind="queue"):
    """Networks of mixed ages (IDM): a step takes one of them at random, and then some of them, again at random, have a round of
    training. From time to time a new random one joins, and the oldest leaves where there would be too many.

    Args:
        network: the architecture.
        size: the most networks at a time.
        first: networks of the first step.
        every: steps after which a new one joins.
        pupils: networks that have a round after a step.
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
    pupils: int = 2
    training: Training = Training(on="real", steps=10)
    recount: int | None = None
    augment: Augmentation | None = None
    batch: int = 256
    sampling: Sampling = RandomRows()

    def __post_init__(self) -> None:
        self._check_batch()
        for name in ("size", "first", "every", "pupils"):
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
        place = int(torch.randint(len(present), (), generator=stream(seed, "context", step)))
        return Draw(network=present[place], augmentation=step, batch=step)

    @property
    def draws(self) -> None:
        return None

    @property
    def lessons(self) -> Lessons:
        def pupils(step: int, seed: int) -> Sequence[int]:
            present = self.present(step)
            order = torch.randperm(len(present), generator=stream(seed, "pupils", step))
            return [present[place] for place in order[: self.pupils].tolist()]

        def oldest(step: int, network: int, seed: int) -> int:
            return self.present(step + 1).start

        return Lessons(self.training, 0, pupils, oldest, self.recount)

    def rounds(self, steps: int) -> int:
        return sum(min(self.pupils, len(self.present(step))) for step in range(steps))
