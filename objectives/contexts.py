"""Contexts: one draw of everything random that the two sides share (the network's weights, the augmentation), and of the
real examples that a summary is made from.

A context says, for each step, *which* draw is current, by a key; the key seeds the streams, so a draw can be made again at
any time and is never stored. Draws that come back (a pool) have summaries worth keeping.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch

from discrepancy.base import Part
from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from objectives.augment import Augmentation
from objectives.streams import stream

__all__ = ["Context", "Draw", "Fresh", "Pool"]


@dataclass(frozen=True)
class Draw:
    """The numbers of the network, of the augmentation and of the real batch that belong to a step."""

    network: int
    augmentation: int
    batch: int


class Context(Part, family=True):
    """ξ: owns the network (declared once), the augmentation and the policy for the real side."""

    network: Network | None
    augment: Augmentation | None
    batch: int | Literal["all"]

    @abstractmethod
    def at(self, step: int, seed: int) -> Draw:
        """The draw that is current at a step."""

    @property
    @abstractmethod
    def draws(self) -> int | None:
        """How many different draws there are, which come back; None where there is no end of them."""


def _check_batch(batch: int | str) -> None:
    if batch != "all" and not (isinstance(batch, int) and batch >= 1):
        raise InvalidInput(f"'batch' must be at least 1 real example a class, or 'all', got {batch}")


class Fresh(Context, kind="fresh"):
    """A new random network, a new augmentation and a new real minibatch at every step (DM).

    For a discrepancy that is linear in the real mean (MMD with a linear kernel) the gradient is unbiased for any ``batch``; for
    others a minibatch biases it.

    Args:
        network: the architecture; None where no term takes anything of a network.
        augment: applied to both sides with the same draw; None for none.
        batch: real examples a class in a step, or ``all``.
        keep: steps for which one network is kept (M3D takes several); augmentation and batch are new at each.
    """

    network: Network | None = None
    augment: Augmentation | None = None
    batch: int | Literal["all"] = 64
    keep: int = 1

    def __post_init__(self) -> None:
        _check_batch(self.batch)
        if self.keep < 1:
            raise InvalidInput(f"'keep' must be at least 1 step, got {self.keep}")
        if self.batch == "all" and self.augment is not None:
            raise InvalidInput(
                "'batch' cannot be 'all' while every step augments anew: that is a pass over all the real data a step; "
                "use a number, or the context 'pool'"
            )

    def at(self, step: int, seed: int) -> Draw:
        whole = self.batch == "all"  # then nothing is augmented, and the summary is good for as long as the network
        return Draw(network=step // self.keep, augmentation=0 if whole else step, batch=0 if whole else step)

    @property
    def draws(self) -> int | None:
        return None


class Pool(Context, kind="pool"):
    """A fixed pool of random networks times augmentations. Each pair is summarised once, at first use, and then costs nothing
    that depends on the size of the real set; the steps draw pairs uniformly.

    Args:
        network: the architecture; None where no term takes anything of a network.
        size: number of networks.
        augment: applied to both sides with the same draw; None for none.
        augmentations: draws of the augmentation for each network.
        batch: real examples a class in a summary, or ``all``.
    """

    network: Network | None = None
    size: int = 20
    augment: Augmentation | None = None
    augmentations: int = 1
    batch: int | Literal["all"] = "all"

    def __post_init__(self) -> None:
        _check_batch(self.batch)
        for name in ("size", "augmentations"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"'{name}' must be at least 1, got {getattr(self, name)}")
        if self.augment is None and self.augmentations > 1:
            raise InvalidInput(
                f"'augmentations' is {self.augmentations} but 'augment' is not given; name an augmentation"
            )

    def at(self, step: int, seed: int) -> Draw:
        number = int(torch.randint(self.draws, (), generator=stream(seed, "context", step)))
        return Draw(network=number // self.augmentations, augmentation=number, batch=number)

    @property
    def draws(self) -> int:
        return self.size * self.augmentations
