"""A discrepancy of points together with their labels."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Adversary, Discrepancy, Draws, Tag
from discrepancy.errors import InvalidInput
from discrepancy.kernels.lengths import Length, check_length, number
from discrepancy.measure import Measure

__all__ = ["Joint"]


class Joint(Discrepancy, kind="joint"):
    """A discrepancy D of points with their labels: D(law of (x, s ℓ) under P, the same under Q), with ℓ the label vector of a
    point and s the ``scale``.

    Everything is D's: what it is, its laws, its bound, complexity with d + c for d, whether summaries merge, random parts,
    adversary, derivatives (also in soft labels). For one-hot labels two classes are s √2 apart. With a kernel that is a
    product over coordinates (gaussian) it is the product of a kernel on points and one on labels.

    Random parts have the size of a point with its label. The number of classes is therefore a constant taken from data: the
    field ``classes``, which :meth:`resolve` fills in where D draws anything.

    Args:
        of: the discrepancy D.
        scale: s, in the units of the points, a number or a rule such as ``Median(factor=0.5)`` (measured on the points).
        classes: the length of a label vector; needed, or resolved, for a D with random parts only.

    Raises:
        InvalidInput: if ``scale`` or ``classes`` is not > 0; on use, if labels are missing or of another length.

    Example:
        >>> import torch
        >>> from discrepancy import Joint, Measure, Wasserstein
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [4.0], [5.0]]), labels=torch.tensor([0, 0, 1, 1]))
        >>> nu = Measure(torch.tensor([[1.0], [4.0]]), labels=torch.tensor([0, 1]))
        >>> D = Joint(of=Wasserstein(p=1), scale=2.0)
        >>> round(float(D(mu, nu)), 4)
        0.5
    """

    of: Discrepancy
    scale: float | Length = 1.0
    classes: int | None = None

    def __post_init__(self) -> None:
        check_length("scale", self.scale)
        if self.classes is not None and self.classes < 1:
            raise InvalidInput(f"'classes' must be at least 1, got {self.classes}")

    @property
    def tags(self) -> frozenset[Tag]:
        return self.of.tags

    labelled = True

    @property
    def bound(self) -> float | None:
        return self.of.bound

    @property
    def has_statistic(self) -> bool:
        return self.of.has_statistic

    @property
    def merges(self) -> bool:
        return self.of.merges

    @property
    def adversary(self) -> Adversary | None:
        return self.of.adversary

    @property
    def resolved(self) -> bool:
        if isinstance(self.scale, Length) or not self.of.resolved:
            return False
        return self.classes is not None or self.of.draw(torch.Generator(), (2,)) is None

    def resolve(self, sample: Measure) -> "Joint":
        scale = self.scale.measured(sample) if isinstance(self.scale, Length) else self.scale
        fixed = replace(self, scale=scale, classes=sample.classes if self.classes is None else self.classes)
        return replace(fixed, of=self.of.resolve(fixed._joined(sample.with_label_vectors(sample.classes))))

    def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
        draws = self.of.draw(generator, (math.prod(shape) + (self.classes or 1),))
        if draws is not None and self.classes is None:
            raise InvalidInput(
                f"'{self.of.kind}' has random parts of the size of a point with its label; give 'classes', or call "
                f"resolve(sample) with labelled real points first"
            )
        return draws

    def statistics(self, measure: Measure, draws: Draws) -> Float[Tensor, "g n p"]:
        return self.of.statistics(self._joined(measure), draws)

    def summarise_groups(self, real: Measure, draws: Draws) -> Any:
        return self.of.summarise_groups(self._joined(real), draws)

    def compare_groups(self, summary: Any, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        return self.of.compare_groups(summary, self._joined(synthetic), draws)

    def merge_groups(self, first: Any, second: Any, draws: Draws) -> Any:
        return self.of.merge_groups(first, second, draws)

    def sharpen_groups(self, summary: Any, synthetic: Measure, draws: Mapping[str, Tensor]) -> Draws:
        return self.of.sharpen_groups(summary, self._joined(synthetic), draws)

    def _joined(self, side: Measure) -> Measure:
        """The points with their scaled labels behind them.

        Raises:
            InvalidInput: if the labels are missing, of another length than ``classes``, or the scale is still a rule.
        """
        scale, labels = number("scale", self.scale), side.labels
        assert labels is not None
        if self.classes not in (None, labels.shape[-1]):
            raise InvalidInput(f"'classes' is {self.classes}, and the label vectors have length {labels.shape[-1]}")
        points = side.rows
        return Measure(torch.cat([points, scale * labels.to(points)], -1), side.weights, side.labels)
