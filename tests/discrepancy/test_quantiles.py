"""Quantiles: the contract, loops over a step function, transport of marginals, degenerate samples.

Properties (Hypothesis):
1. ‖difference of means‖² <= slices <= Σ of W_2² of the marginals, for any sizes, weights and numbers of slices;
2. levels and slices equal the loops for any sizes (n, m, d >= 1), weights and offsets.
"""

import numpy as np
import ot
import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from discrepancy import Discrepancy, InvalidInput, Measure
from discrepancy.moments.moments import Moments
from discrepancy.moments.quantiles import Quantiles
from discrepancy.numerics import pairwise


def quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    """inf {x: F(x) >= level}, by walking up."""
    mass = 0.0
    held = [(x, w) for x, w in sorted(zip(values, weights, strict=True)) if w > 0]
    for x, w in held:
        mass += w
        if mass >= level:
            return x
    return held[-1][0]


def mean_over(values: np.ndarray, weights: np.ndarray, low: float, high: float) -> float:
    """The mean of the quantile function between two levels, jump by jump."""
    mass = total = 0.0
    for x, w in sorted(zip(values, weights, strict=True)):
        total += x * max(0.0, min(mass + w, high) - max(mass, low))
        mass += w
    return total / (high - low)


def loops(discrepancy: Quantiles, mu: Measure, nu: Measure) -> float:
    sides = []
    for side in (mu, nu):
        points, weights = side.points.double().flatten(1).numpy(), side.weights.double().numpy()  # pyright: ignore
        weights = weights / weights.sum()
        levels = discrepancy.levels
        sides.append(
            [
                [quantile(column, weights, level) for level in levels]
                if isinstance(levels, tuple)
                else [mean_over(column, weights, k / levels, (k + 1) / levels) for k in range(levels)]
                for column in points.T
            ]
        )
    value = float(((np.array(sides[0]) - np.array(sides[1])) ** 2).sum(0).mean())
    return value**0.5 if discrepancy.root else value


class TestQuantiles(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "slices": Quantiles(levels=4),
        "slices-root": Quantiles(levels=3, root=True),
        "one": Quantiles(levels=1),
        "many": Quantiles(levels=23),
        "levels": Quantiles(levels=(0.11, 0.5, 0.93)),
        "levels-root": Quantiles(levels=(0.2, 0.7), root=True),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Quantiles)
        return loops(discrepancy, mu, nu)


