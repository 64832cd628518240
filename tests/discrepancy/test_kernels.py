"""Kernels against scikit-learn and scipy, the median rule, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import linear_kernel, rbf_kernel

from discrepancy import Gaussian, InvalidInput, Measure, Unsupported
from discrepancy.kernels import Kernel, Linear, Median, squared_distances

KERNELS: dict[str, Kernel] = {"linear": Linear(), "gaussian": Gaussian(lengthscale=0.8)}


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return request.param


def points(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gaussian_is_that_of_sklearn():
    x, y = points(7), points(5, seed=1)
    expected = torch.from_numpy(rbf_kernel(x.numpy(), y.numpy(), gamma=1 / (2 * 0.8**2)))
    torch.testing.assert_close(Gaussian(lengthscale=0.8)(x, y), expected)


def test_linear_is_that_of_sklearn():
    x, y = points(7), points(5, seed=1)
    torch.testing.assert_close(Linear()(x, y), torch.from_numpy(linear_kernel(x.numpy(), y.numpy())))


def test_gaussian_at_one_lengthscale():
    x, y = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert Gaussian(lengthscale=5.0)(x, y).item() == pytest.approx(math.exp(-0.5))


def test_positive_semidefinite_and_symmetric(kernel: Kernel):
    gram = kernel(points(11), points(11))
    torch.testing.assert_close(gram, gram.mT)
    assert torch.linalg.eigvalsh(gram).min() > -1e-12


def test_diagonal(kernel: Kernel):
    x = points(7)
    torch.testing.assert_close(kernel.diagonal(x), kernel(x, x).diagonal())


def test_leading_axes_are_kept(kernel: Kernel):
    x, y = points(14).view(2, 7, 3), points(10, seed=1).view(2, 5, 3)
    expected = torch.stack([kernel(x[g], y[g]) for g in range(2)])
    torch.testing.assert_close(kernel(x, y), expected)


def test_profile_holds_derivatives(kernel: Kernel):
    argument = torch.rand(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f = [factor * values for factor, values in kernel.profile(argument.clone(), 2)]
    step = 1e-6
    above = [factor * values for factor, values in kernel.profile(argument + step, 1)]
    below = [factor * values for factor, values in kernel.profile(argument - step, 1)]
    for order in range(2):
        slope = (above[order] - below[order]) / (2 * step)
        torch.testing.assert_close(slope, f[order + 1], atol=1e-8, rtol=1e-8)


def test_features_of_a_finite_kernel_reproduce_it():
    x, y = points(7), points(5, seed=1)
    assert Linear().finite
    torch.testing.assert_close(Linear().features(x) @ Linear().features(y).mT, Linear()(x, y))


def test_features_of_an_infinite_kernel_are_refused():
    assert not Gaussian().finite
    with pytest.raises(Unsupported, match="'gaussian' has no finite features; ask 'finite' first"):
        Gaussian().features(points(3))


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_float32_is_exact_far_from_the_origin(offset: float):
    x, y = points(31, 16).float() + offset, points(23, 16, 1).float() + offset
    kernel = Gaussian(lengthscale=4.0)
    torch.testing.assert_close(kernel(x, y).double(), kernel(x.double(), y.double()), atol=1e-6, rtol=0)


def test_matrix_is_differentiable():
    x, y = points(4).requires_grad_(), points(3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(Gaussian(lengthscale=0.8), (x, y))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(1, 6), d=st.integers(1, 4), offset=st.sampled_from([0.0, 1e3]))
def test_squared_distances(n: int, m: int, d: int, offset: float):
    x, y = points(n, d) + offset, points(m, d, 1) + offset
    loops = torch.stack([torch.stack([(a - b).square().sum() for b in y]) for a in x])
    torch.testing.assert_close(squared_distances(x, y), loops, atol=1e-10, rtol=1e-10)


# Lengths


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
