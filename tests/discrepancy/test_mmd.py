"""MMD: the contract, known answers, loops, other libraries, both estimators, memory.

Properties (Hypothesis):
1. equals the loops for any sizes (n, m, d >= 1), weights, offsets;
2. summaries of the linear form merge to the same value in any partition, for both estimators.
"""

import itertools
import math
from dataclasses import replace
from typing import Any

import geomloss
import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from discrepancy import MMD, Discrepancy, Gaussian, InvalidInput, Measure
from discrepancy.discrepancy import MeanSummary, SampleSummary
from discrepancy.kernels import (
    Energy,
    InverseMultiquadric,
    Kernel,
    Laplace,
    Linear,
    Matern,
    Median,
    Polynomial,
    RationalQuadratic,
    Scaled,
    Sum,
)


def loops(discrepancy: MMD, mu: Measure, nu: Measure) -> float:
    """MMD² as the definition has it, pair by pair in Python floats."""

    def k(a: list[float], b: list[float], kernel: Kernel = discrepancy.kernel) -> float:
        square, inner = math.dist(a, b) ** 2, sum(p * q for p, q in zip(a, b, strict=True))
        match kernel:
            case Gaussian(lengthscale=length):
                return math.exp(-square / (2 * length**2))  # pyright: ignore
            case Laplace(lengthscale=length):
                return math.exp(-math.sqrt(square) / length)  # pyright: ignore
            case Energy():
                return -math.sqrt(square)
            case Polynomial(power=power, offset=offset):
                return (inner + offset) ** power
            case Sum(parts=parts):
                return sum(k(a, b, part) for part in parts)
            case Scaled(factor=factor, of=of):
                return factor * k(a, b, of)
        return inner

    x, w, y, v = (
        side.flatten(1).tolist() if side.ndim > 1 else side.tolist()
        for side in (mu.points, mu.weights, nu.points, nu.weights)
    )
    u = discrepancy.estimator == "u"
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if not (u and i == j)]
    real = sum(w[i] * w[j] * k(x[i], x[j]) for i, j in pairs) / sum(w[i] * w[j] for i, j in pairs)
    mass = sum(w) * sum(v)
    cross = sum(w[i] * v[j] * k(x[i], y[j]) for i in range(len(x)) for j in range(len(y))) / mass
    own = sum(v[i] * v[j] * k(y[i], y[j]) for i in range(len(y)) for j in range(len(y))) / sum(v) ** 2
    value = real - 2 * cross + own
    return math.sqrt(max(value, 0.0)) if discrepancy.root else value


class TestMMD(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "linear": MMD(),
        "linear-u": MMD(estimator="u"),
        "linear-root": MMD(root=True),
        "gaussian": MMD(kernel=Gaussian(lengthscale=1.5)),
        "gaussian-u": MMD(kernel=Gaussian(lengthscale=1.5), estimator="u"),
        "gaussian-root": MMD(kernel=Gaussian(lengthscale=1.5), root=True),
        "laplace": MMD(kernel=Laplace(lengthscale=1.5)),
        "laplace-root": MMD(kernel=Laplace(lengthscale=1.5), root=True),
        "energy-u": MMD(kernel=Energy(), estimator="u"),
        "polynomial": MMD(kernel=Polynomial(offset=0.0)),
        "polynomial-1": MMD(kernel=Polynomial(power=1)),
        "sum": MMD(kernel=Gaussian(lengthscale=1.5) + 0.5 * Energy()),
        "scaled-linear-u": MMD(kernel=0.5 * Linear(), estimator="u"),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, MMD)
        return loops(discrepancy, mu, nu)

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy:
        assert isinstance(discrepancy, MMD)
        if discrepancy.kernel == Polynomial(power=1):
            return replace(discrepancy, kernel=Polynomial(power=1, lengthscale=factor))
        if isinstance(discrepancy.kernel, Sum):
            return MMD(kernel=Gaussian(lengthscale=1.5 * factor) + (0.5 / factor) * Energy())
        kernel: Any = discrepancy.kernel
        return replace(discrepancy, kernel=replace(kernel, lengthscale=factor * kernel.lengthscale))


