"""Transport on the line, where the best plan is to keep the order: no linear program, and exact for any weights.

With the quantile functions Q of two measures, A(t) = ∫₀ᵗ Q_μ and V₀ = 0 ≤ V₁ ≤ ... the cumulative weights of ν's sorted atoms,

    W_p^p(μ, ν) = ∫₀¹ |Q_μ(t) - Q_ν(t)|^p dt
    p = 2:      Σⱼ vⱼ yⱼ² - 2 Σⱼ yⱼ (A(Vⱼ) - A(Vⱼ₋₁)) + E_μ x²
    p = 1:      Σⱼ yⱼ (2tⱼ - Vⱼ - Vⱼ₋₁) + A(Vⱼ) + A(Vⱼ₋₁) - 2 A(tⱼ),       tⱼ = F_μ(yⱼ) within [Vⱼ₋₁, Vⱼ]

A is piecewise linear, so a table of it made once answers p = 1 and p = 2 by binary search, O(m log(n m)) a comparison. Any
other p merges the levels of both sides, O((n + m) log(n + m)).

The order of the points is locally constant: the value is a piecewise smooth function of points and weights, and so are all
its derivatives, which automatic differentiation has right between the kinks (ties of points; equal levels of both sides).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.numerics.derivatives import safe_root

__all__ = ["QuantileTables", "check_power", "line_cost", "power", "rooted", "shared_levels"]


def check_power(p: float) -> None:
    """Refuses a power for which ‖x - y‖^p gives no distance."""
    if not 1 <= p < float("inf"):
        raise InvalidInput(f"'p' must be a finite number >= 1, got {p}; use 1.0 or 2.0")


def power(value: Tensor, p: float) -> Tensor:
    """value^p of something nonnegative; every derivative at zero is zero."""
    if p in (1, 2):
        return value if p == 1 else value.square()
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, torch.ones_like(value)).pow(p), torch.zeros_like(value))


def rooted(value: Tensor, p: float, root: bool) -> Tensor:
    """The p-th root where wanted; zero, with derivative zero, where the value is not positive."""
    if not root:
        return value
    return safe_root(value) if p == 2 else power(value.clamp(min=0), 1 / p)


@dataclass(frozen=True)
class QuantileTables:
    """A measure on the line, or many, as tables with one row a slice: points of weight zero come last.

    Args:
        points: sorted.
        levels: cumulative weights with a zero in front, one row a group where all slices share them.
        integral: ∫ Q up to each level.
        square: E x².
    """

    points: Float[Tensor, "g l n"] | None
    levels: Float[Tensor, "g k n1"]
    integral: Float[Tensor, "g l n1"] | None = None
    square: Float[Tensor, "g l"] | None = None

    @classmethod
    def of(
        cls, points: Float[Tensor, "g l n"], weights: Float[Tensor, "g n"], levels: Tensor | None, p: float
    ) -> "QuantileTables":
        """The tables that the cost |x - y|^p needs, in float64; ``levels`` where they are shared."""
        present = (weights > 0)[:, None].expand_as(points)
        ordered, order = torch.where(present, points, torch.inf).sort(-1)
        ordered = ordered.double()
        if levels is None:
            steps = weights[:, None].expand_as(ordered).gather(-1, order)
            levels = _with_zero(steps.cumsum(-1))
        else:
            steps = levels.diff(dim=-1)
        if p not in (1, 2):
            return cls(ordered, levels)
        finite = torch.where(steps > 0, ordered, 0.0)
        moments = steps * finite
        integral = _with_zero(moments.cumsum(-1))
        return cls(ordered, levels, integral) if p == 1 else cls(None, levels, integral, (moments * finite).sum(-1))

    @classmethod
    def from_tables(cls, tables: Mapping[str, Tensor]) -> "QuantileTables":
        """Back from the tables of a summary."""
        return cls(tables.get("points"), tables["levels"], tables.get("integral"), tables.get("square"))

    def tables(self) -> dict[str, Tensor]:
        """What there is, by name."""
        every = {"points": self.points, "levels": self.levels, "integral": self.integral, "square": self.square}
        return {name: table for name, table in every.items() if table is not None}

    def at(self, levels: Float[Tensor, "g l m"]) -> Int[Tensor, "g l m"]:
        """The numbers, from 1, of the atoms that lie above these levels; the last that has mass beyond the end."""
        last = torch.searchsorted(self.levels, self.levels[..., -1:].contiguous())
        return torch.minimum(_search(self.levels, levels, right=True), last)

    def integral_to(self, levels: Float[Tensor, "g l m"]) -> Float[Tensor, "g l m"]:
        """A at these levels."""
        assert self.integral is not None
        after = self.at(levels)
        at, beyond = _take(self.levels, after - 1), _take(self.levels, after)
        low, high = _take(self.integral, after - 1), _take(self.integral, after)
        return low + (levels - at) * (high - low) / (beyond - at)

    def mass_up_to(self, points: Float[Tensor, "g l m"]) -> tuple[Tensor, Tensor]:
        """F at these points, without and with an atom that lies there.

        Any level between the two gives the same cost; their middle gives a lone point on its target the gradient zero.
        """
        assert self.points is not None
        return (
            _take(self.levels, _search(self.points, points, right=False)),
            _take(self.levels, _search(self.points, points, right=True)),
        )


def shared_levels(weights: Float[Tensor, "g n"]) -> Float[Tensor, "g 1 n1"] | None:
    """The levels of all slices at once, where the points that have weight have equal ones in each group; else None."""
    present, largest = weights > 0, weights.amax(-1, keepdim=True)
    if not bool(((weights == largest) | ~present).all()):
        return None
    count = present.sum(-1, keepdim=True)
    steps = torch.arange(weights.shape[-1] + 1, device=weights.device)
    return (torch.minimum(steps, count).double() / count)[:, None]


def line_cost(
    real: QuantileTables, points: Float[Tensor, "g l m"], weights: Float[Tensor, "g m"], p: float
) -> Float[Tensor, "g l"]:
    """W_p^p of each slice in float64, differentiable in the points and weights (and in what the tables depend on)."""
    y, order = points.double().sort(-1)
    v = weights[:, None].expand_as(y).gather(-1, order)
    levels = v.cumsum(-1)
    if p not in (1, 2):
        return _merged_cost(real, y, levels, p)
    integral = _with_zero(real.integral_to(levels))
    if p == 2:
        assert real.square is not None
        value = (v * y.square() - 2 * y * integral.diff(dim=-1)).sum(-1) + real.square
    else:
        ends = _with_zero(levels)
        low, high = ends[..., :-1], ends[..., 1:]
        first, last = (torch.minimum(torch.maximum(mass, low), high) for mass in real.mass_up_to(y))
        turn = (first + last) / 2
        pieces = integral[..., :-1] + integral[..., 1:] - 2 * real.integral_to(turn)
        value = (y * (2 * turn - low - high) + pieces).sum(-1)
    return value.clamp(min=0)


def _merged_cost(
    real: QuantileTables, y: Float[Tensor, "g l m"], levels: Float[Tensor, "g l m"], p: float
) -> Float[Tensor, "g l"]:
    """Σ over the pieces between two levels, of either side, in order."""
    assert real.points is not None
    of_real = real.levels[..., 1:].expand(*levels.shape[:-1], -1)
    ends = torch.cat([of_real, levels], -1).sort(-1).values
    starts = _with_zero(ends)[..., :-1]
    middle = ((starts + ends) / 2).detach()
    i = real.at(middle) - 1
    j = _search(levels.detach().contiguous(), middle, right=True).clamp(max=levels.shape[-1] - 1)
    return ((ends - starts) * power((real.points.gather(-1, i) - y.gather(-1, j)).abs(), p)).sum(-1)


def _with_zero(sums: Float[Tensor, "g l n"]) -> Float[Tensor, "g l n1"]:
    return torch.cat([torch.zeros_like(sums[..., :1]), sums], -1)


def _search(table: Float[Tensor, "g k n"], values: Float[Tensor, "g l m"], right: bool) -> Int[Tensor, "g l m"]:
    """Binary search in the row of each slice, or in the row of the group."""
    table, values = table.detach(), values.detach().contiguous()
    if table.shape[1] == values.shape[1]:
        return torch.searchsorted(table, values, right=right)
    return torch.searchsorted(table, values.flatten(1)[:, None], right=right).view(values.shape)


def _take(table: Float[Tensor, "g k n"], index: Int[Tensor, "g l m"]) -> Float[Tensor, "g l m"]:
    return table.expand(-1, index.shape[1], -1).gather(-1, index)
