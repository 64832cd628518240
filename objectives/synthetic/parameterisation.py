"""The synthetic side: parameters that decode to points, labels and weights.

A :class:`Parameterisation` says how points are stored (as they are, or as less that decodes to as many points or more), where
they start, and which of labels and weights are learned. ``slots`` fix the class of each stored example whatever its soft
label becomes. Parameters live in normalised units, as most published learning rates assume, or in those of :data:`Units`; what
is shown is in the source's own units.
"""

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part, check_choice
from objectives.data.real import RealData
from objectives.data.units import Normalisation
from objectives.rng import rng

__all__ = [
    "Choose",
    "Decoded",
    "Labels",
    "Layout",
    "Parameterisation",
    "Units",
    "Weights",
    "clamp",
    "image_sides",
    "in_range",
]

Labels = Literal["hard", "soft", "learned"]
Weights = Literal["equal", "learned"]
Units = Literal["normalised", "range"]
"""Of stored pixels, and so of the learning rate: those that networks see, or those in which valid values run from 0 to 1. Where
a channel has the standard deviation σ in the latter, plain descent of the rate η there is one of η / σ² in the former."""

Choose = Callable[[int], Int[Tensor, " k"]]
"""So many real examples of every class, by number and sorted by class."""

EXTRA = "extra."
"""What the names of parameters begin with that are learned beside the examples."""

LABEL_CONFIDENCE = 0.9
"""Probability that a learned label gives its own class at the start."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What is fixed of the stored examples: the class and the group of each (on the CPU, where they are asked for), the shape
    of a decoded one, and how stored values become normalised ones where they are not."""

    slots: Int[Tensor, " m"]
    groups: Int[Tensor, " m"]
    shape: tuple[int, ...]
    units: Normalisation | None = None

    def __len__(self) -> int:
        return len(self.slots)

    def rows(self, chosen: Tensor) -> "Layout":
        """The stored examples with these numbers, or where this mask is true."""
        return Layout(self.slots[chosen], self.groups[chosen], self.shape, self.units)

    def normalised(self, stored: Tensor) -> Tensor:
        """Stored values in normalised units."""
        return stored if self.units is None else self.units.apply(stored, stored.dtype)


@dataclass(frozen=True, eq=False)
class Decoded:
    """The decoded examples in normalised units, with the class and the group that each belongs to (on the CPU, where they are
    used), and ``extras``: learned parameters beside the examples, such as step sizes."""

    points: Float[Tensor, "m ..."]
    weights: Float[Tensor, " m"]
    labels: Int[Tensor, " m"] | Float[Tensor, "m c"]
    slots: Int[Tensor, " m"]
    groups: Int[Tensor, " m"]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def rows(self, chosen: Tensor) -> "Decoded":
        """The examples with these numbers."""
        return Decoded(
            self.points[chosen],
            self.weights[chosen],
            self.labels[chosen],
            self.slots[chosen],
            self.groups[chosen],
            self.extras,
        )

    def label_vectors(self, classes: int) -> Float[Tensor, "m c"]:
        """The labels as rows: class numbers one-hot, in the type of the points."""
        labels = self.labels
        return labels if labels.ndim == 2 else functional.one_hot(labels, classes).to(self.points.dtype)

    @functools.cached_property
    def tensors(self) -> dict[str, Tensor]:
        """What may be learned, by name: ``points``, ``weights``, ``labels``, and the extras under their own names."""
        return {"points": self.points, "weights": self.weights, "labels": self.labels, **self.extras}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Decoded":
        """The same with some of these in other tensors."""
        found = {**self.tensors, **tensors}
        points, weights, labels = found.pop("points"), found.pop("weights"), found.pop("labels")
        return Decoded(points, weights, labels, self.slots, self.groups, found)


