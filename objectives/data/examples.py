"""Examples in memory: points as the source has them, and what is known of each."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from discrepancy.errors import InvalidInput

__all__ = ["Examples"]


@dataclass(frozen=True, eq=False)
class Examples:
    """n examples: ``points`` (n, *shape) in the source's units, ``labels`` the class numbers (n,) where there are classes.

    ``soft`` holds label distributions (n, c) where the source has them; ``labels`` is then their most likely class.
    ``groups`` numbers a further division of the examples, 0 .. g-1, where the source has one. ``targets`` are real numbers
    (n, k), in their own units, in place of classes.

    Raises:
        InvalidInput: on no examples, sizes that differ, negative labels, points or targets that are not finite, both classes
            and targets.
    """

    points: Shaped[Tensor, "..."]
    labels: Int[Tensor, " _"] | None = None
    soft: Float[Tensor, "_ c"] | None = None
    groups: Int[Tensor, " _"] | None = None
    targets: Float[Tensor, "_ k"] | None = None

    def __post_init__(self) -> None:
        n = len(self.points)
        if n == 0:
            raise InvalidInput("there are no examples; give at least one of each class")
        if not self.points[0].numel():
            raise InvalidInput(f"points of shape {tuple(self.points.shape)} have no values; give at least one feature")
        if self.labels is not None and self.targets is not None:
            raise InvalidInput("examples have both classes and targets; leave one of them out")
        parts = {"labels": self.labels, "soft labels": self.soft, "groups": self.groups, "targets": self.targets}
        for name, rows in parts.items():
            if rows is not None and len(rows) != n:
                raise InvalidInput(f"{len(rows)} {name} do not fit {n} points; there must be one a point")
        for name, numbers in (("labels", self.labels), ("groups", self.groups)):
            if numbers is not None and int(numbers.min()) < 0:
                raise InvalidInput(f"{name} must be >= 0, got {int(numbers.min())} at example {int(numbers.argmin())}")
        if self.points.is_floating_point() and not bool(torch.isfinite(self.points).all()):
            broken = ~torch.isfinite(self.points)
            first = int(broken.flatten(1).any(1).nonzero()[0])
            raise InvalidInput(
                f"{int(broken.sum())} values of the points are NaN or infinite, the first in example {first}; "
                f"remove or repair them"
            )

    def __len__(self) -> int:
        return len(self.points)

    def take(self, indices: Int[Tensor, " b"]) -> "Examples":
        """The examples with these numbers, in this order."""
        rows = {name: None if value is None else value[indices] for name, value in vars(self).items()}
        return replace(self, **rows)
