"""Real data in memory, in their own units: what a source delivers and what everything else reads.

Points stay as the source has them (uint8 for images) until they are used; the units in which networks see them are given
by the :class:`Normalisation`, which belongs to the source. Files and downloads are not known here.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.intake import as_labels, as_pair, as_points, encode, numbered

__all__ = ["Examples", "LabelledData", "Normalisation"]

CHUNK = 1 << 22
"""Values converted to float64 at a time when statistics are measured."""


@dataclass(frozen=True)
class Normalisation:
    """x ↦ (x - mean) / std by channel (the first axis of an example), in the source's own units.

    For images the first axis is the colour, for tables it is the feature. A single value stands for all of them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise InvalidInput(
                f"'mean' and 'std' must have one value, or one a channel, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise InvalidInput(f"'mean' must be finite and 'std' > 0, got {self.mean} and {self.std}")

    @classmethod
    def measured(cls, points: Shaped[Tensor, "n channels ..."]) -> "Normalisation":
        """Mean and standard deviation (divided by n) of each channel, in float64.

        A channel that is constant, up to the resolution of float32, gets the standard deviation 1: it carries nothing,
        and is only centred; dividing by its rounding error would make noise of it.
        """
        count = points.numel() // points.shape[1]
        if points.dtype == torch.uint8:  # exact, and five times faster
            columns = points.transpose(0, 1).flatten(1)
            counts = torch.stack([torch.bincount(column, minlength=256) for column in columns]).double()
            values = torch.arange(256, dtype=torch.float64)
            mean = counts @ values / count
            squares = (counts * (values - mean[:, None]).square()).sum(1)
        else:
            chunks = points.reshape(*points.shape[:2], -1).split(max(1, CHUNK // max(points[0].numel(), 1)))
            mean = torch.stack([chunk.double().sum((0, 2)) for chunk in chunks]).sum(0) / count
            squares = torch.stack([(chunk - mean[:, None]).square().sum((0, 2)) for chunk in chunks]).sum(0)
        std = (squares / count).sqrt()
        constant = std <= torch.finfo(torch.float32).eps * mean.abs()
        return cls(tuple(mean.tolist()), tuple(torch.where(constant, torch.ones_like(std), std).tolist()))

    def apply(
        self, points: Shaped[Tensor, "n channels ..."], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n channels ..."]:
        """Source units (uint8 allowed) -> normalised units, in ``dtype``."""
        mean, std = self._columns(points, dtype)
        return ((points - mean) / std).to(dtype)

    def invert(self, points: Float[Tensor, "n channels ..."]) -> Float[Tensor, "n channels ..."]:
        """Normalised units -> source units, in the precision of ``points``; nothing is rounded or clipped."""
        mean, std = self._columns(points, points.dtype)
        return points * std + mean

    def _columns(self, points: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if len(self.mean) not in (1, points.shape[1]):
            raise InvalidInput(
                f"the normalisation has {len(self.mean)} channels, but points of shape {tuple(points.shape)} "
                f"have {points.shape[1]}"
            )
        dtype = torch.promote_types(points.dtype, dtype)
        column = (-1, *[1] * (points.ndim - 2))
        mean, std = (torch.tensor(values, dtype=dtype, device=points.device) for values in (self.mean, self.std))
        return mean.reshape(column), std.reshape(column)


@dataclass(frozen=True, eq=False)
class Examples:
    """n examples: ``points`` (n, *shape) in the source's units, ``labels`` the class numbers (n,).

    ``soft`` holds label distributions (n, c) where the source has them; ``labels`` is then their most likely class.
    ``groups`` numbers a further division of the examples, 0 .. g-1, where the source has one.

    Raises:
        InvalidInput: on no examples, sizes that differ, negative labels, points that are not finite.
    """

    points: Shaped[Tensor, "..."]
    labels: Int[Tensor, " _"]
    soft: Float[Tensor, "_ c"] | None = None
    groups: Int[Tensor, " _"] | None = None

    def __post_init__(self) -> None:
        n = len(self.points)
        if n == 0:
            raise InvalidInput("there are no examples; give at least one of each class")
        if not self.points[0].numel():
            raise InvalidInput(f"points of shape {tuple(self.points.shape)} have no values; give at least one feature")
        for name, rows in (("labels", self.labels), ("soft labels", self.soft), ("groups", self.groups)):
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
        return len(self.labels)

    def take(self, indices: Int[Tensor, " b"]) -> "Examples":
        """The examples with these numbers, in this order."""
        rows = {name: None if value is None else value[indices] for name, value in vars(self).items()}
        return replace(self, **rows)


@dataclass(frozen=True, eq=False)
class LabelledData:
    """A data set: training and test examples, class names and the units.

    Raises:
        InvalidInput: unless there are two classes or more, each with a training example, and both parts have the same
            shape and type, labels below the number of classes, and values within the limits.
    """

    name: str
    train: Examples
    test: Examples | None
    classes: tuple[str, ...]
    normalisation: Normalisation
    mirror: bool = False  # whether an image and its mirror image have the same label
    limits: tuple[float, float] | None = None  # the range of valid values in source units, e.g. (0, 255)

    def __post_init__(self) -> None:
        if self.count < 2 or len(set(self.classes)) != self.count:
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
        empty = [name for name, size in zip(self.classes, self.per_class, strict=True) if size == 0]
        if empty:
            raise InvalidInput(
                f"'{self.name}' has no training example of class {_listed(empty)}; remove the class or add examples"
            )

    def _check(self, part: str, examples: Examples) -> None:
        points, train, largest = examples.points, self.train.points, int(examples.labels.max())
        if points.shape[1:] != train.shape[1:] or points.dtype != train.dtype:
            raise InvalidInput(
                f"{part} points of shape {tuple(points.shape[1:])} and type {_name(points.dtype)} do not fit "
                f"training points of shape {self.shape} and type {_name(train.dtype)}; convert them alike"
            )
        if largest >= self.count:
            raise InvalidInput(
                f"{part} labels must lie in 0 .. {self.count - 1}, got {largest} at example {int(examples.labels.argmax())}"
            )
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
            if groups is not None:
                division = as_labels(groups, "groups")
                train = replace(train, groups=encode(division, *numbered(division, None), "groups"))
        held = None
        if test is not None:
            with _part("test data"):
                points, rows = as_pair(test, "test")
                labels = as_labels(rows, "labels")
                held = Examples(as_points(points, "points"), encode(labels, numbers, names, "labels"), labels.soft)
        if limits is None and train.points.dtype == torch.uint8 and train.points.ndim == 4:
            limits = (0.0, 255.0)
        units = Normalisation.measured(train.points) if normalisation is None else normalisation
        return cls(name, train, held, names, units, mirror, limits)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.train.points.shape[1:])

    @property
    def count(self) -> int:
        """The number of classes c."""
        return len(self.classes)

    @cached_property
    def members(self) -> tuple[Int[Tensor, " k"], ...]:
        """The training examples of each class, by number, in increasing order, on the CPU."""
        labels = self.train.labels.cpu()
        sizes = torch.bincount(labels, minlength=self.count).tolist()
        return torch.argsort(labels, stable=True).split(sizes)

    @property
    def per_class(self) -> tuple[int, ...]:
        """The number of training examples of each class."""
        return tuple(len(members) for members in self.members)

    def class_batch(self, generator: torch.Generator, size: int) -> Int[Tensor, " b"]:
        """``size`` random training examples of each class, without replacement: their numbers, sorted by class.

        A class with fewer gives all that it has. What is drawn from the generator does not depend on ``size``.
        """
        # One serial randperm a class beats one random key an example and a batched topk, which waits for threads.
        return torch.cat([rows[torch.randperm(len(rows), generator=generator)[:size]] for rows in self.members])

    def require(self, size: int, purpose: str) -> None:
        """Refuse when a class has fewer than ``size`` training examples.

        Raises:
            InvalidInput: naming the smallest class.
        """
        least = min(self.per_class)
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
            for tensor in (None, None) if examples is None else (examples.points, examples.labels, examples.soft):
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
            raise InvalidInput(
                f"every class of '{self.name}' has a single example, so none can be held out; add examples"
            )
        test, train = (self.train.take(torch.cat(rows).sort().values) for rows in (held, kept))
        return replace(self, train=train, test=test)


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
