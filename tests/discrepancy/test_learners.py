"""Learners: sklearn and numpy, primal and dual, weights of zero, derivatives of any order, repairs and refusals.

Properties (Hypothesis):
1. ridge regression equals sklearn's for any sizes (m < d too), weights, penalties and intercepts, fitted or from its summary.
"""

import itertools
import math
import warnings

import numpy as np
import pytest
import sklearn.kernel_ridge
import sklearn.linear_model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from discrepancy import Gaussian, InvalidInput, Measure, NumericalWarning
from discrepancy.kernels import Energy, Linear, Median
from discrepancy.learning.learners import KernelRidge, Learner
from discrepancy.learning.ridge import Ridge
from discrepancy.numerics import pairwise
from discrepancy.numerics.systems import solve


def data(m: int, d: int, c: int = 2, seed: int = 0, offset: float = 0.0) -> Measure:
    generator = torch.Generator().manual_seed(seed)
    points, labels = (torch.randn(m, size, generator=generator, dtype=torch.float64) for size in (d, c))
    weights = torch.rand(m, generator=generator, dtype=torch.float64) + 0.1
    return Measure(points + offset, weights, labels)


def flat(measure: Measure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, labels and weights that sum to one."""
    return measure.points.numpy(), measure.labels.numpy(), measure.shares.numpy()  # pyright: ignore


def theirs(measure: Measure, penalty: float, intercept: bool) -> np.ndarray:
    """sklearn's weights, then its intercept."""
    x, y, w = flat(measure)
    model = sklearn.linear_model.Ridge(alpha=penalty, fit_intercept=intercept, solver="svd").fit(x, y, sample_weight=w)
    return np.hstack([model.coef_, model.intercept_[:, None]]) if intercept else model.coef_


# Against other libraries


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 9),
    d=st.integers(1, 7),
    c=st.integers(2, 3),
    penalty=st.sampled_from([1e-3, 0.1, 10.0]),
    intercept=st.booleans(),
    offset=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_ridge_is_that_of_sklearn(m: int, d: int, c: int, penalty: float, intercept: bool, offset: float, seed: int):
    learner, measure = Ridge(penalty=penalty, intercept=intercept), data(m, d, c, seed, offset)
    expected = torch.from_numpy(theirs(measure, penalty, intercept))
    grouped = measure.as_groups()
    torch.testing.assert_close(learner.fit(grouped).table[0], expected, atol=1e-7, rtol=1e-7)
    summarised = learner.of_summary(learner.summarise(grouped), c)
    torch.testing.assert_close(summarised.table[0], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("m", "d"), [(7, 3), (3, 7), (5, 5)], ids=["primal", "dual", "square"])
def test_without_penalty_it_is_the_least_norm_solution(m: int, d: int):
    measure = data(m, d)
    x, y, w = flat(measure)
    expected = np.linalg.lstsq(np.sqrt(w)[:, None] * x, np.sqrt(w)[:, None] * y, rcond=None)[0].T
    for learned in (
        Ridge(penalty=0.0).fit(measure.as_groups()),
        Ridge(penalty=0.0).of_summary(Ridge(penalty=0.0).summarise(measure.as_groups()), 2),
    ):
        np.testing.assert_allclose(learned.table[0].numpy(), expected, rtol=1e-8, atol=1e-8)


def test_penalty_of_a_sum_is_n_times_as_large():
    """Chen et al. minimise Σ ‖W xᵢ - yᵢ‖² + λ ‖W‖² over n points."""
    measure = data(7, 3)
    measure = Measure(measure.points, labels=measure.labels)
    x, y, _ = flat(measure)
    expected = y.T @ x @ np.linalg.inv(x.T @ x + 0.5 * np.eye(3))
    np.testing.assert_allclose(Ridge(penalty=0.5 / 7).fit(measure.as_groups()).table[0], expected)


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
@pytest.mark.parametrize("kernel", [Linear(), Gaussian(lengthscale=1.5)], ids=["linear", "gaussian"])
def test_kernel_ridge_is_that_of_sklearn(kernel, penalty: float):
    measure, elsewhere = data(5, 3), data(7, 3, seed=1).points
    x, y, w = flat(measure)
    names = {"kernel": "rbf", "gamma": 1 / (2 * 1.5**2)} if isinstance(kernel, Gaussian) else {"kernel": "linear"}
    model = sklearn.kernel_ridge.KernelRidge(alpha=penalty, **names).fit(x, y, sample_weight=w)
    learned = KernelRidge(kernel=kernel, penalty=penalty).fit(measure.as_groups())
    np.testing.assert_allclose(learned(elsewhere[None])[0].numpy(), model.predict(elsewhere), rtol=1e-8)


def test_kernel_ridge_with_the_linear_kernel_is_ridge():
    measure, elsewhere = data(5, 3).as_groups(), data(7, 3, seed=1).points[None]  # pyright: ignore
    for penalty, relative in itertools.product((0.0, 0.1), (False, True)):
        first, second = (
            learner.fit(measure)(elsewhere)
            for learner in (
                Ridge(penalty=penalty, relative=relative),
                KernelRidge(penalty=penalty, relative=relative),
            )
        )
        torch.testing.assert_close(first, second)


