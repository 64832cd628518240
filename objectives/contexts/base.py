"""What a context is: for each step a draw, and how networks are trained in between."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from discrepancy.parts import Part
from objectives.contexts.watch import Watch
from objectives.data.sampling import Sampling
from objectives.training.augmentation import Augmentation
from objectives.training.training import Training

__all__ = ["Context", "Draw", "TrainingSchedule"]


@dataclass(frozen=True)
class Draw:
    """The numbers of the network, of the augmentation and of the real batch that belong to a step.

    Where networks are trained, ``mixture`` is the share u of the trained weights in (1 - u) θ_initial + u θ_trained.
    """

    network: int
    augmentation: int
    batch: int
    mixture: float = 1.0


@dataclass(frozen=True)
class TrainingSchedule:
    """When networks are trained, in rounds.

    Args:
        training: what a round is.
        before: rounds before a network's first use.
        trained_after: the networks that have a further round after a step, given its number and the seed.
        oldest: the first network that is met again after a step, given its number, its network and the seed; None where all
            are.
        recount: steps after which the accuracies are counted anew; None for never.
        watch: what ends a network and its rounds, where the schedule does not.
    """

    training: Training
    before: int
    trained_after: Callable[[int, int], Sequence[int]]
    oldest: Callable[[int, int, int], int] | None = None
    recount: int | None = None
    watch: Watch | None = None


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
    def n_draws(self) -> int | None:
        """How many different draws there are, which come back; None where there is no end of them."""

    @property
    def draws(self) -> Sequence[Draw] | None:
        """All the draws, where they come back."""
        return None

    @property
    def training_schedule(self) -> TrainingSchedule | None:
        """How the networks are trained in between; None where they stay as they were drawn."""
        return None

    @property
    def has_trained(self) -> bool:
        """Whether there is a trained network beside the current one of a step."""
        return False

    def rounds(self, steps: int) -> int:
        """Rounds of training that so many steps take."""
        return 0

    def kept(self, steps: int) -> int:
        """Networks in training that are kept at once, at most, in so many steps."""
        return 1

    @property
    def lasting(self) -> int | None:
        """Steps of a network that follow each other; None where networks take turns."""
        return None

    def choices(self, steps: int) -> int:
        """How often so many steps choose by features of all the real examples."""
        if self.sampling.lasts is None:
            return 0
        if self.n_draws is not None:
            return min(steps, self.n_draws)
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
