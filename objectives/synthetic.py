"""The synthetic side: parameters that decode to points, labels and weights.

A :class:`Parameterisation` says how (plain pixels; others come later), where the parameters start, and which of labels and
weights are learned. ``slots`` fix the class of each stored example whatever its soft label becomes. Parameters live in
normalised units, as published learning rates assume; what is stored and shown is in the source's own units.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.base import Part, check_choice
from discrepancy.errors import InvalidInput
from objectives.data import LabelledData
from objectives.streams import stream

__all__ = ["Decoded", "Parameterisation", "Pixels"]

Start = Literal["noise", "real", "class-mean"]
Labels = Literal["hard", "soft"]
Weights = Literal["equal", "learned"]

LABEL_CONFIDENCE = 0.9
"""Probability that a learned label gives its own class at the start."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """The synthetic examples in normalised units, with the class and the group that each slot belongs to (on the CPU, where
    they are asked for)."""

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
    """How a synthetic set is stored, decoded and started."""

    per_class: int
    start: str

    def slots(self, data: LabelledData) -> Int[Tensor, " m"]:
        """The class of each example: ``per_class`` of every class, sorted."""
        return torch.arange(data.count).repeat_interleave(self.per_class)

    def groups(self, data: LabelledData) -> Int[Tensor, " m"]:
        """The group of each example: within a class, the groups that the class has take turns, the largest first."""
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
    def initial(self, data: LabelledData, seed: int) -> dict[str, Tensor]:
        """The parameters at the start, by name, float32 on the CPU."""

    @abstractmethod
    def from_points(self, points: Tensor, data: LabelledData) -> dict[str, Tensor]:
        """The parameters that decode to the given points (normalised units), sorted by class; for selections."""

    @abstractmethod
    def decode(self, parameters: Mapping[str, Tensor], slots: Tensor, groups: Tensor) -> Decoded:
        """Points, labels and weights, differentiable in the parameters."""

    def project(self, parameters: Mapping[str, Tensor], data: LabelledData) -> None:
        """Move the parameters, in place, to where they are allowed to be; called after every step."""


class Pixels(Parameterisation, kind="pixels"):
    """Every example is stored as it is: the parameters are the points.

    Args:
        per_class: examples of each class.
        start: ``noise`` (standard normal in normalised units), ``real`` (distinct random training examples of the class),
            ``class-mean`` (the mean of the class plus a tenth of normal noise, which tells the copies apart).
        labels: ``hard``, or ``soft``: a learned distribution softmax(ℓ) that starts with 0.9 on its own class.
        weights: ``equal``, or ``learned``: w = exp(ω), starting at 1.
        clip: keep the points within the source's range of valid values (0 to 255 for images).
    """

    per_class: int = 10
    start: Start = "real"
    labels: Labels = "hard"
    weights: Weights = "equal"
    clip: bool = False

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise InvalidInput(f"'per_class' must be at least 1, got {self.per_class}")
        for name, choices in (("start", Start), ("labels", Labels), ("weights", Weights)):
            check_choice(name, getattr(self, name), get_args(choices))

    def initial(self, data: LabelledData, seed: int) -> dict[str, Tensor]:
        parameters = self.from_points(self._start(data, seed), data)
        self.project(parameters, data)
        return parameters

    def _start(self, data: LabelledData, seed: int) -> Tensor:
        count, generator = data.count * self.per_class, stream(seed, "start")
        if self.start == "real":
            data.require(self.per_class, "start: real")
            return data.normalisation.apply(data.train.points[data.class_batch(generator, self.per_class)])
        noise = torch.randn(count, *data.shape, generator=generator)
        if self.start == "noise":
            return noise
        return data.class_means().repeat_interleave(self.per_class, 0) + 0.1 * noise

    def from_points(self, points: Tensor, data: LabelledData) -> dict[str, Tensor]:
        parameters = {"points": points}
        if self.labels == "soft":
            rest = (1 - LABEL_CONFIDENCE) / (data.count - 1)
            own = functional.one_hot(self.slots(data), data.count).float()
            parameters["labels"] = torch.log(own * (LABEL_CONFIDENCE - rest) + rest)
        if self.weights == "learned":
            parameters["weights"] = torch.zeros(len(points))
        return parameters

    def decode(self, parameters: Mapping[str, Tensor], slots: Tensor, groups: Tensor) -> Decoded:
        points = parameters["points"]
        labels = parameters["labels"].softmax(-1) if self.labels == "soft" else slots.to(points.device)
        weights = parameters["weights"].exp() if self.weights == "learned" else points.new_ones(len(points))
        return Decoded(points, weights, labels, slots, groups)

    def project(self, parameters: Mapping[str, Tensor], data: LabelledData) -> None:
        if not self.clip:
            return
        if data.limits is None:
            raise InvalidInput("'clip' is true, but this data source states no range of valid values; set it to false")
        points = parameters["points"]
        bounds = [
            data.normalisation.apply(torch.full((1, *data.shape), value, device=points.device)) for value in data.limits
        ]
        points.clamp_(min=bounds[0], max=bounds[1])
