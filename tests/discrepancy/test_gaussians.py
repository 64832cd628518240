"""The Fréchet distance of fitted Gaussians: the contract, POT and scipy, roots of singular matrices.

Property (Hypothesis): ‖difference of means‖ <= Fréchet distance <= W_2 of the samples (Gelbrich), for any sizes, d > n too.
"""

import math
import warnings

import numpy as np
import ot
import pytest
import scipy.linalg
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from normal_samples import fit, sample, weights

from discrepancy import Discrepancy, Measure, NumericalWarning, Unsupported
from discrepancy.discrepancy import MeanSummary
from discrepancy.moments.gaussians import Frechet, GaussianKL
from discrepancy.moments.moments import covariance
from discrepancy.numerics.roots import trace_root

few_points = pytest.mark.filterwarnings("ignore:'frechet' fits a covariance:discrepancy.NumericalWarning")


def bures(a: np.ndarray, first: np.ndarray, b: np.ndarray, second: np.ndarray) -> float:
    """‖a - b‖² + tr(A + B - 2 (A^½ B A^½)^½), the last from the eigenvalues of A B, which need no root of a matrix."""
    values = np.real(np.asarray(scipy.linalg.eigvals(first @ second)))
    values = np.where(values > 1e-13 * values.max(), values, 0)
    return float(((a - b) ** 2).sum() + np.trace(first + second) - 2 * np.sqrt(values).sum())


@few_points
class TestFrechet(DiscrepancyContract):
    other_shapes = (2, 3, 1), (11,)  # with eleven features both covariances are singular
    instances = {  # noqa: RUF012
        "plain": Frechet(),
        "root": Frechet(root=True),
        "shrunk": Frechet(shrink=0.3),
        "shrunk-root": Frechet(shrink=0.1, root=True),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Frechet)
        value = bures(*fit(mu, discrepancy.shrink), *fit(nu, discrepancy.shrink))
        return math.sqrt(value) if discrepancy.root else value


# Fréchet: known answers and other libraries


def test_one_dimension():
    """(a - b)² + (σ - τ)²."""
    mu, nu = Measure(torch.tensor([[0.0], [4.0]])), Measure(torch.tensor([[5.0], [11.0], [8.0], [8.0]]))
    expected = (2 - 8) ** 2 + (2 - math.sqrt(4.5)) ** 2
    assert Frechet()(mu, nu).item() == pytest.approx(expected)


def test_against_pot_and_scipy():
    mu, nu = Measure(sample(50), weights(50)), Measure(sample(20, seed=1) * 2 + 1, weights(20, 1))
    (a, first), (b, second) = fit(mu), fit(nu)
    value = Frechet(root=True)(mu, nu).item()
    assert value == pytest.approx(float(ot.gaussian.bures_wasserstein_distance(a, b, first, second)))  # pyright: ignore
    half = scipy.linalg.sqrtm(first)
    inner = scipy.linalg.sqrtm(half @ second @ half)
    assert value**2 == pytest.approx(((a - b) ** 2).sum() + np.trace(first + second - 2 * inner))


@few_points
def test_few_points_agree_with_the_moments():
    """The m x m and the d x d route, one through the points and one through the means of products."""
    mu, y, v = Measure(sample(40, 9)), sample(4, 9, seed=1), weights(4)
    discrepancy = Frechet()
    summary = discrepancy.summarise(mu.as_groups())
    y, v = y.requires_grad_(), v.requires_grad_()
    side = Measure(y - summary.sums["origin"][0], v).as_groups()
    by_moments = discrepancy.distance(summary.mean, discrepancy.total(side, None) / v.sum())[0]
    by_points = discrepancy.compare(summary, Measure(y, v).as_groups())[0]
    torch.testing.assert_close(by_points, by_moments)
    slopes = [torch.autograd.grad(value, (y, v)) for value in (by_points, by_moments)]
    torch.testing.assert_close(*slopes, atol=1e-6, rtol=1e-6)


