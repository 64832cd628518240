"""Smooth cover: the contract, the limits of both temperatures, slopes of coincident points, memory.

Properties (Hypothesis):
1. lies within -T log n and t log m of the covering radius, for any sizes, norms and temperatures.
"""

import math

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import CoveringRadius, Discrepancy, InvalidInput, Measure, SmoothCover
from discrepancy.kernels import Median
from discrepancy.numerics import distances

ORDERS = {"l1": 1, "l2": 2, "linf": np.inf}


def loops(discrepancy: SmoothCover, mu: Measure, nu: Measure) -> float:
    """The formula, pair by pair."""
    assert isinstance(mu.points, torch.Tensor)
    assert isinstance(nu.points, torch.Tensor)
    x, y = mu.points.flatten(1).numpy(), nu.points.flatten(1).numpy()
    w, v = (side.weights / side.weights.sum() for side in (mu, nu))
    t, T = discrepancy.min_temperature, discrepancy.max_temperature
    assert isinstance(t, float)
    assert isinstance(T, float)
    order, lengths = ORDERS[discrepancy.norm], []
    for a in x:
        exponents = [
            math.log(mass) - np.linalg.norm(a - b, order) / t for b, mass in zip(y, v.tolist(), strict=True) if mass > 0
        ]
        top = max(exponents)
        lengths.append(-t * (top + math.log(sum(math.exp(item - top) for item in exponents))))
    top = max(lengths)
    total = sum(mass * math.exp((length - top) / T) for length, mass in zip(lengths, w.tolist(), strict=True))
    return top + T * math.log(total)


class TestSmoothCover(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "l2": SmoothCover(min_temperature=0.5, max_temperature=0.3),
        "sharp": SmoothCover(min_temperature=0.02, max_temperature=0.01),
        "l1": SmoothCover(norm="l1", min_temperature=0.5, max_temperature=0.7),
        "linf": SmoothCover(norm="linf", min_temperature=0.2, max_temperature=0.5),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, SmoothCover)
        return loops(discrepancy, mu, nu)


def sample(n: int, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth(norm, low: float, high: float) -> SmoothCover:
    return SmoothCover(norm=norm, min_temperature=low, max_temperature=high)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 6),
    d=st.integers(1, 5),
    norm=st.sampled_from(["l1", "l2", "linf"]),
    low=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
    high=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
)
def test_lies_within_its_bounds_of_the_covering_radius(n: int, m: int, d: int, norm, low: float, high: float):
    mu, nu = Measure(sample(n, d)), Measure(sample(m, d, 1))
    apart = smooth(norm, low, high)(mu, nu).item() - CoveringRadius(norm=norm)(mu, nu).item()
    assert -high * math.log(n) - 1e-9 <= apart <= low * math.log(m) + 1e-9


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_tends_to_the_covering_radius(norm):
    mu, nu = Measure(sample(50)), Measure(sample(6, seed=1))
    radius = CoveringRadius(norm=norm)(mu, nu).item()
    heats = (1.0, 0.1, 0.01, 1e-3, 1e-6)
    apart = [abs(smooth(norm, heat, heat)(mu, nu).item() - radius) for heat in heats]
    assert all(gap <= heat * math.log(50) for gap, heat in zip(apart, heats, strict=True))
    assert apart[-1] < 1e-3 * apart[2] < apart[0]


def test_tends_to_the_mean_distance_where_both_are_hot():
    x, y = sample(20), sample(6, seed=1)
    assert smooth("l2", 1e5, 1e5)(Measure(x), Measure(y)).item() == pytest.approx(
        float(torch.cdist(x, y).mean()), abs=1e-4
    )


def test_a_weight_lengthens_the_distances_to_its_point():
    """Of one synthetic point with the share v and another far away, the distance is t log(1/v) more."""
    x, y = torch.zeros(1, 2).double(), torch.tensor([[3.0, 4.0], [1e6, 0.0]]).double()
    value = smooth("l2", 0.5, 0.1)(Measure(x), Measure(y, torch.tensor([1.0, 3.0])))
    assert value.item() == pytest.approx(5 + 0.5 * math.log(4), rel=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("heat", [1e-8, 0.1])
def test_slopes_at_coincident_points_are_finite(norm, heat: float):
    x = sample(9, dtype=torch.float32)
    points, weights = x[:4].clone().requires_grad_(), torch.tensor([1.0, 0, 1, 1], requires_grad=True)
    smooth(norm, heat, heat)(Measure(x), Measure(points, weights)).backward()
    assert points.grad is not None
    assert weights.grad is not None
    assert bool(points.grad.isfinite().all())
    assert bool(weights.grad.isfinite().all())


def test_every_point_moves():
    x, points = sample(30), sample(5, seed=1).requires_grad_()
    smooth("l2", 1.0, 1.0)(Measure(x), Measure(points)).backward()
    assert points.grad is not None
    assert bool((points.grad.norm(dim=1) > 1e-3).all())


def test_rules_are_measured_on_real_points():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    found = SmoothCover(min_temperature=Median(factor=0.1), max_temperature=2.0).resolve(Measure(x))
    assert found == SmoothCover(min_temperature=0.2, max_temperature=2.0)
    assert found.resolved
    with pytest.raises(InvalidInput, match="'max_temperature' is the rule 'median' and not yet a number"):
        SmoothCover(max_temperature=Median())(Measure(x), Measure(x))


def test_blocks_hold_no_more_than_their_bytes(monkeypatch):
    sizes = []
    monkeypatch.setitem(distances.BLOCK_BYTES, "cpu", 8 * 5 * 20)
    product = torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda x, y, p: sizes.append(x.shape[1]) or product(x, y, p))
    smooth("l1", 0.1, 0.1)(Measure(sample(101)), Measure(sample(5, seed=1)))
    assert max(sizes) == 20
    assert sum(sizes) == 101


def test_what_is_refused():
    for field in ("min_temperature", "max_temperature"):
        with pytest.raises(InvalidInput, match=f"'{field}' must be finite and > 0, got 0.0"):
            SmoothCover(**{field: 0.0})  # pyright: ignore[reportArgumentType]
