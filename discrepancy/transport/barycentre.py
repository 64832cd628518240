"""Barycentres of measures in the sense of W₂, with a few atoms that may lie anywhere."""

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.arguments import checked_arguments
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.measure import Measure
from discrepancy.transport.exact import PAIRS, optimal_plan

__all__ = ["barycentre"]


@checked_arguments
@torch.no_grad()
def barycentre(
    measures: Sequence[Measure],
    count: int,
    *,
    generator: torch.Generator,
    importance: Sequence[float] | None = None,
    steps: int = 100,
    tolerance: float = 1e-6,
    cap: int = PAIRS,
) -> Measure:
    """The measure of ``count`` equal atoms that is closest to several measures, by a fixed point of exact plans.

        min over y of  Σₖ λₖ W₂²(μₖ, ν_y),       ν_y = 1/count Σⱼ δ_{yⱼ},       yⱼ <- Σₖ λₖ E_{πₖ}[x | yⱼ]

    Each atom moves to the mean of the points that the optimal plans send to it. No step increases the objective. The iteration
    ends where no plan changes: at a stationary point, which need not be the minimum. For a single measure the result is a
    quantisation with equal masses.

    Grouped measures give a grouped barycentre, one a group. A step solves one linear program for every measure and group, see
    :class:`~discrepancy.transport.Wasserstein`.

    Args:
        measures: at least one, all flat or all with the same groups; points of one shape.
        count: atoms (of each group).
        generator: chooses the start: points of the measure of largest importance, by their weights, each at most once while
            there are enough.
        importance: λ, nonnegative and normalised here; equal when not given.
        steps: at most so many.
        tolerance: the root mean square move of the atoms, relative to the spread of the data, at which it ends.
        cap: pairs of points, see :class:`~discrepancy.transport.Wasserstein`.

    Raises:
        InvalidInput: if the measures do not fit each other, or are unusable.

    Warns:
        NumericalWarning: if the atoms still move after the last step.

    References: Fast Computation of Wasserstein Barycenters (Cuturi and Doucet, 2014), Algorithm 2; A
    Fixed-Point Approach to Barycenters in Wasserstein Space (Álvarez-Esteban et al., 2016).

    Example:
        >>> import torch
        >>> from discrepancy import Measure, transport
        >>> sides = [Measure(torch.tensor([[0.0], [2.0]])), Measure(torch.tensor([[4.0], [6.0]]))]
        >>> found = transport.barycentre(sides, 2, generator=torch.Generator().manual_seed(0))
        >>> sorted(found.points.flatten().tolist())
        [2.0, 4.0]
    """
    shares = _checked(measures, count, importance)
    sides = [measure.as_groups() for measure in measures]
    clouds = [(side.rows.double(), side.shares) for side in sides]
    origin = _mean([torch.einsum("gn,gnd->gd", w, x)[:, None] for x, w in clouds], shares)
    clouds = [(x - origin, w) for x, w in clouds]
    spread = max(float(torch.einsum("gn,gnd->g", w, x.square()).max()) for x, w in clouds) ** 0.5
    y = _start(*clouds[shares.index(max(shares))], count, generator)
    v = torch.full(y.shape[:2], 1 / count, dtype=torch.float64, device=y.device)
    move = 0.0
    for _ in range(steps):
        target = _mean([_pulled(x, w, y, v, cap) for x, w in clouds], shares)
        move, y = float((target - y).square().sum(-1).mean(-1).max()) ** 0.5, target
        if move <= tolerance * spread:
            break
    else:
        warnings.warn(
            f"the barycentre still moves by {move / (spread or 1.0):.1e} of the spread after {steps} steps; "
            f"raise 'steps' or 'tolerance'",
            NumericalWarning,
            stacklevel=2,
        )
    shape = sides[0].tensors[""].shape[2:]
    points = (y + origin).to(sides[0].rows.dtype).reshape(*y.shape[:2], *shape)
    grouped = Measure(points, v.to(points.dtype))
    return grouped if measures[0].grouped else Measure(points[0], grouped.weights[0])


def _checked(measures: Sequence[Measure], count: int, importance: Sequence[float] | None) -> list[float]:
    """The weights λ, after all arguments are checked."""
    if not measures:
        raise InvalidInput("'measures' must hold at least one measure, got none")
    if count < 1:
        raise InvalidInput(f"'count' must be >= 1, got {count}")
    sorts = {
        (m.weights.shape[:-1], m.rows.dtype, m.rows.device, m.tensors[""].shape[m.weights.ndim :]) for m in measures
    }
    if len(sorts) > 1:
        raise InvalidInput("'measures' differ in groups, or in shape, dtype or device of their points; make them alike")
    for place, measure in enumerate(measures):
        measure.checked(f"measures[{place}]")
    given = [1.0] * len(measures) if importance is None else list(importance)
    if len(given) != len(measures) or min(given) < 0 or not 0 < sum(given) < float("inf"):
        raise InvalidInput(f"'importance' must be {len(measures)} nonnegative numbers with a positive sum, got {given}")
    return [share / sum(given) for share in given]


def _start(
    x: Float[Tensor, "g n d"], w: Float[Tensor, "g n"], count: int, generator: torch.Generator
) -> Float[Tensor, "g count d"]:
    """Points of each group by their weights; each at most once while there are enough."""
    chosen = []
    for points, weights in zip(x, w.cpu(), strict=True):
        repeated = count > int((weights > 0).sum())
        index = torch.multinomial(weights, count, replacement=repeated, generator=generator)
        chosen.append(points[index.to(points.device)])
    return torch.stack(chosen)


def _mean(parts: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    return torch.stack([share * part for share, part in zip(shares, parts, strict=True)]).sum(0)


def _pulled(
    x: Float[Tensor, "g n d"], w: Float[Tensor, "g n"], y: Float[Tensor, "g m d"], v: Float[Tensor, "g m"], cap: int
) -> Float[Tensor, "g m d"]:
    """E_π[x | y] of the best plan."""
    plan = optimal_plan(x, w, y, v, 2.0, cap)
    wide = (-1, -1, x.shape[-1])
    sent = plan.mass[..., None] * x.gather(1, plan.real[..., None].expand(wide))
    return torch.zeros_like(y).scatter_add(1, plan.synthetic[..., None].expand(wide), sent) / v[..., None]