def test_relative_penalty_is_that_of_kip():
    """Predictions K_xs (K_ss + 1e-6 tr(K_ss) / m)⁻¹ y, with sums over points."""
    measure, elsewhere = data(5, 3), data(7, 3, seed=1).points
    measure = Measure(measure.points, labels=measure.labels)
    x, y, _ = flat(measure)
    gram = rbf_kernel(x, x, 1 / 8)
    expected = rbf_kernel(elsewhere, x, 1 / 8) @ np.linalg.solve(gram + 1e-6 * np.trace(gram) / 5 * np.eye(5), y)
    learned = KernelRidge(kernel=Gaussian(lengthscale=2.0), penalty=1e-6 / 5, relative=True).fit(measure.as_groups())
    np.testing.assert_allclose(learned(elsewhere[None])[0].numpy(), expected, rtol=1e-6)  # pyright: ignore


@pytest.mark.parametrize("intercept", [False, True], ids=["origin", "intercept"])
@pytest.mark.parametrize(("m", "d"), [(7, 3), (3, 7)], ids=["primal", "dual"])
def test_relative_penalty_has_no_units(m: int, d: int, intercept: bool):
    measure, learner = data(m, d), Ridge(penalty=0.3, relative=True, intercept=intercept)
    wide = Measure(5 * measure.points, measure.weights, measure.labels)  # pyright: ignore
    first, second = (learner.fit(side.as_groups())(side.points[None]) for side in (measure, wide))  # pyright: ignore
    torch.testing.assert_close(first, second)


# Predictors and risks


def test_predictor_adds_its_intercept():
    measure = data(7, 3)
    x, y, w = flat(measure)
    model = sklearn.linear_model.Ridge(alpha=0.1).fit(x, y, sample_weight=w)
    learned = Ridge(penalty=0.1, intercept=True).fit(measure.as_groups())
    np.testing.assert_allclose(learned(measure.points[None])[0], model.predict(x))  # pyright: ignore


@pytest.mark.parametrize("learner", [Ridge(penalty=0.1), Ridge(intercept=True), KernelRidge(kernel=Gaussian())])
def test_risk_is_the_mean_square_of_the_errors(learner: Learner):
    real, predictor = data(11, 3), learner.fit(data(5, 3, seed=1).as_groups())
    errors = predictor(real.points[None])[0] - real.labels  # pyright: ignore
    expected = (real.shares * errors.square().sum(-1)).sum()
    torch.testing.assert_close(learner.risk(learner.summarise(real.as_groups()), predictor)[0], expected)


def test_risk_of_a_kernel_holds_no_more_than_its_bytes(monkeypatch):
    learner, real, synthetic = KernelRidge(kernel=Gaussian()), data(101, 3), data(5, 3, seed=1).as_groups()
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", 8 * 5 * 20)
    sizes = []
    profile = Gaussian.profile
    monkeypatch.setattr(
        Gaussian, "profile", lambda self, s, order: sizes.append(s.shape[-1]) or profile(self, s, order)
    )
    learner.risk(learner.summarise(real.as_groups()), learner.fit(synthetic))
    assert sorted(sizes) == [1, 5, 20, 20, 20, 20, 20]


def test_saved_bytes_of_a_risk_do_not_grow_with_n():
    def saved(n: int) -> int:
        learner, total = KernelRidge(kernel=Gaussian()), 0
        summary = learner.summarise(data(n, 3).as_groups())
        synthetic = data(5, 3, seed=1)
        leaf = synthetic.points.clone().requires_grad_()  # pyright: ignore

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            learner.risk(summary, learner.fit(Measure(leaf, synthetic.weights, synthetic.labels).as_groups()))
        return total

    assert saved(17) == saved(1009) > 0


# The system


@pytest.mark.parametrize("zero", [False, True], ids=["weighted", "a-weight-of-zero"])
def test_system_is_that_of_its_formula(zero: bool):
    points, targets = data(5, 3).points, data(5, 2, seed=1).points[None]  # pyright: ignore
    gram = (points @ points.mT)[None]  # pyright: ignore
    weights = torch.tensor([[0.1, 0.3, 0.2, 0.1, 0.3]], dtype=torch.float64)
    if zero:
        weights[0, 1] = 0
    held = weights[0] > 0
    inverse = torch.linalg.inv(gram[0][held][:, held] + 0.7 * torch.diag(1 / weights[0, held]))
    expected = torch.zeros(5, 2, dtype=torch.float64)
    expected[held] = inverse @ targets[0, held]
    torch.testing.assert_close(solve(gram, weights, targets, 0.7)[0], expected)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
