"""Nearest neighbours, exact, at memory n + m, and the estimate of the Kullback-Leibler divergence that they give.

Distances are made in tiles, in float64 (:mod:`discrepancy.numerics.distances`); those that are kept are computed once more from
the differences, so that a distance of zero is zero. Points that coincide count as one point with the sum of their weights: a
point and its copies are then never each other's neighbours, every radius within a sample is positive, and splitting a point
changes nothing. A ball counts as closed, with a slack of some roundings of float64.

A weighted point has no place in a count, but a ball of k neighbours has a mass: the weight of the points in it. That is what
stands for k/n here and in :mod:`discrepancy.divergences.manifold`; equal weights give k/n again.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.arguments import checked_arguments
from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.numerics.distances import block_bytes, squares
from discrepancy.parts import check_choice

__all__ = [
    "Balls",
    "NeighbourKL",
    "Sample",
    "blocks",
    "check_count",
    "held",
    "nearest_distances",
    "own_balls",
    "samples",
]

SLACK = 1e-12
"""Two squared distances are taken for equal where they differ by less than this share of them."""


class NeighbourKL(SampleDiscrepancy, kind="neighbour_kl"):
    """The Kullback-Leibler divergence of two densities, estimated by the distances to nearest neighbours.

        KL(P‖Q) ≈ d/n Σᵢ log(νₖ(i) / ρₖ(i)) + log(m / (n - 1)),

    with ρₖ(i) the distance from xᵢ to its k-th neighbour among the other x and νₖ(i) to the k-th among the y. With weights it
    is Σᵢ wᵢ log(p̂(xᵢ) / q̂(xᵢ)), p̂(xᵢ) = Wᵢ / ((1 - wᵢ) ρₖ(i)ᵈ) and q̂(xᵢ) = Vᵢ / νₖ(i)ᵈ, where Wᵢ and Vᵢ are the weights of the
    k neighbours: for equal weights the formula above, for importance weights an estimate for the weighted measure.

    An estimate of a divergence, for reports: at times negative, and not zero at equality. It presumes densities on all of Rᵈ;
    on points near a surface of lower dimension d is too large, and values serve for comparing only. Coinciding points of one
    side are one point (see the module). Where xᵢ coincides with a y and k = 1, νₖ is the distance to the next y, and Vᵢ
    counts both, so the value is always finite.

    Points (n, d) and (m, d), at least k + 1 distinct ones a side. The summary holds the points, ρₖ and Wᵢ. Time n² d once and
    n m d a comparison (reverse: m² d and n m d), memory n + m. Sensitivity: not bounded.

    Args:
        k: which neighbour.
        direction: ``"forward"`` KL(real‖synthetic), ``"reverse"`` KL(synthetic‖real), or ``"jeffreys"``, their sum.

    References: Divergence Estimation for Multidimensional Densities Via k-Nearest-Neighbor Distances (Wang, Kulkarni, Verdú,
    2009, IEEE Transactions on Information Theory 55).

    Raises:
        InvalidInput: if ``k`` is below 1 or ``direction`` unknown; on use, for fewer than k + 1 distinct points a side.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, NeighbourKL
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [3.0]]))
        >>> nu = Measure(torch.tensor([[0.5], [4.0], [7.0]]))
        >>> D = NeighbourKL(k=1)
        >>> round(float(D(mu, nu)), 4)
        -0.2877
    """

    k: int = 5
    direction: Literal["forward", "reverse", "jeffreys"] = "forward"

    def __post_init__(self) -> None:
        check_count("k", self.k)
        check_choice("direction", self.direction, ("forward", "reverse", "jeffreys"))

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {"translation-invariant", "splits"}
        if self.direction == "jeffreys":
            claimed |= {"symmetric"}
        return frozenset(claimed)

    @property
    def degree(self) -> float:
        return 0.0

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        if self.direction == "reverse":
            return {}
        balls = [own_balls(sample, self.k, self.kind, "real") for sample in samples(real)]
        return {
            "radius": torch.stack([ball.radius for ball in balls]),
            "density": torch.stack([ball.mass / ball.others for ball in balls]),
        }

    @torch.no_grad()
    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """The estimate of each group.

        Raises:
            InvalidInput: if a group has fewer than k + 1 distinct points on a side.
        """
        values = []
        for group, (x, y) in enumerate(zip(samples(summary.real), samples(synthetic), strict=True)):
            value = torch.zeros((), dtype=torch.float64, device=y.points.device)
            if self.direction != "reverse":
                kept = x.weights > 0
                radius, density = (summary.constants[name][group][kept] for name in ("radius", "density"))
                value = value + self._one_way(x, radius, density, y, "synthetic")
            if self.direction != "forward":
                kept = y.weights > 0
                own = own_balls(y, self.k, self.kind, "synthetic")
                value = value + self._one_way(y, own.radius[kept], (own.mass / own.others)[kept], x, "real")
            values.append(value)
        return torch.stack(values).to(synthetic.rows.dtype)

    def _one_way(self, x: "Sample", radius: Tensor, density: Tensor, y: "Sample", side: str) -> Float[Tensor, ""]:
        """KL of the law of x from that of y, with what is known of x already."""
        kept = x.weights > 0
        points, weights, _ = y.distinct()
        _check_enough(len(points), self.k, self.kind, side)
        other, mass = _neighbours(x.points[kept], points, weights, self.k, exclude_self=False)
        ratio = x.points.shape[1] * (other.log() - radius.log()) + density.log() - mass.log()
        return (x.weights[kept] * ratio).sum()


class Sample(NamedTuple):
    """The points of one group and their shares, zero for padding."""

    points: Float[Tensor, "n d"]
    weights: Float[Tensor, " n"]

    def distinct(self) -> tuple[Float[Tensor, "u d"], Float[Tensor, " u"], Int[Tensor, " k"]]:
        """The distinct points of positive weight, the sums of their weights, and which of them each such point is."""
        kept = self.weights > 0
        points, inverse = torch.unique(self.points[kept], dim=0, return_inverse=True)
        weights = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        return points, weights.index_add(0, inverse, self.weights[kept]), inverse


class Balls(NamedTuple):
    """The ball of each point that reaches to its k-th neighbour: its radius, the mass of the k, the mass of all others.

    Where a point has no weight: -1, 1 and 1.
    """

    radius: Float[Tensor, " n"]
    mass: Float[Tensor, " n"]
    others: Float[Tensor, " n"]


def samples(measure: Measure) -> Iterator[Sample]:
    """The groups one by one."""
    yield from map(Sample, measure.rows.detach(), measure.shares.detach())


def check_count(name: str, value: int) -> None:
    if value < 1:
        raise InvalidInput(f"'{name}' must be at least 1, got {value}")


@torch.no_grad()
def own_balls(sample: Sample, k: int, kind: str, side: str) -> Balls:
    """The balls of a sample's points within the sample itself.

    Raises:
        InvalidInput: if there are fewer than k + 1 distinct points.
    """
    points, weights, inverse = sample.distinct()
    _check_enough(len(points), k, kind, side)
    radius, mass = _neighbours(points, points, weights, k, exclude_self=True)
    # 1 - w rounds to less than the mass of the neighbours where one point has almost all the mass.
    others = torch.maximum(1 - weights, mass)
    blank, kept = torch.ones_like(sample.weights), sample.weights > 0
    return Balls(
        (-blank).masked_scatter(kept, radius[inverse]),
        blank.masked_scatter(kept, mass[inverse]),
        blank.masked_scatter(kept, others[inverse]),
    )


def _check_enough(count: int, k: int, kind: str, side: str) -> None:
    if count <= k:
        raise InvalidInput(
            f"'{kind}' with k = {k} needs at least {k + 1} distinct points in every group, got {count} on the {side} side; "
            f"give a smaller 'k' or more points"
        )


def _neighbours(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], v: Float[Tensor, " m"], k: int, exclude_self: bool
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """How far the k-th neighbour of each xᵢ among distinct y is, and the weight of the k (k + 1 where that is at zero).

    Where several lie at that very distance, they share the places that are left evenly.
    """
    distances = nearest_distances(x, y, k if exclude_self else k + 1, exclude_self)
    radius, count = distances[:, k - 1], torch.full((len(x),), k, dtype=torch.float64, device=x.device)
    if not exclude_self:
        touching = radius == 0
        radius, count = torch.where(touching, distances[:, k], radius), count + touching
    if bool((v == v[0]).all()):
        return radius, count * v[0]
    inside, closed = held(x, y, radius.square()[:, None], torch.stack([v, torch.ones_like(v)], 1), exclude_self)
    weight, number = (closed - inside).unbind(1)
    return radius, inside[:, 0] + (count - inside[:, 1]) * weight / number


@checked_arguments
@torch.no_grad()
def nearest_distances(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], k: int, exclude_self: bool = False
) -> Float[Tensor, "n k"]:
    """The distances from each xᵢ to its k nearest yⱼ, ascending, in float64; without j = i where x is y (``exclude_self``).

    Time n m d, memory n k and a tile.

    Raises:
        InvalidInput: if there are fewer than k points to choose from.

    Example:
        >>> import torch
        >>> from discrepancy.divergences import nearest_distances
        >>> x = torch.tensor([[0.0], [1.0], [3.0]])
        >>> nearest_distances(x, x, 1, exclude_self=True)[:, 0].tolist()
        [1.0, 1.0, 2.0]
    """
    if len(y) - exclude_self < k:
        raise InvalidInput(f"{k} neighbours need as many other points, got {len(y) - exclude_self}; ask for fewer")
    distances = torch.empty(len(x), k, dtype=torch.float64, device=x.device)
    found: list[tuple[Tensor, Tensor]] = []
    for rows, columns, squared, _ in _tiles(x, y):
        if exclude_self:
            _diagonal(rows, columns, squared).fill_(math.inf)
        best, index = squared.topk(min(k, squared.shape[1]), 1, largest=False)
        found.append((best, index + columns.start))
        if len(found) > 1:
            best, index = (torch.cat(pair, 1) for pair in zip(*found, strict=True))
            best, chosen = best.topk(min(k, best.shape[1]), 1, largest=False)
            found = [(best, index.gather(1, chosen))]
        if columns.stop == len(y):
            here = x[rows].double()
            exact = [(here - y[column].double()).norm(dim=1) for column in found[0][1].unbind(1)]
            distances[rows] = torch.stack(exact, 1).sort(1).values
            found = []
    return distances


@torch.no_grad()
def held(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    squared_radii: Float[Tensor, "#n #m"],
    values: Float[Tensor, "m p"],
    exclude_self: bool = False,
) -> tuple[Float[Tensor, "n p"], Float[Tensor, "n p"]]:
    """Σⱼ valuesⱼ over the j with ‖xᵢ - yⱼ‖ < rᵢⱼ, and with ‖xᵢ - yⱼ‖ <= rᵢⱼ; the radii belong to x (n, 1) or to y (1, m)."""
    inside = torch.zeros(len(x), values.shape[1], dtype=torch.float64, device=x.device)
    closed = torch.zeros_like(inside)
    radii = squared_radii.expand(len(x), len(y))
    for rows, columns, squared, slack in _tiles(x, y):
        if exclude_self:
            _diagonal(rows, columns, squared).fill_(math.inf)
        gap = squared - radii[rows, columns]
        inside[rows] += (gap < -slack).double() @ values[columns]
        closed[rows] += (gap <= slack).double() @ values[columns]
    return inside, closed


def blocks(n: int, m: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """The tiles of an n x m table within the byte budget of float64, row of tiles by row of tiles."""
    entries = max(1, block_bytes(device) // 8)
    wide = max(1, min(m, math.isqrt(entries)))
    high = max(1, min(n, entries // wide))
    for row in range(0, n, high):
        for column in range(0, m, wide):
            yield slice(row, min(row + high, n)), slice(column, min(column + wide, m))


def _tiles(x: Tensor, y: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Rows, columns, ‖xᵢ - yⱼ‖² in float64 (may be written to), and by how much that may be off."""
    for rows, columns in blocks(len(x), len(y), x.device):
        squared = squares(x[rows].double(), y[columns].double())
        yield rows, columns, squared, SLACK * squared


def _diagonal(rows: slice, columns: slice, tile: Tensor) -> Tensor:
    """The entries (i, i) of the whole table that lie in this tile."""
    offset = rows.start - columns.start
    return tile.diagonal(offset) if -tile.shape[0] < offset < tile.shape[1] else tile[:0]
