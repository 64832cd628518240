"""Kernels of infinitely wide networks against quadrature, very wide networks and their laws; sums over pairs of them.

Properties (Hypothesis):
1. for any depth, activation, slope and scales the kernel is that of the recursion by quadrature, symmetric and semidefinite.
"""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_sums import are_the_dense_ones
from scipy.integrate import quad
from scipy.special import erf
from torch import Tensor

from discrepancy import MMD, InvalidInput, Measure, Unsupported
from discrepancy.kernels import NNGP, NTK, Gaussian, Wide
from discrepancy.learning.learners import KernelRidge
from discrepancy.numerics.pairwise import cross_sum, self_sum

KERNELS: dict[str, Wide] = {
    "ntk": NTK(),
    "ntk-deep": NTK(depth=3, bias_std=0.0),
    "ntk-leaky": NTK(depth=2, activation="leaky_relu", slope=0.3),
    "ntk-erf": NTK(depth=2, activation="erf", weight_std=1.3),
    "nngp": NNGP(),
    "nngp-deep": NNGP(depth=3, bias_std=0.0),
    "nngp-leaky": NNGP(depth=2, activation="leaky_relu", slope=0.3),
    "nngp-erf": NNGP(depth=2, activation="erf", weight_std=1.3),
}


@pytest.fixture(params=KERNELS.values(), ids=list(KERNELS))
def kernel(request: pytest.FixtureRequest) -> Wide:
    return request.param


