"""How far the real points lie from the synthetic ones at worst: distances of supports, which no mean can tell."""

import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import safe_root
from discrepancy.numerics.distances import block_bytes, squares
from discrepancy.parts import check_choice

__all__ = ["ORDERS", "CoveringRadius", "Norm"]

Norm = Literal["l1", "l2", "linf"]
Side = Literal["cover", "hausdorff"]

ORDERS = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
"""p of each norm."""


class CoveringRadius(SampleDiscrepancy, kind="covering_radius"):
    """The smallest η such that balls of radius η around the synthetic points cover the real ones, in the units of the points:

        cover:      sup over x of min over y of ‖x - y‖
        hausdorff:  the larger of that and sup over y of min over x of ‖x - y‖

    over points of positive weight; weights have no other effect, and no gradient. ``hausdorff`` is a metric of supports;
    ``cover`` is not symmetric, and zero as soon as every real point is also a synthetic one.

    The real points are kept. A step costs O(n m d) in float64, in blocks: memory O(n + m d) beyond the
    points. The pairs that decide are found first, then their distance is taken. The gradient is that of this distance: it moves
    one point (two or more only where distances are equal), a subgradient of the value. One example may change the value by
    any amount: sensitivity is not bounded.

    Args:
        norm: ``l1``, ``l2`` or ``linf``.
        side: ``cover`` or ``hausdorff``.

    :class:`~discrepancy.SmoothCover` moves all points.

    References: Is Adversarial Training with Compressed Datasets Effective? (Chen, Selvan, 2024),
    https://arxiv.org/abs/2402.05675, "minimal finite covering".

    Raises:
        InvalidInput: if ``norm`` or ``side`` is unknown.

    Example:
        >>> import torch
        >>> from discrepancy import CoveringRadius, Measure
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = CoveringRadius()
        >>> round(float(D(mu, nu)), 4)
        1.0
    """

    norm: Norm = "l2"
    side: Side = "cover"

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, get_args(Norm))
        check_choice("side", self.side, get_args(Side))

    @property
    def order(self) -> float:
        return ORDERS[self.norm]

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {"zero-at-equality", "nonnegative", "splits", "translation-invariant"}
        claimed |= {"differentiable", "twice-differentiable"}
        if self.side == "hausdorff":
            claimed |= {"symmetric"}
        if self.norm == "l2":  # the gradients of the others do not point at the target
            claimed |= {"pulls"}
        return frozenset(claimed)

    @property
    def degree(self) -> float:
        return 1.0

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        return {}

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        real, points = summary.real, synthetic.rows
        with torch.no_grad():
            pairs = self._deciding(real, Measure(points.detach(), synthetic.weights.detach()))
        distances = [self._distance(_at(real.rows.detach(), i), _at(points, j)) for i, j in pairs]
        # A point or weight that is not finite decides nothing, and yet must be seen.
        unseen = 0 * (points.detach().double().sum((1, 2)) + synthetic.weights.detach().double().sum(-1))
        return (torch.stack(distances).amax(0) + unseen).to(points.dtype)

    def _deciding(self, real: Measure, synthetic: Measure) -> list[tuple[Int[Tensor, " g"], Int[Tensor, " g"]]]:
        """The pair (x, y) that decides, and with both sides that of each side."""
        y = synthetic.rows.double()
        nearest_y = []  # of each x, its distance
        nearest_x = None  # of each y, its distance and number
        for tile in self._tiles(real, y, synthetic.weights > 0):
            nearest_y.append(tile.distances.min(-1))
            if self.side == "hausdorff":
                here = tile.distances.min(-2)
                if nearest_x is None:
                    nearest_x = here.values, here.indices
                else:
                    closer = here.values < nearest_x[0]
                    nearest_x = (
                        torch.where(closer, here.values, nearest_x[0]),
                        torch.where(closer, here.indices + tile.first, nearest_x[1]),
                    )
        far_x = _farthest(torch.cat([item.values for item in nearest_y], -1))
        pairs = [(far_x, _at(torch.cat([item.indices for item in nearest_y], -1), far_x))]
        if nearest_x is not None:
            far_y = _farthest(nearest_x[0])
            pairs.append((_at(nearest_x[1], far_y), far_y))
        return pairs

    def _tiles(self, real: Measure, y: Float[Tensor, "g m d"], present: Tensor) -> "Iterator[_Tile]":
        """Distances (squared for l2) of blocks of real points to all synthetic ones, infinite where one has no weight."""
        g, m, d = y.shape
        rows = max(1, block_bytes(y.device) // (y.element_size() * g * max(m, d)))
        first = 0
        for part in real.split(rows):
            x = part.rows.detach().double()
            both = (part.weights.detach() > 0)[..., None] & present[:, None]
            yield _Tile(first, torch.where(both, self._all(x, y), torch.inf))
            first += len(part)

    def _all(self, x: Float[Tensor, "g n d"], y: Float[Tensor, "g m d"]) -> Float[Tensor, "g n m"]:
        if self.norm == "l2":
            return squares(x, y)
        return torch.cdist(x, y, 1.0 if self.norm == "l1" else torch.inf)

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        differences = x.double() - y.double()
        if self.norm == "l2":
            return safe_root(differences.square().sum(-1))
        return differences.abs().sum(-1) if self.norm == "l1" else differences.abs().amax(-1)


class _Tile(NamedTuple):
    first: int
    distances: Float[Tensor, "g b m"]


def _farthest(distances: Float[Tensor, "g n"]) -> Int[Tensor, " g"]:
    """The number of the largest finite one of each group."""
    return torch.where(distances < torch.inf, distances, -torch.inf).argmax(-1)


def _at(values: Tensor, index: Int[Tensor, " g"]) -> Tensor:
    """The entry of this number in each group."""
    return values[torch.arange(len(index), device=index.device), index]
