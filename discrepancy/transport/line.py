"""Transport on the line, where the best plan is to keep the order: no linear program, and exact for any weights.

With the quantile functions Q of two measures,

    W_p^p(μ, ν) = ∫₀¹ |Q_μ(t) - Q_ν(t)|^p dt = Σ over the pieces between two levels, of either side, |xᵢ - yⱼ|^p x its width,

a sum of terms that are not negative: exact to rounding, O((n + m) log(n + m)). Levels that differ only by rounding count as
one. There is a faster way where p is 1 or 2. With A(t) = ∫₀ᵗ Q_μ and V₀ = 0 ≤ V₁ ≤ ... the cumulative weights of ν's sorted
atoms,

    p = 2:      Σⱼ vⱼ yⱼ² - 2 Σⱼ yⱼ (A(Vⱼ) - A(Vⱼ₋₁)) + E_μ x²
    p = 1:      Σⱼ yⱼ (2tⱼ - Vⱼ - Vⱼ₋₁) + A(Vⱼ) + A(Vⱼ₋₁) - 2 A(tⱼ),       tⱼ = F_μ(yⱼ) within [Vⱼ₋₁, Vⱼ]

A is piecewise linear. A table of it is made once, and a comparison looks its values up by binary search, in O(m log(n m)). The
terms of these sums cancel. Where the value is so small that their rounding could matter, the pieces are added up instead.

The order of the points is locally constant: the value is a piecewise smooth function of points and weights, and so are all
its derivatives, which automatic differentiation has right between the kinks (ties of points; equal levels of both sides).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function

from discrepancy.errors import InvalidInput
from discrepancy.numerics.derivatives import safe_root
from discrepancy.numerics.distances import block_bytes
from discrepancy.scale import unit_of_powers

__all__ = ["QuantileTables", "check_power", "in_units", "line_cost", "power", "rounding_of", "shared_levels"]

LARGEST = 1e300
"""The largest power in a derivative with respect to a level."""


def check_power(p: float) -> None:
    """Refuses a power for which ‖x - y‖^p gives no distance."""
    if not 1 <= p < float("inf"):
        raise InvalidInput(f"'p' must be a finite number >= 1, got {p}; use 1.0 or 2.0")


def power(value: Tensor, p: float) -> Tensor:
    """value^p of something nonnegative; every derivative at zero is zero, and NaN stays NaN."""
    if p in (1, 2):
        return value if p == 1 else value.square()
    absent = value <= 0
    return torch.where(absent, torch.zeros_like(value), torch.where(absent, torch.ones_like(value), value).pow(p))


def in_units(cost: Tensor, unit: Tensor, p: float, root: bool) -> Tensor:
    """``unit``^p times a cost, or the p-th root of that: zero, with derivative zero, where the cost is not positive."""
    if not root:
        return cost * unit**p
    return unit * (safe_root(cost) if p == 2 else power(cost.clamp(min=0), 1 / p))


@dataclass(frozen=True)
class QuantileTables:
    """A measure on the line, or many, as tables with one row a slice: points of weight zero come last.

    Args:
        points: sorted.
        levels: cumulative weights with a zero in front, one row a group where all slices share them.
        integral: ∫ Q up to each level.
        size: E |x|^p.

    Either the points or the other two.
    """

    points: Float[Tensor, "g l n"] | None
    levels: Float[Tensor, "g k n1"]
    integral: Float[Tensor, "g l n1"] | None = None
    size: Float[Tensor, "g l"] | None = None

    @classmethod
    def of(
        cls,
        points: Float[Tensor, "g l n"],
        weights: Float[Tensor, "g n"],
        levels: Tensor | None,
        p: float | None,
        keep: bool = False,
    ) -> "QuantileTables":
        """The tables that the cost |x - y|^p needs, in float64; ``levels`` where they are shared. ``p`` None, or ``keep``,
        keeps the points, which are enough for any power."""
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
        size = (moments * (finite.sign() if p == 1 else finite)).sum(-1)
        return cls(ordered if p == 1 or keep else None, levels, integral, size)

    @staticmethod
    def pays(points: Float[Tensor, "g n d"], slices: int) -> bool:
        """Whether the faster way pays: it makes the host wait, which costs time on an accelerator only."""
        entries, cpu = slices * points.shape[0] * points.shape[1], points.device.type == "cpu"
        return cpu or 8 * entries > block_bytes(points.device)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Tensor]) -> "QuantileTables":
        """Back from the tables of a summary."""
        return cls(tables.get("points"), tables["levels"], tables.get("integral"), tables.get("size"))

    def tables(self) -> dict[str, Tensor]:
        """The tables that exist, by name."""
        every = {"points": self.points, "levels": self.levels, "integral": self.integral, "size": self.size}
        return {name: table for name, table in every.items() if table is not None}

    @property
    def last(self) -> Int[Tensor, "g k 1"]:
        """The number, from 1, of the last atom that has mass."""
        return torch.searchsorted(self.levels.detach(), self.levels[..., -1:].detach().contiguous())

    def at(self, levels: Float[Tensor, "g l m"]) -> Int[Tensor, "g l m"]:
        """The numbers, from 1, of the atoms that lie above these levels; the last that has mass beyond the end."""
        return torch.minimum(_search(self.levels, levels, right=True), self.last)

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


def rounding_of(points: Tensor) -> float:
    """What is allowed of a value that is returned in the points' type."""
    return 1e-6 if points.dtype != torch.float64 else 1e-10


