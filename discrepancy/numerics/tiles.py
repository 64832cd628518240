"""The pairs of a sum, tile by tile: the value of the sum, its gradient, and its Hessian times a direction.

The formulas are in :mod:`discrepancy.numerics.pairwise`, where these are made into functions that can be differentiated.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.kernels import Kernel
from discrepancy.numerics import distances
from discrepancy.numerics.distances import Near, block_bytes, column_sums

__all__ = ["Pairs", "Tile"]


class Tile(NamedTuple):
    """A block of pairs: its position, the vectors of its rows in a product, their weights, and t of each pair."""

    groups: slice
    rows: slice
    columns: slice
    left: Float[Tensor, "g b D"]
    """(-2x, 1, ‖x‖²) of centred points where t is made by expansion; else x."""
    weights: Float[Tensor, "g b 1"]
    argument: Float[Tensor, "g b c"]
    near: Near | None = None
    distances: Float[Tensor, "g b c"] | None = None
    """‖x - y‖ of a tile that is computed by differences; anything where there are few coordinates."""
    gap: Float[Tensor, "g b c"] | None = None
    """Memory that such a tile reuses: allocating it anew costs as much as ten passes."""

    @property
    def at(self) -> tuple[slice, slice]:
        return self.groups, self.columns


class Pairs:
    """The pairs of one call. ``y`` has a second leading axis, replicas that share a real side (from ``torch.vmap``)."""

    def __init__(self, kernel: Kernel, x: Tensor | None, w: Tensor | None, y: Tensor, v: Tensor):
        self.kernel, self.shape, self.own, self.d = kernel, v.shape, x is None, y.shape[-1]
        self.y, self.v = self.flat(y), self.flat(v)
        self.x = self.y if x is None else x
        self.w = self.v.to(y.dtype) if w is None else w
        self.direct = kernel.radial and distances.direct(self.x, self.y)
        self.expanded = kernel.radial and not self.direct
        self.origin = kernel.origin(self.x) if self.expanded else None
        self.centred = self.y if self.origin is None else self.y - self.origin
        self.right = distances.lifted(self.centred) if self.expanded else self.y

    def flat(self, tensor: Tensor) -> Tensor:
        """Replicas become groups where each is its own real side, and further columns where they share one."""
        return tensor.flatten(0, 1) if self.own else tensor.flatten(1, 2)

    def zeros(self, *size: int) -> Tensor:
        return torch.zeros(*self.v.shape, *size, dtype=torch.float64, device=self.y.device)

    def tiles(self, slopes: bool = True) -> Iterator[Tile]:
        """All the tiles; without ``slopes``, for values alone, those on and above the diagonal of a self-sum."""
        triangle = self.own and not slopes
        (g, m, width), n = self.right.shape, self.w.shape[1]
        entries = max(1, block_bytes(self.y.device) // self.y.element_size())
        entries = max(1, entries // 4) if self.direct else entries  # passes over a tile want it close to the processor
        columns = max(1, min(m, math.isqrt(entries)))
        rows = columns if triangle else max(1, min(n, entries // max(columns, width)))
        groups = max(1, min(g, entries // (rows * max(columns, width))))
        buffer, spare = (self.y.new_empty(groups * rows * columns if kept else 0) for kept in (True, self.direct))
        for at in _slices(g, groups):
            for to in _slices(m, columns):
                for of in _slices(n, rows):
                    if triangle and of.start > to.start:
                        break
                    points = self.x[at, of]
                    left = points if self.origin is None else distances.dual(points - self.origin[at])
                    size = (points.shape[0], points.shape[1], to.stop - to.start)
                    argument = buffer[: math.prod(size)].view(size)
                    gap = spare[: math.prod(size)].view(size) if self.direct else None
                    yield self.filled(Tile(at, of, to, left, self.w[at, of, None], argument, gap=gap))

    def filled(self, tile: Tile) -> Tile:
        """The tile with its arguments."""
        argument, near, direct = tile.argument, None, self.direct
        if not direct:
            torch.bmm(tile.left, self.right[tile.at].mT, out=argument)
        if self.expanded:
            self.clear_diagonal(tile, argument, torch.inf)
            norms = tile.left[..., -1], self.right[tile.at][..., -2]
            near = distances.near_pairs(argument, *norms, distances.threshold(self.d))
            direct = near is not None and len(near.group) > distances.CROWDED * argument.numel()
        if direct:
            distances.direct_squares(*self.sides(tile), argument, tile.gap)
        elif near is not None:
            for part, gap in near.gaps(*self.sides(tile)):
                argument.index_put_(near.part(part), gap.square().sum(-1))
        if self.kernel.radial:
            self.clear_diagonal(tile, argument)
        if not direct:
            return tile._replace(near=near)
        return tile._replace(distances=argument.sqrt() if self.d > distances.FEW else argument)

    def sides(self, tile: Tile) -> tuple[Tensor, Tensor]:
        """The points of its rows and columns."""
        return self.x[tile.groups, tile.rows], self.y[tile.at]

    def clear_diagonal(self, tile: Tile, block: Tensor, value: float = 0.0) -> None:
        """Zero, or this value, where row and column are the same point."""
        if self.meets_itself(tile):
            block.diagonal(tile.rows.start - tile.columns.start, 1, 2).fill_(value)

    def meets_itself(self, tile: Tile) -> bool:
        return self.own and tile.rows.start < tile.columns.stop and tile.columns.start < tile.rows.stop

    def value(self) -> Tensor:
        potential = self.zeros()
        for tile in self.tiles(slopes=False):
            ((scale, f),) = self.kernel.profile(tile.argument, 0)
            twice = 2 if self.own and tile.rows.start < tile.columns.start else 1
            potential[tile.at].add_(column_sums(f, tile.weights)[..., 0], alpha=scale * twice)
        return (self.v * potential).view(self.shape).sum(-1)

    def value_and_gradient(self) -> tuple[Tensor, Tensor, Tensor]:
        """The value, and its derivatives with respect to y and v."""
        potential, field = self.zeros(), self.zeros(self.d + 1)
        for tile in self.tiles():
            (scale0, f0), (scale1, f1) = self.kernel.profile(tile.argument, 1)
            shared = f0 is f1 and tile.distances is None and not (self.kernel.radial and self.meets_itself(tile))
            if not shared:
                potential[tile.at].add_(column_sums(f0, tile.weights)[..., 0], alpha=scale0)
            masses, near = self.pull(field, tile, f1, tile.weights, scale1)
            if shared:
                potential[tile.at].add_(masses, alpha=scale0)
                if tile.near is not None:
                    potential.view(-1).index_add_(0, self.targets(tile), near.double(), alpha=scale0)
        twice = 2 if self.own else 1
        by_y, by_v = self.at_points(field).mul_(twice * self.v[..., None]).to(self.y.dtype), twice * potential
        return (self.v * potential).view(self.shape).sum(-1), by_y.view(*self.shape, -1), by_v.view(self.shape)

    def pull(
        self, field: Tensor, tile: Tile, factors: Tensor, weights: Tensor, scale: float
    ) -> tuple[Float[Tensor, "g c"], Float[Tensor, " k"]]:
        """Adds scale Σᵢ wᵢ factorsᵢⱼ ∂t/∂yⱼ to the field, for :meth:`at_points`; ``factors`` are overwritten.

        Σᵢ wᵢ factorsᵢⱼ comes with it, and wᵢ factorsᵢⱼ of the near pairs, which that sum leaves out.
        """
        if tile.distances is not None:
            pulls = distances.weighted_gaps(factors, weights, *self.sides(tile), tile.distances, tile.gap)
            field[tile.at][..., :-1].add_(pulls, alpha=2 * scale)
            return pulls[..., 0], pulls[0, 0]
        near, held = tile.near, weights.new_zeros(0)
        if near is not None:
            held = factors[near.part()] * weights[near.group, near.row, 0]
            factors.index_put_(near.part(), factors.new_zeros(()))
        if self.expanded:
            self.clear_diagonal(tile, factors)
        # The weights ride as one more column of the right factor, so no pass over the tile applies them.
        weighted = tile.left[..., :-1] * weights if self.expanded else torch.cat([tile.left * weights, weights], -1)
        sums = column_sums(factors, weighted)
        field[tile.at].add_(sums, alpha=scale)
        if near is not None:
            targets, pulls = self.targets(tile), field.view(-1, self.d + 1)[:, :-1]
            for part, gap in near.gaps(*self.sides(tile)):
                pulls.index_add_(0, targets[part], (held[part, None] * gap).double(), alpha=-2 * scale)
        return sums[..., -1], held

    def targets(self, tile: Tile) -> Tensor:
        """The numbers of the columns of near pairs, over all groups."""
        assert tile.near is not None
        return (tile.near.group + tile.groups.start) * self.v.shape[1] + (tile.near.column + tile.columns.start)

    def at_points(self, field: Tensor) -> Tensor:
        """The derivative by y from what :meth:`pull` added up: Σ -2x and Σ 1, where t is made by expansion."""
        return field[..., :-1] + 2 * field[..., -1:] * self.centred if self.expanded else field[..., :-1]

    def hessian_times(self, dy: Tensor, dv: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of both gradients in the direction (dy, dv)."""
        dy, dv = self.flat(dy), self.flat(dv)
        v, speed, radial = self.v.to(dy.dtype)[:, None], dv.to(dy.dtype)[:, None], self.kernel.radial
        by_v, bending, turning, moving = self.zeros(), *(self.zeros(self.d + 1) for _ in range(3))
        for tile in self.tiles():
            along = self.along(tile, dy)
            (scale0, f0), (scale1, f1), (scale2, f2) = self.kernel.profile(tile.argument, 2)
            along1 = f1 * along
            by_v[tile.at].add_(column_sums(along1, tile.weights)[..., 0], alpha=scale1)
            along2 = along1 if f1 is f2 else f2 * along
            bent = along2.mul_(scale2 * v[tile.groups, :, tile.columns]).add_(
                f1 * (scale1 * speed[tile.groups, :, tile.columns])
            )
            self.pull(bending, tile, bent, tile.weights, 1.0)
            if radial:
                moving[tile.at][..., -1].add_(column_sums(f1, tile.weights)[..., 0], alpha=scale1)
            if self.own:
                growing = speed[tile.groups, 0, tile.rows, None]
                by_v[tile.at].add_(column_sums(f0, growing)[..., 0], alpha=scale0)
                weighted = (-2 if radial else 1) * dy[tile.groups, tile.rows] * tile.weights
                moving[tile.at][..., :-1].add_(column_sums(f1, weighted), alpha=scale1)
                self.pull(turning, tile, f1, growing, scale1)
        turned = self.at_points(turning) + moving[..., :-1] + 2 * moving[..., -1:] * dy
        by_y, twice = self.at_points(bending) + self.v[..., None] * turned, 2 if self.own else 1
        return (twice * by_y).to(dy.dtype).view(*self.shape, -1), (twice * by_v).view(self.shape)

    def along(self, tile: Tile, dy: Tensor) -> Tensor:
        """The change of t in the direction dy, of both points in a self-sum."""
        there, here = dy[tile.at], dy[tile.groups, tile.rows] if self.own else None
        x, y = self.sides(tile)
        if tile.distances is not None:
            found = torch.zeros_like(tile.distances)
            for at in _slices(self.d, max(1, distances.CHUNK // found.numel())):
                move = there[:, None, :, at] if here is None else there[:, None, :, at] - here[:, :, None, at]
                found.add_(((y[:, None, :, at] - x[:, :, None, at]) * move).sum(-1), alpha=2)
            return found
        if not self.expanded:
            found = x @ there.mT
            return found if here is None else found + here @ y.mT
        centred, ones = self.centred[tile.at], torch.ones_like(there[..., :1])
        speed = 2 * (centred * there).sum(-1, keepdim=True)
        found = tile.left[..., :-1] @ torch.cat([there, speed], -1).mT
        if here is not None:
            speed = -(tile.left[..., :-2] * here).sum(-1, keepdim=True)
            found += torch.cat([here, speed], -1) @ torch.cat([-2 * centred, ones], -1).mT
        if tile.near is not None:
            moves = tile.near.gaps(torch.zeros_like(x) if here is None else here, there)
            for (part, gap), (_, move) in zip(tile.near.gaps(x, y), moves, strict=True):
                found.index_put_(tile.near.part(part), 2 * (gap * move).sum(-1))
        self.clear_diagonal(tile, found)
        return found


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]
