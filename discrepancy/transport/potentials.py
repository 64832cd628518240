"""Dual potentials of entropic transport, in the log domain and at bounded memory.

    OT(a, b) = max over f, g of  Σᵢ aᵢ φ(fᵢ) + Σⱼ bⱼ φ(gⱼ) + ε (1 - Σᵢⱼ Pᵢⱼ),    Pᵢⱼ = aᵢ bⱼ exp((fᵢ + gⱼ - Cᵢⱼ) / ε)

with φ(f) = f, or φ(f) = ρ (1 - exp(-f / ρ)) where mass may be left behind at the price ρ. At the maximum each potential is a
soft minimum of the other, damped by λ = 1 or ρ / (ρ + ε):

    f = λ T(g),    T(g)ᵢ = -ε log Σⱼ bⱼ exp((gⱼ - Cᵢⱼ) / ε).

For λ = 1 a *sweep* (:mod:`discrepancy.transport.costs`) goes once through the pairs, with one exponential each: it normalises
the rows of a tile, which is f = T(g), and adds up its columns, which is T(f). Between sweeps, Anderson's mixing of the last
iterates alternates with Newton steps with a ridge. These maximise the concave function of g that remains when f = T(g) is
inserted. ε is lowered to its final value by a constant factor at a time.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import NumericalWarning
from discrepancy.transport import costs
from discrepancy.transport.costs import Cost, Look, is_steep

__all__ = [
    "Entropic",
    "Potentials",
    "mass_out_of_place",
    "reachable",
    "warn_stopped",
]

HISTORY = 6
"""Earlier iterates that are mixed into the next one."""

CURVATURE = 50
"""Columns up to which a Hessian costs no more than a sweep. With more columns it is computed less often, in proportion to its
cost."""

ROUGH, ROUGH_SWEEPS = 0.1, 30
"""The tolerance, and the most sweeps, at each ε before the last."""


Step = Callable[[Tensor, Tensor, bool], Look]
"""Takes an iterate, ε of each group, and whether the curvature is wanted."""


@dataclass(frozen=True, eq=False)
class Potentials:
    """The value of the dual, with its derivatives where potentials are held fixed (for a measure with itself, in one place)."""

    total: Float[Tensor, " g"]
    by_points: Float[Tensor, "g m D"]
    by_weights: Float[Tensor, "g m"]
    other: Float[Tensor, "g n"] | None = None
    """The potential of the other side."""


@dataclass(frozen=True)
class Entropic:
    """How the dual is solved: ε = blurᵖ, ρ = reachᵖ, and when it is good enough."""

    p: int
    eps: float
    rho: float | None
    scaling: float
    tolerance: float
    iterations: int

    def across(
        self,
        x: Tensor,
        a: Tensor,
        y: Tensor,
        b: Tensor,
        centre: Tensor,
        halves: tuple[Tensor, Tensor],
        known: Tensor | None = None,
    ) -> Potentials:
        """The potentials between two measures; weights are float64 with sum one. Where the measures are equal, ``known`` is
        that of both sides: the potential of y with itself."""
        there = Cost(self.p, x, y, centre, halves, is_steep(self.p, self.eps, x.dtype, halves, (a, b)))
        back = there.swapped()
        if known is not None:
            return self.finished(back, a, b, known)
        there.hold()
        back = there.swapped()

        def step(g: Tensor, eps: Tensor, curved: bool) -> Look:
            if self.rho is None:
                return there.sweep(a, b, g, eps, curved)
            f = _damped(there.softmin(b, g, eps)[0], eps, self.rho)
            image = _damped(back.softmin(a, f, eps)[0], eps, self.rho)
            return Look(f, image, g - image)

        scale, dtype = there.mean(a, b), there.dtype
        f = self.annealed(step, torch.zeros_like(b), b, scale, dtype)
        return self.finished(back, a, b, f)

    def alone(self, y: Tensor, b: Tensor, centre: Tensor, half: Tensor, slopes: bool = True) -> Potentials:
        """The potentials between a measure and itself, which are equal.

        exp(-C/ε) is positive definite, so the averaged step ½ (f + λT(f)) gains at least a factor 2 at any ε.
        """
        halves = half, half
        cost = Cost(self.p, y, None, centre, halves, is_steep(self.p, self.eps, y.dtype, halves, (b, b)))
        cost.hold()

        def step(f: Tensor, eps: Tensor, curved: bool) -> Look:
            residual = f - _damped(cost.softmin(b, f, eps)[0], eps, self.rho)
            return Look(f, f - 0.5 * residual, residual)

        start = -0.5 * self.eps * torch.where(b > 0, b, torch.ones_like(b)).log()
        f = self.settled(step, start, b, cost.mean(b, b), cost.dtype)
        return self.finished(cost, b, b, f, slopes)

    def finished(self, cost: Cost, a: Tensor, b: Tensor, f: Tensor, slopes: bool = True) -> Potentials:
        """The other potential from this one; rows of the cost are where the other one lives."""
        eps = torch.full_like(f[:, 0], self.eps)
        softmin, slope = cost.softmin(a, f, eps, slopes)
        if self.rho is None:
            return Potentials((a * f).sum(-1) + (b * softmin).sum(-1), b[..., None] * slope, softmin, f)
        g = _damped(softmin, eps, self.rho)
        by_weights = -(self.rho + self.eps) * torch.expm1(-g / self.rho)
        total = -self.rho * (a * torch.expm1(-f / self.rho)).sum(-1) + (b * by_weights).sum(-1)
        return Potentials(total, (b * torch.exp(-g / self.rho))[..., None] * slope, by_weights, f)

    def annealed(self, step: Step, z: Tensor, weights: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """As ``settled``, after rough solutions for ε that falls from ``scale``."""
        steepness = -self.p * math.log(self.scaling)
        levels = (scale / self.eps).clamp(min=1).log().div(steepness).ceil().nan_to_num(0, 0)
        for level in range(int(levels.max())):
            search = _Search(z, weights)
            search.run(step, scale * math.exp(-level * steepness), ROUGH, ROUGH_SWEEPS, frozen=level >= levels)
            z = search.best
        return self.settled(step, z, weights, scale, dtype)

    def settled(self, step: Step, z: Tensor, weights: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """The potential that goes with the solution."""
        eps = torch.full_like(scale, self.eps)
        search = _Search(z, weights)
        found = search.run(step, eps, reachable(self.tolerance, dtype, scale / eps), self.iterations)
        if found is not None:
            return found.other
        warn_stopped(self.iterations, float(search.lowest.max()), self.tolerance, dtype)
        return step(search.best, eps, False).other


class _Search:
    """The iteration, for each group on its own.

    A move is plain (the image of the iterate), mixed (Anderson's, of the last iterates) or Newton's with a ridge. Newton moves
    cost most, and are made so rarely that they take no more time than the others together. A move that increased the error is
    undone, and the next one is plain.

    References: Iterative procedures for nonlinear integral equations (Anderson, 1965).
    """

    def __init__(self, start: Tensor, weights: Tensor):
        groups = start[:, 0]
        self.at = self.best = self.last = self.gap = self.plain = start
        self.weights = weights
        self.lowest = self.error = torch.full_like(groups, math.inf)
        self.height = -self.error
        self.ridge = torch.full_like(groups, 1e-2)
        self.trusted = torch.ones_like(groups, dtype=torch.bool)
        self.newton = self.follows = ~self.trusted
        self.moves: list[Tensor] = []
        self.turns: list[Tensor] = []

    def run(
        self, step: Step, eps: Tensor, tolerance: Tensor | float, limit: int, frozen: Tensor | None = None
    ) -> Look | None:
        """What was found where no more mass than the tolerance is out of place, or None after so many steps."""
        g, m = self.at.shape
        period = -(-m // CURVATURE)
        affordable = 8 * g * m * m <= costs.HELD_BYTES.get(self.at.device.type, costs.HELD_BYTES["cpu"])
        for count in range(1, limit + 1):
            look = step(self.at, eps, affordable and count % period == 0)
            error = mass_out_of_place(self.weights, look.residual, eps)
            done = ~(error > tolerance)  # NaN cannot be mended
            done = done if frozen is None else done | frozen
            self.best = torch.where((error < self.lowest)[:, None], self.at, self.best)
            self.lowest = torch.minimum(error, self.lowest)
            if bool(done.all()):
                return look
            self.at = torch.where(done[:, None], self.at, self.next(look, error, eps))
        return None

    def next(self, look: Look, error: Tensor, eps: Tensor) -> Tensor:
        """The next iterate."""
        height = self.height if look.height is None else look.height
        better = self.trusted | (error < self.error) | (self.newton & (height > self.height))
        factor = torch.where(better, 0.125, 8.0)
        self.ridge = torch.where(self.newton, self.ridge * factor, self.ridge).clamp(1e-9, 1)
        gap, plain = look.image - self.at, torch.where(better[:, None], look.image, self.plain)
        if look.curvature is not None:
            following, self.moves, self.turns = self.at + self.newton_step(look, eps), [], []
        else:
            self.remember(gap, better)
            following = look.image - self.correction(gap)
        nowhere = torch.zeros_like(better)
        self.newton, self.follows = (nowhere, better) if look.curvature is None else (better, nowhere)
        self.trusted = ~better
        self.last, self.gap, self.plain, self.error, self.height = self.at, gap, plain, error, height
        return torch.where(better[:, None], following, plain)

    def newton_step(self, look: Look, eps: Tensor) -> Tensor:
        """ε (H + ridge) ⁻¹ (b - c), in units in which the plain step would have H = 1; c is the mass that columns have."""
        assert look.curvature is not None
        root = self.weights.sqrt()
        unit = torch.where(root > 0, 1 / root, torch.zeros_like(root))
        matrix = unit[:, :, None] * look.curvature * unit[:, None]
        matrix.diagonal(0, 1, 2).add_(self.ridge[:, None])
        missing = -torch.expm1(look.residual / eps[:, None]) * root
        return eps[:, None] * unit * torch.linalg.solve_ex(matrix, missing[..., None])[0][..., 0]

    def remember(self, gap: Tensor, better: Tensor) -> None:
        """Store the last move, and the change of the gap that it made; a group whose move is undone loses its history."""
        nothing, known = torch.zeros_like(gap), (better & self.follows)[:, None]
        self.moves = [torch.where(better[:, None], move, nothing) for move in self.moves[1 - HISTORY :]]
        self.turns = [torch.where(better[:, None], turn, nothing) for turn in self.turns[1 - HISTORY :]]
        self.moves.append(torch.where(known, self.at - self.last, nothing))
        self.turns.append(torch.where(known, gap - self.gap, nothing))

    def correction(self, gap: Tensor) -> Tensor:
        """Σ γₖ (movesₖ + turnsₖ), with the γ that bring the gap nearest to zero."""
        turns, moves = torch.stack(self.turns, 1), torch.stack(self.moves, 1)
        norms = (turns.square() * self.weights[:, None]).sum(-1, keepdim=True).sqrt()
        norms = torch.where(norms > 0, norms, torch.ones_like(norms))
        turns, moves = turns / norms, moves / norms
        weighted = turns * self.weights[:, None]
        gram = weighted @ turns.mT
        gram.diagonal(0, 1, 2).add_(1e-10)
        factors = torch.linalg.solve_ex(gram, weighted @ gap[..., None])[0]
        return (factors * (moves + turns)).sum(1)


def mass_out_of_place(
    weights: Float[Tensor, "g m"], residual: Float[Tensor, "g m"], eps: Float[Tensor, " g"]
) -> Float[Tensor, " g"]:
    """Σⱼ |Σᵢ πᵢⱼ - νⱼ| at a potential that is so far from a solution."""
    return (weights * torch.expm1(residual / eps[:, None]).abs()).sum(-1).clamp(max=1e300)


def reachable(tolerance: float, dtype: torch.dtype, exponents: Float[Tensor, " g"]) -> Float[Tensor, " g"]:
    """The tolerance, or what the rounding of exponents of this size allows."""
    return (torch.finfo(dtype).eps * (1 + exponents)).clamp(max=0.01).clamp(min=tolerance)


def warn_stopped(iterations: int, error: float, tolerance: float, dtype: torch.dtype) -> None:
    """Says what was reached after the last iteration."""
    finer = ", or give points in float64" if dtype == torch.float32 else ""
    warnings.warn(
        f"Sinkhorn stopped after {iterations} iterations with {error:.1e} of the mass out of place (tolerance {tolerance:g}); "
        f"raise 'blur', 'tolerance' or 'iterations'{finer}",
        NumericalWarning,
        stacklevel=3,
    )


def _damped(softmin: Tensor, eps: Tensor, rho: float | None) -> Tensor:
    return softmin if rho is None else softmin * (rho / (rho + eps))[:, None]
