"""Real data in memory, in their own units: what a source delivers and what everything else reads.

Examples have classes, or targets (real numbers, of a regression), or neither. Where they have no classes there is one stratum,
all of them: what is said of a class (so many examples of it, a batch of it) is then said of the whole.

Points stay as the source has them (uint8 for images) until they are used; the units in which networks see them are given
by the :class:`Normalisation`, which belongs to the source. Files and downloads are not known here.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from objectives.data.convert import as_labels, as_pair, as_points, as_targets, encode, numbered
from objectives.data.examples import Examples
from objectives.data.units import Normalisation

__all__ = ["Examples", "LabelledData", "Normalisation"]


@dataclass(frozen=True, eq=False)
class LabelledData:
    """A data set: training and test examples, class names and the units.

    Without classes ``classes`` is empty; ``target_units`` are there where there are targets: from their own units to those in
    which they are compared and learned, one mean and standard deviation a column.

    Raises:
        InvalidInput: unless there are no classes or two or more, each with a training example, and both parts have the same
            shape, type and sort of labels, labels below the number of classes, and values within the limits.
    """

    name: str
    train: Examples
    test: Examples | None
    classes: tuple[str, ...]
    normalisation: Normalisation
    mirror: bool = False  # whether an image and its mirror image have the same label
    limits: tuple[float, float] | None = None  # the range of valid values in source units, e.g. (0, 255)
    target_units: Normalisation | None = None

    def __post_init__(self) -> None:
        if self.classes and (len(self.classes) < 2 or len(set(self.classes)) != len(self.classes)):
            raise InvalidInput(
                f"'{self.name}' must have at least two classes with different names, got {_listed(self.classes)}"
            )
        if len(self.normalisation.mean) not in (1, self.shape[0]):
            raise InvalidInput(
                f"the normalisation of '{self.name}' has {len(self.normalisation.mean)} channels, "
                f"but its examples have shape {self.shape}"
            )
        for part, examples in (("training", self.train), ("test", self.test)):
            if examples is not None:
                self._check(part, examples)
        empty = [
            name for name, size in zip(self.classes, self.per_class if self.classes else (), strict=True) if size == 0
        ]
        if empty:
            raise InvalidInput(
                f"'{self.name}' has no training example of class {_listed(empty)}; remove the class or add examples"
            )

    def _check(self, part: str, examples: Examples) -> None:
        points, train = examples.points, self.train.points
        if points.shape[1:] != train.shape[1:] or points.dtype != train.dtype:
            raise InvalidInput(
                f"{part} points of shape {tuple(points.shape[1:])} and type {_name(points.dtype)} do not fit "
                f"training points of shape {self.shape} and type {_name(train.dtype)}; convert them alike"
            )
        self._check_labels(part, examples)
        if examples.soft is not None and examples.soft.shape[1] != self.count:
            raise InvalidInput(
                f"{part} soft labels must have {self.count} columns, one a class, got {examples.soft.shape[1]}"
            )
        if self.limits is None or (points.dtype == torch.uint8 and self.limits == (0, 255)):
            return
        low, high = float(points.min()), float(points.max())
        if not self.limits[0] <= low <= high <= self.limits[1]:
            raise InvalidInput(
                f"{part} points lie in {low:g} .. {high:g}, outside of the stated limits "
                f"{self.limits[0]:g} .. {self.limits[1]:g}; correct the limits or the points"
            )

    def _check_labels(self, part: str, examples: Examples) -> None:
        labels, targets, units = examples.labels, examples.targets, self.target_units
        if (labels is not None) != bool(self.classes) or (targets is not None) != (units is not None):
            raise InvalidInput(
                f"the {part} examples of '{self.name}' do not fit its classes or targets; give labels with classes, targets "
                "with their units, or none of them"
            )
        if targets is not None and units is not None and targets.shape[1] != len(units.mean):
            raise InvalidInput(
                f"{part} targets have {targets.shape[1]} columns, not {len(units.mean)}; give them alike"
            )
        if labels is not None and int(labels.max()) >= self.count:
            raise InvalidInput(
                f"{part} labels must lie in 0 .. {self.count - 1}, got {int(labels.max())} at example {int(labels.argmax())}"
            )

    @classmethod
    def of(
        cls,
        x: Any,
        y: Any = None,
        *,
        test: Any = None,
        groups: Any = None,
        name: str = "data",
        classes: Sequence[str] | None = None,
        normalisation: Normalisation | None = None,
        mirror: bool = False,
        limits: tuple[float, float] | None = None,
    ) -> "LabelledData":
        """The data set made of arrays, ``of(x, y, test=(x, y))``, or of map-style Datasets, ``of(train, test=test)``.

        Points are ``(n, d)``, ``(n, C, H, W)``, ``(n, H, W, C)`` (taken for such when the last size is 1, 3 or 4 and
        the second is not) or grey ``(n, H, W)``, of numpy, torch or nested lists; uint8, float32 and float64 are kept
        as they are. Labels are whole numbers, strings, or rows ``(n, c)`` that are distributions. Without ``classes``
        the distinct labels in increasing order are the classes 0 .. c-1 and their names; with it, labels are its
        positions or its names.

        Args:
            groups: a further division of the training examples, whole numbers or strings (n,).
            normalisation: by default the mean and standard deviation of each channel of the training points.
            mirror: whether the mirror image of an image has the same label.
            limits: the range of valid values; (0, 255) by default for uint8 images.

        Raises:
            InvalidInput: with what is wrong and in which part, "training data: ..." or "test data: ...".
        """
        with _part("training data"):
            points, rows = as_pair(x, "x") if y is None else (x, y)
            labels = as_labels(rows, "labels")
            numbers, names = numbered(labels, classes)
            train = Examples(as_points(points, "points"), encode(labels, numbers, names, "labels"), labels.soft)
        train, held = _grouped(train, groups), None
        if test is not None:
            with _part("test data"):
                points, rows = as_pair(test, "test")
                labels = as_labels(rows, "labels")
                held = Examples(as_points(points, "points"), encode(labels, numbers, names, "labels"), labels.soft)
        units = Normalisation.measured(train.points) if normalisation is None else normalisation
        return cls(name, train, held, names, units, mirror, _limits(train.points, limits))

    @classmethod
    def with_targets(
        cls,
        x: Any,
        y: Any = None,
        *,
        test: Any = None,
        groups: Any = None,
        name: str = "data",
        normalisation: Normalisation | None = None,
        target_units: Normalisation | None = None,
        mirror: bool = False,
        limits: tuple[float, float] | None = None,
    ) -> "LabelledData":
        """The data set of a regression: points as in :meth:`of`, and targets, real numbers (n,) or (n, k).

        Args:
            target_units: by default the mean and standard deviation of each column of the training targets.
        """

        def examples(pair: Any, of: str) -> Examples:
            with _part(of):
                points, rows = as_pair(pair, "x")
                return Examples(as_points(points, "points"), targets=as_targets(rows, "targets"))

        train = _grouped(examples(x if y is None else (x, y), "training data"), groups)
        held = None if test is None else examples(test, "test data")
        units = Normalisation.measured(train.points) if normalisation is None else normalisation
        assert train.targets is not None
        of_targets = Normalisation.measured(train.targets) if target_units is None else target_units
        return cls(name, train, held, (), units, mirror, _limits(train.points, limits), of_targets)

    @classmethod
    def unlabelled(
        cls,
        x: Any,
        *,
        test: Any = None,
        groups: Any = None,
        name: str = "data",
        normalisation: Normalisation | None = None,
        mirror: bool = False,
        limits: tuple[float, float] | None = None,
    ) -> "LabelledData":
        """The data set of points without labels, as in :meth:`of`; ``test`` are points too."""

        def examples(points: Any, of: str) -> Examples:
            with _part(of):
                return Examples(as_points(points, "points"))

        train = _grouped(examples(x, "training data"), groups)
        held = None if test is None else examples(test, "test data")
        units = Normalisation.measured(train.points) if normalisation is None else normalisation
        return cls(name, train, held, (), units, mirror, _limits(train.points, limits))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.train.points.shape[1:])

    @property
    def count(self) -> int:
        """The number of strata: that of the classes c, or one."""
        return len(self.classes) or 1

    @property
    def outputs(self) -> int:
        """The outputs of a network for these data: one a class, or one a target; one where there are no labels."""
        return len(self.target_units.mean) if self.target_units is not None else self.count

    @cached_property
    def strata(self) -> Int[Tensor, " n"]:
        """The class of each training example; zeros where there are no classes."""
        labels = self.train.labels
        return torch.zeros(len(self.train), dtype=torch.long) if labels is None else labels

    def targets(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b k"] | None:
        """The targets of training examples, in their normalised units; None where there are none."""
        units, targets = self.target_units, self.train.targets
        return None if units is None or targets is None else units.apply(targets[rows])

    def label_vectors(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b c"] | None:
        """The labels of training examples as rows: distributions where the data have them, else one-hot; targets in their
        normalised units; None where there are no labels."""
        train = self.train
        if train.labels is None:
            return self.targets(rows)
        if train.soft is not None:
            return train.soft[rows]
        return functional.one_hot(train.labels[rows], self.count).float()

    def require_labels(self) -> None:
        """Refuse data without labels where networks are to be trained on them.

        Raises:
            InvalidInput: saying what to do instead.
        """
        if not self.classes and self.target_units is None:
            raise InvalidInput(
                f"'{self.name}' has no labels, so no network can be trained on it and judged; see how far a set is from it: "
                "condense compare"
            )

    def require_classes(self, what: str) -> None:
        """Refuse data without classes for what needs them.

        Raises:
            InvalidInput: saying what it is, and what the data have.
        """
        if not self.classes:
            have = "no labels" if self.target_units is None else "targets and no classes"
            raise InvalidInput(f"{what} needs classes, but '{self.name}' has {have}; leave it out")

    @cached_property
    def members(self) -> tuple[Int[Tensor, " k"], ...]:
        """The training examples of each class (all, where there are none), by number, in increasing order, on the CPU."""
        labels = self.strata.cpu()
        sizes = torch.bincount(labels, minlength=self.count).tolist()
        return torch.argsort(labels, stable=True).split(sizes)

    @property
    def per_class(self) -> tuple[int, ...]:
        """The number of training examples of each class; of all, where there are none."""
        return tuple(len(members) for members in self.members)

    def class_batch(self, generator: torch.Generator, size: int | Sequence[int]) -> Int[Tensor, " b"]:
        """``size`` random training examples of each class (or so many of one after another), without replacement: their
        numbers, sorted by class.

        A class with fewer gives all that it has. What is drawn from the generator does not depend on ``size``.
        """
        # One serial randperm a class beats one random key an example and a batched topk, which waits for threads.
        sizes = [size] * self.count if isinstance(size, int) else size
        return torch.cat(
            [
                rows[torch.randperm(len(rows), generator=generator)[:most]]
                for rows, most in zip(self.members, sizes, strict=True)
            ]
        )

    def require(self, size: int, purpose: str) -> None:
        """Refuse when a class has fewer than ``size`` training examples.

        Raises:
            InvalidInput: naming the smallest class.
        """
        least = min(self.per_class)
        if least < size and not self.classes:
            raise InvalidInput(
                f"{purpose} needs {size} examples, but '{self.name}' has {least}; ask for at most {least}"
            )
        if least < size:
            raise InvalidInput(
                f"{purpose} needs {size} examples of each class, but '{self.classes[self.per_class.index(least)]}' of "
                f"'{self.name}' has {least}; ask for at most {least} a class"
            )

    def class_means(self) -> Float[Tensor, "c ..."]:
        """The mean training example of each class, in normalised units."""
        means = torch.stack([self.train.points[rows].double().mean(0) for rows in self.members])
        return self.normalisation.apply(means)

    def fingerprint(self) -> str:
        """SHA-256 of points and labels of both parts, with their types and shapes; free of names and of units."""
        digest = hashlib.sha256()
        for examples in (self.train, self.test):
            held = (None, None) if examples is None else (examples.points, examples.labels, examples.soft)
            targets = () if examples is None or examples.targets is None else (examples.targets,)
            for tensor in (*held, *targets):
                if tensor is None:
                    digest.update(b"none;")
                    continue
                digest.update(f"{_name(tensor.dtype)}{tuple(tensor.shape)};".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def split(self, fraction: float, generator: torch.Generator) -> "LabelledData":
        """These data with a random part of the training examples, ``fraction`` of each class, as the test part."""
        return self.hold_out(fraction, lambda rows: rows[torch.randperm(len(rows), generator=generator)])

    def hold_out(self, fraction: float, order: Callable[[Tensor], Tensor]) -> "LabelledData":
        """These data with the first part of the training examples of each class, in the given order, as the test part.

        The part is the rounded ``fraction`` of the class, one example at least, and one at least stays in training; a
        class of one example stays whole. The former test part is left out, and the units stay as they were.
        """
        if not 0 < fraction < 1:
            raise InvalidInput(f"'fraction' must lie strictly between 0 and 1, got {fraction}")
        held, kept = [], []
        for rows in self.members:
            cut = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
            ordered = order(rows)
            held.append(ordered[:cut])
            kept.append(ordered[cut:])
        if not sum(map(len, held)):
            each = f"every class of '{self.name}'" if self.classes else f"'{self.name}'"
            raise InvalidInput(f"{each} has a single example, so none can be held out; add examples")
        test, train = (self.train.take(torch.cat(rows).sort().values) for rows in (held, kept))
        return replace(self, train=train, test=test)


def _limits(points: Tensor, limits: tuple[float, float] | None) -> tuple[float, float] | None:
    """(0, 255) for uint8 images, unless the limits are stated."""
    return (0.0, 255.0) if limits is None and points.dtype == torch.uint8 and points.ndim == 4 else limits


def _grouped(train: Examples, groups: Any) -> Examples:
    """The examples with the numbers of their groups, where there are some."""
    if groups is None:
        return train
    with _part("training data"):
        division = as_labels(groups, "groups")
        return replace(train, groups=encode(division, *numbered(division, None), "groups"))


@contextmanager
def _part(name: str) -> Iterator[None]:
    """Says in which part of the data a mistake is."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
