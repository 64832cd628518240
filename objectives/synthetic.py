"""The synthetic side: parameters that decode to points, labels and weights.

A :class:`Parameterisation` says how points are stored (as they are, or as less that decodes to as many points or more), where
they start, and which of labels and weights are learned. ``slots`` fix the class of each stored example whatever its soft
label becomes. Parameters live in normalised units, as most published learning rates assume, or in those of :data:`Units`; what
is shown is in the source's own units.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.base import Part, check_choice
from discrepancy.errors import InvalidInput
from objectives.data import LabelledData, Normalisation
from objectives.streams import stream

__all__ = ["Choose", "Decoded", "Layout", "Parameterisation", "Pixels", "Units", "clamp", "image_sides", "in_range"]

Start = Literal["noise", "real", "class-mean"]
Labels = Literal["hard", "soft"]
Weights = Literal["equal", "learned"]
Units = Literal["normalised", "range"]
"""Of stored pixels, and so of the learning rate: those that networks see, or those in which valid values run from 0 to 1. Where
a channel has the standard deviation σ in the latter, plain descent of the rate η there is one of η / σ² in the former."""

Choose = Callable[[int], Int[Tensor, " k"]]
"""So many real examples of every class, by number and sorted by class."""

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
    asked for)."""

    points: Float[Tensor, "m ..."]
    weights: Float[Tensor, " m"]
    labels: Int[Tensor, " m"] | Float[Tensor, "m c"]
    slots: Int[Tensor, " m"]
    groups: Int[Tensor, " m"]

    def rows(self, chosen: Tensor) -> "Decoded":
        """The examples with these numbers."""
        return Decoded(
            self.points[chosen], self.weights[chosen], self.labels[chosen], self.slots[chosen], self.groups[chosen]
        )


class Parameterisation(Part, family=True):
    """How a synthetic set is stored, decoded and started.

    A kind says how points are stored; labels and weights are the same for all. There is one of each for a stored example,
    which all that it decodes to have in common.
    """

    per_class: int
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
    def direct(self) -> bool:
        """Whether the parameter ``points`` is the points themselves, in its units, so that any given ones can be held."""
        return False

    def layout(self, data: LabelledData) -> Layout:
        """What is fixed of the stored examples."""
        return Layout(self.slots(data), self.groups(data), data.shape, self.stored_units(data))

    def stored_units(self, data: LabelledData) -> Normalisation | None:
        """From stored values to normalised ones; None where they are the same."""
        return None

    def slots(self, data: LabelledData) -> Int[Tensor, " m"]:
        """The class of each stored example: ``per_class`` of every class, sorted."""
        return torch.arange(data.count).repeat_interleave(self.per_class)

    def groups(self, data: LabelledData) -> Int[Tensor, " m"]:
        """The group of each stored example: within a class, the groups that the class has take turns, the largest first."""
        assigned = torch.zeros(data.count * self.per_class, dtype=torch.long)
        if data.train.groups is None:
            return assigned
        for label in range(data.count):
            sizes = torch.bincount(data.train.groups[data.train.labels == label])
            present = sizes.argsort(descending=True, stable=True)[: int((sizes > 0).sum())]
            turns = torch.arange(self.per_class) % len(present)
            assigned[label * self.per_class : (label + 1) * self.per_class] = present[turns]
        return assigned

    @abstractmethod
    def content(self, data: LabelledData, seed: int, choose: Choose) -> dict[str, Tensor]:
        """The parameters of the points at the start, by name, float32 on the CPU.

        Raises:
            InvalidInput: if such data cannot be stored this way, or do not suffice for the start.
        """

    @abstractmethod
    def points(self, parameters: Mapping[str, Tensor], layout: Layout) -> Tensor:
        """The decoded points, differentiable in the parameters."""

    def initial(self, data: LabelledData, seed: int, choose: Choose | None = None) -> dict[str, Tensor]:
        """The parameters at the start, by name, float32 on the CPU; ``choose`` says at which real examples it starts, where not
        at random ones."""
        choose = choose or (lambda each: data.class_batch(stream(seed, "start"), each))
        parameters = self.content(data, seed, choose) | self._annotations(data)
        self.project(parameters, data)
        return parameters

    def from_points(self, points: Tensor, data: LabelledData) -> dict[str, Tensor]:
        """The parameters that decode to the given points (normalised units), sorted by class; for selections.

        Raises:
            InvalidInput: if this kind cannot hold given points.
        """
        if not self.direct:
            raise InvalidInput(f"'{self.kind}' cannot hold given examples as they are; choose pixels")
        return {"points": self._stored(points, data)} | self._annotations(data)

    def decode(self, parameters: Mapping[str, Tensor], layout: Layout) -> Decoded:
        """Points, labels and weights, differentiable in the parameters."""
        points = self.points(parameters, layout)
        labels = parameters["labels"].softmax(-1) if self.labels == "soft" else layout.slots.to(points.device)
        weights = parameters["weights"].exp() if self.weights == "learned" else points.new_ones(len(layout))
        rows = (value.repeat_interleave(self.copies, 0) for value in (weights, labels, layout.slots, layout.groups))
        return Decoded(points, *rows)

    def project(self, parameters: Mapping[str, Tensor], data: LabelledData) -> None:
        """Move the parameters, in place, to where they are allowed to be; called after every step."""

    def _annotations(self, data: LabelledData) -> dict[str, Tensor]:
        """The parameters of what is learned beside the points, at the start."""
        parameters = {}
        if self.labels == "soft":
            rest = (1 - LABEL_CONFIDENCE) / (data.count - 1)
            own = functional.one_hot(self.slots(data), data.count).float()
            parameters["labels"] = torch.log(own * (LABEL_CONFIDENCE - rest) + rest)
        if self.weights == "learned":
            parameters["weights"] = torch.zeros(data.count * self.per_class)
        return parameters

    def _check(self, starts: tuple[str, ...]) -> None:
        if self.per_class < 1:
            raise InvalidInput(f"'per_class' must be at least 1, got {self.per_class}")
        for name, choices in (("start", starts), ("labels", get_args(Labels)), ("weights", get_args(Weights))):
            check_choice(name, getattr(self, name), choices)

    def _stored(self, points: Tensor, data: LabelledData) -> Tensor:
        """Normalised values as they are stored."""
        units = self.stored_units(data)
        return points if units is None else units.invert(points)

    def _clip(self, stored: Tensor, data: LabelledData) -> None:
        """Move stored values, in place, into the source's range of valid values."""
        if self.stored_units(data) is None:
            clamp(stored, data)
        else:
            stored.clamp_(0, 1)

    def _real(self, data: LabelledData, choose: Choose, each: int) -> Tensor:
        """``each`` of the training examples of every class, sorted by class, in normalised units."""
        data.require(each, "start: real")
        return data.normalisation.apply(data.train.points[choose(each)])