def test_the_gradient_is_the_transport_map():
    """∂D/∂yⱼ = 2 vⱼ (yⱼ - T yⱼ), with T the optimal map from N(b, B) to N(a, A), T y = a + A^½ (A^½ B A^½)^(-½) A^½ (y - b)."""
    x, y = sample(30), (sample(9, seed=1) * 1.5 + 1).requires_grad_()
    Frechet()(Measure(x), Measure(y)).backward()
    (a, first), (b, second) = fit(Measure(x)), fit(Measure(y.detach()))
    half = scipy.linalg.sqrtm(first)
    matrix = half @ scipy.linalg.inv(scipy.linalg.sqrtm(half @ second @ half)) @ half
    mapped = a + (y.detach().numpy() - b) @ matrix
    torch.testing.assert_close(y.grad, 2 / 9 * (y.detach() - torch.from_numpy(mapped)))


@few_points
@pytest.mark.parametrize(("n", "m", "d"), [(9, 9, 3), (5, 5, 8), (40, 40, 11)])
def test_gradient_vanishes_at_equality(n: int, m: int, d: int):
    x = sample(n, d)
    leaf = x.clone().requires_grad_()
    value = Frechet()(Measure(x), Measure(leaf))
    value.backward()
    assert abs(value.item()) < 1e-7
    torch.testing.assert_close(leaf.grad, torch.zeros_like(x), atol=1e-7, rtol=0)


@few_points
def test_equal_eigenvalues_do_no_harm():
    """Both covariances are multiples of the identity."""
    x = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    leaf = (2 * x).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: Frechet()(Measure(x), Measure(y)), leaf, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda y: Frechet()(Measure(x), Measure(y)), leaf, fast_mode=True)


@few_points
def test_one_point_has_no_covariance():
    mu, nu = Measure(sample(30)), Measure(sample(1, seed=1))
    a, first = fit(mu)
    expected = ((torch.from_numpy(a) - nu.points[0]) ** 2).sum().item() + np.trace(first)  # pyright: ignore
    assert Frechet()(mu, nu).item() == pytest.approx(expected)


@few_points
def test_stays_above_the_variance_outside_of_reach():
    """With m points the covariance has rank m - 1: the d - m + 1 smallest eigenvalues of the real one are never matched."""
    mu, nu = Measure(sample(50, 6)), Measure(sample(3, 6, seed=1))
    floor = float(np.linalg.eigvalsh(fit(mu)[1])[:4].sum())
    assert Frechet()(mu, nu).item() > floor


# Fréchet: few points are told of


def test_few_points_are_told_of_once_a_summary():
    discrepancy = Frechet()
    summary, nu = discrepancy.summarise(Measure(sample(3, 4)).as_groups()), Measure(sample(2, 4, seed=1)).as_groups()
    with pytest.warns(NumericalWarning) as caught:
        discrepancy.compare(summary, nu)
    discrepancy.compare(summary, nu)
    told = [str(item.message) for item in caught]
    assert len(told) == 2
    assert told[0].startswith("'frechet' fits a covariance to 2 synthetic points of 4 features: its rank is at most 1")
    assert told[1].startswith("'frechet' fits a covariance to 3 real points of 4 features: its rank is at most 2")


def test_points_without_weight_do_not_count():
    discrepancy, nu = Frechet(), Measure(sample(9, 4, seed=1)).as_groups()
    summary = discrepancy.summarise(Measure(sample(6, 4), torch.tensor([1.0, 1, 0, 0, 1, 0]).double()).as_groups())
    with pytest.warns(NumericalWarning, match="to 3 real points"):
        discrepancy.compare(summary, nu)


def test_small_batches_of_many_points_are_no_reason_to_warn():
    discrepancy = Frechet()
    ones = torch.ones(9, dtype=torch.float64)
    parts = [discrepancy.summarise(part.as_groups()) for part in Measure(sample(9, 4), ones).split(2)]
    merged = parts[0]
    for part in parts[1:]:
        merged = discrepancy.merge(merged, part)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = discrepancy.compare(merged, Measure(sample(9, 4, seed=1)).as_groups())
    torch.testing.assert_close(value[0], discrepancy(Measure(sample(9, 4)), Measure(sample(9, 4, seed=1))))


def test_shrinkage_is_reason_enough_not_to_warn():
    value = Frechet(shrink=0.1)(Measure(sample(3, 4)), Measure(sample(2, 4, seed=1)))
    assert bool(torch.isfinite(value))