def sample(n: int, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Known answers and other libraries


def test_known_answer():
    """P on (0,0), (1,1), (2,2) and Q on (0,0), (1,1), equal weights, k(x, y) = exp(-‖x - y‖²/2), a = e⁻¹, b = e⁻⁴:

    (3 + 4a + 2b)/9 - 2 (2 + 3a + b)/6 + (2 + 2a)/4 = (3 - a - 2b)/18.
    """
    p = torch.tensor([[0.0, 0.0], [1, 1], [2, 2]], dtype=torch.float64)
    value = MMD(kernel=Gaussian(lengthscale=1.0), root=True)(Measure(p), Measure(p[:2]))
    assert value.item() == pytest.approx(math.sqrt((3 - math.exp(-1) - 2 * math.exp(-4)) / 18), rel=1e-12)


def test_two_diracs():
    value = MMD(kernel=Gaussian(lengthscale=2.0))(Measure(torch.zeros(1, 1)), Measure(torch.full((1, 1), 3.0)))
    assert value.item() == pytest.approx(2 - 2 * math.exp(-9 / 8))


def test_linear_is_the_distance_of_the_means():
    x, y, w = sample(7), sample(5, seed=1), torch.rand(7, generator=torch.Generator().manual_seed(0)).double()
    expected = ((w[:, None] * x).sum(0) / w.sum() - y.mean(0)).square().sum()
    torch.testing.assert_close(MMD()(Measure(x, w), Measure(y)), expected)


def test_against_sklearn():
    x, y = sample(7).numpy(), sample(5, seed=1).numpy()
    gamma = 1 / (2 * 1.5**2)
    expected = rbf_kernel(x, x, gamma).mean() - 2 * rbf_kernel(x, y, gamma).mean() + rbf_kernel(y, y, gamma).mean()
    value = MMD(kernel=Gaussian(lengthscale=1.5))(Measure(torch.from_numpy(x)), Measure(torch.from_numpy(y)))
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("gaussian", Gaussian(lengthscale=1.5)), ("laplacian", Laplace(lengthscale=1.5)), ("energy", Energy())],
    ids=["gaussian", "laplace", "energy"],
)
def test_is_twice_the_kernel_norm_of_geomloss(name: str, kernel: Kernel):
    x, y = sample(7), sample(5, seed=1).requires_grad_()
    v = torch.rand(5, generator=torch.Generator().manual_seed(0)).double()
    loss = geomloss.SamplesLoss(name, blur=1.5, backend="tensorized")
    theirs = 2 * loss(torch.full((7,), 1 / 7, dtype=torch.float64), x, v / v.sum(), y)
    ours = MMD(kernel=kernel)(Measure(x), Measure(y, v))
    # Theirs takes the root of at least 1e-8 for a distance, so 1e-4 on the diagonal.
    torch.testing.assert_close(ours, theirs, atol=1e-4 if name != "gaussian" else 1e-12, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(ours, y), torch.autograd.grad(theirs, y), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (Laplace(lengthscale=2.0), 2 - 2 * math.exp(-2.5)),
        (Matern(lengthscale=5.0), 2 - 2 * (1 + math.sqrt(3)) * math.exp(-math.sqrt(3))),
        (InverseMultiquadric(lengthscale=5.0), 2 - 2 / math.sqrt(2)),
        (RationalQuadratic(lengthscale=5.0), 2 - 2 / 1.5),
        (Polynomial(), 1 + 26**2 - 2),
        (Energy(), 10.0),
    ],
    ids=lambda item: getattr(item, "kind", ""),
)
def test_of_two_diracs_is_the_closed_form(kernel: Kernel, expected: float):
    """k(0, 0) - 2 k(0, a) + k(a, a) with ‖a‖ = 5."""
    value = MMD(kernel=kernel)(Measure(torch.zeros(1, 2)), Measure(torch.tensor([[3.0, 4.0]])))
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_of_a_sum_is_the_sum():
    mu, nu, first, second = Measure(sample(7)), Measure(sample(5, seed=1)), Gaussian(), Laplace()
    together = MMD(kernel=first + 3 * second)(mu, nu)
    torch.testing.assert_close(together, MMD(kernel=first)(mu, nu) + 3 * MMD(kernel=second)(mu, nu))


