"""Dual potentials of entropic transport, in the log domain and at bounded memory.

    OT(a, b) = max over f, g of  Σᵢ aᵢ φ(fᵢ) + Σⱼ bⱼ φ(gⱼ) + ε (1 - Σᵢⱼ Pᵢⱼ),    Pᵢⱼ = aᵢ bⱼ exp((fᵢ + gⱼ - Cᵢⱼ) / ε)

with φ(f) = f, or φ(f) = ρ (1 - exp(-f / ρ)) where mass may be left behind at the price ρ. At the maximum each potential is a
soft minimum of the other, damped by λ = 1 or ρ / (ρ + ε):

    f = λ T(g),    T(g)ᵢ = -ε log Σⱼ bⱼ exp((gⱼ - Cᵢⱼ) / ε).

The cost is written Cᵢⱼ = rᵢ + cⱼ - tᵢⱼ with t = ⟨x, y⟩ or -‖x - y‖, so that a tile of exponents is one product. A *sweep* goes
once through the pairs with one exponential each: it normalises the rows of a tile, which is f = T(g), and adds its columns up,
which is T(f). Sweeps are annealed (ε falls by a factor), then mixed by Anderson's rule until the plan has the right marginals.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy import pairwise
from discrepancy.errors import NumericalWarning

__all__ = ["HELD_BYTES", "Cost", "Entropic", "Potentials"]

HELD_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}
"""Bytes of products tᵢⱼ that are kept between sweeps; above, each sweep computes them again, tile by tile."""

HISTORY = 6
"""Earlier iterates that are mixed into the next one."""


class Cost:
    """‖xᵢ - yⱼ‖ᵖ / p = rᵢ + cⱼ - tᵢⱼ, in tiles; ``y`` None is x itself, at distance exactly zero from itself.

    For p = 1, distances are computed in float64: the root would turn the rounding of a float32 into 3e-4.
    """

    def __init__(self, p: int, x: Float[Tensor, "g n d"], y: Float[Tensor, "g m d"] | None = None):
        self.p, self.own, self.dtype = p, y is None, x.dtype
        y = x if y is None else y
        self.x, self.y = (x, y) if p == 2 else (x.double(), y.double())
        self.halves = _half_squares(x), _half_squares(y)
        nothing = torch.zeros((), dtype=torch.float64, device=x.device)
        self.rows, self.columns = self.halves if p == 2 else (nothing.expand_as(half) for half in self.halves)
        self.held: Tensor | None = None

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
        held = torch.empty(g, n, m, dtype=self.dtype, device=self.x.device)
        for at, of, to in self.tiles():
            held[at, of, to] = self.products(at, of, to)
        self.held = held

    def products(self, at: slice, of: slice, to: slice) -> Float[Tensor, "g b c"]:
        """t of some pairs; a view where it is held."""
        if self.held is not None:
            return self.held[at, of, to]
        products = self.x[at, of] @ self.y[at, to].mT
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


Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From an iterate and ε of each group: something to return at the end, the image, and how far from a solution."""


@dataclass(frozen=True, eq=False)
class Potentials:
    """The value of the dual, with its derivatives where potentials are held fixed (for a measure with itself, in one place)."""

    total: Float[Tensor, " g"]
    by_points: Float[Tensor, "g m D"]
    by_weights: Float[Tensor, "g m"]


