"""Transport on the line is the linear program, exactly.

Property (Hypothesis): equals scipy's W₁ for any sizes and weights with zeros.
"""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from exact_plans import drawn, sample, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import Measure
from discrepancy.transport import Wasserstein

# Known answers


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
def test_line_is_the_program(p: float):
    """One coordinate by sorting; the same with a second coordinate that is zero, by the simplex."""
    x, y = sample(13, 1), sample(9, 1, seed=1)
    w, v = weights(13), weights(9, 1)
    flat = Wasserstein(p=p)(Measure(x, w), Measure(y, v))
    wide = Wasserstein(p=p)(*(Measure(torch.cat([a, 0 * a], 1), b) for a, b in ((x, w), (y, v))))
    torch.testing.assert_close(flat, wide)


# Numerics


def test_line_is_exact_within_vmap_too():
    x, y = sample(7, 1) + 1e8, torch.stack([sample(5, 1, seed=1), sample(5, 1, seed=2)]) + 1e8
    summary = Wasserstein().summarise(Measure(x))

    def value(points: torch.Tensor) -> torch.Tensor:
        return Wasserstein().compare(summary, Measure(points))

    torch.testing.assert_close(torch.vmap(value)(y), torch.stack([value(points) for points in y]), rtol=1e-12, atol=0)


def test_line_in_units_whose_squares_overflow():
    x, y = sample(23, 1), sample(17, 1, seed=1)
    near, far = (Wasserstein(root=True)(Measure(factor * x), Measure(factor * y)) for factor in (1.0, 1e200))
    torch.testing.assert_close(far / 1e200, near)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
def test_line_is_exact_beside_far_points(p: float):
    x = sample(40, 1)
    x[::2] += 1e12
    y = x.flip(0) + 0.25
    moves = (y.flip(0).numpy().astype(np.longdouble) - x.numpy()).astype(np.longdouble)
    assert Wasserstein(p=p)(Measure(x), Measure(y)).item() == pytest.approx(
        float((np.abs(moves) ** p).mean()), rel=1e-14
    )


# Properties


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 9), ties=st.booleans(), data=st.data())
def test_line_equals_scipy(n: int, m: int, ties: bool, data: st.DataObject):
    x, y = sample(n, 1), sample(m, 1, 1)
    if ties:
        x, y = x.round(), y.round()
    mu, nu = Measure(x, drawn(data, n)), Measure(y, drawn(data, m))
    expected = scipy.stats.wasserstein_distance(x[:, 0], y[:, 0], mu.weights, nu.weights)
    assert Wasserstein(p=1.0)(mu, nu).item() == pytest.approx(expected, abs=1e-12)
