"""A part of other real data."""

from jaxtyping import Int
from torch import Tensor

from objectives.data.examples import Examples
from objectives.data.fingerprint import Sketch, fingerprint
from objectives.data.labels import Labels
from objectives.data.real import RealData
from objectives.data.spec import DataSpec

__all__ = ["Subset"]


class Subset(RealData):
    """Those examples of other real data that have these numbers, numbered anew from 0.

    Args:
        of: the other real data.
        numbers: of the examples in it.
    """

    def __init__(self, of: RealData, numbers: Int[Tensor, " m"]) -> None:
        self.of, self.numbers = of, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def spec(self) -> DataSpec:
        return self.of.spec

    @property
    def labels(self) -> Labels:
        return self.of.labels.take(self.numbers)

    @property
    def groups(self) -> Int[Tensor, " n"] | None:
        return None if self.of.groups is None else self.of.groups[self.numbers]

    @property
    def nbytes(self) -> int:
        return self.of.nbytes * len(self) // len(self.of)

    def rows(self, numbers: Int[Tensor, " b"] | None = None) -> Examples:
        return self.of.rows(self.numbers if numbers is None else self.numbers[numbers])

    def require_rows(self, what: str) -> None:
        self.of.require_rows(what)

    def fingerprint(self) -> str:
        return fingerprint(self.rows())

    def sketch(self) -> Sketch | None:
        return None if self.of.sketch() is None else Sketch.of(self.rows().points)