def points(n: int, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Against quadrature


def functions(kernel: Wide) -> tuple[Callable, Callable]:
    """φ and φ' in numpy."""
    if kernel.activation == "erf":
        return erf, lambda z: 2 / math.sqrt(math.pi) * np.exp(-(z**2))
    slope = kernel.slope if kernel.activation == "leaky_relu" else 0.0
    return lambda z: np.where(z > 0, z, slope * z), lambda z: np.where(z > 0, 1.0, slope)


def expectation(kernel: Wide, function: Callable, power: int, cov: np.ndarray) -> float:
    """E f(u) f(v) under the normal law of this covariance: by polar coordinates for a positively homogeneous f, of which the
    radius can be integrated by hand, else on a grid."""
    a, b = np.sqrt(np.diag(cov))
    cosine = np.clip(cov[0, 1] / (a * b), -1, 1)
    sine = math.sqrt(1 - cosine**2)
    if kernel.activation == "erf":
        z = np.linspace(
            -9, 9, 301
        )  # of which the trapezoidal rule is exact to rounding, as long as f is smooth on its step
        w = np.exp(-(z**2) / 2)
        u, v = a * z[:, None], b * (cosine * z[:, None] + sine * z[None])
        return float((w[:, None] * w * function(u) * function(v)).sum() / w.sum() ** 2)

    def ring(angle: float) -> float:
        return float(function(a * math.cos(angle)) * function(b * (cosine * math.cos(angle) + sine * math.sin(angle))))

    kink = math.atan2(cosine, -sine) % math.pi
    at = sorted({math.pi / 2, 3 * math.pi / 2, kink, kink + math.pi})
    return quad(ring, 0, 2 * math.pi, points=at, limit=200)[0] * (2 if power else 1) / (2 * math.pi)


def by_quadrature(kernel: Wide, x: np.ndarray, y: np.ndarray) -> float:
    phi, slope = functions(kernel)
    both = np.stack([x, y])
    cov = kernel.weight_std**2 * both @ both.T / len(x) + kernel.bias_std**2
    tangent = cov[0, 1]
    for _ in range(kernel.depth):
        entries = [np.array([[cov[i, i], cov[i, j]], [cov[i, j], cov[j, j]]]) for i, j in ((0, 0), (0, 1), (1, 1))]
        xx, xy, yy = (kernel.weight_std**2 * expectation(kernel, phi, 1, entry) for entry in entries)
        slopes = expectation(kernel, slope, 0, entries[1])
        cov = np.array([[xx, xy], [xy, yy]]) + kernel.bias_std**2
        tangent = cov[0, 1] + kernel.weight_std**2 * slopes * tangent
    return tangent if isinstance(kernel, NTK) else cov[0, 1]


def test_is_the_recursion_by_quadrature(kernel: Wide):
    x, y = points(3), points(2, seed=1)
    expected = [[by_quadrature(kernel, a.numpy(), b.numpy()) for b in y] for a in x]
    np.testing.assert_allclose(kernel(x, y).numpy(), expected, rtol=1e-7)


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from([NNGP, NTK]),
    depth=st.integers(1, 4),
    activation=st.sampled_from(["relu", "leaky_relu", "erf"]),
    slope=st.floats(0, 1),
    weight_std=st.floats(0.3, 1.5),
    bias_std=st.sampled_from([0.0, 0.1, 1.0]),
    d=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_any_is_the_recursion_by_quadrature(kind, depth, activation, slope, weight_std, bias_std, d, seed):
    kernel = kind(depth=depth, activation=activation, slope=slope, weight_std=weight_std, bias_std=bias_std)
    x = points(6, d, seed)
    gram = kernel(x, x)
    expected = by_quadrature(kernel, x[0].numpy(), x[1].numpy())
    assert gram[0, 1].item() == pytest.approx(expected, rel=1e-5, abs=1e-6 * float(gram.abs().max()))
    torch.testing.assert_close(gram, gram.mT)
    assert torch.linalg.eigvalsh(gram).min() > -1e-7 * gram.norm()


def test_one_layer_by_hand():
    """σ_w = √2 and no biases, at right angles: K = 2 |x| |y| / (π d), and Θ the same, since Θ₀ = 0; at x = y, K = Θ₀ =
    2 |x|² / d and Θ = K + Θ₀."""
    x, y = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    nngp, ntk = NNGP(bias_std=0.0), NTK(bias_std=0.0)
    assert (nngp(x, y).item(), ntk(x, y).item()) == pytest.approx((6 / math.pi, 6 / math.pi))
    assert (nngp(x, x).item(), ntk(x, x).item()) == pytest.approx((9.0, 18.0))


def test_leaky_of_slope_zero_is_relu_and_of_slope_one_is_linear():
    x, y = points(4), points(3, seed=1)
    torch.testing.assert_close(NTK(activation="leaky_relu", slope=0.0, depth=2)(x, y), NTK(depth=2)(x, y))
    straight = NTK(activation="leaky_relu", slope=1.0, depth=2, weight_std=1.0, bias_std=0.0)
    torch.testing.assert_close(straight(x, y), 3 * x @ y.mT / 3)


# Against networks


def activation(kernel: Wide) -> Callable[[Tensor], Tensor]:
    leaky = functools.partial(torch.nn.functional.leaky_relu, negative_slope=kernel.slope)
    return {"erf": torch.erf, "relu": torch.relu, "leaky_relu": leaky}[kernel.activation]


def network(kernel: Wide, weights: list[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """f in the parameterisation of the docstring."""
    for number, (weight, bias) in enumerate(weights):
        x = activation(kernel)(x) if number else x
        x = kernel.weight_std * x @ weight.mT / math.sqrt(x.shape[-1]) + kernel.bias_std * bias
    return x


@pytest.mark.parametrize("name", ["ntk", "ntk-leaky", "ntk-erf", "nngp", "nngp-leaky", "nngp-erf"])
def test_is_what_very_wide_networks_come_to(name: str):
    """⟨∇f(x), ∇f(y)⟩ of the output of one network, and the covariance of the outputs over many, given the layer before."""
    kernel, x, width, generator = KERNELS[name], points(4), 1000, torch.Generator().manual_seed(0)
    found = []
    for _ in range(4 if isinstance(kernel, NTK) else 40):
        sizes = [3, *[width] * kernel.depth, 1]
        weights = [
            (torch.randn(b, a, generator=generator).double(), torch.randn(b, generator=generator).double())
            for a, b in itertools.pairwise(sizes)
        ]
        if isinstance(kernel, NTK):
            leaves = [tensor.requires_grad_(True) for pair in weights for tensor in pair]
            outputs = network(kernel, weights, x)[:, 0]
            rows = [
                torch.cat([g.flatten() for g in torch.autograd.grad(o, leaves, retain_graph=True)]) for o in outputs
            ]
            jacobian = torch.stack(rows)
            found.append(jacobian @ jacobian.mT)
        else:
            # Given the last hidden layer, the outputs are normal with exactly this covariance.
            phi = activation(kernel)(network(kernel, weights[:-1], x))
            found.append(kernel.weight_std**2 * phi @ phi.mT / width + kernel.bias_std**2)
    expected = kernel(x, x)
    torch.testing.assert_close(torch.stack(found).mean(0), expected, rtol=0, atol=0.04 * float(expected.max()))


# Laws


def test_degree(kernel: Wide):
    x, y = points(7), points(5, seed=1)
    assert (kernel.degree is None) == (kernel.activation == "erf" or kernel.bias_std > 0)
    if kernel.degree is not None:
        for factor in (0.5, 3.0):
            torch.testing.assert_close(kernel(factor * x, factor * y), factor**kernel.degree * kernel(x, y))
            torch.testing.assert_close(kernel(factor * x, y), factor * kernel(x, y))


def test_diagonal_and_leading_axes(kernel: Wide):
    x, y = points(14).view(2, 7, 3), points(10, seed=1).view(2, 5, 3)
    torch.testing.assert_close(kernel.diagonal(x[0]), kernel(x[0], x[0]).diagonal(), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(kernel(x, y), torch.stack([kernel(x[g], y[g]) for g in range(2)]))


def test_single_precision_is_computed_in_double(kernel: Wide):
    """Where two points are nearly one, an angle from a cosine of single precision would have half of its digits."""
    x = points(6, 50).float()
    y = x + 1e-5 * points(6, 50, 1).float()
    found = kernel(x, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, kernel(x.double(), y.double()).float(), rtol=1e-6, atol=0)


def test_first_and_second_derivatives_are_finite_everywhere(kernel: Wide):
    x = points(3)
    coincident, opposite, origin = x.clone(), -2 * x, torch.zeros_like(x)
    for both in ((x, coincident), (x, opposite), (opposite, x), (x, origin), (origin, x)):
        values = [value.clone().requires_grad_(True) for value in both]
        total = kernel(*values).square().sum()
        first = torch.autograd.grad(total, values, create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), values)
        assert bool(torch.isfinite(total))
        assert all(bool(torch.isfinite(g).all()) for g in (*first, *second))


def test_gradient_where_points_coincide_is_the_mean_of_the_directional_ones(kernel: Wide):
    x = points(1)
    y, step = x.clone().requires_grad_(True), 1e-5
    (slope,) = torch.autograd.grad(kernel(x, y).sum(), y)
    directions = points(4, seed=2)
    for direction in directions:
        ahead, behind = (kernel(x, x + sign * step * direction).item() for sign in (1, -1))
        assert float((slope[0] * direction).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", ["nngp", "nngp-deep", "nngp-leaky", "nngp-erf", "ntk-erf"])
def test_second_derivative_on_the_diagonal(name: str):
    """Of a point with itself, both moving; it is that of the diagonal, where no angle is."""
    kernel, x = KERNELS[name], points(1)

    def own(x: Tensor) -> Tensor:
        return kernel(x, x.clone()).sum()

    expected = torch.autograd.functional.hessian(lambda x: kernel.diagonal(x).sum(), x)
    torch.testing.assert_close(torch.autograd.functional.hessian(own, x), expected, rtol=1e-6, atol=1e-6)


def test_a_third_derivative_is_refused():
    y = points(3, seed=1).requires_grad_(True)
    value = NTK()(points(2), y).sum()
    for _ in range(2):
        (slope,) = torch.autograd.grad(value, y, create_graph=True)
        value = slope.square().sum()
    with pytest.raises(Unsupported, match="no third derivative"):
        torch.autograd.grad(value, y, create_graph=True)


# Sums over pairs, and who uses them


def test_sums_over_pairs_are_the_dense_ones(kernel: Wide, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("discrepancy.numerics.distances.BLOCK_BYTES", {"cpu": 8 * 2 * 5 * 3})  # three points a block
    x, y = points(14).view(2, 7, 3), points(10, seed=1).view(2, 5, 3).clone()
    y[:, :2], y[:, 4] = x[:, 3:5], y[:, 3]  # some points coincide
    are_the_dense_ones(kernel, x, points(2, 7, 2), y, points(2, 5, 3), tolerance=1e-6)


def test_sums_over_pairs_under_vmap(kernel: Wide):
    x, w, v = points(7)[None], torch.ones(1, 7).double(), torch.ones(1, 5).double()
    many = points(15, seed=1).view(3, 1, 5, 3)
    found = torch.vmap(lambda y: cross_sum(kernel, x, w, y, v) + self_sum(kernel, y, v))(many)
    expected = torch.stack([cross_sum(kernel, x, w, y, v) + self_sum(kernel, y, v) for y in many])
    torch.testing.assert_close(found, expected)


def test_nothing_of_the_pairs_is_kept():
    x, y = points(2000)[None], points(5, seed=1)[None].requires_grad_(True)
    w, v = torch.ones(1, 2000).double(), torch.ones(1, 5).double()
    counted = _Counted()
    with counted:
        cross_sum(NTK(depth=2), x, w, y, v)
    assert 0 < counted.entries <= 2 * (5 * 3 + 5)


class _Counted(torch.autograd.graph.saved_tensors_hooks):
    """Counts the numbers that are saved for a backward pass."""

    def __init__(self) -> None:
        self.entries = 0
        super().__init__(self._save, lambda value: value)

    def _save(self, value: Tensor) -> Tensor:
        self.entries += value.numel()
        return value


def test_mmd_has_it_too(kernel: Wide):
    x, y = Measure(points(7)), Measure(points(5, seed=1))
    gram = kernel(torch.cat([x.rows, y.rows]), torch.cat([x.rows, y.rows]))
    signs = torch.cat([torch.full((7,), 1 / 7), torch.full((5,), -1 / 5)]).double()
    mmd = MMD(kernel=kernel)
    torch.testing.assert_close(mmd(x, y).sum(), signs @ gram @ signs)
    assert float(mmd(x, x)) == pytest.approx(0, abs=1e-12)


def test_kernel_ridge_with_it(kernel: Wide):
    x, elsewhere = points(5), points(7, seed=1)
    y = torch.eye(5)[:, :2].double()
    gram = kernel(x, x).numpy()
    expected = kernel(elsewhere, x).numpy() @ np.linalg.solve(gram + 1e-2 * np.trace(gram) * np.eye(5), y.numpy())
    learned = KernelRidge(kernel=kernel, penalty=1e-2, relative=True).fit(Measure(x, labels=y).as_groups())
    np.testing.assert_allclose(learned(elsewhere[None])[0].numpy(), expected, rtol=1e-7)


# Refusals


@pytest.mark.parametrize("kernel", [NTK(), NNGP()], ids=lambda kernel: kernel.kind)
def test_composing_it_and_profiles_are_refused(kernel: Wide):
    for composed in (lambda: 2.0 * kernel, lambda: kernel + Gaussian(), lambda: kernel * kernel):
        with pytest.raises(InvalidInput, match=f"'{kernel.kind}' is a function of no single inner product"):
            composed()
    with pytest.raises(Unsupported, match="call it, or its 'diagonal'"):
        kernel.profile(points(2), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "'depth' must be at least 1, got 0"),
        ({"slope": -0.1}, "'slope' must be from 0 to 1, got -0.1"),
        ({"weight_std": 0.0}, "'weight_std' must be finite and > 0, got 0.0"),
        ({"bias_std": -1.0}, "'bias_std' must be finite and >= 0, got -1.0"),
        ({"bias_std": math.inf}, "'bias_std' must be finite and >= 0, got inf"),
    ],
    ids=lambda item: str(item),
)
def test_refused_settings(options: dict[str, float], message: str):
    with pytest.raises(InvalidInput, match=message):
        NTK(**options)  # pyright: ignore[reportArgumentType]
