"""The energy distance: the contract, one dimension by scipy, loops, and MMD of two kernels.

Properties (Hypothesis):
1. in one dimension the root is scipy's energy distance, for any weights and ties.
"""

import math

import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance
from torch import Tensor

from discrepancy import MMD, Discrepancy, InvalidInput, Measure
from discrepancy.kernels import Energy
from discrepancy.mean_embeddings.energy import EnergyDistance


def by_scipy(discrepancy: EnergyDistance, mu: Measure, nu: Measure) -> float:
    """By the matrices of distances."""
    x, y = (side.points.flatten(1).numpy() for side in (mu, nu))  # pyright: ignore
    w, v = ((side.weights / side.weights.sum()).numpy() for side in (mu, nu))
    own = w @ cdist(x, x) @ w / (1 - w @ w if discrepancy.estimator == "u" else 1)
    value = 2 * w @ cdist(x, y) @ v - own - v @ cdist(y, y) @ v
    return math.sqrt(value) if discrepancy.root else float(value)


class TestEnergyDistance(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "squared": EnergyDistance(),
        "unbiased": EnergyDistance(estimator="u"),
        "root": EnergyDistance(root=True),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, EnergyDistance)
        return by_scipy(discrepancy, mu, nu)


def sample(n: int, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Known answers and other forms


def test_two_diracs():
    """2 · 5 - 0 - 0, of (0, 0) and (3, 4)."""
    value = EnergyDistance()(Measure(torch.zeros(1, 2)), Measure(torch.tensor([[3.0, 4.0]])))
    assert value.item() == pytest.approx(10)


def test_known_answer():
    """P on 0 and 2, Q on 1: 2 · 1 - 2 · 2/4 - 0."""
    value = EnergyDistance()(Measure(torch.tensor([0.0, 2.0])), Measure(torch.tensor([1.0])))
    assert value.item() == pytest.approx(1)


def test_is_twice_the_cramer_distance():
    """∫ (F - G)², of step functions, exactly."""
    x, y = sample(7, 1)[:, 0], sample(5, 1, 1)[:, 0]
    edges = torch.cat([x, y]).sort().values
    gap = (edges[:-1, None] >= x).double().mean(1) - (edges[:-1, None] >= y).double().mean(1)
    cramer = (gap.square() * edges.diff()).sum()
    torch.testing.assert_close(EnergyDistance()(Measure(x), Measure(y)), 2 * cramer)


def test_is_twice_mmd_of_the_induced_kernel():
    x, y = sample(7), sample(5, seed=1)

    def induced(a: Tensor, b: Tensor) -> Tensor:
        return (a.norm(dim=1)[:, None] + b.norm(dim=1) - torch.cdist(a, b)).mean() / 2

    expected = 2 * (induced(x, x) - 2 * induced(x, y) + induced(y, y))
    torch.testing.assert_close(EnergyDistance()(Measure(x), Measure(y)), expected)


def test_is_mmd_of_the_energy_kernel():
    mu, nu = Measure(sample(7)), Measure(sample(5, seed=1))
    torch.testing.assert_close(EnergyDistance()(mu, nu), MMD(kernel=Energy())(mu, nu))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("d", [1, 3, 200])
def test_coincident_points_are_at_no_distance(d: int, dtype: torch.dtype):
    """Condensed points that start at real ones: value and gradient as if those pairs were left out."""
    x = (sample(50, d) + 10).to(dtype)
    y = x[:7].clone().requires_grad_()
    value = EnergyDistance()(Measure(x), Measure(y))
    (gradient,) = torch.autograd.grad(value, y)
    exact = torch.from_numpy(cdist(x.double().numpy(), x.double().numpy()))
    expected = 2 * exact[:, :7].mean() - exact.mean() - exact[:7, :7].mean()
    tolerance = 20 * torch.finfo(dtype).eps * math.sqrt(d)
    torch.testing.assert_close(value.double(), expected, atol=tolerance, rtol=0)
    there = x.double()
    steps = (there[:7, None] - there) / exact[:7, :, None].masked_fill(exact[:7, :, None] == 0, 1)
    slope = 2 * steps.mean(1) / 7 - 2 * steps[:, :7].mean(1) / 7
    # In one dimension points are so close to each other that their direction is known less well.
    tolerance = (300 if d == 1 else 5) * torch.finfo(dtype).eps
    torch.testing.assert_close(gradient.double(), slope, atol=tolerance, rtol=0)


# Misuse


def test_root_of_the_unbiased_estimate_is_refused():
    with pytest.raises(InvalidInput, match="'root' needs estimator 'v', got 'u'"):
        EnergyDistance(root=True, estimator="u")


def test_unbiased_estimate_of_one_point_is_refused():
    with pytest.raises(InvalidInput, match=r"estimator 'u' needs at least 2 real points .* use estimator 'v'"):
        EnergyDistance(estimator="u")(Measure(sample(1)), Measure(sample(2, seed=1)))


# Properties

LINE = st.lists(st.tuples(st.integers(-5, 5), st.sampled_from([0.25, 1.0, 3.0])), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(first=LINE, second=LINE)
def test_in_one_dimension_is_that_of_scipy(first: list[tuple[int, float]], second: list[tuple[int, float]]):
    (x, w), (y, v) = ([list(column) for column in zip(*side, strict=True)] for side in (first, second))
    mu, nu = (Measure(torch.tensor(p).double(), torch.tensor(q).double()) for p, q in ((x, w), (y, v)))
    expected = energy_distance(x, y, w, v)
    # A rounding error of 1e-14 in the square is one of 1e-7 in a root near zero.
    assert EnergyDistance(root=True)(mu, nu).item() == pytest.approx(expected, abs=1e-6)
