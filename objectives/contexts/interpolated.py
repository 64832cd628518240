"""Networks between their initial and their trained weights."""

import torch

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from discrepancy.parts import check_least
from objectives.contexts.base import Context, Draw, TrainingSchedule
from objectives.data.sampling import RandomRows, Sampling
from objectives.rng import rng
from objectives.training.augmentation import Augmentation
from objectives.training.training import Training

__all__ = ["Interpolated"]


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
            check_least(name, getattr(self, name), 1)
        if self.training.on != "real":
            raise InvalidInput("'training' of an interpolated context must be on: real, got 'synthetic'")

    def at(self, step: int, seed: int) -> Draw:
        generator = rng(seed, "context", step)
        place = int(torch.randint(self.size, (), generator=generator))
        return Draw(place, step, step, mixture=float(torch.rand((), generator=generator)))

    @property
    def n_draws(self) -> None:
        return None

    @property
    def training_schedule(self) -> TrainingSchedule:
        return TrainingSchedule(self.training, self.trained, lambda step, seed: ())

    @property
    def has_trained(self) -> bool:
        return True

    def rounds(self, steps: int) -> int:
        return min(self.size, steps) * self.trained

    def kept(self, steps: int) -> int:
        return min(self.size, steps)