@pytest.mark.parametrize(("m", "d"), [(5, 2), (2, 5)], ids=["primal", "dual"])
@pytest.mark.parametrize("intercept", [False, True], ids=["origin", "intercept"])
def test_two_derivatives_by_points_weights_and_labels(m: int, d: int, penalty: float, intercept: bool):
    measure, learner = data(m, d), Ridge(penalty=penalty, intercept=intercept)
    leaves = [side.clone().requires_grad_() for side in (measure.points, measure.weights, measure.labels)]  # pyright: ignore

    def table(points, weights, labels):
        return learner.fit(Measure(points, weights, labels).as_groups()).table

    assert torch.autograd.gradcheck(table, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(table, leaves, fast_mode=True)


@pytest.mark.parametrize("learner", [Ridge(penalty=0.3), KernelRidge(kernel=Gaussian(), penalty=0.3)])
def test_derivative_at_a_weight_of_zero_is_one_sided(learner: Learner):
    """The dual system has square roots of the weights, and no derivative may suffer from that."""
    measure, elsewhere = data(2, 5), data(3, 5, seed=1).points[None]  # pyright: ignore

    def prediction(weight: torch.Tensor) -> torch.Tensor:
        weights = torch.stack([measure.weights[0], weight])
        return learner.fit(Measure(measure.points, weights, measure.labels).as_groups())(elsewhere).sum()

    zero = torch.zeros((), dtype=torch.float64)
    slope = torch.func.grad(prediction)(zero)
    assert abs(slope) > 1e-2
    torch.testing.assert_close(slope, (prediction(zero + 1e-6) - prediction(zero)) / 1e-6, rtol=1e-4, atol=0)
    curve = torch.func.grad(torch.func.grad(prediction))
    near = (torch.func.grad(prediction)(zero + 1e-6) - slope) / 1e-6
    torch.testing.assert_close(curve(zero), near, rtol=1e-3, atol=0)


def test_risk_of_a_kernel_has_two_derivatives_block_by_block(monkeypatch):
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", 8 * 3 * 2)
    learner, real, synthetic = KernelRidge(kernel=Gaussian(), penalty=0.1), data(7, 2), data(3, 2, seed=1)
    summary = learner.summarise(real.as_groups())
    leaves = [side.clone().requires_grad_() for side in (synthetic.points, synthetic.weights, synthetic.labels)]  # pyright: ignore

    def risk(points, weights, labels):
        return learner.risk(summary, learner.fit(Measure(points, weights, labels).as_groups()))

    assert torch.autograd.gradcheck(risk, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(risk, leaves, fast_mode=True)


# Repairs and refusals


def test_jitter_is_reported_with_its_size():
    """Equal points and a penalty far below rounding: the factorisation needs help, and says so. Every number is a power of two,
    so that the second pivot is zero with any order of operations."""
    x = torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0]]).double().repeat(4, 1)
    measure = Measure(x, labels=torch.ones(4, 1).double()).as_groups()
    with pytest.warns(
        NumericalWarning, match=r"e-1\d \(1e-1\d of its mean\) was added to the diagonal .* raise 'penalty'"
    ):
        learned = Ridge(penalty=1e-30).fit(measure)
    np.testing.assert_allclose(learned(x[None]), 1, rtol=1e-6)


def test_sound_systems_get_no_jitter():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned = Ridge(penalty=1e-9).fit(data(3, 7).as_groups())
    assert bool(torch.isfinite(learned(data(3, 7).as_groups().rows)).all())


def test_indefinite_matrices_are_refused():
    gram = torch.tensor([[[1.0, 3.0], [3.0, 1.0]]]).double()
    with pytest.raises(InvalidInput, match=r"'penalty' must make the Gram matrix positive definite, got 1.0e-01"):
        solve(gram, torch.ones(1, 2).double(), torch.ones(1, 2, 1).double(), 0.1)


def test_values_that_are_not_finite_pass_through():
    """Who minimises names the term; nothing is raised here."""
    measure = data(3, 7)
    measure.points[0, 0] = math.nan  # pyright: ignore
    assert bool(Ridge().fit(measure.as_groups()).table.isnan().any())


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_points_at_the_origin_teach_nothing(penalty: float, relative: bool):
    measure = Measure(torch.zeros(2, 3), labels=torch.ones(2, 1)).as_groups()
    for learner in (Ridge(penalty=penalty, relative=relative), KernelRidge(penalty=penalty, relative=relative)):
        assert float(learner.fit(measure)(torch.ones(1, 2, 3)).abs().max()) == 0


@pytest.mark.parametrize("learner", [Ridge, KernelRidge])
@pytest.mark.parametrize("penalty", [-1.0, float("nan"), float("inf")])
def test_bad_penalty_is_refused(learner, penalty: float):
    with pytest.raises(InvalidInput, match="'penalty' must be finite and >= 0"):
        learner(penalty=penalty)


def test_kernels_that_are_not_positive_definite_are_refused():
    with pytest.raises(InvalidInput, match="'kernel' must be positive definite, got 'energy'"):
        KernelRidge(kernel=Energy())


def test_resolve_puts_the_number_in():
    real, learner = data(23, 3), KernelRidge(kernel=Gaussian(lengthscale=Median(factor=0.5)))
    assert not learner.resolved
    assert learner.resolve(real) == KernelRidge(kernel=Gaussian(lengthscale=Median(factor=0.5).measured(real)))
    assert Ridge().resolve(real) == Ridge()
