"""Weights of terms that change in the course of a run."""

from abc import abstractmethod
from dataclasses import replace

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part, check_least

__all__ = ["LinearWeight", "StepWeight", "WeightSchedule"]


class WeightSchedule(Part, family=True):
    """A weight for every step of a run."""

    @abstractmethod
    def at(self, step: int, steps: int) -> float:
        """The weight at a step, of so many."""

    @abstractmethod
    def scaled(self, factor: float) -> "WeightSchedule":
        """The same, multiplied by a factor."""


class LinearWeight(WeightSchedule, kind="linear"):
    """w(t) = start + (end - start) min(t / over, 1), at the steps t = 0, 1, ...

    Args:
        start: the weight at the first step.
        end: the weight from step ``over`` on.
        over: steps; those of the run minus one where it is None.
    """

    start: float = 0.0
    end: float = 1.0
    over: int | None = None

    def __post_init__(self) -> None:
        if self.over is not None:
            check_least("over", self.over, 1)

    def at(self, step: int, steps: int) -> float:
        over = max(steps - 1, 1) if self.over is None else self.over
        return self.start + (self.end - self.start) * min(step / over, 1.0)

    def scaled(self, factor: float) -> "LinearWeight":
        return replace(self, start=factor * self.start, end=factor * self.end)


class StepWeight(WeightSchedule, kind="steps"):
    """w(t) = values[k] from step changes[k-1] on; ``values`` has one entry more than ``changes``, and begins at the first step.

    Raises:
        InvalidInput: if the numbers of values and changes do not fit, or changes are not increasing steps >= 1.
    """

    values: tuple[float, ...] = (1.0,)
    changes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) != len(self.changes) + 1:
            raise InvalidInput(
                f"'values' must have one entry more than 'changes', got {len(self.values)} and {len(self.changes)}"
            )
        if list(self.changes) != sorted(set(self.changes)) or any(change < 1 for change in self.changes):
            raise InvalidInput(f"'changes' must be steps >= 1 in increasing order, got {self.changes}")

    def at(self, step: int, steps: int) -> float:
        return self.values[sum(change <= step for change in self.changes)]

    def scaled(self, factor: float) -> "StepWeight":
        return replace(self, values=tuple(factor * value for value in self.values))
