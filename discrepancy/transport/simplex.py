"""The network simplex of POT, started cold, or from the potentials of a similar program without any effect on the result.

A warm start saves pivots and may end at another optimal plan, or at the same with other rounding, so that a run that was
interrupted would differ from one that was not. Two things exclude that. Masses are whole numbers (of units 2⁻⁵²), of which
every sum of a pivot is exact. And a plan found from a warm start is used only if it is seen to be the only optimal one, by
:func:`_unique`; otherwise the program is solved again, cold.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from discrepancy.errors import Unsupported

__all__ = ["Solution", "Start", "least_cost", "simplex", "warm_pays"]

PIVOTS = 20_000_000
"""Steps of the simplex after which it is given up."""

UNITS = 2.0**52
"""In a mass of one: sums of whole numbers up to twice that are exact in float64."""

STOPPED = 4e-15
"""How far below zero a reduced cost may be where the simplex stops, as a share of n times the largest cost: POT allows 2.2e-15
of its potentials, which are as large as that, and these are rounded (3.5e-16 measured, at 20,000 x 1,000)."""

PATIENCE = 3
"""Warm starts in a row that end in a plan which may not be the only one, after which they are left."""


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
            Unsupported: if the simplex does not arrive.
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
        Unsupported: if the simplex does not arrive; POT itself warns only, and returns what it has.
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


def least_cost(w: Float[Tensor, " n"], v: Float[Tensor, " m"], cost: Float[Tensor, "n m"]) -> float:
    """min E_π cost over the couplings π of two measures, for costs of any kind; no gradient.

    Raises:
        Unsupported: if the simplex does not arrive.
    """
    cost = cost.double()
    largest = float(cost.abs().amax())
    if largest == 0:
        return 0.0
    scaled = (cost / largest).cpu().numpy()  # as in exact.py: POT's tolerances are absolute
    plan = simplex((w.double() / w.sum()).cpu().numpy(), (v.double() / v.sum()).cpu().numpy(), scaled).plan
    return largest * float((plan * scaled).sum())