def test_polynomial_sees_moments_up_to_its_power():
    """Mean and covariance agree, the third moment does not."""
    even, skewed = torch.tensor([-1.0, -1.0, 1.0, 1.0]), torch.tensor([-math.sqrt(3), *[1 / math.sqrt(3)] * 3])
    values = [MMD(kernel=Polynomial(power=p))(Measure(even.double()), Measure(skewed.double())) for p in (1, 2, 3)]
    assert [abs(value.item()) > 1e-6 for value in values] == [False, False, True]


def test_call_returns_a_scalar_and_ignores_labels():
    x, z = sample(7), sample(5, seed=1)
    discrepancy = MMD(kernel=Gaussian(lengthscale=1.5))
    labelled = discrepancy(Measure(points=x, labels=torch.arange(7)), Measure(points=z))
    assert labelled.ndim == 0
    torch.testing.assert_close(labelled, discrepancy(Measure(x), Measure(z)))


def test_blocks_are_added():
    x, y = {"a": sample(7), "b": sample(7, 2)}, {"a": sample(5, seed=1), "b": sample(5, 2, seed=1)}
    expected = sum(MMD()(Measure(x[name]), Measure(y[name])) for name in x)
    torch.testing.assert_close(MMD()(Measure(x), Measure(y)), expected)


@pytest.mark.parametrize("kernel", [Linear(), Gaussian(lengthscale=100.0)], ids=["linear", "gaussian"])
def test_bytes_are_points_too(kernel):
    x = torch.randint(0, 256, (7, 1, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    y = 255 - x[:5]
    expected = MMD(kernel=kernel)(Measure(x.float()), Measure(y.float()))
    torch.testing.assert_close(MMD(kernel=kernel)(Measure(x), Measure(y)), expected)


# Summaries


def test_linear_summary_does_not_know_n():
    small, large = (MMD().summarise(Measure(sample(n)).as_groups()) for n in (7, 701))
    assert isinstance(small, MeanSummary)
    assert small.nbytes == large.nbytes


def test_own_term_of_the_real_side_is_computed_once(monkeypatch: pytest.MonkeyPatch):
    discrepancy = MMD(kernel=Gaussian())
    summary = discrepancy.summarise(Measure(sample(101)).as_groups())
    assert isinstance(summary, SampleSummary)
    sizes = []
    profile = Gaussian.profile
    monkeypatch.setattr(
        Gaussian, "profile", lambda self, s, order: sizes.append(tuple(s.shape)) or profile(self, s, order)
    )
    discrepancy.compare(summary, Measure(sample(5, seed=1)).as_groups())
    assert sorted(sizes) == [(1, 5, 5), (1, 101, 5)]


@pytest.mark.parametrize("root", [False, True], ids=["squared", "root"])
def test_saved_bytes_do_not_grow_with_n(root: bool):
    def saved(n: int) -> int:
        summary = MMD(kernel=Gaussian(), root=root).summarise(Measure(sample(n)).as_groups())
        leaf, total = sample(5, seed=1).requires_grad_(), 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            MMD(kernel=Gaussian(), root=root).compare(summary, Measure(leaf).as_groups())
        return total

    assert saved(17) == saved(1009) > 0


# Estimators and root


def test_unbiased_estimate_has_the_right_mean():
    """Over all samples of 2 from 4 points, U averages to MMD² against the 4 points (with pairs of distinct points)."""
    population, synthetic = sample(4), Measure(sample(3, seed=1))
    discrepancy = MMD(kernel=Gaussian(lengthscale=1.5), estimator="u")
    pairs = [(i, j) for i in range(4) for j in range(i)]
    mean = torch.stack([discrepancy(Measure(population[list(pair)]), synthetic) for pair in pairs]).mean()
    torch.testing.assert_close(mean, discrepancy(Measure(population), synthetic))


@pytest.mark.parametrize("kernel", [Linear(), Gaussian()], ids=["linear", "gaussian"])
def test_both_estimators_have_the_same_gradient(kernel):
    x, y = Measure(sample(7)), sample(5, seed=1)
    first, second = (
        torch.func.grad(lambda y, estimator=estimator: MMD(kernel=kernel, estimator=estimator)(x, Measure(y)))(y)
        for estimator in ("u", "v")
    )
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("kernel", [Linear(), Gaussian()], ids=["linear", "gaussian"])
@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 0.0]], ids=["one-point", "one-weight"])
def test_unbiased_estimate_of_one_point_is_refused(kernel, weights):
    real = Measure(sample(1)) if weights is None else Measure(sample(3), torch.tensor(weights))
    with pytest.raises(InvalidInput, match=r"estimator 'u' needs at least 2 real points .* use estimator 'v'"):
        MMD(kernel=kernel, estimator="u")(real, Measure(sample(2, seed=1)))


