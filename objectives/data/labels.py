"""Labels of examples: of which kind they are, and their values."""

import functools
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice
from objectives.data.units import Normalisation

__all__ = ["Kind", "Labels", "predicted_classes"]

Kind = Literal["hard", "soft", "scores", "teacher", "targets", "none"]

AXES = {"hard": 1, "soft": 2, "scores": 2, "teacher": 2, "targets": 2, "none": None}
"""Of the values of each kind."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of n examples.

    ==========  ==================================================================================================
    kind        values
    ==========  ==================================================================================================
    hard        class numbers (n,)
    soft        distributions over c classes (n, c), given with the data or learned
    teacher     distributions over c classes (n, c), predicted by a teacher
    scores      any real numbers, one for each class (n, c), which a least-squares learner predicts
    targets     real numbers (n, k) of a regression, in their own units; ``units`` normalise them
    none        None
    ==========  ==================================================================================================

    ``slots`` are the classes (n,) that the examples were made for, where the values do not say: of scores, and where an example
    has the labels of a teacher.

    Raises:
        InvalidInput: if the values are not of their kind.
    """

    kind: Kind = "none"
    values: Tensor | None = None
    units: Normalisation | None = None
    slots: Int[Tensor, " n"] | None = None

    def __post_init__(self) -> None:
        if self.kind not in AXES:
            check_choice("kind", self.kind, AXES)
        axes = AXES[self.kind]
        found = None if self.values is None else self.values.ndim
        if found != axes:
            raise InvalidInput(f"labels of kind '{self.kind}' must have {axes or 'no'} axes, got {found or 'none'}")
        if (self.units is None) != (self.kind != "targets"):
            raise InvalidInput(
                "'units' are those of targets; give them with labels of kind 'targets', and with no others"
            )
        if self.slots is not None and (self.values is None or len(self.slots) != len(self.values)):
            raise InvalidInput(f"{len(self.slots)} slots do not fit the labels; there must be one a label")

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return self.values is not None

    @functools.cached_property
    def of_classes(self) -> bool:
        """Whether they are those of classes: numbers, distributions or scores."""
        return self.kind not in ("targets", "none")

    @property
    def nbytes(self) -> int:
        return 0 if self.values is None else self.values.nbytes

    @property
    def rows(self) -> Tensor:
        """The values; labels of kind ``none`` have none, and the caller has asked :attr:`given` before."""
        assert self.values is not None
        return self.values

    @functools.cached_property
    def numbers(self) -> Int[Tensor, " n"]:
        """The class of each example: the one that it was made for where that is known, else its most likely one."""
        assert self.values is not None
        assert self.kind != "targets"
        if self.slots is not None:
            return self.slots
        return self.values.long() if self.kind == "hard" else self.values.argmax(1)

    def vectors(self, classes: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "n c"] | None:
        """One row for each example: distributions or scores as they are; in ``dtype``, class numbers one-hot and targets in
        normalised units; None without labels."""
        if self.values is None:
            return None
        if self.units is not None:
            return self.units.apply(self.values, dtype)
        return functional.one_hot(self.values.long(), classes).to(dtype) if self.kind == "hard" else self.values

    def take(self, rows: Tensor) -> "Labels":
        """Those of the examples with these numbers, in this order."""
        if self.values is None:
            return self
        slots = None if self.slots is None else self.slots[rows.to(self.slots.device)]
        return replace(self, values=self.values[rows], slots=slots)

    def to(self, device: torch.device) -> "Labels":
        """The same on a device."""
        if self.values is None:
            return self
        slots = None if self.slots is None else self.slots.to(device)
        return replace(self, values=self.values.to(device), slots=slots)


def predicted_classes(outputs: Float[Tensor, "n c"]) -> Int[Tensor, " n"]:
    """The class with the largest output of a network; -1, which is no class, where an output is NaN."""
    return outputs.argmax(1).masked_fill(outputs.isnan().any(1), -1)
