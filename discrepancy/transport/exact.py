"""Exact optimal transport: a linear program for each group, solved by the network simplex of POT.

    W_p^p(μ, ν) = min_π Σᵢⱼ πᵢⱼ ‖xᵢ - yⱼ‖^p = max_{φ,ψ} Σᵢ wᵢ φᵢ + Σⱼ vⱼ ψⱼ,      φᵢ + ψⱼ <= ‖xᵢ - yⱼ‖^p

A vertex of the polytope has mass on at most n + m - 1 pairs, and only these are kept of the plan. By the envelope theorem the
derivative in the points holds π fixed, and the derivative in the weights is ψ.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.errors import InvalidInput, NonFinite
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import first_order_only
from discrepancy.numerics.distances import squares
from discrepancy.scale import unit_of_powers
from discrepancy.transport.line import (
    QuantileTables,
    check_power,
    in_units,
    line_cost,
    power,
    rounding_of,
    shared_levels,
)
from discrepancy.transport.simplex import Start, optimal

__all__ = ["PAIRS", "Plan", "Wasserstein", "optimal_plan"]

SLIGHTEST = 1e-300
"""The least power of a length by which a potential is divided."""

PAIRS = 25_000_000
"""Pairs n m of points that have weight up to which a program is solved: some 1.5 GB, and ten seconds."""

_STARTS: WeakKeyDictionary[SampleSummary, dict[int, list[Start]]] = WeakKeyDictionary()
"""The starts of the programs against a summary, by m, one for each group. They change the time of a comparison and never its
value or gradient, so they belong neither to the summary nor to a checkpoint."""


class Plan(NamedTuple):
    """Optimal plans, one a group, as lists of pairs that are padded with pairs of mass zero; k = n + m."""

    real: Int[Tensor, "g k"]
    synthetic: Int[Tensor, "g k"]
    mass: Float[Tensor, "g k"]
    potential: Float[Tensor, "g m"]
    """ψ of the synthetic points, those without weight included."""


class Wasserstein(SampleDiscrepancy, kind="wasserstein"):
    """W_p^p with the cost ‖x - y‖^p: the p-th power of a metric (the metric itself for p = 1 or ``root``).

    Exact up to rounding in float64: a linear program on the CPU for every group and comparison, whatever the device. Its
    potentials certify each plan. Where they cannot, since costs differ by too many powers of ten, a NumericalWarning says so.
    In one dimension it is solved by sorting: there is no limit on the number of points or on the range of the costs, and a
    comparison takes O(m log(n m)) for p = 1 and p = 2 (:mod:`discrepancy.transport.line`).

    The gradient in the points holds the optimal plan fixed. The gradient in the weights is the dual potentials. Both are right
    wherever plan and potentials are unique; elsewhere, for example with equal weights on both sides, they are one of several
    subgradients. Second derivatives are refused for d > 1.

    Summary: the real points; its sensitivity is not bounded (it is, by diameter^p / n, only on a bounded
    domain, which is not assumed). Cost: O(n m d) for the costs and about O((n m)^1.5) for the program in time, some
    60 bytes a pair in memory; O((n + m) d) is kept for the backward pass. Points without weight cost nothing. A program with
    n >= 4 m and n m >= 100,000 starts from the potentials of the last comparison with the same summary, if there was one (the
    real data are kept, and weights are not learned). It is then two to five times as fast where the points have moved little,
    with the same bits (:mod:`discrepancy.transport.simplex`).

    Args:
        p: the power of the cost, at least 1.
        root: the p-th root of the value, with gradient zero where the value is zero.
        cap: pairs n m of points with weight, in a group, beyond which it refuses.

    References: Computational Optimal Transport (Peyré and Cuturi, 2019), chapter 3; Displacement Interpolation Using
    Lagrangian Mass Transport (Bonneel et al., 2011), whose network simplex POT (Flamary et al., 2021) uses.

    Raises:
        InvalidInput: if ``p`` or ``cap`` is below 1; on use, beyond ``cap``.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, Wasserstein
        >>> mu = Measure(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]))
        >>> nu = Measure(torch.tensor([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0]]))
        >>> D = Wasserstein(p=1)
        >>> round(float(D(mu, nu)), 4)
        1.4142
    """

    p: float = 2.0
    root: bool = False
    cap: int = PAIRS

    def __post_init__(self) -> None:
        check_power(self.p)
        if self.cap < 1:
            raise InvalidInput(f"'cap' must be >= 1, got {self.cap}; {PAIRS} pairs take some 1.5 GB")

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset(
            {
                "zero-at-equality",
                "nonnegative",
                "symmetric",
                "translation-invariant",
                "splits",
                "differentiable",
                "pulls",
            }
        )

    @property
    def degree(self) -> float:
        return 1.0 if self.root else self.p

    def constants(self, real: Measure, draws: Draws) -> dict[str, Tensor]:
        points, weights = real.rows, real.shares
        if points.shape[-1] != 1:
            return {}
        p = self.p if QuantileTables.pays(points, 1) else None
        return QuantileTables.of(points.double().mT, weights, shared_levels(weights), p, keep=True).tables()

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        points, y = synthetic.rows, synthetic.rows.double()
        if points.shape[-1] == 1:
            tables, rounding = QuantileTables.from_tables(summary.constants), 1e-3 * rounding_of(points)
            costs, unit = line_cost(tables, y.mT, synthetic.shares, self.p, lambda: tables, rounding)
            cost = costs[:, 0]
        else:
            x = summary.real.rows.detach().double()
            w, v = summary.real.shares.detach(), first_order_only(synthetic.shares, self.kind)
            y, starts = first_order_only(y, self.kind), _starts(summary, synthetic)
            cost, unit = _cost(x, w, y, v, self.p, self.cap, starts)
        return in_units(cost, unit, self.p, self.root).to(points.dtype)


def _starts(summary: SampleSummary, synthetic: Measure) -> list[Start]:
    """New ones where the gradient in the weights is wanted: potentials are not unique where the plan is degenerate."""
    groups, m = synthetic.weights.shape
    if synthetic.weights.requires_grad:
        return [Start() for _ in range(groups)]
    return _STARTS.setdefault(summary, {}).setdefault(m, [Start() for _ in range(groups)])


def _cost(
    x: Float[Tensor, "g n d"],
    w: Float[Tensor, "g n"],
    y: Float[Tensor, "g m d"],
    v: Float[Tensor, "g m"],
    p: float,
    cap: int,
    starts: Sequence[Start],
) -> tuple[Float[Tensor, " g"], Float[Tensor, " g"]]:
    """The cost of each group, and the length by whose p-th power it is divided."""
    size = unit_of_powers(torch.maximum(x.abs().amax((1, 2)), y.abs().amax((1, 2))), p)
    x, y = x / size[:, None, None], y / size[:, None, None]
    plan = optimal_plan(x, w, y.detach(), v.detach(), p, cap, starts)
    d = x.shape[-1]
    start, end = (
        side.gather(1, index[..., None].expand(-1, -1, d)) for side, index in ((x, plan.real), (y, plan.synthetic))
    )
    square = (start - end).square().sum(-1)
    unit = unit_of_powers(square.amax(-1).sqrt(), p)
    transported = (plan.mass * power(square / unit[:, None].square(), p / 2)).sum(-1)
    slope = (plan.potential / (unit**p).clamp(min=SLIGHTEST)[:, None]).clamp(-1 / SLIGHTEST, 1 / SLIGHTEST)
    return transported + ((v - v.detach()) * slope).sum(-1), unit * size


def optimal_plan(
    x: Float[Tensor, "g n d"],
    w: Float[Tensor, "g n"],
    y: Float[Tensor, "g m d"],
    v: Float[Tensor, "g m"],
    p: float = 2.0,
    cap: int = PAIRS,
    starts: Sequence[Start] = (),
) -> Plan:
    """The best plan between two grouped measures for the cost ‖x - y‖^p, and the potential ψ; no gradient.

    Args:
        x, y: points in float64.
        w, v: weights in float64 that sum to one in each group.
        p: the power of the cost.
        cap: pairs of points with weight, in a group, beyond which it refuses.
        starts: where each group's program starts, if known, and where the next may; no effect on plan and cost.

    Raises:
        InvalidInput: beyond the cap.
        NonFinite: if points or weights are not finite.
        Unsupported: if the simplex does not converge.

    Warns:
        NumericalWarning: where the potentials do not certify the plan, since costs differ by more than float64 can tell.
    """
    return Plan(*_Plans.apply(x, w, y, v, p, cap, starts))  # pyright: ignore


class _Plans(Function):
    """The plans of all groups, one after another; under ``torch.vmap`` those of one replica after another."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        x: Tensor, w: Tensor, y: Tensor, v: Tensor, p: float, cap: int, starts: Sequence[Start]
    ) -> tuple[Tensor, ...]:
        starts = starts or [Start() for _ in x]
        sides = zip(x, w, y, v, strict=True)
        groups = [_solved(*group, p, cap, start) for group, start in zip(sides, starts, strict=True)]
        return tuple(torch.stack(parts).to(x.device) for parts in zip(*groups, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        return (None,) * 7

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[Any], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        # Replicas start cold: each is a program of its own.
        replicas = [
            _Plans.apply(
                *(
                    item if dim is None else item.select(dim, place)
                    for dim, item in zip(in_dims[:4], inputs[:4], strict=True)
                ),
                *inputs[4:6],
                (),
            )
            for place in range(info.batch_size)
        ]
        outputs = tuple(torch.stack(parts) for parts in zip(*replicas, strict=True))
        return outputs, (0,) * len(outputs)


def _solved(
    x: Float[Tensor, "n d"],
    w: Float[Tensor, " n"],
    y: Float[Tensor, "m d"],
    v: Float[Tensor, " m"],
    p: float,
    cap: int,
    start: Start,
) -> tuple[Tensor, ...]:
    """The plan of one group: pairs, masses and ψ, on the CPU."""
    rows, columns = w.nonzero()[:, 0], v.nonzero()[:, 0]
    if len(rows) * len(columns) > cap:
        raise InvalidInput(
            f"exact transport between {len(rows)} and {len(columns)} points exceeds its 'cap' of {cap} pairs; "
            f"raise it, or use 'sinkhorn' or 'sliced_wasserstein'"
        )
    x = x[rows]
    costs = _costs(x, y[columns], p)
    if not bool(torch.isfinite(costs.amax() + w.sum() + v.sum())):
        raise NonFinite("exact transport got points or weights that are not finite; look at what made them")
    a, b, cost = (item.cpu().numpy() for item in (w[rows], v[columns], costs))
    known = None if start.potential is None else start.potential[columns.cpu().numpy()]
    plan, first, second = optimal(a, b, cost, start, known)
    flat = np.flatnonzero(plan)
    pairs = torch.from_numpy(flat)
    real, synthetic = rows.cpu()[pairs // len(columns)], columns.cpu()[pairs % len(columns)]
    mass = torch.from_numpy(plan.ravel()[flat])
    potential = torch.zeros(len(v), dtype=torch.float64, device="cpu")
    potential[columns.cpu()] = torch.from_numpy(second)
    absent = (v == 0).nonzero()[:, 0]
    if len(absent):
        slack = _costs(x, y[absent], p).cpu() - torch.from_numpy(first)[:, None]
        potential[absent.cpu()] = slack.amin(0)
    padding = (0, len(w) + len(v) - len(flat))
    start.potential = potential.numpy()
    return *(functional.pad(item, padding) for item in (real, synthetic, mass)), potential


def _costs(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], p: float) -> Float[Tensor, "n m"]:
    """‖x - y‖^p of all pairs."""
    square = squares(x, y)
    return square if p == 2 else square.sqrt_() if p == 1 else square.pow_(p / 2)
