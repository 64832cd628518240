"""Real data in memory, in their own units: what a source delivers and what everything else reads.

Points stay as the source has them (uint8 for images) until they are used; the units in which networks see them are given by
the :class:`Normalisation`, which belongs to the source. Files and downloads are not known here.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Examples", "LabelledData", "Normalisation"]


@dataclass(frozen=True)
class Normalisation:
    """x ↦ (x - mean) / std by channel (the first axis of an example), in the source's own units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, points: Tensor) -> Tensor:
        """Source units (uint8 allowed) -> normalised units, in floating point."""
        raise NotImplementedError

    def invert(self, points: Tensor) -> Tensor:
        """Normalised units -> source units."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Examples:
    """n examples: ``points`` (n, *shape) in the source's units, ``labels`` the class numbers (n,).

    ``soft`` holds label distributions (n, c) where the source has them; ``labels`` is then their most likely class.
    """

    points: Tensor
    labels: Int[Tensor, " n"]
    soft: Float[Tensor, "n c"] | None = None


@dataclass(frozen=True, eq=False)
class LabelledData:
    """A data set: training and test examples, class names and the units."""

    name: str
    train: Examples
    test: Examples | None
    classes: tuple[str, ...]
    normalisation: Normalisation
    mirror: bool = False  # whether an image and its mirror image have the same label
    limits: tuple[float, float] | None = None  # the range of valid values in source units, e.g. (0, 255)
