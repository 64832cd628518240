"""Sums over pairs of points that entropic transport needs, tile by tile.

A tile of costs is one product, in which pairs that are near to each other are made from differences
(:mod:`discrepancy.numerics.distances`), so each cost has a relative error at rounding level.
"""

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.numerics.distances import Centred, Table, block_bytes, pull, table

__all__ = ["HELD_BYTES", "Cost", "Look", "half_squares", "is_steep"]

HELD_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Bytes of costs that are kept between sweeps; above, each sweep computes them again, tile by tile."""

STEEP = 1e-3
"""Where the rounding error of an exponent C / ε is larger than this, everything is computed in float64."""

HELD_FROM = 16
"""Coordinates from which on it pays to keep costs."""

NARROW = 64
"""Columns below which products lie column by column: a softmax along few neighbours takes 42 ns an entry at 10 columns and 6 at
50, across them 1.4 and 1.0 (one thread); from 200 on, 0.8 and 1.0."""


class Cost:
    """Cᵢⱼ = ‖xᵢ - yⱼ‖ᵖ / p, in tiles; ``y`` None is x itself, at distance exactly zero from itself.

    Args:
        centre: the origin of products.
        halves: the :func:`half_squares` of both sides.
        wide: whether everything is made in float64, see :func:`is_steep`.
    """

    def __init__(
        self,
        p: int,
        x: Float[Tensor, "g n d"],
        y: Float[Tensor, "g m d"] | None,
        centre: Float[Tensor, "g 1 d"],
        halves: tuple[Float[Tensor, "g n"], Float[Tensor, "g m"]],
        wide: bool = False,
    ):
        self.p, self.own, self.halves, self.dtype = p, y is None, halves, torch.float64 if wide else x.dtype
        self.x = x.to(self.dtype)
        self.y = self.x if y is None else y.to(self.dtype)
        sides = (self.x,) if y is None else (self.x, self.y)
        # In float64 as the halves: a centre that is rounded would be another one.
        centred = [
            Centred((side.double() - centre).to(self.dtype), (2 * half).to(self.dtype))
            for side, half in zip(sides, halves, strict=False)
        ]
        self.centred = centred[0], centred[-1]
        self.held: Tensor | None = None
        self.narrow = self.y.shape[1] < NARROW

    def swapped(self) -> "Cost":
        """The same cost with rows for columns; what is held is shared."""
        other = copy.copy(self)
        other.x, other.y, other.halves, other.centred = self.y, self.x, self.halves[::-1], self.centred[::-1]
        other.held, other.narrow = None if self.held is None else self.held.mT, other.y.shape[1] < NARROW
        return other

    def mean(self, a: Float[Tensor, "g n"], b: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
        """The mean cost between measures of one mean, or for p = 1 a bound of it that is as large."""
        mean = (a * self.halves[0]).sum(-1) + (b * self.halves[1]).sum(-1)
        return mean if self.p == 2 else (2 * mean).sqrt()

    def hold(self) -> None:
        """Keeps the costs, if they fit and if there is something to gain."""
        (g, n, d), m, device = self.x.shape, self.y.shape[1], self.x.device.type
        budget = HELD_BYTES.get(device, HELD_BYTES["cpu"])
        if g * n * m * self.dtype.itemsize > budget or d < HELD_FROM:
            return
        size = (g, m, n) if self.narrow else (g, n, m)
        held = torch.empty(size, dtype=self.dtype, device=self.x.device)
        held = held.mT if self.narrow else held
        for at, of, to in self.tiles():
            held[at, of, to] = self.negative(at, of, to)
        self.held = held

    def negative(self, at: slice, of: slice, to: slice) -> Float[Tensor, "g b c"]:
        """-C of some pairs; a view where it is held. Rows are next to each other in memory where they are narrow."""
        if self.held is not None:
            return self.held[at, of, to]
        return self.of_squares(self.table(at, of, to).squared)

    def table(self, at: slice, of: slice, to: slice) -> Table:
        """The squared distances of some pairs."""
        x, y = self.x[at, of], self.y[at, to]
        here, there = (
            Centred(*(part[at, which] for part in side)) for side, which in zip(self.centred, (of, to), strict=True)
        )
        found = table(y, x, (there, here)).turned if self.narrow else table(x, y, (here, there))
        if self.own and of.start < to.stop and to.start < of.stop:
            found.squared.diagonal(of.start - to.start, 1, 2).zero_()
        return found

    def of_squares(self, squared: Float[Tensor, "g b c"]) -> Float[Tensor, "g b c"]:
        """-C from squared distances, written over them."""
        return squared.mul_(-0.5) if self.p == 2 else squared.sqrt_().neg_()

    def tiles(self, whole_rows: bool = False) -> Iterator[tuple[slice, slice, slice]]:
        """Groups, rows and columns of tiles of a block's size."""
        g, n, m = len(self.x), self.x.shape[1], self.y.shape[1]
        entries = max(1, block_bytes(self.x.device) // self.x.element_size())
        across = m if whole_rows else min(m, max(math.isqrt(entries), entries // n))
        down = max(1, min(n, entries // across))
        for at in _slices(g, max(1, entries // (across * down))):
            for of in _slices(n, down):
                for to in _slices(m, across):
                    yield at, of, to

    def sweep(self, a: Tensor, b: Tensor, g: Tensor, eps: Tensor, curved: bool = False) -> "Look":
        """f = T(g) and T(f), without damping, at one exponential a pair.

        Where a column gets no mass that a float can show, its potential rises by 69 ε.
        """
        exponents, shift = self.exponents(b, g, eps)
        rates = eps.reciprocal().to(self.dtype)[:, None, None]
        f, sums = torch.empty_like(a), torch.zeros_like(b)
        overlap = b.new_zeros(*b.shape, b.shape[1]) if curved else None
        for at, of, to in self.tiles(whole_rows=True):
            z = torch.addcmul(exponents[at, None], self.negative(at, of, to), rates[at])
            top, shares = z.amax(-1), z.mT.softmax(1).mT if self.narrow else z.softmax(-1)
            f[at, of] = -eps[at, None] * (top + shift[at] - shares.amax(-1).double().log())
            rows = a[at, of].to(z.dtype)
            sums[at] += (rows[:, None] @ shares)[:, 0]
            if overlap is not None:
                overlap[at] += shares.mT @ (rows[..., None] * shares)
        ratio = torch.where(b > 0, sums / b.clamp(min=1e-300), torch.ones_like(b)).clamp(min=1e-30)
        image, height = g - eps[:, None] * ratio.log(), (a * f).sum(-1) + (b * g).sum(-1)
        return Look(f, image, g - image, height, None if overlap is None else torch.diag_embed(sums) - overlap)

    def softmin(
        self, b: Tensor, g: Tensor, eps: Tensor, slopes: bool = False
    ) -> tuple[Float[Tensor, "g n"], Float[Tensor, "g n D"]]:
        """T(g) on the rows x, by a running maximum over the columns; with ``slopes`` also ∂T(g)ᵢ / ∂xᵢ."""
        exponents, shift = self.exponents(b, g, eps)
        rates = eps.reciprocal().to(self.dtype)[:, None, None]
        shape, device = self.x.shape, self.x.device
        lowest = torch.finfo(self.dtype).min / 4  # in place of -inf, whose differences are NaN
        tops = torch.full(shape[:2], lowest, dtype=self.dtype, device=device)
        masses = torch.zeros(shape[:2], dtype=torch.float64, device=device)
        slope = torch.zeros(*shape[:2], shape[2] if slopes else 0, dtype=torch.float64, device=device)
        for at, of, to in self.tiles():
            found = self.table(at, of, to) if slopes else None
            negative = self.negative(at, of, to) if found is None else self.of_squares(found.squared.clone())
            z = torch.addcmul(exponents[at, None, to], negative, rates[at])
            top = torch.maximum(tops[at, of], z.amax(-1))
            fade = torch.exp((tops[at, of] - top).double())
            z = z.sub_(top[..., None]).exp_()
            tops[at, of], masses[at, of] = top, masses[at, of] * fade + z.sum(-1)
            if found is not None:
                if self.p == 1:
                    z = torch.where(negative < 0, -z / torch.where(negative < 0, negative, 1), 0)
                slope[at, of] = slope[at, of] * fade[..., None] + pull(found, z, self.x[at, of], self.y[at, to])
        softmin = -eps[:, None] * (tops.double() + shift + masses.log())
        return softmin, (slope / masses[..., None] if slopes else slope).to(self.dtype)

    def exponents(self, b: Tensor, g: Tensor, eps: Tensor) -> tuple[Float[Tensor, "g m"], Float[Tensor, "g 1"]]:
        """The part of an exponent that depends on its column alone, log b + g / ε, and by how much it was lowered so that it is
        at most 0."""
        exponents = b.log() + g / eps[:, None]
        shift = exponents.amax(-1, keepdim=True)
        return (exponents - shift).to(self.dtype), shift


class Look(NamedTuple):
    """What a step finds at an iterate."""

    other: Tensor
    """The potential that goes with it."""
    image: Tensor
    residual: Tensor
    """How far from a solution, as a change of the potential."""
    height: Tensor | None = None
    """The dual value."""
    curvature: Tensor | None = None
    """-ε times the Hessian of the dual value."""


def is_steep(
    p: int, eps: float, dtype: torch.dtype, halves: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor]
) -> bool:
    """Whether this type does not hold the exponents C / ε of points of positive weight."""
    if dtype == torch.float64:
        return False
    first, second = ((half * (weight > 0)).amax(-1) for half, weight in zip(halves, weights, strict=True))
    largest = first + second if p == 2 else (2 * (first + second)).sqrt()
    return bool((torch.finfo(dtype).eps * largest > STEEP * eps).any())


def half_squares(points: Float[Tensor, "g n d"], centre: Float[Tensor, "g 1 d"]) -> Float[Tensor, "g n"]:
    """‖x - centre‖² / 2 in float64, rounded nowhere before."""
    step = max(1, block_bytes(points.device) // (8 * points[:, 0].numel()))
    norms = [(part.double() - centre).square().sum(-1) / 2 for part in points.split(step, 1)]
    return torch.cat(norms, 1)


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, size, step)]
