"""Summaries: what is kept of the real side of a discrepancy.

MeanSummary     sums over the points: it merges by addition, in bounded memory
SampleSummary   the points, and what depends on them alone: it merges by concatenation
SideSummary     one of these (or a summary of its own kind) of a flat measure, or of one whose labels are class numbers
BlockSummary    one summary for each named block
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure

__all__ = ["BlockSummary", "MeanSummary", "SampleSummary", "SideSummary", "Space", "Summary"]


@runtime_checkable
class Summary(Protocol):
    """What is kept of the real side."""

    def select(self, groups: Tensor) -> "Summary":
        """The summary of the groups with these numbers only."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        ...


@dataclass(frozen=True, eq=False)
class MeanSummary:
    """Σ w t(x) and Σ w of each group in float64, and further sums by name, one row a group."""

    total: Float[Tensor, "g p"]
    mass: Float[Tensor, " g"]
    sums: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def mean(self) -> Float[Tensor, "g p"]:
        return self.total / self.mass[:, None]

    def merge(self, other: "MeanSummary") -> "MeanSummary":
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        return MeanSummary(self.total + other.total, self.mass + other.mass, sums)

    def select(self, groups: Tensor) -> "MeanSummary":
        sums = {name: value[groups] for name, value in self.sums.items()}
        return MeanSummary(self.total[groups], self.mass[groups], sums)

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for item in (self.total, self.mass, *self.sums.values()))


@dataclass(frozen=True, eq=False)
class SampleSummary:
    """The real points themselves (grouped), and ``constants``: what depends on them alone, one row a group."""

    real: Measure
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def select(self, groups: Tensor) -> "SampleSummary":
        constants = {name: value[groups] for name, value in self.constants.items()}
        return SampleSummary(self.real.select(groups), constants)

    @property
    def nbytes(self) -> int:
        return self.real.nbytes + sum(tensor.nbytes for tensor in self.constants.values())


class Space(NamedTuple):
    """What the points of two measures must share."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, measure: Measure, block: str = "") -> "Space":
        points = measure.tensors[block]
        return cls(tuple(points.shape[measure.weights.ndim :]), points.dtype, points.device)

    def check(self, other: "Space", where: str = "") -> None:
        """Refuses another space than this one.

        Raises:
            InvalidInput: if the points have another shape, dtype or device.
        """
        if self.shape != other.shape:
            raise InvalidInput(f"points of shape {self.shape} and {other.shape}{where} cannot be compared")
        if self != other:
            raise InvalidInput(
                f"points are {self.dtype} on {self.device} and {other.dtype} on {other.device}{where}; convert one with "
                f".to(...)"
            )


@dataclass(frozen=True, eq=False)
class SideSummary:
    """The summary ``groups`` of a measure that was flat, or whose labels were class numbers, with what the other side needs.

    Args:
        groups: the summary of the same measure, grouped and with label vectors.
        flat: whether the measure was flat; then ``groups`` has one group, and a comparison gives a scalar.
        space: shape, dtype and device of the points.
        classes: the length of the label vectors, for a discrepancy that looks at labels.
    """

    groups: Any
    flat: bool
    space: Space
    classes: int | None = None

    def of_other(self, other: Measure, name: str) -> Measure:
        """The other measure, grouped and with label vectors of the same length.

        Raises:
            InvalidInput: if one of the two is flat and the other grouped, or if their points or labels do not fit.
        """
        if other.grouped is self.flat:
            first, second = ("flat", "grouped") if self.flat else ("grouped", "flat")
            raise InvalidInput(
                f"the summary is that of a {first} measure and '{name}' is {second}; condition both sides or neither"
            )
        self.space.check(Space.of(other))
        if self.classes is not None:
            other = other.with_label_vectors(max(other.classes, self.classes))
            if other.classes != self.classes:
                raise InvalidInput(
                    f"the summary knows {self.classes} classes and the labels of '{name}' have {other.classes}; give both "
                    f"sides label vectors of one length: Measure.with_label_vectors(classes)"
                )
        return other.as_groups()

    def merged(self, other: Any, merge: Callable[[Any, Any], Any]) -> "SideSummary":
        """The summary of the union, where ``merge`` merges the two that are inside.

        Raises:
            InvalidInput: if the other is a summary of another sort of measure.
        """
        if not isinstance(other, SideSummary) or other.flat is not self.flat:
            raise InvalidInput(
                "one summary is that of a flat measure or of class numbers, the other is not; summarise both parts alike"
            )
        self.space.check(other.space)
        if self.classes != other.classes:
            raise InvalidInput(
                f"summaries of {self.classes} and {other.classes} classes cannot be merged; give all parts label vectors of "
                f"one length: Measure.with_label_vectors(classes)"
            )
        return replace(self, groups=merge(self.groups, other.groups))

    def select(self, groups: Tensor) -> "SideSummary":
        if self.flat:
            raise InvalidInput(
                "this is the summary of a flat measure, which has no groups; condition the measure first"
            )
        return replace(self, groups=self.groups.select(groups))

    @property
    def nbytes(self) -> int:
        return self.groups.nbytes


@dataclass(frozen=True, eq=False)
class BlockSummary:
    """The summary of each named block of a measure."""

    blocks: Mapping[str, Any]

    def paired(self, other: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """The summary of each block beside what another mapping has for this block.

        Raises:
            InvalidInput: if the names of the blocks differ.
        """
        if self.blocks.keys() != other.keys():
            raise InvalidInput(f"the two sides have different blocks: {sorted(self.blocks)} and {sorted(other)}")
        return [(summary, other[name]) for name, summary in self.blocks.items()]

    def select(self, groups: Tensor) -> "BlockSummary":
        return BlockSummary({name: summary.select(groups) for name, summary in self.blocks.items()})

    @property
    def nbytes(self) -> int:
        return sum(summary.nbytes for summary in self.blocks.values())
