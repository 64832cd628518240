"""Real data that lie in memory."""

import functools

import torch
from jaxtyping import Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.examples import Examples
from objectives.data.fingerprint import Sketch, fingerprint, row_hashes
from objectives.data.labels import Labels
from objectives.data.real import RealData
from objectives.data.spec import DataSpec, listed

__all__ = ["InMemory"]


class InMemory(RealData):
    """Examples in memory, as the source has them (uint8 for images), in its own units.

    Args:
        spec: what they are examples of.
        examples: all of them.
        part: ``training`` or ``test``, for messages. A class without an example is refused in training data only.

    Raises:
        InvalidInput: if the examples do not fit the spec: shape, kind of labels, labels below the number of classes, values
            within the limits, an example of each class.
    """

    def __init__(self, spec: DataSpec, examples: Examples, part: str = "training") -> None:
        self._spec, self._examples, self.part = spec, examples.checked(), part
        self._check()
        if part == "training" and spec.classes:
            empty = [name for name, size in zip(spec.classes, self.per_class, strict=True) if size == 0]
            if empty:
                raise InvalidInput(
                    f"'{spec.name}' has no training example of class {listed(empty)}; remove the class or add examples"
                )

    def _check(self) -> None:
        spec, part, labels, points = self.spec, self.part, self.labels, self.points
        if tuple(points.shape[1:]) != spec.shape:
            raise InvalidInput(
                f"{part} points of shape {tuple(points.shape[1:])} do not fit training points of shape {spec.shape}; convert "
                "them alike"
            )
        if labels.of_classes != bool(spec.classes) or (labels.kind == "targets") != (spec.target_units is not None):
            raise InvalidInput(
                f"the {part} examples of '{spec.name}' do not fit its classes or targets; give labels with classes, targets "
                "with their units, or none of them"
            )
        if labels.kind == "targets" and labels.rows.shape[1] != spec.outputs:
            raise InvalidInput(
                f"{part} targets have {labels.rows.shape[1]} columns, not {spec.outputs}; give them alike"
            )
        if labels.kind == "soft" and labels.rows.shape[1] != spec.count:
            raise InvalidInput(
                f"{part} soft labels must have {spec.count} columns, one a class, got {labels.rows.shape[1]}"
            )
        if labels.of_classes and int(labels.numbers.max()) >= spec.count:
            raise InvalidInput(
                f"{part} labels must lie in 0 .. {spec.count - 1}, got {int(labels.numbers.max())} at example "
                f"{int(labels.numbers.argmax())}"
            )
        if spec.limits is None or (points.dtype == torch.uint8 and spec.limits == (0, 255)):
            return
        low, high = float(points.min()), float(points.max())
        if not spec.limits[0] <= low <= high <= spec.limits[1]:
            raise InvalidInput(
                f"{part} points lie in {low:g} .. {high:g}, outside of the stated limits "
                f"{spec.limits[0]:g} .. {spec.limits[1]:g}; correct the limits or the points"
            )

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def spec(self) -> DataSpec:
        return self._spec

    @property
    def points(self) -> Tensor:
        """The points of all the examples, in the units of the source."""
        return self._examples.points

    @property
    def labels(self) -> Labels:
        return self._examples.labels

    @property
    def groups(self) -> Int[Tensor, " n"] | None:
        return self._examples.groups

    @property
    def nbytes(self) -> int:
        return self._examples.nbytes

    def rows(self, numbers: Int[Tensor, " b"] | None = None) -> Examples:
        return self._examples if numbers is None else self._examples.take(numbers)

    def fingerprint(self) -> str:
        """SHA-256 of points, labels and groups, with their types and shapes; computed once."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self._examples)

    def sketch(self) -> Sketch:
        return self._sketch

    @functools.cached_property
    def _sketch(self) -> Sketch:
        return Sketch.of(self.points)

    @functools.cached_property
    def row_hashes(self) -> frozenset[bytes]:
        """The hashes of the different points, by which they are found in other data."""
        return frozenset(row_hashes(self.points))
