"""Real examples as an attack on a network changes them."""

import functools
import math

import torch
from jaxtyping import Shaped
from torch import Tensor

from discrepancy.networks import ConvNet
from objectives.attacks import PGD, Attack, UnitSpace, attacked
from objectives.data.cache import Cache, Kept
from objectives.data.examples import Examples
from objectives.data.real import RealData
from objectives.data.spec import Described
from objectives.data.transform import ChangedPoints, RealTransform, left_of
from objectives.data.units import moved_by, moved_type
from objectives.engine.runtime import rounding
from objectives.rng import rng
from objectives.teacher import Taught, Teacher
from objectives.training.training import AdversarialTraining

__all__ = ["Adversarial"]


class Adversarial(RealTransform, kind="adversarial"):
    """x ↦ x + argmax over ‖δ‖ <= ε of the cross-entropy of f(x + δ) with the label of x, as far as an attack finds it.

    The network f is trained on the real data first, adversarially by default, and does not depend on the synthetic set: every
    example is attacked once, when it is first asked for, and the result is kept, in a cache for later runs too. A step then
    costs what it costs without the transform. Points have the type of the source, where δ is rounded towards zero, so
    that it stays in the ball; where the source has whole numbers, of which ε is fewer than eight (for L2: ε by the root of the
    number of values), they are float32.

    Args:
        attack: on every real example.
        teacher: the networks that are attacked; the mean of their logits, where they are several.

    References: ROME (Zhou et al., ICML 2025), whose robust target is the mean embedding of attacked examples.
    """

    attack: Attack = PGD(steps=10)
    teacher: Teacher = Teacher(
        network=ConvNet(width=32),
        training=AdversarialTraining(on="real", steps=100, lr=0.01, momentum=0.9, attack=PGD(steps=3)),
    )

    def check(self, data: Described) -> None:
        self.teacher.check(data)
        UnitSpace.of(data).ball(self.attack.threat, torch.zeros(1, *data.shape))

    def applied(self, data: RealData, seed: int, device: torch.device, cache: Cache | None = None) -> RealData:
        self.check(data)
        return _Attacked(data, self, seed, device, self.kept(data, seed, device, cache))

    def kept(self, data: RealData, seed: int, device: torch.device, cache: Cache | None) -> Kept | None:
        return None if cache is None else cache.kept("attacked", self, data, self.dtype(data), seed, rounding(device))

    def dtype(self, data: RealData) -> torch.dtype:
        """The type of the attacked points."""
        low, high = data.limits or (0.0, 1.0)
        values = math.prod(data.shape) if self.attack.norm == "l2" else 1
        return moved_type(data.rows(torch.arange(1)).points, self.attack.eps * (high - low) / math.sqrt(values))

    def passes(self, data: RealData, kept: Kept | None = None) -> int:
        left = left_of(len(data), kept)
        return (self.teacher.passes(len(data)) if left else 0) + self.attack.passes * left


class _Attacked(ChangedPoints):
    """Real data under an attack on a teacher, which learns them when the first example is asked for."""

    def __init__(
        self, of: RealData, transform: Adversarial, seed: int, device: torch.device, kept: Kept | None
    ) -> None:
        super().__init__(of, kept)
        self.transform, self.seed, self.device = transform, seed, device

    @functools.cached_property
    def taught(self) -> Taught:
        with torch.enable_grad():  # the real side runs without
            return self.transform.teacher.taught(self.of, seed=self.seed, device=self.device)

    def changed(self, examples: Examples, block: int) -> Shaped[Tensor, "b ..."]:
        taught, device = self.taught, self.device
        space = UnitSpace.of(self, device)
        labels = examples.labels.vectors(self.count)
        assert labels is not None

        def classify(points: Tensor) -> Tensor:
            normalised = space.to_normalised(points)
            return torch.stack([taught.logits(member, normalised) for member in taught.members]).mean(0)

        units = space.to_unit(self.of.normalised(examples, device)).clamp(space.low, space.high)
        generator = rng(self.seed, "transform", "adversarial", block)
        found = attacked(self.transform.attack, classify, units, labels.to(units), space.ball, generator)
        moved = (found.points - units).cpu() * space.width
        return moved_by(examples.points, moved, self.transform.dtype(self.of), self.limits)