def line_cost(
    real: QuantileTables,
    points: Float[Tensor, "g l m"],
    weights: Float[Tensor, "g m"],
    p: float,
    again: Callable[[], QuantileTables] | None = None,
    rounding: float = 0.0,
) -> tuple[Float[Tensor, "g l"], Float[Tensor, " g"]]:
    """W_p^p of each slice in float64, differentiable in the points and weights (and in what the tables depend on), and the
    length of each group by whose p-th power it is divided.

    ``again`` gives the sorted points where tables are not exact to ``rounding``, as a share of the value.
    """
    y, order = points.double().sort(-1)
    v = weights[:, None].expand_as(y).gather(-1, order)
    levels = v.cumsum(-1)
    if real.integral is None:
        return _merged_cost(real, y, levels, p)
    assert real.size is not None
    if p == 2:
        sizes = v * y.square()
        value = (sizes - 2 * y * _with_zero(real.integral_to(levels)).diff(dim=-1)).sum(-1) + real.size
    else:
        sizes, fixed = (v * y.abs()).detach(), levels.detach()
        ends, integral = _with_zero(fixed), _with_zero(real.integral_to(fixed))
        low, high = ends[..., :-1], ends[..., 1:]
        first, last = (torch.minimum(torch.maximum(mass, low), high) for mass in real.mass_up_to(y))
        turn = (first + last) / 2
        pieces = integral[..., :-1] + integral[..., 1:] - 2 * real.integral_to(turn)
        value = (y * (2 * turn - low - high) + pieces + (levels - fixed) * _slopes(real, y, fixed, 1.0)).sum(-1)
    if again is not None:
        cancelled = _Notes()
        size = real.size.detach() + sizes.detach().sum(-1)
        _Noted.apply(~(value.detach() - size.mul_(CANCELLED / rounding) >= 0), cancelled)  # so is what overflows
        if cancelled.found:
            return _merged_cost(again(), y, levels, p)
    return value.clamp(min=0), torch.ones_like(value[:, 0])


CANCELLED = 64 * 2.0**-52
"""The rounding error of sums over tables, as a share of E |x|^p + E |y|^p."""


class _Notes:
    """Whether any entry was true; a list would be copied within ``torch.func``."""

    found = False


class _Noted(Function):
    """Notes whether any entry is true, also within ``torch.vmap``. The host waits for it."""

    @staticmethod
    def forward(flags: Tensor, notes: _Notes) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        notes.found = notes.found or bool(flags.any())
        return flags.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, flags: Tensor, notes: _Notes) -> tuple[Tensor, int]:  # pyright: ignore
        return _Noted.apply(flags, notes), in_dims[0]  # pyright: ignore[reportReturnType]


def _merged_cost(
    real: QuantileTables, y: Float[Tensor, "g l m"], levels: Float[Tensor, "g l m"], p: float
) -> tuple[Float[Tensor, "g l"], Float[Tensor, " g"]]:
    """Σ over the pieces between two levels, of either side, in order; and the unit."""
    assert real.points is not None
    of_real = real.levels[..., 1:].detach().expand(*levels.shape[:-1], -1)
    n, last = of_real.shape[-1], real.last - 1
    fixed = _aligned(of_real, levels.detach())
    ends, place = torch.cat([of_real, fixed], -1).sort(stable=True)
    ended = (place < n).long().cumsum(-1) - (place < n).long()  # atoms of x that end before a piece does
    i = torch.minimum(ended, last)
    j = (torch.arange(place.shape[-1], device=y.device) - ended).clamp(max=y.shape[-1] - 1)
    widths = _with_zero(ends).diff(dim=-1)
    gaps = (_take(real.points, i) - y.gather(-1, j)).abs()
    unit = unit_of_powers(gaps.flatten(1).amax(1), p)
    scale = unit[:, None, None]
    value = (widths * power(gaps / scale, p)).sum(-1)
    return value + ((levels - levels.detach()) * _slopes(real, y, fixed, p, scale)).sum(-1), unit


def _slopes(
    real: QuantileTables,
    y: Float[Tensor, "g l m"],
    levels: Float[Tensor, "g l m"],
    p: float,
    scale: Tensor | float = 1.0,
) -> Float[Tensor, "g l m"]:
    """The derivative of the cost by each level of y, which moves it by |xᵢ - yⱼ|^p - |xᵢ - yⱼ₊₁|^p, with i below the level or
    above it where it is a level of x too: the mean of both, which is zero at equality."""
    assert real.points is not None
    of_real, last = real.levels[..., 1:].detach(), real.last - 1
    of_real = of_real.expand(*levels.shape[:-1], -1).contiguous()
    fixed = _aligned(of_real, levels)
    following = torch.cat([y[..., 1:], y[..., -1:]], -1)
    open_end = torch.ones_like(y)
    open_end[..., -1] = 0
    slope = torch.zeros_like(y)
    for right in (False, True):
        x = _take(real.points, torch.minimum(_search(of_real, fixed, right), last))
        here, beyond = (power((x - end).abs() / scale, p).clamp(max=LARGEST) for end in (y, following))
        slope = slope + 0.5 * (here - open_end * beyond)
    return slope


def _aligned(of_real: Float[Tensor, "g l n"], levels: Float[Tensor, "g l m"]) -> Float[Tensor, "g l m"]:
    """The levels, each put on that of the real side from which it differs by no more than the rounding of both."""
    rounding = (of_real.shape[-1] + levels.shape[-1]) * 2.0**-53
    above = _search(of_real.contiguous(), levels, right=False).clamp(max=of_real.shape[-1] - 1)
    for index in (above, (above - 1).clamp(min=0)):
        there = of_real.gather(-1, index)
        levels = torch.where((levels - there).abs() <= rounding, there, levels)
    return levels


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
