"""Examples in memory: points as the source has them, their labels, and their groups."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.labels import Labels

__all__ = ["Examples", "Grouped"]

Grouped = Literal["class", "group", "none"]
"""How examples are divided: by their class, by a division of the data's own (a hospital, a writer), or not at all."""


@dataclass(frozen=True, eq=False)
class Examples:
    """n examples: ``points`` (n, *shape) in the units of the source, ``labels``, and ``groups`` (n,), the numbers 0 .. g-1 of a
    further division, where the source has one; ``weights`` (n,), where a transform gives them other than equal ones.

    Raises:
        InvalidInput: without examples, for sizes that differ, negative class or group numbers, points that are not finite.
    """

    points: Shaped[Tensor, "..."]
    labels: Labels = Labels()  # noqa: RUF009  (frozen)
    groups: Int[Tensor, " _"] | None = None
    weights: Float[Tensor, " _"] | None = None

    def __len__(self) -> int:
        return len(self.points)

    def checked(self) -> "Examples":
        """These examples, after a look at every value."""
        n = len(self.points)
        if n == 0:
            raise InvalidInput("there are no examples; give at least one of each class")
        if not self.points[0].numel():
            raise InvalidInput(f"points of shape {tuple(self.points.shape)} have no values; give at least one feature")
        names = {"hard": "labels", "soft": "soft labels", "targets": "targets"}
        parts = ((names.get(self.labels.kind, "labels"), self.labels.values), ("groups", self.groups))
        for name, rows in parts:
            if rows is not None and len(rows) != n:
                raise InvalidInput(f"{len(rows)} {name} do not fit {n} points; there must be one a point")
        hard = self.labels.values if self.labels.kind == "hard" else None
        for name, numbers in (("labels", hard), ("groups", self.groups)):
            if numbers is not None and int(numbers.min()) < 0:
                raise InvalidInput(f"{name} must be >= 0, got {int(numbers.min())} at example {int(numbers.argmin())}")
        if self.points.is_floating_point() and not bool(torch.isfinite(self.points).all()):
            broken = ~torch.isfinite(self.points)
            first = int(broken.flatten(1).any(1).nonzero()[0])
            raise InvalidInput(
                f"{int(broken.sum())} values of the points are NaN or infinite, the first in example {first}; "
                f"remove or repair them"
            )
        return self

    def take(self, rows: Int[Tensor, " b"]) -> "Examples":
        """The examples with these numbers, in this order."""
        groups = None if self.groups is None else self.groups[rows]
        points = self.points.index_select(
            0, rows.to(self.points.device)
        )  # of bytes, eight times faster than points[rows]
        return Examples(points, self.labels.take(rows), groups, None if self.weights is None else self.weights[rows])

    def masses(self, device: torch.device) -> Float[Tensor, " n"]:
        """The weights on a device; ones where there are none."""
        return torch.ones(len(self), device=device) if self.weights is None else self.weights.to(device)

    def with_points(self, points: Shaped[Tensor, "..."]) -> "Examples":
        """The same examples with other points."""
        return Examples(points, self.labels, self.groups, self.weights)

    def with_weights(self, weights: Float[Tensor, " _"]) -> "Examples":
        """The same examples with these weights."""
        return Examples(self.points, self.labels, self.groups, weights)

    def numbers(self, by: Grouped) -> Int[Tensor, " n"]:
        """The class or group of each example; zeros where examples are not divided, or have no classes."""
        if by == "group":
            assert self.groups is not None
            return self.groups
        if by == "class" and self.labels.of_classes:
            return self.labels.numbers
        return torch.zeros(len(self), dtype=torch.long)

    @property
    def nbytes(self) -> int:
        """Bytes of points and labels: what a user of these examples has to store."""
        return self.points.nbytes + self.labels.nbytes