def sample(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def marginals(mu: Measure, nu: Measure) -> float:
    """Σ over features of W_2² of the marginals."""
    (x, w), (y, v) = ((side.points.numpy(), side.weights.numpy() / side.weights.sum().item()) for side in (mu, nu))  # pyright: ignore
    return sum(
        float(ot.wasserstein_1d(a, b, w, v, p=2))  # pyright: ignore
        for a, b in zip(x.T, y.T, strict=True)
    )


# Known answers


def test_the_integral_of_the_quantile_function():
    """Against quadrature of the step function that numpy gives for equal weights."""
    x, y = sample(6, 1), sample(4, 1, seed=1)
    functions = [lambda u, z=z: np.quantile(z[:, 0].numpy(), u, method="inverted_cdf") for z in (x, y)]
    jumps = [k / 12 for k in range(13)]
    means = [[3 * quad(function, k / 3, (k + 1) / 3, points=jumps)[0] for k in range(3)] for function in functions]
    expected = ((np.array(means[0]) - np.array(means[1])) ** 2).mean()
    assert Quantiles(levels=3)(Measure(x), Measure(y)).item() == pytest.approx(expected, abs=1e-7)


def test_one_slice_is_the_mean():
    mu, nu = Measure(sample(7)), Measure(sample(5, seed=1))
    torch.testing.assert_close(Quantiles(levels=1)(mu, nu), Moments()(mu, nu))


def test_as_many_slices_as_points_is_the_transport_of_the_marginals():
    x, y = sample(6), sample(6, seed=1)
    value = Quantiles(levels=6)(Measure(x), Measure(y))
    torch.testing.assert_close(value, (x.sort(0).values - y.sort(0).values).square().sum(1).mean())
    torch.testing.assert_close(value.item(), marginals(Measure(x), Measure(y)))


def test_many_slices_tend_to_the_transport_of_the_marginals():
    mu, nu = Measure(sample(7)), Measure(sample(5, seed=1))
    assert Quantiles(levels=35)(mu, nu).item() == pytest.approx(marginals(mu, nu))
    assert Quantiles(levels=1000)(mu, nu).item() == pytest.approx(marginals(mu, nu), rel=1e-2)


def test_medians():
    mu = Measure(torch.tensor([[0.0], [1.0], [5.0]]))
    nu = Measure(torch.tensor([[2.0], [3.0], [9.0]]), torch.tensor([0.1, 0.1, 0.8]))
    assert Quantiles(levels=(0.5,), root=True)(mu, nu).item() == pytest.approx(8)


def test_the_lower_of_two_medians():
    mu, nu = Measure(torch.tensor([[1.0], [0.0]])), Measure(torch.tensor([[0.0]]))
    assert Quantiles(levels=(0.5,))(mu, nu).item() == 0


@pytest.mark.parametrize("n", [10, 49, 98, 196])
def test_a_level_beyond_the_sum_of_rounded_weights_is_the_largest_point(n: int):
    mu, nu = Measure(torch.arange(n).double()[:, None]), Measure(torch.zeros(1, 1).double())
    assert Quantiles(levels=(1 - 1e-16,), root=True)(mu, nu).item() == n - 1


# Gradients


def test_slices_pull_every_point_and_every_weight():
    mu, y, v = Measure(sample(50)), sample(7, seed=1).requires_grad_(), torch.ones(7).double().requires_grad_()
    Quantiles(levels=3)(mu, Measure(y, v)).backward()
    assert bool((y.grad != 0).all())  # pyright: ignore
    assert bool((v.grad != 0).all())  # pyright: ignore


def test_a_level_pulls_only_its_quantile():
    mu, y = Measure(sample(50, 1)), torch.tensor([[5.0], [1.0], [3.0]], dtype=torch.float64).requires_grad_()
    v = torch.ones(3).double().requires_grad_()
    Quantiles(levels=(0.5,))(mu, Measure(y, v)).backward()
    assert (y.grad != 0).flatten().tolist() == [False, False, True]  # pyright: ignore
    torch.testing.assert_close(v.grad, torch.zeros(3).double())


def test_root_has_gradient_zero_at_zero():
    x = sample(5)
    leaf = x.clone().requires_grad_()
    Quantiles(levels=(0.3, 0.6), root=True)(Measure(x), Measure(leaf)).backward()
    torch.testing.assert_close(leaf.grad, torch.zeros_like(x))


# Summaries


def test_quantiles_of_the_real_side_are_made_once_some_features_at_a_time(monkeypatch: pytest.MonkeyPatch):
    discrepancy, mu, nu = Quantiles(levels=3), Measure(sample(11, 5)), Measure(sample(4, 5, seed=1))
    expected = discrepancy(mu, nu)
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", 8 * 11 * 2)
    widths = []
    inner = Quantiles._quantiles
    monkeypatch.setattr(Quantiles, "_quantiles", lambda self, x, w: widths.append(tuple(x.shape)) or inner(self, x, w))
    summary = discrepancy.summarise(mu.as_groups())
    torch.testing.assert_close(discrepancy.compare(summary, nu.as_groups())[0], expected)
    assert widths == [(1, 11, 2), (1, 11, 2), (1, 11, 1), (1, 4, 5)]
    assert summary.constants["quantiles"].shape == (1, 3, 5)


# What is refused


@pytest.mark.parametrize("levels", [0, -3, (), (0.0, 0.5), (0.5, 1.0)])
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(InvalidInput, match="'levels' must"):
        Quantiles(levels=levels)


# Properties


def weights(size: int, data: st.DataObject) -> torch.Tensor:
    some = data.draw(st.lists(st.sampled_from([0.0, 0.37, 2.9]), min_size=size - 1, max_size=size - 1))
    return torch.tensor([*some, 1.0], dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 7), m=st.integers(1, 5), d=st.integers(1, 4), count=st.integers(1, 9), data=st.data())
def test_lies_between_the_means_and_the_transport_of_the_marginals(n, m, d, count, data):
    mu, nu = Measure(sample(n, d), weights(n, data)), Measure(sample(m, d, 1), weights(m, data))
    value = Quantiles(levels=count)(mu, nu).item()
    assert Moments()(mu, nu).item() - 1e-9 <= value <= marginals(mu, nu) + 1e-9


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 4),
    offset=st.sampled_from([0.0, -100.0]),
    levels=st.sampled_from([1, 2, 5, (0.5,), (0.123, 0.877, 0.999)]),
    data=st.data(),
)
def test_equals_the_loops(n, m, d, offset, levels, data):
    discrepancy = Quantiles(levels=levels)
    mu, nu = Measure(sample(n, d) + offset, weights(n, data)), Measure(sample(m, d, 1) + offset, weights(m, data))
    expected = torch.tensor(loops(discrepancy, mu, nu), dtype=torch.float64)
    torch.testing.assert_close(discrepancy(mu, nu), expected, atol=1e-9, rtol=1e-9)