@dataclass(frozen=True)
class Entropic:
    """How the dual is solved: ε = blurᵖ, ρ = reachᵖ, and when it is good enough."""

    p: int
    eps: float
    rho: float | None
    scaling: float
    tolerance: float
    iterations: int

    def across(self, x: Tensor, a: Tensor, y: Tensor, b: Tensor) -> Potentials:
        """The potentials between two measures; points are centred, weights float64 with sum one."""
        there, back = Cost(self.p, x, y), Cost(self.p, y, x)
        there.hold()
        back.held = None if there.held is None else there.held.mT

        def step(g: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            if self.rho is None:
                f, image = self.sweep(there, a, b, g, eps)
            else:
                f = _damped(self.softmin(there, b, g, eps)[0], eps, self.rho)
                image = _damped(self.softmin(back, a, f, eps)[0], eps, self.rho)
            return f, image, g - image

        f = self.solved(step, torch.zeros_like(b), b, there.mean(a, b), x.dtype, anneal=True)
        return self.finished(back, a, b, f)

    def alone(self, y: Tensor, b: Tensor, slopes: bool = True) -> Potentials:
        """The potentials between a measure and itself, which are equal.

        exp(-C/ε) is positive definite, so the averaged step ½ (f + λT(f)) gains at least a factor 2 at any ε.
        """
        cost = Cost(self.p, y)
        cost.hold()

        def step(f: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            residual = f - _damped(self.softmin(cost, b, f, eps)[0], eps, self.rho)
            return f, f - 0.5 * residual, residual

        start = -0.5 * self.eps * torch.where(b > 0, b, torch.ones_like(b)).log()
        f = self.solved(step, start, b, cost.mean(b, b), y.dtype)
        return self.finished(cost, b, b, f, slopes)

    def finished(self, cost: Cost, a: Tensor, b: Tensor, f: Tensor, slopes: bool = True) -> Potentials:
        """The other potential from this one; rows of the cost are where the other one lives."""
        eps = torch.full_like(f[:, 0], self.eps)
        softmin, slope = self.softmin(cost, a, f, eps, slopes)
        if self.rho is None:
            return Potentials((a * f).sum(-1) + (b * softmin).sum(-1), b[..., None] * slope, softmin)
        g = _damped(softmin, eps, self.rho)
        by_weights = -(self.rho + self.eps) * torch.expm1(-g / self.rho)
        total = -self.rho * (a * torch.expm1(-f / self.rho)).sum(-1) + (b * by_weights).sum(-1)
        return Potentials(total, (b * torch.exp(-g / self.rho))[..., None] * slope, by_weights)

    def sweep(self, cost: Cost, a: Tensor, b: Tensor, g: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """f = T(g) and T(f), without damping, at one exponential a pair.

        Where a column gets no mass that a float can show, its potential rises by 69 ε.
        """
        exponents, shift = _exponents(cost, b, g, eps)
        rates = eps.reciprocal().to(cost.dtype)[:, None, None]
        f, sums = torch.empty_like(a), torch.zeros_like(b)
        for at, of, to in cost.tiles(whole_rows=True):
            z = torch.addcmul(exponents[at, None], cost.products(at, of, to), rates[at])
            top = z.amax(-1, keepdim=True)
            mass = z.sub_(top).exp_().sum(-1)
            f[at, of] = cost.rows[at, of] - eps[at, None] * (top[..., 0] + shift[at] + mass.double().log())
            sums[at] += ((a[at, of] / mass).to(z.dtype)[:, None] @ z)[:, 0]
        ratio = torch.where(b > 0, sums / b.clamp(min=1e-300), torch.ones_like(b)).clamp(min=1e-30)
        return f, g - eps[:, None] * ratio.log()

    def softmin(
        self, cost: Cost, b: Tensor, g: Tensor, eps: Tensor, slopes: bool = False
    ) -> tuple[Float[Tensor, "g n"], Float[Tensor, "g n D"]]:
        """T(g) on the rows x, by a running maximum over the columns; with ``slopes`` also ∂T(g)ᵢ / ∂xᵢ."""
        exponents, shift = _exponents(cost, b, g, eps)
        rates = eps.reciprocal().to(cost.dtype)[:, None, None]
        shape, device = cost.x.shape, cost.x.device
        lowest = torch.finfo(cost.dtype).min / 4  # in place of -inf, whose differences are NaN
        tops = torch.full(shape[:2], lowest, dtype=cost.dtype, device=device)
        masses = torch.zeros(shape[:2], dtype=torch.float64, device=device)
        pulls = torch.zeros(*shape[:2], shape[2] + 1 if slopes else 0, dtype=torch.float64, device=device)
        for at, of, to in cost.tiles():
            t = cost.products(at, of, to)
            z = torch.addcmul(exponents[at, None, to], t, rates[at])
            top = torch.maximum(tops[at, of], z.amax(-1))
            fade = torch.exp((tops[at, of] - top).double())
            z = z.sub_(top[..., None]).exp_()
            tops[at, of], masses[at, of] = top, masses[at, of] * fade + z.sum(-1)
            if slopes:
                if self.p == 1:
                    z = torch.where(t < 0, -z / torch.where(t < 0, t, 1), 0)
                y = torch.cat([cost.y[at, to], torch.ones_like(cost.y[at, to, :1])], -1)
                pulls[at, of] = pulls[at, of] * fade[..., None] + z.to(y.dtype) @ y
        softmin = cost.rows - eps[:, None] * (tops.double() + shift + masses.log())
        pulls /= masses[..., None]
        slope = cost.x * pulls[..., -1:] - pulls[..., :-1] if slopes else pulls
        return softmin, slope.to(cost.dtype)

    def solved(self, step: Step, z: Tensor, weights: Tensor, scale: Tensor, dtype: torch.dtype, anneal: bool = False) -> Tensor:
        """What ``step`` returns beside its image at a fixed point of it, if asked after ε was annealed from ``scale``.

        Exponents of the size scale / ε are rounded, which bounds what the tolerance can be.
        """
        eps = torch.full_like(scale, self.eps)
        if anneal:
            steepness = -self.p * math.log(self.scaling)
            levels = (scale / eps).clamp(min=1).log().div(steepness).ceil()
            for level in range(int(levels.max())):
                _, z, _ = step(z, torch.maximum(eps, scale * math.exp(-level * steepness)))
        tolerance = (torch.finfo(dtype).eps * (1 + scale / eps)).clamp(min=self.tolerance)
        mixing = _Mixing(z, weights)
        for _ in range(self.iterations):
            beside, image, residual = step(mixing.at, eps)
            error = (weights * torch.expm1(residual / eps[:, None]).abs()).sum(-1)
            done = error <= tolerance
            if bool(done.all()):
                return beside
            mixing.move(image, error, done)
        warnings.warn(
            f"Sinkhorn stopped after {self.iterations} iterations with {float(mixing.lowest.max()):.1e} of the mass out of "
            f"place (tolerance {self.tolerance:g}); raise 'blur', 'tolerance' or 'iterations'",
            NumericalWarning,
            stacklevel=2,
        )
        return step(mixing.best, eps)[0]


class _Mixing:
    """Anderson's mixing of the last iterates, each group on its own; a move that made things worse is taken back.

    References: Iterative procedures for nonlinear integral equations (Anderson, 1965).
    """

    def __init__(self, start: Tensor, weights: Tensor):
        self.at = self.best = self.last = self.gap = self.plain = start
        self.weights = weights[:, None]
        self.error = self.lowest = torch.full_like(start[:, 0], math.inf)
        self.follows = torch.zeros_like(start[:, 0], dtype=torch.bool)
        self.moves: list[Tensor] = []
        self.turns: list[Tensor] = []

    def move(self, image: Tensor, error: Tensor, done: Tensor) -> None:
        """The next iterate, from the image of this one; groups that are ``done`` stay where they are."""
        better, lower, gap = error < self.error, error < self.lowest, image - self.at
        self.best, self.lowest = torch.where(lower[:, None], self.at, self.best), torch.where(lower, error, self.lowest)
        known = (better & self.follows)[:, None]
        nothing = torch.zeros_like(gap)
        self.moves = [torch.where(better[:, None], move, nothing) for move in self.moves[1 - HISTORY :]]
        self.turns = [torch.where(better[:, None], turn, nothing) for turn in self.turns[1 - HISTORY :]]
        self.moves.append(torch.where(known, self.at - self.last, nothing))
        self.turns.append(torch.where(known, gap - self.gap, nothing))
        mixed = image - self.correction(gap)
        following = torch.where(better[:, None], mixed, self.plain)
        self.last, self.gap, self.plain, self.follows = self.at, gap, image, better
        self.error = torch.where(better, error, torch.full_like(error, math.inf))
        self.at = torch.where(done[:, None], self.at, following)

    def correction(self, gap: Tensor) -> Tensor:
        """Σ γₖ (movesₖ + turnsₖ), with the γ that bring the gap nearest to zero."""
        turns, moves = torch.stack(self.turns, 1), torch.stack(self.moves, 1)
        norms = (turns.square() * self.weights).sum(-1, keepdim=True).sqrt()
        norms = torch.where(norms > 0, norms, torch.ones_like(norms))
        turns, moves = turns / norms, moves / norms
        weighted = turns * self.weights
        gram = weighted @ turns.mT
        ridge = 1e-10 * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        factors = torch.linalg.solve(gram + ridge, weighted @ gap[..., None])
        return (factors * (moves + turns)).sum(1)


def _exponents(cost: Cost, b: Tensor, g: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """What an exponent has from its column alone, (g - c) / ε + log b, and by how much it was lowered so that its maximum is 0."""
    exponents = b.log() + (g - cost.columns) / eps[:, None]
    shift = exponents.amax(-1, keepdim=True)
    return (exponents - shift).to(cost.dtype), shift


def _damped(softmin: Tensor, eps: Tensor, rho: float | None) -> Tensor:
    return softmin if rho is None else softmin * (rho / (rho + eps))[:, None]


def _half_squares(points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n"]:
    return torch.linalg.vector_norm(points, dim=-1, dtype=torch.float64).square() / 2


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]