class Pixels(Parameterisation, kind="pixels"):
    """Every example is stored as it is: the parameters are the points.

    Args:
        per_class: examples of each class.
        start: ``noise`` (standard normal in normalised units), ``real`` (distinct random training examples of the class),
            ``class-mean`` (the mean of the class plus a tenth of normal noise, which tells the copies apart).
        labels: ``hard``, or ``soft``: a learned distribution softmax(ℓ) that starts with 0.9 on its own class.
        weights: ``equal``, or ``learned``: w = exp(ω), starting at 1.
        clip: keep the points within the source's range of valid values (0 to 255 for images).
        units: of the stored points, and so of the learning rate; see :data:`Units`.
    """

    per_class: int = 10
    start: Start = "real"
    labels: Labels = "hard"
    weights: Weights = "equal"
    clip: bool = False
    units: Units = "normalised"

    def __post_init__(self) -> None:
        self._check(get_args(Start))
        check_choice("units", self.units, get_args(Units))

    @property
    def direct(self) -> bool:
        return True

    def stored_units(self, data: LabelledData) -> Normalisation | None:
        return None if self.units == "normalised" else in_range(data)

    def content(self, data: LabelledData, seed: int, choose: Choose) -> dict[str, Tensor]:
        if self.start == "real":
            return {"points": self._stored(self._real(data, choose, self.per_class), data)}
        noise = torch.randn(data.count * self.per_class, *data.shape, generator=stream(seed, "start"))
        if self.start == "noise":
            return {"points": self._stored(noise, data)}
        means = data.class_means().repeat_interleave(self.per_class, 0)
        return {"points": self._stored(means + 0.1 * noise, data)}

    def points(self, parameters: Mapping[str, Tensor], layout: Layout) -> Tensor:
        return layout.normalised(parameters["points"])

    def project(self, parameters: Mapping[str, Tensor], data: LabelledData) -> None:
        if self.clip:
            self._clip(parameters["points"], data)


def in_range(data: LabelledData) -> Normalisation:
    """The normalisation of these data for values that run from 0 to 1.

    Raises:
        InvalidInput: if the source states no range of valid values.
    """
    if data.limits is None:
        raise InvalidInput("'units' is range, but this data source states no range of valid values; use normalised")
    low, high = data.limits
    mean, std = data.normalisation.mean, data.normalisation.std
    return Normalisation(tuple((m - low) / (high - low) for m in mean), tuple(s / (high - low) for s in std))


def clamp(points: Tensor, data: LabelledData) -> None:
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


def image_sides(kind: str, data: LabelledData) -> tuple[int, int]:
    """Height and width of the images.

    Raises:
        InvalidInput: if the examples are none.
    """
    if len(data.shape) != 3:
        raise InvalidInput(
            f"'{kind}' stores images (C, H, W), but these examples have shape {data.shape}; choose pixels"
        )
    return data.shape[1], data.shape[2]
