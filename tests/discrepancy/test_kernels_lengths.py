"""Lengths: rules that measure them on real data, and squared distances.

Properties (Hypothesis):
1. squared distances equal the loops for any sizes and offsets.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from discrepancy import Gaussian, InvalidInput, Measure
from discrepancy.kernels import Linear, Median, Quantile, squared_distances


def points(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(1, 6), d=st.integers(1, 4), offset=st.sampled_from([0.0, 1e3]))
def test_squared_distances(n: int, m: int, d: int, offset: float):
    x, y = points(n, d) + offset, points(m, d, 1) + offset
    loops = torch.stack([torch.stack([(a - b).square().sum() for b in y]) for a in x])
    torch.testing.assert_close(squared_distances(x, y), loops, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("lengthscale", [0.0, -2.0, math.nan, math.inf])
def test_lengthscale_must_be_positive(lengthscale: float):
    with pytest.raises(InvalidInput, match=rf"'lengthscale' must be finite and > 0, got {lengthscale}"):
        Gaussian(lengthscale=lengthscale)


def test_factor_must_be_positive():
    with pytest.raises(InvalidInput, match=r"'factor' must be finite and > 0, got -1.0"):
        Median(factor=-1.0)


def test_unresolved_length_is_refused():
    kernel = Gaussian(lengthscale=Median())
    with pytest.raises(InvalidInput, match=r"'lengthscale' is the rule 'median' .* call resolve\(sample\)"):
        kernel(points(3), points(2))


def test_median_is_that_of_all_pairs():
    x = points(23)
    resolved = Gaussian(lengthscale=Median(factor=0.5)).resolve(Measure(x))
    assert isinstance(resolved, Gaussian)
    assert resolved.lengthscale == pytest.approx(0.5 * float(torch.from_numpy(pdist(x.numpy())).quantile(0.5)))


@pytest.mark.parametrize("level", [0.1, 0.5, 0.83])
def test_quantile_is_that_of_all_pairs(level: float):
    x = points(23)
    expected = 3 * float(torch.from_numpy(pdist(x.numpy())).quantile(level))
    assert Quantile(level=level, factor=3.0).measured(Measure(x)) == pytest.approx(expected)


def test_quantile_of_equal_points_is_refused():
    with pytest.raises(InvalidInput, match=r"the quantile distance must be .* \(at least 0.2 of the pairs coincide"):
        Quantile(level=0.2).measured(Measure(torch.ones(5, 2)))


def test_resolving_a_number_changes_nothing():
    assert Gaussian(lengthscale=2.0).resolve(Measure(points(3))) == Gaussian(lengthscale=2.0)
    assert Linear().resolve(Measure(points(3))) == Linear()


def test_median_of_a_large_sample_takes_evenly_spaced_points():
    x = points(4001, 2)
    expected = float(torch.from_numpy(pdist(x[torch.linspace(0, 4000, 2000).double().round().long()].numpy())).median())
    measured = Median().measured(Measure(x))
    assert measured == pytest.approx(expected, rel=1e-3)
    assert measured == Median().measured(Measure(x))
    assert measured == pytest.approx(float(torch.from_numpy(pdist(x.numpy()[::3])).median()), rel=0.05)


def test_median_leaves_out_padding_and_ignores_groups():
    x = points(6)
    padded = Measure(
        torch.cat([x, 100 * torch.ones(2, 3).double()]).view(2, 4, 3), torch.tensor([[1.0] * 4, [2, 3, 0, 0]])
    )
    assert Median().measured(padded) == pytest.approx(Median().measured(Measure(x)))


def test_median_flattens_images():
    x = points(7, 12)
    assert Median().measured(Measure(x.view(7, 3, 2, 2))) == pytest.approx(Median().measured(Measure(x)))


def test_median_is_measured_in_float64_far_from_the_origin():
    x = points(31).float() + 1000
    exact = float(torch.from_numpy(pdist(x.double().numpy())).quantile(0.5))
    assert Median().measured(Measure(x)) == pytest.approx(exact, rel=1e-9)


def test_median_of_one_point_is_refused():
    with pytest.raises(InvalidInput, match="needs at least 2 real points, got 1; give the length as a number"):
        Median().measured(Measure(points(1)))


def test_median_of_equal_points_is_refused():
    with pytest.raises(InvalidInput, match=r"must be finite and > 0, got 0.0 .* give the length as a number"):
        Median().measured(Measure(torch.ones(5, 2)))


def test_median_of_blocks_is_refused():
    with pytest.raises(InvalidInput, match=r"blocks \['a', 'b'\] have no common median distance"):
        Median().measured(Measure({"a": points(3), "b": points(3)}))
