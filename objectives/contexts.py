"""Contexts: one draw of everything random that the two sides share (the network's weights, the augmentation), and of the
real examples that a summary is made from.

A context says, for each step, *which* draw is current, by a key; the key seeds the streams, so a draw can be made again at
any time and is never stored. Draws that come back (a pool) have summaries worth keeping.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from discrepancy.base import Part
from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from objectives.augment import Augmentation
from objectives.sampling import RandomRows, Sampling
from objectives.streams import stream
from objectives.training import Training

__all__ = ["Context", "Draw", "Fresh", "Interpolated", "Pool", "Queue", "Trained", "Watch"]


@dataclass(frozen=True)
class Draw:
    """The numbers of the network, of the augmentation and of the real batch that belong to a step.

    Where networks are trained, ``mixture`` is the share u of the trained weights in (1 - u) θ_initial + u θ_trained.
    """

    network: int
    augmentation: int
    batch: int
    mixture: float = 1.0


class Context(Part, family=True):
    """ξ: owns the network (declared once), the augmentation and the policy for the real side."""

    network: Network | None
    augment: Augmentation | None
    batch: int | Literal["all"]
    sampling: Sampling

    @abstractmethod
    def at(self, step: int, seed: int) -> Draw:
        """The draw that is current at a step."""

    @property
    @abstractmethod
    def draws(self) -> int | None:
        """How many different draws there are, which come back; None where there is no end of them."""

    @property
    def lessons(self) -> "Lessons | None":
        """How the networks are trained in between; None where they stay as they were drawn."""
        return None

    @property
    def has_trained(self) -> bool:
        """Whether there is a trained network beside the current one of a step."""
        return False

    def rounds(self, steps: int) -> int:
        """Rounds of training that so many steps take."""
        return 0

    @property
    def lasting(self) -> int | None:
        """Steps of a network that follow each other; None where networks take turns."""
        return None

    def choices(self, steps: int) -> int:
        """How often so many steps choose by features of all the real examples."""
        if self.sampling.lasts is None:
            return 0
        if self.draws is not None:
            return min(steps, self.draws)
        lasting = self.lasting or steps
        return math.ceil(steps / lasting) * math.ceil(min(lasting, steps) / self.sampling.lasts)

    def _check_batch(self) -> None:
        if self.batch != "all" and not (isinstance(self.batch, int) and self.batch >= 1):
            raise InvalidInput(f"'batch' must be at least 1 real example a class, or 'all', got {self.batch}")
        if self.sampling.lasts is None:
            return
        if self.batch == "all":
            raise InvalidInput(
                f"'sampling' is {self.sampling.kind}, but 'batch' is all; give it a number, or leave it out"
            )
        if self.network is None:
            raise InvalidInput(
                f"'sampling' is {self.sampling.kind}, by features of the context's network, but it has none; give a 'network'"
            )


@dataclass(frozen=True)
class Lessons:
    """When networks are trained, in rounds.

    Args:
        training: what a round is.
        before: rounds before a network's first use.
        pupils: the networks that have a further round after a step, given its number and the seed.
        oldest: the first network that is met again after a step, given its number and its network; None where all are.
        recount: steps after which the accuracies are counted anew; None for never.
        watch: what ends a network and its rounds, where the schedule does not.
    """

    training: Training
    before: int
    pupils: Callable[[int, int], Sequence[int]]
    oldest: Callable[[int, int], int] | None = None
    recount: int | None = None
    watch: "Watch | None" = None


class Watch(Part, family=True, kind="accuracy"):
    """Loops that end by what the network achieves (CAFE), and not by a count.

    The accuracy on fresh real examples is taken after every step and after every round of training. A network is done with
    when the last ``window`` of those after its steps differ by less than ``settled``; the rounds that follow a step end when
    the last ``window`` of those after them differ by more than ``moved``.

    The published code adds a tenth of the former accuracy (for ten classes) to each, by accident; so a window that starts
    from nothing has nearly always moved.

    Args:
        window: accuracies that are compared.
        examples: real examples of each class that an accuracy is taken on, without augmentation.
        settled: λ_1, of the accuracies after the steps of a network.
        moved: λ_2, of the accuracies after the rounds that follow a step.
        most: rounds after a step, should the accuracy never move; the published code has no end then.

    References: CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., 2022), section 3.4.
    """

    window: int = 10
    examples: int = 128
    settled: float = 0.04
    moved: float = 0.03
    most: int = 50

    def __post_init__(self) -> None:
        for name, least in (("window", 2), ("examples", 1), ("most", 1)):
            _check_least(name, getattr(self, name), least)
        if self.most < self.window:
            raise InvalidInput(f"'most' must be at least 'window', {self.window}, got {self.most}")
        for name in ("settled", "moved"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(f"'{name}' is a difference of accuracies, from 0 to 1, got {getattr(self, name)}")

    def spread(self, accuracies: Sequence[float]) -> float | None:
        """The largest difference of the last ``window``; None while there are fewer."""
        last = accuracies[-self.window :]
        return max(last) - min(last) if len(last) == self.window else None


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InvalidInput(f"'{name}' must be at least {least}, got {value}")


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
        _check_least("keep", self.keep, 1)
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
            _check_least(name, getattr(self, name), 1)
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


class Trained(Context, kind="trained"):
    """A network that is trained between the steps, on the real data (IDC, DREAM) or on the synthetic set (DC, DSA, CAFE), and
    replaced by a new random one after ``keep`` steps. Augmentation and real batch are new at each step.

    Args:
        network: the architecture.
        training: a round of training; one follows every step but the last of a network.
        before: rounds before a network's first step.
        keep: steps of a network, the outer loop of DC; with ``watch`` the most of them.
        augment: applied to both sides with the same draw; None for none.
        batch: real examples a class in a step.
        sampling: how they are chosen.
        watch: ends networks, and the rounds that follow a step, by the network's accuracy; None for the counts alone.

    References: Dataset Condensation with Gradient Matching (Zhao, Mopuri and Bilen, 2021), algorithm 1.
    """

    network: Network
    training: Training = Training(on="synthetic")
    before: int = 0
    keep: int = 10
    augment: Augmentation | None = None
    batch: int = 256
    sampling: Sampling = RandomRows()
    watch: Watch | None = None

    def __post_init__(self) -> None:
        self._check_batch()
        _check_least("keep", self.keep, 1)
        _check_least("before", self.before, 0)
        if self.before and self.training.on == "synthetic":
            raise InvalidInput(
                "'before' must be 0 where training is on: synthetic, whose set is only at its start then"
            )

    @property
    def lasting(self) -> int:
        return self.keep

    def at(self, step: int, seed: int) -> Draw:
        return Draw(network=step // self.keep, augmentation=step, batch=step)

    @property
    def draws(self) -> None:
        return None

    @property
    def lessons(self) -> Lessons:
        def pupils(step: int, seed: int) -> Sequence[int]:
            return [step // self.keep] if (step + 1) % self.keep else []

        return Lessons(self.training, self.before, pupils, lambda step, network: network, watch=self.watch)

    def rounds(self, steps: int) -> int:
        networks = -(-steps // self.keep)
        each = 1 if self.watch is None else self.watch.window
        return networks * self.before + each * (steps - steps // self.keep)


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

    References: Improved Distribution Matching for Dataset Condensation (Zhao, Li, Qin and Yu, 2023), section 3.3.
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
            _check_least(name, getattr(self, name), 1)
        if self.recount is not None:
            _check_least("recount", self.recount, 1)
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

        def oldest(step: int, network: int) -> int:
            return self.present(step + 1).start

        return Lessons(self.training, 0, pupils, oldest, self.recount)

    def rounds(self, steps: int) -> int:
        return sum(min(self.pupils, len(self.present(step))) for step in range(steps))


class Interpolated(Context, kind="interpolated"):
    """Networks between initial and trained (NCFM): θ = (1 - u) θ_initial + u θ_trained with u uniform on [0, 1], new at every
    step, of one of ``size`` networks that are trained on the real data once, at their first use.

    Args:
        network: the architecture.
        size: networks.
        training: a round of training, on real data.
        trained: rounds that make a trained network.
        augment: applied to both sides with the same draw; None for none.
        batch: real examples a class in a step.
        sampling: how they are chosen.

    References: Dataset Distillation with Neural Characteristic Function (Wang et al., 2025), section 3.
    """

    network: Network
    size: int = 20
    training: Training = Training(on="real", steps=100)
    trained: int = 60
    augment: Augmentation | None = None
    batch: int = 256
    sampling: Sampling = RandomRows()

    def __post_init__(self) -> None:
        self._check_batch()
        for name in ("size", "trained"):
            _check_least(name, getattr(self, name), 1)
        if self.training.on != "real":
            raise InvalidInput("'training' of an interpolated context must be on: real, got 'synthetic'")

    def at(self, step: int, seed: int) -> Draw:
        generator = stream(seed, "context", step)
        place = int(torch.randint(self.size, (), generator=generator))
        return Draw(place, step, step, mixture=float(torch.rand((), generator=generator)))

    @property
    def draws(self) -> None:
        return None

    @property
    def lessons(self) -> Lessons:
        return Lessons(self.training, self.trained, lambda step, seed: ())

    @property
    def has_trained(self) -> bool:
        return True

    def rounds(self, steps: int) -> int:
        return min(self.size, steps) * self.trained
