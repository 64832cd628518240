"""The fewest balls against all subsets, beside the least radius, and where the time is up."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from small import unchecked

from discrepancy.errors import InvalidInput
from objectives import CoveringNumber, covering_number

NORMS = {"l1": 1, "l2": 2, "linf": np.inf}


def fewest(x: np.ndarray, radius: float, order: float) -> int:
    """Over all subsets, the smaller ones first."""
    near = np.linalg.norm(x[:, None] - x[None], order, axis=-1) <= radius * (1 + 1e-12)
    sizes = range(1, len(x) + 1)
    return next(k for k in sizes if any(near[:, list(some)].any(1).all() for some in combinations(range(len(x)), k)))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 9),
    st.integers(1, 3),
    st.sampled_from([*NORMS]),
    st.sampled_from([0, 0.5, 1, 2, 9]),
)
def test_no_subset_is_smaller(seed: int, n: int, d: int, norm: Any, radius: float) -> None:
    """On a grid too, where distances are equal, and points coincide."""
    random = np.random.default_rng(seed)
    x = random.integers(0, 4, (n, d)).astype(float) if seed % 2 else random.normal(size=(n, d))
    found = covering_number(torch.from_numpy(x), radius, norm=norm, time_limit=None)
    assert found.exact
    assert len(found.rows) == found.at_least == fewest(x, radius, NORMS[norm])
    to_chosen = np.linalg.norm(x[:, None] - x[None, list(found.rows)], NORMS[norm], axis=-1).min(1)
    assert to_chosen.max() <= radius * (1 + 1e-12)


def test_far_away_and_in_float32_it_is_the_same() -> None:
    x = torch.arange(12.0)[:, None]
    assert covering_number(x, 1.0).at_least == 4
    far = covering_number((x.double() + 1e6).float(), 1.0)
    assert (len(far.rows), far.exact) == (4, True)


def test_where_the_time_is_up_there_is_a_cover_and_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the solver says it: nothing found, or something, and what it has proved so far."""
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    whole = covering_number(x, 0.7)
    assert whole.exact
    stopped = optimize.OptimizeResult(x=None, status=1, mip_dual_bound=2.2)
    monkeypatch.setattr(optimize, "milp", lambda *args, **options: stopped)
    found = covering_number(x, 0.7, time_limit=1e-3)
    assert found.at_least == 3 < len(whole.rows) <= len(found.rows)
    assert not found.exact
    assert float(torch.cdist(x, x[list(found.rows)]).amin(1).max()) <= 0.7
    stopped.mip_dual_bound = -np.inf
    assert covering_number(x, 0.7, time_limit=1e-3).at_least == 1


def test_images_and_plain_numbers() -> None:
    assert covering_number(torch.zeros(5, 1, 2, 2), 0.0) == CoveringNumber((0,), 1)
    with unchecked():
        assert covering_number([[0.0], [3.0]], 1.0).rows == (0, 1)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("points", "changes", "said"),
    [
        (torch.zeros(0, 2), {}, "no points to cover"),
        (torch.tensor([[torch.nan]]), {}, "not finite"),
        (torch.zeros(3), {}, r"'points' must have shape \(n, ...\), got \(3,\); use points\[:, None\]"),
        (torch.zeros(2, 2), {"radius": -1.0}, "'radius' must be finite and >= 0"),
        (torch.zeros(2, 2), {"time_limit": 0.0}, "'time_limit' must be finite and > 0"),
    ],
)
def test_refusals(points: torch.Tensor, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        covering_number(points, **{"radius": 1.0, **changes})


@pytest.mark.parametrize(("name", "value"), [("radius", "wide"), ("radius", None), ("time_limit", "long"), ("norm", 2)])
def test_arguments_of_other_types_are_refused(name: str, value: Any) -> None:
    with unchecked(), pytest.raises(InvalidInput, match=f"'{name}'"):
        covering_number(torch.zeros(2, 2), **{"radius": 1.0, name: value})
