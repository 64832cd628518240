"""The network simplex of POT, started cold, or from the potentials of a similar program; the result is the same.

A warm start saves pivots. It may end at another optimal plan, or at the same plan with other rounding; an interrupted run would
then differ from an uninterrupted one. Two measures exclude that. Masses are whole multiples of 2⁻⁵², so that every sum of a
pivot is exact. And a plan found from a warm start is used only if it is shown to be the only optimal one, by :func:`_unique`;
otherwise the program is solved again, cold.

Costs are made small first, since POT has absolute tolerances: the minimum of each row, and then of each column, is subtracted,
which does not change the optimal plan, and the largest remaining cost becomes the unit. So a point that lies far from all
others does not make the costs of the others inexact. A plan is *certified* if the potentials, made feasible, show that it costs
at most 1e-7 more than an optimal one, beyond those minima. If they do not (clusters that lie 1e7 times their size apart), the
program is solved again with all costs cut off far above the mean: a plan that has no mass there is optimal for the full costs
too.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from discrepancy.errors import NumericalWarning, Unsupported

__all__ = ["Solution", "Start", "least_cost", "optimal", "simplex", "warm_pays"]

PIVOTS = 20_000_000
"""Steps of the simplex after which it is given up."""

UNITS = 2.0**52
"""In a mass of one: sums of whole numbers up to twice that are exact in float64."""

STOPPED = 4e-15
"""How far below zero a reduced cost may be where the simplex stops, as a share of n times the largest cost: POT allows 2.2e-15
of its potentials, which are as large as that, and these are rounded (3.5e-16 measured, at 20,000 x 1,000)."""

PATIENCE = 3
"""After so many warm starts in a row that end in a plan which may not be the only optimal one, programs are started cold."""


CERTIFIED = 1e-7
"""The most that a plan may cost above the bound by its potentials, as a share of its cost beyond those minima."""

NEARLY = 1e-2
"""The same, as a share of the median cost of a pair in the plan: beyond it, pairs of that cost may be matched wrongly."""

ROUNDED = 16
"""Roundings of a pair's cost that may remain when those minima are taken off."""

CUT = 1e5
"""Costs are cut off at so many times the mean cost of the plan."""


class Solution(NamedTuple):
    """An optimal plan and its potentials, φᵢ + ψⱼ <= costᵢⱼ with equality where there is mass."""

    plan: Float[np.ndarray, "n m"]
    first: Float[np.ndarray, " n"]
    second: Float[np.ndarray, " m"]


def warm_pays(n: int, m: int) -> bool:
    """Whether a program of this size is solved faster from the last potentials: a large one that is far from square."""
    return n >= 4 * m and n * m >= 100_000


@dataclass(eq=False)
class Start:
    """Where the next program of a sequence starts: ψ of the last one. It changes the time and never the result."""

    potential: Float[np.ndarray, " m"] | None = None
    failures: int = 0

    def solve(
        self,
        a: Float[np.ndarray, " n"],
        b: Float[np.ndarray, " m"],
        cost: Float[np.ndarray, "n m"],
        second: np.ndarray | None,
    ) -> Solution:
        """The solution for the masses rounded to whole units, from these potentials ψ, or cold where there are none.

        Raises:
            Unsupported: if the simplex does not converge.
        """
        a, b, found = _whole(a), _whole(b), None
        if second is not None and self.failures < PATIENCE:
            found = simplex(a, b, cost, ((cost - second).min(1), second))
            self.failures = 0 if _unique(cost, found) else self.failures + 1
        if found is None or self.failures:
            found = simplex(a, b, cost)
        return Solution(found.plan / UNITS, found.first, found.second)


