"""Random networks as they are drawn: new ones at every step, or a pool of them."""

from typing import Literal

import torch

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from discrepancy.parts import check_least
from objectives.contexts.base import Context, Draw
from objectives.data.sampling import RandomRows, Sampling
from objectives.rng import rng
from objectives.training.augmentation import Augmentation

__all__ = ["Fresh", "Pool"]


class Fresh(Context, kind="fresh"):
    """A new random network, a new augmentation and a new real minibatch at every step (DM).

    For a discrepancy that is linear in the real mean (MMD with a linear kernel) the gradient is unbiased for any ``batch``; for
    others a minibatch biases it.

    Args:
        network: the architecture; None where no term takes anything of a network.
        augment: applied to both sides with the same draw; None for none.
        batch: real examples a class in a step, or ``all``.
        sampling: how they are chosen.
        keep: steps for which one network is kept (M3D takes several); augmentation and batch are new at each.
    """

    network: Network | None = None
    augment: Augmentation | None = None
    batch: int | Literal["all"] = 64
    sampling: Sampling = RandomRows()
    keep: int = 1

    def __post_init__(self) -> None:
        self._check_batch()
        check_least("keep", self.keep, 1)
        if self.batch == "all" and self.augment is not None:
            raise InvalidInput(
                "'batch' cannot be 'all' while every step augments anew: that is a pass over all the real data a step; "
                "use a number, or the context 'pool'"
            )

    @property
    def lasting(self) -> int:
        return self.keep

    def at(self, step: int, seed: int) -> Draw:
        whole = self.batch == "all"  # then nothing is augmented, and the summary is good for as long as the network
        return Draw(network=step // self.keep, augmentation=0 if whole else step, batch=0 if whole else step)

    @property
    def n_draws(self) -> int | None:
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
        sampling: how they are chosen.
    """

    network: Network | None = None
    size: int = 20
    augment: Augmentation | None = None
    augmentations: int = 1
    batch: int | Literal["all"] = "all"
    sampling: Sampling = RandomRows()

    def __post_init__(self) -> None:
        self._check_batch()
        for name in ("size", "augmentations"):
            check_least(name, getattr(self, name), 1)
        if self.augment is None and self.augmentations > 1:
            raise InvalidInput(
                f"'augmentations' is {self.augmentations} but 'augment' is not given; name an augmentation"
            )

    def at(self, step: int, seed: int) -> Draw:
        return self.draws[int(torch.randint(self.n_draws, (), generator=rng(seed, "context", step)))]

    @property
    def draws(self) -> tuple[Draw, ...]:
        numbers = range(self.n_draws)
        return tuple(Draw(network=n // self.augmentations, augmentation=n, batch=n) for n in numbers)

    @property
    def n_draws(self) -> int:
        return self.size * self.augmentations
