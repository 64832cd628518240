"""A real side that is changed before it is embedded: attacked, corrupted, weighed anew."""

from abc import abstractmethod

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from discrepancy.parts import Part
from objectives.data.cache import Cache, Kept
from objectives.data.examples import Examples
from objectives.data.labels import Labels
from objectives.data.real import RealData
from objectives.data.spec import DataSpec, Described

__all__ = ["BLOCK", "ChangedPoints", "ChangedWeights", "RealTransform", "Wrapped", "left_of"]

BLOCK = 512
"""Examples that are changed together: which these are depends on their numbers alone, and not on who asks for them."""


def left_of(n: int, kept: Kept | None) -> int:
    """Of ``n`` examples, those that are not kept."""
    return sum(min(BLOCK, n - first) for first in range(0, n, BLOCK) if kept is None or not kept.has(first // BLOCK))


class RealTransform(Part, family=True):
    """A map of the real side, P ↦ P', that does not depend on the synthetic set. Numbers, labels and groups stay."""

    @abstractmethod
    def check(self, data: Described) -> None:
        """Refuse data that it cannot change, before anything is read.

        Raises:
            InvalidInput: saying what it needs.
        """

    @abstractmethod
    def applied(self, data: RealData, seed: int, device: torch.device, cache: Cache | None = None) -> RealData:
        """The changed real side. What takes long to compute is read from the cache where it is there, and kept there if not."""

    def kept(self, data: RealData, seed: int, device: torch.device, cache: Cache | None) -> Kept | None:
        """What the cache has, or will have, of the changed real side; None where nothing is kept."""
        return None

    def passes(self, data: RealData, kept: Kept | None = None) -> int:
        """Forward passes of one example that changing all of them takes, a backward pass counted as two.

        Args:
            kept: what need not be computed again.
        """
        return 0


class Wrapped(RealData):
    """Real data with the numbers, labels and groups of others.

    Args:
        of: the others.
    """

    def __init__(self, of: RealData) -> None:
        of.require_rows("a transform of the real side")
        self.of = of

    def __len__(self) -> int:
        return len(self.of)

    @property
    def spec(self) -> DataSpec:
        return self.of.spec

    @property
    def labels(self) -> Labels:
        return self.of.labels

    @property
    def groups(self) -> Int[Tensor, " n"] | None:
        return self.of.groups

    @property
    def nbytes(self) -> int:
        return self.of.nbytes

    def fingerprint(self) -> str:
        return self.of.fingerprint()


class ChangedPoints(Wrapped):
    """Real data whose points are changed, in blocks, when they are first asked for, and then kept in memory.

    Args:
        of: the real data.
        kept: blocks on a disk; None for none.
    """

    def __init__(self, of: RealData, kept: Kept | None = None) -> None:
        super().__init__(of)
        self._points: Tensor | None = None
        self._made = torch.zeros(-(-len(of) // BLOCK), dtype=torch.bool)
        self._kept = kept

    @abstractmethod
    def changed(self, examples: Examples, block: int) -> Shaped[Tensor, "b ..."]:
        """The points of a block of examples, changed, in the units and the type of the source."""

    def rows(self, numbers: Int[Tensor, " b"] | None = None) -> Examples:
        wanted = torch.arange(len(self)) if numbers is None else numbers
        for block in torch.unique(wanted // BLOCK).tolist():
            if not self._made[block]:
                self._make(block)
        assert self._points is not None
        return self.of.rows(wanted).with_points(self._points.index_select(0, wanted))

    def _make(self, block: int) -> None:
        first = block * BLOCK
        examples = self.of.rows(torch.arange(first, min(first + BLOCK, len(self))))
        points = None if self._kept is None else self._kept.read(block, examples.points.cpu())
        if points is None:
            points = self.changed(examples, block).cpu()
            if self._kept is not None:
                self._kept.write(block, examples.points.cpu(), points)
        if self._points is None:
            self._points = torch.empty((len(self), *points.shape[1:]), dtype=points.dtype)
        self._points[first : first + len(points)] = points
        self._made[block] = True


class ChangedWeights(Wrapped):
    """Real data whose examples have weights of their own; the points are those of the others."""

    @property
    @abstractmethod
    def weights(self) -> Float[Tensor, " n"]:
        """The weights of all the examples, on the CPU."""

    def rows(self, numbers: Int[Tensor, " b"] | None = None) -> Examples:
        return self.of.rows(numbers).with_weights(self.weights if numbers is None else self.weights[numbers])
