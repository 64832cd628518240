"""Kernels against scikit-learn and scipy, their laws, sums over pairs of each, and their compositions.

Properties (Hypothesis):
1. a random tree of sums, multiples and products equals the same tree of dense matrices, with its derivatives.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_sums import are_the_dense_ones
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import kernels as processes
from sklearn.metrics.pairwise import laplacian_kernel, linear_kernel, polynomial_kernel, rbf_kernel
from torch import Tensor

from discrepancy import Gaussian, InvalidInput, Measure, Unsupported
from discrepancy.kernels import (
    Energy,
    InverseMultiquadric,
    Kernel,
    Laplace,
    Linear,
    Matern,
    Median,
    Mixture,
    Polynomial,
    Product,
    Quantile,
    RationalQuadratic,
    Scaled,
    Sum,
)
from discrepancy.numerics.pairwise import cross_sum, self_sum

KERNELS: dict[str, Kernel] = {
    "linear": Linear(),
    "gaussian": Gaussian(lengthscale=0.8),
    "laplace": Laplace(lengthscale=0.8),
    "matern-1/2": Matern(lengthscale=0.8, smoothness=0.5),
    "matern-3/2": Matern(lengthscale=0.8),
    "matern-5/2": Matern(lengthscale=0.8, smoothness=2.5),
    "energy": Energy(),
    "rational-quadratic": RationalQuadratic(lengthscale=0.8, shape=0.7),
    "rational-quadratic-1": RationalQuadratic(lengthscale=0.8),
    "imq": InverseMultiquadric(lengthscale=0.8),
    "mixture": Mixture(lengthscale=0.8, multiples=(0.5, 1.0, 3.0)),
    "polynomial": Polynomial(power=3, offset=0.5, lengthscale=1.3),
    "polynomial-1": Polynomial(power=1),
    "sum": Gaussian() + 0.5 * Laplace(lengthscale=2.0) + Energy(),
    "product": Matern() * Gaussian() * RationalQuadratic(),
    "sum-of-dots": Linear() * 2 + Polynomial() * Linear(),
}


@pytest.fixture(params=KERNELS.values(), ids=KERNELS.keys())
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return request.param


def points(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


OF_SKLEARN = {
    "linear": linear_kernel,
    "gaussian": lambda x, y: rbf_kernel(x, y, gamma=1 / (2 * 0.8**2)),
    "laplace": lambda x, y: processes.Matern(0.8, nu=0.5)(x, y),
    "matern-1/2": lambda x, y: processes.Matern(0.8, nu=0.5)(x, y),
    "matern-3/2": lambda x, y: processes.Matern(0.8, nu=1.5)(x, y),
    "matern-5/2": lambda x, y: processes.Matern(0.8, nu=2.5)(x, y),
    "rational-quadratic": lambda x, y: processes.RationalQuadratic(0.8, alpha=0.7)(x, y),
    "rational-quadratic-1": lambda x, y: processes.RationalQuadratic(0.8, alpha=1.0)(x, y),
    "imq": lambda x, y: processes.RationalQuadratic(0.8, alpha=0.5)(x, y),
    "polynomial": lambda x, y: polynomial_kernel(x, y, degree=3, gamma=1 / 1.3**2, coef0=0.5),
    "energy": lambda x, y: -cdist(x, y),
    "mixture": lambda x, y: sum(rbf_kernel(x, y, gamma=1 / (2 * (a * 0.8) ** 2)) for a in (0.5, 1.0, 3.0)) / 3,
    "sum": lambda x, y: rbf_kernel(x, y, gamma=0.5) + 0.5 * processes.Matern(2.0, nu=0.5)(x, y) - cdist(x, y),
    "product": lambda x, y: (
        processes.Matern(nu=1.5)(x, y) * rbf_kernel(x, y, gamma=0.5) * processes.RationalQuadratic()(x, y)
    ),
}


@pytest.mark.parametrize("name", OF_SKLEARN)
def test_is_that_of_sklearn_and_scipy(name: str):
    x, y = points(7), points(5, seed=1)
    expected = torch.from_numpy(OF_SKLEARN[name](x.numpy(), y.numpy()))
    torch.testing.assert_close(KERNELS[name](x, y), expected, atol=1e-12, rtol=1e-12)


def test_laplace_in_one_dimension_is_the_other_one_of_sklearn():
    """Which takes the sum of absolute differences, where ours takes the Euclidean norm."""
    x, y = points(7, 1), points(5, 1, 1)
    expected = torch.from_numpy(laplacian_kernel(x.numpy(), y.numpy(), gamma=1 / 0.8))
    torch.testing.assert_close(Laplace(lengthscale=0.8)(x, y), expected, atol=1e-12, rtol=1e-12)


def test_positive_semidefinite_and_symmetric(kernel: Kernel):
    x = points(11)
    gram = kernel(x, x)
    torch.testing.assert_close(gram, gram.mT)
    if not kernel.positive:  # for weights that sum to zero
        centre = torch.eye(11).double() - 1 / 11
        gram = centre @ gram @ centre
    assert torch.linalg.eigvalsh(gram).min() > -1e-12 * gram.norm()


def test_energy_alone_is_not_positive_and_says_so():
    assert [name for name, kernel in KERNELS.items() if not kernel.positive] == ["energy", "sum"]
    assert torch.linalg.eigvalsh(Energy()(points(5), points(5))).min() < 0


@pytest.mark.parametrize("name", [name for name, kernel in KERNELS.items() if kernel.degree is not None])
def test_degree(name: str):
    kernel, x, y = KERNELS[name], points(7), points(5, seed=1)
    for factor in (0.5, 3.0):
        torch.testing.assert_close(kernel(factor * x, factor * y), factor**kernel.degree * kernel(x, y))  # pyright: ignore


def test_degrees():
    """The linear kernel 2, the distance 1, a homogeneous polynomial twice its power; products add up, equal ones stay."""
    homogeneous = Polynomial(power=3, offset=0.0)
    kernels = [Linear(), Energy(), homogeneous, Polynomial(), Gaussian()]
    assert [kernel.degree for kernel in kernels] == [2, 1, 6, None, None]
    composed = [2 * Energy() + Energy(), Linear() * homogeneous, Linear() + homogeneous, Gaussian() * Gaussian()]
    assert [kernel.degree for kernel in composed] == [1, 8, None, None]


def test_a_squared_distance_that_overflows_leaves_the_other_slopes():
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.5, 0.2], [1e20, 0.0]])
    near, far = y[:1].clone().requires_grad_(), y.clone().requires_grad_()
    (alone,) = torch.autograd.grad(Laplace()(x, near).sum(), near)
    (beside,) = torch.autograd.grad(Laplace()(x, far).sum(), far)
    torch.testing.assert_close(beside, torch.cat([alone, torch.zeros(1, 2)]))


def test_affine_kernels_see_means_only():
    assert [name for name, kernel in KERNELS.items() if kernel.affine] == ["linear", "polynomial-1"]
    assert (2 * Linear() + Polynomial(power=1)).affine


def test_sums_over_pairs_are_the_dense_ones(kernel: Kernel):
    x, y = points(14).view(2, 7, 3), points(10, seed=1).view(2, 5, 3).clone()
    y[:, :2], y[:, 4] = x[:, 3:5], y[:, 3]  # some points coincide
    are_the_dense_ones(kernel, x, points(2, 7, 2), y, points(2, 5, 3), tolerance=1e-6)


def test_sums_over_pairs_are_smooth(kernel: Kernel):
    x, y = points(7)[None], points(5, seed=1)[None].requires_grad_()
    w, v = points(1, 7, 2), points(1, 5, 3).requires_grad_()
    for function in (lambda y, v: cross_sum(kernel, x, w, y, v), lambda y, v: self_sum(kernel, y, v)):
        assert torch.autograd.gradcheck(function, (y, v), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (y, v), fast_mode=True)


@pytest.mark.parametrize(
    "kernel", [kernel for kernel in KERNELS.values() if kernel.radial], ids=[n for n, k in KERNELS.items() if k.radial]
)
def test_derivatives_at_distance_zero_are_finite(kernel: Kernel):
    argument = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for order in range(3):
        assert all(bool(torch.isfinite(values).all()) for _, values in kernel.profile(argument.clone(), order))


@pytest.mark.parametrize(
    ("name", "orders"),
    [("laplace", (1, 2)), ("matern-1/2", (1, 2)), ("energy", (0, 1, 2)), ("matern-3/2", (2,))],
    ids=lambda item: str(item),
)
def test_derivatives_that_are_infinite_at_distance_zero_are_zero(name: str, orders: tuple[int, ...]):
    profile = KERNELS[name].profile(torch.zeros(1).double(), 2)
    assert [k for k, (factor, values) in enumerate(profile) if factor * values.item() == 0] == list(orders)


def test_a_profile_is_the_same_for_every_order(kernel: Kernel):
    argument = torch.rand(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = [factor * values for factor, values in kernel.profile(argument.clone(), 2)]
    for order in range(2):
        part = [factor * values for factor, values in kernel.profile(argument.clone(), order)]
        assert len(part) == order + 1
        torch.testing.assert_close(part, whole[: order + 1], atol=1e-14, rtol=1e-14)


def test_diagonal_and_leading_axes(kernel: Kernel):
    x, y = points(14).view(2, 7, 3), points(10, seed=1).view(2, 5, 3)
    torch.testing.assert_close(kernel.diagonal(x[0]), kernel(x[0], x[0]).diagonal())
    torch.testing.assert_close(kernel(x, y), torch.stack([kernel(x[g], y[g]) for g in range(2)]))


@pytest.mark.parametrize("kernel", [Gaussian(), Matern(), Laplace()], ids=lambda kernel: kernel.kind)
def test_diagonal_of_a_matrix_with_itself_is_exact(kernel: Kernel):
    x = points(40, 200).float()
    assert bool((kernel(x, x).diagonal() == 1).all())


def test_profile_holds_derivatives(kernel: Kernel):
    argument = torch.rand(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f = [factor * values for factor, values in kernel.profile(argument.clone(), 2)]
    step = 1e-6
    # The smallest argument is 0.09, far from the kink of a distance.
    above = [factor * values for factor, values in kernel.profile(argument + step, 1)]
    below = [factor * values for factor, values in kernel.profile(argument - step, 1)]
    for order in range(2):
        slope = (above[order] - below[order]) / (2 * step)
        torch.testing.assert_close(slope, f[order + 1], atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("kernel", [Linear(), 0.3 * Linear(), Linear() + 2 * Linear()], ids=["linear", "scaled", "sum"])
def test_features_of_a_finite_kernel_reproduce_it(kernel: Kernel):
    x, y = points(7), points(5, seed=1)
    assert kernel.finite
    torch.testing.assert_close(kernel.features(x) @ kernel.features(y).mT, kernel(x, y))


def test_features_of_an_infinite_kernel_are_refused():
    assert not Gaussian().finite
    with pytest.raises(Unsupported, match="'gaussian' has no finite features; ask 'finite' first"):
        Gaussian().features(points(3))


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_float32_is_exact_far_from_the_origin(offset: float):
    x, y = points(31, 16).float() + offset, points(23, 16, 1).float() + offset
    kernel = Gaussian(lengthscale=4.0)
    torch.testing.assert_close(kernel(x, y).double(), kernel(x.double(), y.double()), atol=1e-6, rtol=0)


def test_matrix_is_twice_differentiable(kernel: Kernel):
    x, y = points(4).requires_grad_(), points(3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(kernel, (x, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(kernel, (x, y), fast_mode=True)


def test_third_derivative_of_a_matrix_is_refused():
    function = lambda y: Gaussian()(points(3), y).sum()  # noqa: E731
    for _ in range(3):
        function = lambda y, inner=function: torch.func.grad(inner)(y).sum()  # noqa: E731
    with pytest.raises(Unsupported, match="kernels have no third derivative"):
        function(points(2, seed=1))


# Compositions


def test_operators_build_the_parts():
    first, second, third = Gaussian(), Laplace(), Energy()
    assert first + second + third == Sum(parts=(first, second, third))
    assert first * second * first == Product(parts=(first, second, first))
    assert 0.5 * first == first * 0.5 == Scaled(factor=0.5, of=first)
    assert 2 * first + second == Sum(parts=(Scaled(factor=2.0, of=first), second))


@pytest.mark.parametrize("build", [lambda: Gaussian() + 1, lambda: Gaussian() * "2"], ids=["sum", "product"])
def test_operators_take_kernels_and_numbers_only(build):
    with pytest.raises(TypeError):
        build()


def test_composed_kernels_are_resolved_part_by_part():
    sample, rule = Measure(points(9)), Median(factor=0.5)
    length = rule.measured(sample)
    kernel = 2 * (Gaussian(lengthscale=rule) * Laplace() + Mixture(lengthscale=rule))
    assert not kernel.resolved
    expected = 2 * (Gaussian(lengthscale=length) * Laplace() + Mixture(lengthscale=length))
    assert kernel.resolve(sample) == expected
    assert expected.resolved


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gaussian() + Linear(), r"'gaussian' and 'linear'; give MMD two terms in place of one"),
        (lambda: Laplace() * Linear(), r"got 'laplace' and 'linear'; a product of theirs"),
        (lambda: Gaussian() * Energy(), r"'parts' of a product must be positive definite, got 'energy'"),
        (lambda: Gaussian() * (Laplace() + Energy()), r"'parts' of a product must be positive definite, got 'sum'"),
        (lambda: Sum(parts=()), "'parts' must hold at least one kernel"),
        (lambda: -1 * Gaussian(), r"'factor' must be finite and > 0, got -1.0"),
        (lambda: Mixture(multiples=()), "'multiples' must hold at least one number"),
        (lambda: Mixture(multiples=(1.0, 0.0)), r"'multiples' must be finite and > 0, got 0.0"),
        (lambda: Matern(smoothness=1.0), r"'smoothness' must be 0.5, 1.5 or 2.5, got 1.0; 'gaussian' is the limit"),
        (lambda: RationalQuadratic(shape=0.0), r"'shape' must be finite and > 0, got 0.0"),
        (lambda: Polynomial(power=0), "'power' must be >= 1, got 0"),
        (lambda: Polynomial(offset=-1.0), "'offset' must be finite and >= 0, got -1.0"),
        (lambda: Quantile(level=1.0), "'level' must be between 0 and 1, got 1.0"),
        (lambda: Quantile(factor=0.0), "'factor' must be finite and > 0, got 0.0"),
    ],
    ids=[
        "mixed-sum", "mixed-product", "energy-product", "inner-energy", "empty", "negative", "no-multiples", "zero-multiple",
        "smoothness", "shape", "power", "offset", "level", "factor",
    ],
)  # fmt: skip
def test_what_is_no_kernel_is_refused(build, message: str):
    with pytest.raises(InvalidInput, match=message):
        build()


# Beartype looks at random items of a tuple, which no strategy may do: so trees of plain values, built in the test.
LEAVES = (Gaussian(), Laplace(lengthscale=2.0), Matern(smoothness=2.5), InverseMultiquadric())
TREES = st.recursive(
    st.integers(0, 3),
    lambda inner: st.tuples(st.sampled_from("+*"), inner, inner) | st.tuples(st.sampled_from([0.5, 3.0]), inner),
    max_leaves=5,
)


def built(tree: int | tuple[Any, ...]) -> Kernel:
    match tree:
        case int():
            return LEAVES[tree]
        case "+", first, second:
            return built(first) + built(second)
        case "*", first, second:
            return built(first) * built(second)
        case factor, inner:
            return factor * built(inner)
    raise AssertionError(tree)


def dense(kernel: Kernel, s: Tensor) -> Tensor:
    """The tree evaluated by torch, as a function of the squared distances."""
    match kernel:
        case Sum(parts=parts):
            return torch.stack([dense(part, s) for part in parts]).sum(0)
        case Product(parts=parts):
            return torch.stack([dense(part, s) for part in parts]).prod(0)
        case Scaled(factor=factor, of=of):
            return factor * dense(of, s)
    return {
        "gaussian": lambda: torch.exp(-s / 2),
        "laplace": lambda: torch.exp(-s.sqrt() / 2),
        "matern": lambda: (1 + (5 * s).sqrt() + 5 * s / 3) * torch.exp(-(5 * s).sqrt()),
        "imq": lambda: (1 + s) ** -0.5,
    }[kernel.kind]()


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_any_composition(tree: int | tuple[Any, ...]):
    kernel = built(tree)
    argument = torch.rand(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    derivative = lambda s: dense(kernel, s)  # noqa: E731
    for order, (factor, values) in enumerate(kernel.profile(argument.clone(), 2)):
        torch.testing.assert_close(factor * values, torch.vmap(derivative)(argument), atol=1e-10, rtol=1e-10)
        if order < 2:
            derivative = torch.func.grad(derivative)
