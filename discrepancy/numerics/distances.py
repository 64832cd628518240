"""Squared distances, each with a relative error at rounding level, wherever the other points lie.

By expansion, ‖x - y‖² = ‖x‖² + ‖y‖² - 2⟨x, y⟩ is one matrix product, with an error of a few roundings of ‖x‖² + ‖y‖². So
the pairs with ‖x - y‖² < τ (‖x‖² + ‖y‖²), which are called *near*, are computed again from their differences. The origin is
a mean of points, and τ (:func:`threshold`) is so small that few pairs of an ordinary cloud are near.

Where many pairs are near (clusters that lie far apart), or points have three coordinates at most, everything in a tile is
computed by differences: the tile is *direct*. On an accelerator the host has to wait for the length of a list of pairs. So
there a tile is direct wherever all its differences fit into a block, and the host waits once for each larger tile.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "BLOCK_BYTES",
    "CROWDED",
    "Centred",
    "FEW",
    "Near",
    "Table",
    "block_bytes",
    "column_sums",
    "direct",
    "direct_squares",
    "dual",
    "flat",
    "lifted",
    "near_pairs",
    "pull",
    "squares",
    "table",
    "threshold",
    "weighted_gaps",
]

BLOCK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
"""Bytes of one tile by type of device: what stays in the cache of a CPU, what fills a GPU."""

FEW = 3
"""Coordinates up to which differences cost about as much as a matrix product."""

CROWDED = 1 / 8
"""The share of near pairs from which on all pairs of a tile are computed by differences."""

CHUNK = 1 << 20
"""Entries of the differences that are held at once."""

DIRECT = 1 << 14
"""Pairs times coordinates up to which differences are faster than anything else on a CPU."""


class Near(NamedTuple):
    """Near pairs of a tile: their groups, rows and columns in it."""

    group: Int[Tensor, " k"]
    row: Int[Tensor, " k"]
    column: Int[Tensor, " k"]

    def part(self, part: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """Some of the pairs, as an index of the tile."""
        return self.group[part], self.row[part], self.column[part]

    def gaps(
        self, x: Float[Tensor, "g b d"], y: Float[Tensor, "g c d"]
    ) -> Iterator[tuple[slice, Float[Tensor, "k d"]]]:
        """xᵢ - yⱼ, some of the pairs at a time."""
        step = max(1, CHUNK // max(1, x.shape[-1]))
        left, right = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        rows, columns = self.group * x.shape[1] + self.row, self.group * y.shape[1] + self.column
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            yield part, left.index_select(0, rows[part]) - right.index_select(0, columns[part])


def block_bytes(device: torch.device) -> int:
    """The bytes of one tile on this device."""
    return BLOCK_BYTES.get(device.type, BLOCK_BYTES["cpu"])


def threshold(d: int) -> float:
    """τ: of pairs of standard normal points less than 5 in 100,000 are near."""
    return min(max(d**2 / 4096, 1 / 128), 1 / 16)


def direct(x: Float[Tensor, "g n d"], y: Float[Tensor, "g m d"]) -> bool:
    """Whether all pairs are computed by differences from the start."""
    g, n, d = x.shape
    entries = g * n * y.shape[1] * d
    most = DIRECT if x.device.type == "cpu" else block_bytes(x.device) // x.element_size()
    return d <= FEW or entries <= most


def direct_squares(
    x: Float[Tensor, "g b d"],
    y: Float[Tensor, "g c d"],
    out: Float[Tensor, "g b c"] | None = None,
    gap: Float[Tensor, "g b c"] | None = None,
) -> Float[Tensor, "g b c"]:
    """‖xᵢ - yⱼ‖² of all pairs by differences; ``gap`` is memory that may be used."""
    if not 0 < x.shape[-1] <= FEW:
        found = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square_()
        return found if out is None else out.copy_(found)
    x, y = x.mT[..., None], y.mT.contiguous()[:, :, None]
    out = torch.sub(x[:, 0], y[:, 0], out=out).square_()
    for k in range(1, x.shape[1]):
        if gap is None:  # vmap has a rule for this, and none for addcmul_
            out.add_(torch.sub(x[:, k], y[:, k]).square_())
        else:
            out.addcmul_(torch.sub(x[:, k], y[:, k], out=gap), gap)
    return out


def weighted_gaps(
    factors: Float[Tensor, "g b c"],
    weights: Float[Tensor, "g b 1"],
    x: Float[Tensor, "g b d"],
    y: Float[Tensor, "g c d"],
    distances: Float[Tensor, "g b c"],
    gap: Float[Tensor, "g b c"] | None = None,
) -> Float[Tensor, "g c d"]:
    """Σᵢ wᵢ factorsᵢⱼ (yⱼ - xᵢ) by differences, from ‖xᵢ - yⱼ‖, which few coordinates do not need."""
    if not 0 < x.shape[-1] <= FEW:
        return torch.ops.aten._cdist_backward(  # pyright: ignore[reportReturnType]
            (factors * distances).mul_(weights).mT.contiguous(),
            y.contiguous(),
            x.contiguous(),
            2.0,
            distances.mT.contiguous(),
        )
    sums = []
    x, y = x.mT[..., None], y.mT.contiguous()[:, :, None]
    for k in range(x.shape[1]):
        gap = torch.sub(y[:, k], x[:, k], out=gap)
        sums.append(column_sums(gap.mul_(factors), weights))
    return torch.cat(sums, -1)


def column_sums(factors: Float[Tensor, "g b c"], weights: Float[Tensor, "g b k"]) -> Float[Tensor, "g c k"]:
    """Σᵢ factorsᵢⱼ weightsᵢₖ; for few k this order of the two is up to four times as fast as factorsᵀ @ weights."""
    return (weights.mT @ factors).mT


def lifted(points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n D"]:
    """(x, ‖x‖², 1): ⟨dual(x), lifted(y)⟩ is ‖x - y‖² by expansion."""
    norms = points.square().sum(-1, keepdim=True)
    return torch.cat([points, norms, torch.ones_like(norms)], -1)


def dual(points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n D"]:
    """(-2x, 1, ‖x‖²)."""
    norms = points.square().sum(-1, keepdim=True)
    return torch.cat([-2 * points, torch.ones_like(norms), norms], -1)


def near_pairs(
    squared: Float[Tensor, "g b c"], x_norms: Float[Tensor, "g b"], y_norms: Float[Tensor, "g c"], share: float
) -> Near | None:
    """The pairs with ``squared`` < share (‖x‖² + ‖y‖²); None if there is none. The host waits for their number."""
    # The least of each row tells for nearly all rows that there is none in them: ‖x - y‖ < √τ (‖x‖ + ‖y‖) bounds ‖y‖.
    longest = ((1 + share**0.5) / (1 - share**0.5)) ** 2
    rows = (squared.amin(-1) < share * (1 + longest) * x_norms).view(-1).nonzero()[:, 0]
    if not len(rows):
        return None
    (groups, height, columns), table = squared.shape, squared.view(-1, squared.shape[2])
    bounds, group = x_norms.reshape(-1), rows // height if groups > 1 else None
    if len(rows) < len(table):
        table, bounds = table.index_select(0, rows), bounds.index_select(0, rows)
    of_columns = y_norms if group is None else y_norms.index_select(0, group)
    place = _true_places(table < share * bounds[:, None] + share * of_columns)
    which = place // columns
    row = rows.index_select(0, which)
    group = row // height if groups > 1 else torch.zeros_like(row)
    return Near(group, row - group * height, place - which * columns) if len(place) else None


def _true_places(mask: Tensor) -> Int[Tensor, " k"]:
    """Where the flattened mask is true: eight entries at a time, since ``nonzero`` is slow where some are."""
    flat = mask.flatten()
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8))
    words = flat.view(torch.int64).nonzero()[:, 0]
    word, place = flat.view(-1, 8)[words].nonzero(as_tuple=True)
    return words[word] * 8 + place


class Table(NamedTuple):
    """‖xᵢ - yⱼ‖² of all pairs, and how they were made."""

    squared: Float[Tensor, "g n m"]
    near: Near | None = None
    direct: bool = False

    @property
    def turned(self) -> "Table":
        """The same with rows for columns."""
        near = None if self.near is None else Near(self.near.group, self.near.column, self.near.row)
        return Table(self.squared.mT, near, self.direct)


class Centred(NamedTuple):
    """Points about the origin of a product, and their squared norms."""

    points: Float[Tensor, "g n d"]
    norms: Float[Tensor, "g n"]


def table(
    x: Float[Tensor, "g n d"], y: Float[Tensor, "g m d"], centred: tuple[Centred, Centred] | None = None
) -> Table:
    """The squared distances of all pairs, without gradient; both sides ``centred`` about one origin where that is known."""
    if not (x.numel() and y.numel()) or direct(x, y):
        return Table(direct_squares(x, y), direct=True)
    if centred is None:
        centre = _centre(x)
        left, right = dual(x - centre), lifted(y - centre)
        norms, found = (left[..., -1], right[..., -2]), left @ right.mT
    else:
        (here, of_x), (there, of_y) = centred
        norms, found = (of_x, of_y), (of_x[..., None] + of_y[:, None]).baddbmm_(here, there.mT, alpha=-2)
    near = near_pairs(found, *norms, threshold(x.shape[-1]))
    if near is None:
        return Table(found)
    if len(near.group) > CROWDED * found.numel():
        return Table(direct_squares(x, y, found), direct=True)
    for part, gap in near.gaps(x, y):
        found[near.part(part)] = gap.square().sum(-1)
    return Table(found, near)


def pull(
    found: Table, factors: Float[Tensor, "g n m"], x: Float[Tensor, "g n d"], y: Float[Tensor, "g m d"]
) -> Float[Tensor, "g n d"]:
    """Σⱼ Gᵢⱼ (xᵢ - yⱼ), with the ``factors`` G and the table of x and y."""
    if found.direct:
        return weighted_gaps(factors.mT, torch.ones_like(y[..., :1]), y, x, found.squared.mT.sqrt())
    near, far = found.near, factors
    if near is not None:
        far = factors.index_put(near.part(), factors.new_zeros(()))
    centre = _centre(x)
    pulled = (x - centre) * far.sum(2)[..., None] - far @ (y - centre)
    if near is not None:
        for part, gap in near.gaps(x, y):
            group, row, column = near.part(part)
            each = factors[group, row, column][:, None] * gap
            pulled.view(-1, x.shape[-1]).index_add_(0, group * x.shape[1] + row, each)
    return pulled


def squares(x: Float[Tensor, "*g n d"], y: Float[Tensor, "*g m d"]) -> Float[Tensor, "*g n m"]:
    """‖xᵢ - yⱼ‖² of all pairs, without gradient; ``x`` and ``y`` have the same leading axes."""
    left, right = flat(x.detach(), y.detach())
    return table(left, right).squared.view(*x.shape[:-1], y.shape[-2])


def flat(*sides: Tensor) -> list[Tensor]:
    """Tensors with one leading axis in place of any."""
    return [side.reshape(-1, *side.shape[-2:]) for side in sides]


def _centre(x: Float[Tensor, "g n d"]) -> Float[Tensor, "g 1 d"]:
    return x[:, :: max(1, x.shape[1] // 256)].mean(1, keepdim=True)