def _whole(mass: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Masses as whole units that add up to UNITS; those that were rounded down most get what is missing."""
    exact = mass / mass.sum() * UNITS
    whole = np.floor(exact)
    missing = int(UNITS - whole.sum())
    most = np.argsort(whole - exact, kind="stable")
    whole[most[:missing] if missing >= 0 else most[missing:]] += np.sign(missing)
    return whole


def _unique(cost: Float[np.ndarray, "n m"], found: Solution) -> bool:
    """Whether the simplex ends at this plan from any start.

    The pairs whose reduced cost is below a gap form a forest: the masses determine the plan on them, and it is the only optimal
    one. Suppose that the simplex stopped at another, with reduced costs of its own of at least -δ, rounding included. The
    difference of the two is a sum of cycles. Each visits a synthetic point once at most and has a pair outside the forest, so
    that it raises the cost by the gap or more; by the other potentials it raises it by m δ at most. So gap > m δ excludes it.
    """
    n, m = cost.shape
    reduced = cost - found.first[:, None]
    reduced -= found.second
    rows, columns = np.nonzero(reduced <= m * n * STOPPED * cost.max())
    if len(rows) >= n + m:
        return False
    pairs = coo_array((np.ones(len(rows), dtype=bool), (rows, n + columns)), shape=(n + m, n + m))
    parts = connected_components(pairs, directed=False, return_labels=False)
    return len(rows) == n + m - int(parts)


def simplex(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " m"],
    cost: Float[np.ndarray, "n m"],
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> Solution:
    """The optimal plan and both potentials, from the potentials of a start if there is one.

    Raises:
        Unsupported: if the simplex does not converge; POT itself only warns, and returns its last plan.
    """
    import ot  # slow to import, so only where a program is solved

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan, log = ot.emd(a, b, cost, numItermax=PIVOTS, log=True, potentials_init=start)
    if log["warning"] is not None:
        raise Unsupported(
            f"exact transport between {len(a)} and {len(b)} points was not solved in {PIVOTS} steps (POT: "
            f"{' '.join(log['warning'].split())}); use fewer points, 'sinkhorn' or 'sliced_wasserstein'"
        )
    return Solution(plan, log["u"], log["v"])


def optimal(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " m"],
    cost: Float[np.ndarray, "n m"],
    start: Start | None = None,
    known: np.ndarray | None = None,
) -> Solution:
    """The optimal plan, certified, and both potentials; from the potentials ``known`` of the columns where that pays.
    ``cost`` is overwritten.

    Raises:
        Unsupported: if the simplex does not converge.

    Warns:
        NumericalWarning: if the potentials do not certify the plan.
    """
    of_rows, of_columns, unit = _reduce(cost)
    reduced = cost
    if start is not None and warm_pays(*cost.shape):
        found = start.solve(a, b, reduced, None if known is None else (known - of_columns) / unit)
    else:
        found = simplex(a, b, reduced)
    taken = of_rows / unit, of_columns / unit
    gap, allowed = _gap_and_allowed(reduced, found, *taken)
    if gap > allowed:
        paid = float((found.plan * reduced).sum() / found.plan.sum())
        cut = min(CUT * paid, 1.0)
        lower = np.minimum(reduced, cut) / cut
        other = simplex(a, b, lower)
        if not (other.plan[reduced > cut] > 0).any():
            found = Solution(other.plan, cut * other.first, cut * other.second)
            gap, allowed = _gap_and_allowed(lower, other, taken[0] / cut, taken[1] / cut)
    if gap > allowed:
        warnings.warn(
            "exact transport found a plan that is not certified: the costs of its pairs differ by more than float64 can tell "
            "apart, so near pairs may be matched wrongly beside far ones; compare clusters that lie far apart one by one",
            NumericalWarning,
            stacklevel=2,
        )
    return Solution(found.plan, unit * found.first + of_rows, unit * found.second + of_columns)


def _reduce(cost: Float[np.ndarray, "n m"]) -> tuple[np.ndarray, np.ndarray, float]:
    """Takes the minima of the rows, then those of the columns, off the costs, and divides by the largest that is left."""
    of_rows, of_columns, largest = np.empty(len(cost)), np.full(cost.shape[1], np.inf), 0.0
    for part in _parts(cost):
        of_rows[part] = cost[part].min(1)
        cost[part] -= of_rows[part, None]
        np.minimum(of_columns, cost[part].min(0), out=of_columns)
    for part in _parts(cost):
        cost[part] -= of_columns
        largest = max(largest, float(cost[part].max()))
    unit = largest or 1.0
    cost /= unit
    return of_rows, of_columns, unit


def _parts(cost: np.ndarray) -> list[slice]:
    """Rows that stay in a processor's cache."""
    step = max(1, (1 << 16) // cost.shape[1])
    return [slice(at, at + step) for at in range(0, len(cost), step)]


def _gap_and_allowed(
    cost: Float[np.ndarray, "n m"],
    found: Solution,
    of_rows: Float[np.ndarray, " n"],
    of_columns: Float[np.ndarray, " m"],
) -> tuple[float, float]:
    """By how much the potentials, made feasible, stay below what the plan costs, and how much is allowed.

    Left out are what each pair's cost was rounded by when ``of_rows`` and ``of_columns`` were taken off, the rounding of the
    potentials, unless pairs of the plan are as near as that, and pairs that are one point up to rounding.
    """
    rows, columns = np.nonzero(found.plan)
    mass, paid = found.plan[rows, columns] / found.plan.sum(), cost[rows, columns]
    second = np.full(cost.shape[1], np.inf)
    for part in _parts(cost):
        np.minimum(second, (cost[part] - found.first[part, None]).min(0), out=second)
    whole, rounding = paid + of_rows[rows] + of_columns[columns], ROUNDED * np.finfo(cost.dtype).eps
    some = whole[whole > rounding**2]
    share = max(CERTIFIED * float(mass @ paid), rounding * float(np.abs(found.first).max()))
    beyond = paid - rounding * whole  # costs are not negative, so potentials that are zero are feasible too
    gap = min(float(mass @ (beyond - bound).clip(min=0)) for bound in (found.first[rows] + second[columns], 0.0))
    return gap, min(share, NEARLY * float(np.median(some))) if len(some) else np.inf


def least_cost(w: Float[Tensor, " n"], v: Float[Tensor, " m"], cost: Float[Tensor, "n m"]) -> float:
    """min E_π cost over the couplings π of two measures, for costs of any kind; no gradient.

    Raises:
        Unsupported: if the simplex does not converge.
    """
    table = cost.double().cpu().numpy()
    plan = optimal((w.double() / w.sum()).cpu().numpy(), (v.double() / v.sum()).cpu().numpy(), table.copy()).plan
    return float((plan * table).sum())
