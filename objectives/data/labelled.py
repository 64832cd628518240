"""A data set in memory as users have it: training and test examples, made of arrays or Datasets.

Examples have classes, or targets (real numbers, of a regression), or neither. Points stay as the source has them (uint8 for
images) until they are used; the :class:`Normalisation` of the source says in which units networks see them. Files and downloads
are not known here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from discrepancy.arguments import checked_arguments
from discrepancy.errors import InvalidInput
from objectives.data.convert import as_labels, as_pair, as_points, as_targets, encode, numbered
from objectives.data.examples import Examples
from objectives.data.in_memory import InMemory
from objectives.data.labels import Labels
from objectives.data.real import RealData
from objectives.data.spec import DataSpec, Described
from objectives.data.units import Normalisation
from objectives.rng import shuffled

__all__ = ["LabelledData", "Normalisation", "as_real_data"]


@dataclass(frozen=True, eq=False)
class LabelledData(Described):
    """A training set, and a test set where there is one, of one :class:`DataSpec`. What is condensed is ``train``.

    Raises:
        InvalidInput: if the two parts have points of different types.
    """

    train: InMemory
    test: InMemory | None = None

    def __post_init__(self) -> None:
        train, test = self.train, self.test
        if test is not None and test.points.dtype != train.points.dtype:
            raise InvalidInput(
                f"test points of shape {test.shape} and type {_name(test.points.dtype)} do not fit training points of shape "
                f"{train.shape} and type {_name(train.points.dtype)}; convert them alike"
            )

    @classmethod
    def made(cls, spec: DataSpec, train: Examples, test: Examples | None = None) -> "LabelledData":
        """The data set of these examples.

        Raises:
            InvalidInput: if they do not fit the spec.
        """
        return cls(InMemory(spec, train), None if test is None else InMemory(spec, test, "test"))

    @property
    def spec(self) -> DataSpec:
        return self.train.spec

    @classmethod
    @checked_arguments
    def of(
        cls,
        x: Any,
        y: Any = None,
        *,
        test: Any = None,
        groups: Any = None,
        name: str = "data",
        classes: Any = None,
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
            train = Examples(as_points(points, "points"), encode(labels, numbers, names, "labels")).checked()
        train, held = _grouped(train, groups), None
        if test is not None:
            with _part("test data"):
                points, rows = as_pair(test, "test")
                labels = as_labels(rows, "labels")
                held = Examples(as_points(points, "points"), encode(labels, numbers, names, "labels")).checked()
        units = Normalisation.measured(train.points) if normalisation is None else normalisation
        shape = tuple(train.points.shape[1:])
        return cls.made(DataSpec(name, shape, names, units, mirror, _limits(train.points, limits)), train, held)

    @classmethod
    @checked_arguments
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

        def examples(pair: Any, of: str, units: Normalisation | None) -> Examples:
            with _part(of):
                points, rows = as_pair(pair, "x")
                targets = as_targets(rows, "targets")
                own = Normalisation.measured(targets) if units is None else units
                return Examples(as_points(points, "points"), Labels("targets", targets, own)).checked()

        train = _grouped(examples(x if y is None else (x, y), "training data", target_units), groups)
        held = None if test is None else examples(test, "test data", train.labels.units)
        units = Normalisation.measured(train.points) if normalisation is None else normalisation
        shape, limits = tuple(train.points.shape[1:]), _limits(train.points, limits)
        return cls.made(DataSpec(name, shape, (), units, mirror, limits, train.labels.units), train, held)

    @classmethod
    @checked_arguments
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
                return Examples(as_points(points, "points")).checked()

        train = _grouped(examples(x, "training data"), groups)
        held = None if test is None else examples(test, "test data")
        units = Normalisation.measured(train.points) if normalisation is None else normalisation
        shape = tuple(train.points.shape[1:])
        return cls.made(DataSpec(name, shape, (), units, mirror, _limits(train.points, limits)), train, held)

    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each part that is there: ``train``, ``test``."""
        parts = {"train": self.train, "test": self.test}
        return {name: part.fingerprint() for name, part in parts.items() if part is not None}

    def changed(self, **fields: Any) -> "LabelledData":
        """These data with other values of some fields of their spec, for instance ``name`` or ``normalisation``."""
        spec = replace(self.spec, **fields)
        parts = (self.train.rows(), None if self.test is None else self.test.rows())
        return self.made(spec, *(_in_units(part, spec.target_units) for part in parts))

    def grouped(self, train: Int[Tensor, " n"], test: Int[Tensor, " k"] | None = None) -> "LabelledData":
        """These data with these group numbers."""
        parts = ((self.train, train), (self.test, test))
        made = [None if part is None else replace(part.rows(), groups=groups) for part, groups in parts]
        assert made[0] is not None
        return self.made(self.spec, made[0], made[1])

    def split(self, fraction: float, generator: torch.Generator) -> "LabelledData":
        """These data with a random part of the training examples, ``fraction`` of each class, as the test part."""
        return self.hold_out(fraction, shuffled(generator))

    def hold_out(self, fraction: float, order: Callable[[Tensor], Tensor]) -> "LabelledData":
        """These data with the first part of the training examples of each class, in the given order, as the test part.

        The part is the rounded ``fraction`` of the class, one example at least, and one at least stays in training; a
        class of one example stays whole. The former test part is left out, and the units stay as they were.
        """
        return self.made(self.spec, *(self.train.rows(numbers) for numbers in self.train.divided(fraction, order)))


def as_real_data(data: Any) -> RealData:
    """The real side that a user names: a :class:`RealData`, the training part of :class:`LabelledData`, or that of what
    :meth:`LabelledData.of` takes."""
    if isinstance(data, RealData):
        return data
    return (data if isinstance(data, LabelledData) else LabelledData.of(data)).train


def _in_units(examples: Examples | None, units: Normalisation | None) -> Any:
    """The examples with targets in these units."""
    if examples is None or examples.labels.kind != "targets":
        return examples
    return replace(examples, labels=replace(examples.labels, units=units))


def _limits(points: Tensor, limits: tuple[float, float] | None) -> tuple[float, float] | None:
    """(0, 255) for uint8 images, unless the limits are stated."""
    return (0.0, 255.0) if limits is None and points.dtype == torch.uint8 and points.ndim == 4 else limits


def _grouped(train: Examples, groups: Any) -> Examples:
    """The examples with the numbers of their groups, where there are some."""
    if groups is None:
        return train
    with _part("training data"):
        division = as_labels(groups, "groups")
        return replace(train, groups=encode(division, *numbered(division, None), "groups").rows).checked()


@contextmanager
def _part(name: str) -> Iterator[None]:
    """Says in which part of the data a mistake is."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
