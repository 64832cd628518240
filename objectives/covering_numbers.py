"""How few of the points there are around which balls of a radius cover all of them."""

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize, sparse
from torch import Tensor

from discrepancy.arguments import checked_arguments
from discrepancy.cover import ORDERS, Norm
from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice
from objectives.solvers.selection.exact_cover import weighted_cover

__all__ = ["CoveringNumber", "covering_number"]

ROUNDING = 1e-12
"""By this share of the radius a distance may be larger and is taken for equal."""


@dataclass(frozen=True)
class CoveringNumber:
    """A cover by few balls, and how few any cover has; see :func:`covering_number`.

    Args:
        rows: the numbers of the points that are chosen, in rising order.
        at_least: no cover has fewer points.

    Example:
        >>> from objectives import CoveringNumber
        >>> CoveringNumber(rows=(0, 3), at_least=2).exact
        True
    """

    rows: tuple[int, ...]
    at_least: int

    @property
    def exact(self) -> bool:
        """Whether no cover has fewer points than this one."""
        return len(self.rows) == self.at_least


@checked_arguments
def covering_number(
    points: Float[Tensor, "n ..."], radius: float, *, norm: Norm = "l2", time_limit: float | None = 60.0
) -> CoveringNumber:
    """The fewest of the points around which balls of the radius cover all of them, by an integer program:

        min Σᵢ sᵢ   subject to   A s ≥ 1,  sᵢ ∈ {0, 1},        Aᵢⱼ = 1 where ‖xᵢ - xⱼ‖ ≤ r.

    That is the other direction of ``exact_cover``, which finds the least radius for a number of points; of a class, it says how
    many examples a synthetic set needs for a given covering radius. Greedy choices of balls come first; HiGHS
    (``scipy.optimize.milp``) then looks for fewer. The problem is NP-hard: where the time ends before the search, ``rows`` is
    the best cover found, and ``at_least`` a bound that the solver has proved. Memory grows with n², time with more.

    Args:
        points: the examples to cover, of one class where covers are within classes.
        radius: r, in the units of the points; distances that are larger by a rounding (1e-12 of it) count as equal.
        norm: ``l1``, ``l2`` or ``linf``.
        time_limit: of the integer program, in seconds; None for no limit.

    References: Is Adversarial Training with Compressed Datasets Effective? (Chen, Selvan, 2024),
        https://arxiv.org/abs/2402.05675, "minimal finite covering".

    Raises:
        InvalidInput: if there are no points, or points that are not finite; if the radius is not finite and >= 0, the time
            limit not > 0, or the norm unknown.

    Example:
        >>> import torch
        >>> from objectives import covering_number
        >>> covering_number(torch.tensor([[0.0], [1.0], [2.0], [7.0]]), 1.0)
        CoveringNumber(rows=(1, 3), at_least=2)
    """
    if points.ndim < 2:
        raise InvalidInput(
            f"'points' must have shape (n, ...), got {tuple(points.shape)}; use points[:, None] for numbers"
        )
    if not len(points):
        raise InvalidInput("there are no points to cover")
    x = points.detach().cpu().flatten(1).double()
    if not bool(x.isfinite().all()):
        raise InvalidInput("'points' has values that are not finite; leave these points out")
    if not 0 <= radius < math.inf:
        raise InvalidInput(f"'radius' must be finite and >= 0, got {radius}")
    if time_limit is not None and not 0 < time_limit < math.inf:
        raise InvalidInput(f"'time_limit' must be finite and > 0, got {time_limit}; None is no limit")
    check_choice("norm", norm, get_args(Norm))
    apart = torch.cdist(x, x, ORDERS[norm], compute_mode="donot_use_mm_for_euclid_dist")
    near = (apart <= radius * (1 + ROUNDING)).numpy()
    rows, at_least = _fewest(near, time_limit)
    return CoveringNumber(tuple(sorted(rows)), at_least)


def _fewest(near: np.ndarray, seconds: float | None) -> tuple[list[int], int]:
    """The balls, and how few there could be; a column is an example, and a row its ball."""
    n = len(near)
    best, fewer = list(range(n)), weighted_cover(near, n)
    while fewer is not None:
        best, fewer = fewer, weighted_cover(near, len(fewer) - 1)
    if len(best) == 1:
        return best, 1
    ones = np.ones(n)
    result = optimize.milp(
        ones,
        integrality=ones,
        bounds=optimize.Bounds(0, 1),
        constraints=optimize.LinearConstraint(sparse.csr_array(near, dtype=float), lb=1),
        options={} if seconds is None else {"time_limit": seconds},
    )
    if result.x is not None:
        rows = np.flatnonzero(result.x > 0.5)
        if len(rows) < len(best) and near[:, rows].any(1).all():
            best = rows.tolist()
    bound = result.mip_dual_bound
    proved = 1 if bound is None or not math.isfinite(bound) else math.ceil(bound - 1e-6)
    return best, min(len(best), max(1, proved))