# Traces of roots


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_trace_of_a_root(rank: int):
    """On matrices of constant rank, as functions of a factor, to the second derivative."""
    factor = sample(5 * rank).view(3, 5, rank)[..., :rank].requires_grad_()

    def function(factor: torch.Tensor) -> torch.Tensor:
        return trace_root(factor @ factor.mT)

    torch.testing.assert_close(function(factor), torch.linalg.matrix_norm(factor, "nuc"))
    assert torch.autograd.gradcheck(function, factor, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, factor, fast_mode=True)


def test_trace_of_a_root_of_zero():
    matrix = torch.zeros(2, 3, 3).double().requires_grad_()
    value = trace_root(matrix)
    (slope,) = torch.autograd.grad(value.sum(), matrix, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), matrix)
    for tensor in (value, slope, bend):
        torch.testing.assert_close(tensor, torch.zeros_like(tensor))


def test_a_third_derivative_is_refused():
    matrix = torch.eye(3).double().requires_grad_()
    (slope,) = torch.autograd.grad(trace_root(matrix), matrix, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), matrix, create_graph=True)
    with pytest.raises(Unsupported, match="third derivative"):
        bend.sum().backward()


# Summaries


@pytest.mark.parametrize(
    ("discrepancy", "size"),
    [(Frechet(shrink=0.1), 12), (GaussianKL(), 12), (GaussianKL(covariance="diagonal"), 6)],
    ids=["frechet", "full", "diagonal"],
)
def test_the_summary_is_two_moments(discrepancy, size: int):
    x, w = sample(7), weights(7)
    small, large = (discrepancy.summarise(Measure(sample(n)).as_groups()) for n in (7, 7001))
    assert small.nbytes == large.nbytes
    assert small.total.shape == (1, size)
    plain = MeanSummary(torch.einsum("n,np->p", w, discrepancy.statistic(x[None], None)[0])[None], w.sum()[None])
    nu = Measure(sample(5, seed=1)).as_groups()
    torch.testing.assert_close(
        discrepancy.compare(plain, nu)[0], discrepancy(Measure(x, w), Measure(sample(5, seed=1)))
    )


# Inequalities


@few_points
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 7),
    d=st.integers(1, 6),
    offset=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 100),
)
def test_lies_between_the_means_and_the_transport_of_the_samples(n: int, m: int, d: int, offset: float, seed: int):
    mu, nu = (
        Measure(sample(n, d, seed) + offset, weights(n, seed)),
        Measure(sample(m, d, seed + 1) * 2 + offset, weights(m)),
    )
    value = Frechet(root=True)(mu, nu).item()
    cost = torch.cdist(mu.points, nu.points).square().numpy()  # pyright: ignore
    w, v = ((side.weights / side.weights.sum()).numpy() for side in (mu, nu))
    transport = math.sqrt(float(ot.emd2(w, v, cost)))  # pyright: ignore
    (a, first), (b, second) = fit(mu), fit(nu)
    assert np.linalg.norm(a - b) - 1e-6 <= value <= transport + 1e-6
    assert value**2 == pytest.approx(bures(a, first, b, second), abs=1e-6)


def test_covariance_undoes_the_products():
    x = sample(6, 4)[None]
    discrepancy = GaussianKL()
    mean, matrix = covariance(discrepancy.statistic(x, None).mean(1))
    torch.testing.assert_close(mean, x.mean(1))
    torch.testing.assert_close(matrix[0], torch.from_numpy(np.cov(x[0].numpy().T, bias=True)))


@few_points
@pytest.mark.parametrize("shrink", [0.0, 0.3])
def test_a_weight_of_zero_beside_two_lone_points_has_its_slope(shrink: float):
    """Both covariances are zero, and grow with that weight: the root of D has the slope of D over twice the root."""
    mu, y = Measure(sample(1)), sample(2, seed=1)
    slopes = []
    for root in (False, True):
        leaf = torch.tensor([1.0, 0.0]).double().requires_grad_()
        value = Frechet(shrink=shrink, root=root)(mu, Measure(y, leaf))
        slopes.append(torch.autograd.grad(value, leaf)[0] * (2 * value.detach() if root else 1))
    torch.testing.assert_close(*slopes)
