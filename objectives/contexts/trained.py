"""A network that is trained between the steps."""

from collections.abc import Sequence

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from discrepancy.parts import check_least
from objectives.contexts.base import Context, Draw, TrainingSchedule
from objectives.contexts.watch import Watch
from objectives.data.sampling import RandomRows, Sampling
from objectives.training.augmentation import Augmentation
from objectives.training.training import Training

__all__ = ["Trained"]


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
        check_least("keep", self.keep, 1)
        check_least("before", self.before, 0)
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
    def n_draws(self) -> None:
        return None

    @property
    def training_schedule(self) -> TrainingSchedule:
        def trained_after(step: int, seed: int) -> Sequence[int]:
            return [step // self.keep] if (step + 1) % self.keep else []

        return TrainingSchedule(
            self.training, self.before, trained_after, lambda step, network, seed: network, watch=self.watch
        )

    def rounds(self, steps: int) -> int:
        networks = -(-steps // self.keep)
        each = 1 if self.watch is None else self.watch.window
        return networks * self.before + each * (steps - steps // self.keep)