@pytest.mark.parametrize("kernel", [Linear(), Gaussian()], ids=["linear", "gaussian"])
def test_root_has_gradient_zero_at_zero(kernel):
    x = sample(5)
    leaf = x.clone().requires_grad_()
    value = MMD(kernel=kernel, root=True)(Measure(x[:1]), Measure(leaf[:1]))
    value.backward()
    assert value.item() == 0
    torch.testing.assert_close(leaf.grad, torch.zeros_like(x))


def test_root_of_the_unbiased_estimate_is_refused():
    with pytest.raises(InvalidInput, match="'root' needs estimator 'v', got 'u'"):
        MMD(root=True, estimator="u")


def test_unknown_estimator_is_refused():
    # Past __init__, whose argument types are checked under test.
    discrepancy = object.__new__(MMD)
    object.__setattr__(discrepancy, "estimator", "w")
    with pytest.raises(InvalidInput, match="'estimator' must be 'u' or 'v', got 'w'"):
        discrepancy.__post_init__()


def test_resolve_puts_the_number_in():
    real = Measure(sample(23))
    resolved = MMD(kernel=Gaussian(lengthscale=Median(factor=0.5))).resolve(real)
    assert resolved == MMD(kernel=Gaussian(lengthscale=Median(factor=0.5).measured(real)))
    assert MMD().resolve(real) == MMD()


def test_unresolved_kernel_is_refused():
    with pytest.raises(InvalidInput, match=r"call resolve\(sample\) with real points first"):
        MMD(kernel=Gaussian(lengthscale=Median()))(Measure(sample(3)), Measure(sample(2)))


# Properties


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 4),
    offset=st.sampled_from([0.0, 1.0, -100.0]),
    kernel=st.sampled_from([Linear(), Gaussian(lengthscale=0.7), Laplace(), Energy(), Polynomial(offset=0.0)]),
    data=st.data(),
)
def test_equals_the_loops(n: int, m: int, d: int, offset: float, kernel, data: st.DataObject):
    def weights(size: int) -> torch.Tensor:
        some = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=size - 1, max_size=size - 1))
        return torch.tensor([*some, 1.0], dtype=torch.float64)

    discrepancy = MMD(kernel=kernel)
    mu, nu = Measure(sample(n, d) + offset, weights(n)), Measure(sample(m, d, 1) + offset, weights(m))
    expected = torch.tensor(loops(discrepancy, mu, nu)).double()
    torch.testing.assert_close(discrepancy(mu, nu), expected, atol=1e-6, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 10), max_size=4, unique=True), estimator=st.sampled_from(["u", "v"]))
def test_linear_summaries_merge_in_any_partition(cuts: list[int], estimator):
    discrepancy = MMD(estimator=estimator)
    x, w = sample(11) + 100, torch.rand(11, generator=torch.Generator().manual_seed(0)).double()
    nu = Measure(sample(5, seed=1) + 100).as_groups()
    edges = [0, *sorted(cuts), 11]
    parts = [discrepancy.summarise(Measure(x[a:b], w[a:b]).as_groups()) for a, b in itertools.pairwise(edges)]
    merged = parts[0]
    for part in parts[1:]:
        merged = discrepancy.merge(merged, part)
    whole = discrepancy.summarise(Measure(x, w).as_groups())
    torch.testing.assert_close(discrepancy.compare(merged, nu), discrepancy.compare(whole, nu), atol=1e-9, rtol=1e-9)