class Parameterisation(Part, family=True):
    """How a synthetic set is stored, decoded and started.

    A kind says how points are stored; labels and weights are the same for all. There is one of each for a stored example,
    which all that it decodes to have in common. How many are stored is said as ``per_class``, of every class, or as
    ``examples``, in all; data without classes need the latter. Where there are classes, these share ``examples`` out as evenly
    as can be, the first ones getting one more, and ``per_class`` has no say.

    Learned labels of data with classes are scores: any real numbers, one a class, which start one-hot. They are what a least
    squares learner is to answer, and no distributions: nothing that is a cross-entropy takes them.

    Targets are parameters, in normalised units, learned or not. They start at those of the real examples that the points
    start at (the mean of those that one stored example decodes to, which are neighbours in the first target), else at
    quantiles of the real ones, or standard normal if there are several columns.
    """

    per_class: int
    examples: int | None
    start: str
    labels: Labels
    weights: Weights

    @property
    def copies(self) -> int:
        """How many examples each stored one decodes to; they follow each other."""
        return 1

    @property
    def shared(self) -> frozenset[str]:
        """The parameters that belong to all the examples together; every other has a row for each stored example."""
        return frozenset()

    @property
    def fixed(self) -> frozenset[str]:
        """The parameters that stay as they are at the start."""
        return frozenset({"labels"} if self.labels == "hard" else ())

    @property
    def direct(self) -> bool:
        """Whether the parameter ``points`` is the points themselves, in its units, so that any given ones can be held."""
        return False

    def sizes(self, data: RealData) -> tuple[int, ...]:
        """How many are stored of each class; of all, where there are none.

        Raises:
            InvalidInput: if the data have no classes and ``examples`` is None.
        """
        if self.examples is None:
            if not data.classes:
                raise InvalidInput(
                    f"'{data.name}' has no classes; say how many examples there are to be, with 'examples'"
                )
            return (self.per_class,) * data.count
        each, more = divmod(self.examples, data.count)
        return tuple(each + (number < more) for number in range(data.count))

    def each(self, data: RealData) -> int:
        """How many are stored of the class of which the most are."""
        return max(self.sizes(data))

    def layout(self, data: RealData) -> Layout:
        """What is fixed of the stored examples."""
        return Layout(self.slots(data), self.groups(data), data.shape, self.stored_units(data))

    def stored_units(self, data: RealData) -> Normalisation | None:
        """From stored values to normalised ones; None where they are the same."""
        return None

    def slots(self, data: RealData) -> Int[Tensor, " m"]:
        """The class of each stored example, sorted; zeros if the data have no classes."""
        return torch.arange(data.count).repeat_interleave(torch.tensor(self.sizes(data)))

    def groups(self, data: RealData) -> Int[Tensor, " m"]:
        """The group of each stored example: within a class, the groups that the class has take turns, the largest first."""
        sizes = self.sizes(data)
        if data.groups is None:
            return torch.zeros(sum(sizes), dtype=torch.long)
        assigned = []
        for members, size in zip(data.counts, sizes, strict=True):
            present = members.argsort(descending=True, stable=True)[: int((members > 0).sum())]
            assigned.append(present[torch.arange(size) % len(present)])
        return torch.cat(assigned)

    @abstractmethod
    def content(self, data: RealData, seed: int, choose: Choose) -> dict[str, Tensor]:
        """The parameters of the points at the start, by name, float32 on the CPU.

        Raises:
            InvalidInput: if such data cannot be stored this way, or do not suffice for the start.
        """

    @abstractmethod
    def points(self, parameters: Mapping[str, Tensor], layout: Layout) -> Tensor:
        """The decoded points, differentiable in the parameters."""

    def initial(
        self, data: RealData, seed: int, choose: Choose | None = None, dtype: torch.dtype = torch.float32
    ) -> dict[str, Tensor]:
        """The parameters at the start, by name, on the CPU, targets in ``dtype`` and all else in float32; ``choose`` says at
        which real examples it starts, where not at random ones."""
        self._suits(data)
        given = choose or (lambda each: data.class_batch(rng(seed, "start"), each))
        ordered = functools.cache(lambda each: self._neighbours(data, given(each)))
        targets = None if data.target_units is None else self._targets(data, seed, ordered, dtype)
        parameters = self.content(data, seed, ordered) | self._annotations(data, targets)
        self.project(parameters, data)
        return parameters

    def from_points(self, points: Tensor, data: RealData, targets: Tensor | None = None) -> dict[str, Tensor]:
        """The parameters that decode to the given points (normalised units), sorted by class, and targets or scores; for
        selections and closed forms.

        Raises:
            InvalidInput: if this kind cannot hold given points.
        """
        if not self.direct:
            raise InvalidInput(f"'{self.kind}' cannot hold given examples as they are; choose pixels")
        self._suits(data)
        return {"points": self._stored(points, data)} | self._annotations(data, targets)

    def decode(self, parameters: Mapping[str, Tensor], layout: Layout) -> Decoded:
        """Points, labels and weights, differentiable in the parameters."""
        points = self.points(parameters, layout)
        labels = parameters.get("labels", layout.slots.to(points.device))
        labels = labels.softmax(-1) if self.labels == "soft" else labels
        weights = parameters["weights"].exp() if self.weights == "learned" else points.new_ones(len(layout.slots))
        rows = weights, labels, layout.slots, layout.groups
        if self.copies > 1:
            rows = (value.repeat_interleave(self.copies, 0) for value in rows)
        extras = {name: value for name, value in parameters.items() if name.startswith(EXTRA)}
        return Decoded(points, *rows, extras=extras)

    def project(self, parameters: Mapping[str, Tensor], data: RealData) -> None:
        """Move the parameters, in place, to where they are allowed to be; called after every step."""

    @property
    def clips(self) -> bool:
        """Whether decoded points are kept within the source's range of valid values."""
        return False

    def scored(self, data: RealData) -> bool:
        """Whether the labels are scores of classes: learned, and no distributions."""
        return self.labels == "learned" and bool(data.classes)

    def _suits(self, data: RealData) -> None:
        """Refuse labels that such data cannot have."""
        if self.labels == "soft":
            data.require_classes("'labels' is soft, a distribution over classes, which")
        if self.labels == "learned" and not data.classes and data.target_units is None:
            raise InvalidInput(f"'labels' is learned, but '{data.name}' has no labels; use hard")

    def _targets(self, data: RealData, seed: int, choose: Choose, dtype: torch.dtype) -> Float[Tensor, "m k"]:
        """The targets at the start, in normalised units."""
        count, units = self.each(data), data.target_units
        assert units is not None
        if self.start != "noise":
            data.require(count * self.copies, f"start: {self.start}")
            real = data.label_vectors(choose(count * self.copies), dtype)
            assert real is not None
            return real.unflatten(0, (-1, self.copies)).mean(1)
        if len(units.mean) > 1:
            return torch.randn(count, len(units.mean), generator=rng(seed, "start", "targets"))
        levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        return units.apply(torch.quantile(data.labels.rows[:, 0].double(), levels)[:, None], dtype)

    def _annotations(self, data: RealData, targets: Tensor | None) -> dict[str, Tensor]:
        """The parameters beside the points, at the start; ``targets`` are scores where there are classes."""
        parameters = {} if targets is None else {"labels": targets}
        own = functional.one_hot(self.slots(data), data.count).float()
        if self.labels == "soft":
            rest = (1 - LABEL_CONFIDENCE) / (data.count - 1)
            parameters["labels"] = torch.log(own * (LABEL_CONFIDENCE - rest) + rest)
        if self.scored(data) and targets is None:
            parameters["labels"] = own
        if self.weights == "learned":
            parameters["weights"] = torch.zeros(len(own))
        return parameters

    def _check(self, starts: tuple[str, ...]) -> None:
        for name in ("per_class", "examples"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise InvalidInput(f"'{name}' must be a whole number, got {value!r}")
            if value is not None and value < 1:
                raise InvalidInput(f"'{name}' must be at least 1, got {value}")
        for name, choices in (("start", starts), ("labels", get_args(Labels)), ("weights", get_args(Weights))):
            check_choice(name, getattr(self, name), choices)

    def _stored(self, points: Tensor, data: RealData) -> Tensor:
        """Normalised values as they are stored."""
        units = self.stored_units(data)
        return points if units is None else units.invert(points)

    def _clip(self, stored: Tensor, data: RealData) -> None:
        """Move stored values, in place, into the source's range of valid values."""
        if self.stored_units(data) is None:
            clamp(stored, data)
        else:
            stored.clamp_(0, 1)

    def _real(self, data: RealData, choose: Choose, copies: int = 1) -> Tensor:
        """``copies`` training examples of its class for every stored example, in normalised units."""
        each = self.each(data) * copies
        data.require_rows("start: real")
        data.require(each, "start: real")
        wanted = [torch.arange(each) < size * copies for size in self.sizes(data)]
        return data.normalised(choose(each)[torch.cat(wanted)])

    def _neighbours(self, data: RealData, rows: Tensor) -> Tensor:
        """These training examples; where several make one stored example, those with targets sorted by the first of these."""
        if data.target_units is None or self.copies == 1:
            return rows
        return rows[data.labels.rows[rows, 0].argsort(stable=True)]


def in_range(data: RealData) -> Normalisation:
    """The normalisation of these data for values that run from 0 to 1.

    Raises:
        InvalidInput: if the source states no range of valid values.
    """
    if data.limits is None:
        raise InvalidInput("'units' is range, but this data source states no range of valid values; use normalised")
    low, high = data.limits
    mean, std = data.normalisation.mean, data.normalisation.std
    return Normalisation(tuple((m - low) / (high - low) for m in mean), tuple(s / (high - low) for s in std))


def clamp(points: Tensor, data: RealData) -> None:
    """Move points in normalised units, in place, into the source's range of valid values.

    Raises:
        InvalidInput: if the source states none.
    """
    if data.limits is None:
        raise InvalidInput("'clip' is true, but this data source states no range of valid values; set it to false")
    bounds = [
        data.normalisation.apply(torch.full((1, *data.shape), value, device=points.device), points.dtype)
        for value in data.limits
    ]
    points.clamp_(min=bounds[0], max=bounds[1])


def image_sides(kind: str, data: RealData) -> tuple[int, int]:
    """Height and width of the images.

    Raises:
        InvalidInput: if the examples are none.
    """
    if len(data.shape) != 3:
        raise InvalidInput(
            f"'{kind}' stores images (C, H, W), but these examples have shape {data.shape}; choose pixels"
        )
    return data.shape[1], data.shape[2]
