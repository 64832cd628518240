"""Sums over pairs of points that entropic transport needs, tile by tile.

The cost is written Cᵢⱼ = rᵢ + cⱼ - tᵢⱼ with t = ⟨x, y⟩ or -‖x - y‖, so that a tile of exponents is one product.
"""

import copy
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.numerics import pairwise

__all__ = ["HELD_BYTES", "Cost", "Look", "half_squares"]

HELD_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Bytes of products tᵢⱼ that are kept between sweeps; above, each sweep computes them again, tile by tile."""

NARROW = 64
"""Columns below which products lie column by column: a softmax along few neighbours takes 42 ns an entry at 10 columns and 6 at
50, across them 1.4 and 1.0 (one thread); from 200 on, 0.8 and 1.0."""


class Cost:
    """‖xᵢ - yⱼ‖ᵖ / p = rᵢ + cⱼ - tᵢⱼ, in tiles; ``y`` None is x itself, at distance exactly zero from itself.

    For p = 1, distances are computed in float64: the root would turn the rounding of a float32 into 3e-4.

    Args:
        halves: the :func:`half_squares` of x, where they are known.
    """

    def __init__(
        self,
        p: int,
        x: Float[Tensor, "g n d"],
        y: Float[Tensor, "g m d"] | None = None,
        halves: Float[Tensor, "g n"] | None = None,
    ):
        self.p, self.own, self.dtype = p, y is None, x.dtype
        halves = half_squares(x) if halves is None else halves
        self.halves = halves, halves if y is None else half_squares(y)
        y = x if y is None else y
        self.x, self.y = (x, y) if p == 2 else (x.double(), y.double())
        nothing = torch.zeros((), dtype=torch.float64, device=x.device)
        self.rows, self.columns = self.halves if p == 2 else (nothing.expand_as(half) for half in self.halves)
        self.held: Tensor | None = None
        self.narrow = y.shape[1] < NARROW

    def swapped(self) -> "Cost":
        """The same cost with rows for columns; what is held is shared."""
        other = copy.copy(self)
        other.x, other.y, other.halves = self.y, self.x, self.halves[::-1]
        other.rows, other.columns = self.columns, self.rows
        other.held, other.narrow = None if self.held is None else self.held.mT, other.y.shape[1] < NARROW
        return other

    def mean(self, a: Float[Tensor, "g n"], b: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
        """The mean cost, or for p = 1 a bound of it that is as large, if the points are centred."""
        mean = (a * self.halves[0]).sum(-1) + (b * self.halves[1]).sum(-1)
        return mean if self.p == 2 else (2 * mean).sqrt()

    def hold(self) -> None:
        """Keeps the products, if they fit and if there is something to gain."""
        (g, n, d), m, device = self.x.shape, self.y.shape[1], self.x.device.type
        budget = HELD_BYTES.get(device, HELD_BYTES["cpu"])
        if g * n * m * self.dtype.itemsize > budget or (self.p == 2 and d < 16):
            return
        size = (g, m, n) if self.narrow else (g, n, m)
        held = torch.empty(size, dtype=self.dtype, device=self.x.device)
        held = held.mT if self.narrow else held
        for at, of, to in self.tiles():
            held[at, of, to] = self.products(at, of, to)
        self.held = held

    def products(self, at: slice, of: slice, to: slice) -> Float[Tensor, "g b c"]:
        """t of some pairs; a view where it is held. Rows are next to each other in memory where they are narrow."""
        if self.held is not None:
            return self.held[at, of, to]
        x, y = self.x[at, of], self.y[at, to]
        products = (y @ x.mT).mT if self.narrow else x @ y.mT
        if self.p == 1:
            halves = self.halves[0][at, of, None] + self.halves[1][at, None, to]
            products = products.sub_(halves).mul_(-2).clamp_(min=0).sqrt_().neg_()
        offset = of.start - to.start
        if self.own and -products.shape[1] < offset < products.shape[2]:
            diagonal = products.diagonal(offset, 1, 2)
            start = of.start + max(0, -offset)
            diagonal.copy_(2 * self.rows[at, start : start + diagonal.shape[-1]])
        return products.to(self.dtype)

    def tiles(self, whole_rows: bool = False) -> Iterator[tuple[slice, slice, slice]]:
        """Groups, rows and columns of tiles of ``pairwise.BLOCK_BYTES``."""
        g, n, m = len(self.x), self.x.shape[1], self.y.shape[1]
        budget = pairwise.BLOCK_BYTES.get(self.x.device.type, pairwise.BLOCK_BYTES["cpu"])
        entries = max(1, budget // self.x.element_size())
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
            z = torch.addcmul(exponents[at, None], self.products(at, of, to), rates[at])
            top, shares = z.amax(-1), z.mT.softmax(1).mT if self.narrow else z.softmax(-1)
            f[at, of] = self.rows[at, of] - eps[at, None] * (top + shift[at] - shares.amax(-1).double().log())
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
        pulls = torch.zeros(*shape[:2], shape[2] + 1 if slopes else 0, dtype=torch.float64, device=device)
        for at, of, to in self.tiles():
            t = self.products(at, of, to)
            z = torch.addcmul(exponents[at, None, to], t, rates[at])
            top = torch.maximum(tops[at, of], z.amax(-1))
            fade = torch.exp((tops[at, of] - top).double())
            z = z.sub_(top[..., None]).exp_()
            tops[at, of], masses[at, of] = top, masses[at, of] * fade + z.sum(-1)
            if slopes:
                if self.p == 1:
                    z = torch.where(t < 0, -z / torch.where(t < 0, t, 1), 0)
                y = torch.cat([self.y[at, to], torch.ones_like(self.y[at, to, :1])], -1)
                pulls[at, of] = pulls[at, of] * fade[..., None] + z.to(y.dtype) @ y
        softmin = self.rows - eps[:, None] * (tops.double() + shift + masses.log())
        pulls /= masses[..., None]
        slope = self.x * pulls[..., -1:] - pulls[..., :-1] if slopes else pulls
        return softmin, slope.to(self.dtype)

    def exponents(self, b: Tensor, g: Tensor, eps: Tensor) -> tuple[Float[Tensor, "g m"], Float[Tensor, "g 1"]]:
        """What an exponent has from its column alone, log b + (g - c) / ε, and by how much it was lowered to be at most 0."""
        exponents = b.log() + (g - self.columns) / eps[:, None]
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


def half_squares(points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n"]:
    """‖x‖² / 2 in float64, rounded nowhere before."""
    return torch.linalg.vector_norm(points, dim=-1, dtype=torch.float64).square() / 2


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, size, step)]
