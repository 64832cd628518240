"""Learned discrepancies: the contract against numpy and sklearn, labels, KIP's loss by hand, the theorem of Chen et al.

Properties (Hypothesis):
1. without penalty, the excess risk is the distance in function space, for any sizes, weights and intercepts.
"""

from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import sklearn.kernel_ridge
import sklearn.linear_model
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from discrepancy import Discrepancy, Gaussian, InvalidInput, Measure, Unsupported
from discrepancy.kernels import Linear, Median
from discrepancy.learning.learned import FittedSummary, Parameters, Risk
from discrepancy.learning.learners import ClassMeans, KernelRidge
from discrepancy.learning.ridge import Ridge
from discrepancy.reductions import CVaR, Max, Mean, Proportional, Reduction


def flat(side: Measure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return side.points.flatten(1).numpy(), side.labels.numpy(), side.shares.numpy()  # pyright: ignore


def coefficients(learner: Ridge, side: Measure) -> tuple[np.ndarray, np.ndarray]:
    """W and b, by sklearn, and without penalty by least squares on (x, 1), of least norm after centring."""
    x, y, w = flat(side)
    penalty = learner.penalty
    if learner.relative:
        centre = w @ x if learner.intercept else 0
        penalty *= w @ np.square(x - centre).sum(1)
    if penalty:
        model = sklearn.linear_model.Ridge(alpha=penalty, fit_intercept=learner.intercept, solver="svd")
        model.fit(x, y, sample_weight=w)
        return model.coef_, model.intercept_ + np.zeros(y.shape[1])
    mean_x, mean_y = (w @ x, w @ y) if learner.intercept else (0 * x[0], 0 * y[0])
    root = np.sqrt(w)[:, None]
    table = np.linalg.lstsq(root * (x - mean_x), root * (y - mean_y), rcond=None)[0].T
    return table, mean_y - table @ mean_x


MEAN = Proportional()


def reduced(values: np.ndarray, mass: np.ndarray, reduce: Reduction) -> float:
    """The largest value with mass; or the least of t + Σ p (v - t)₊ / a, which is at one of the values; or the mean."""
    if isinstance(reduce, Max):
        return float(values[mass > 0].max())
    if isinstance(reduce, CVaR):
        return min(float(t + mass @ np.maximum(values - t, 0) / reduce.fraction) for t in values)
    return float(mass @ values)


def risk(learner, real: Measure, synthetic: Measure, loss: str = "squared", reduce: Reduction = MEAN) -> float:
    x, y, w = flat(real)
    if isinstance(learner, ClassMeans):
        s, labels, v = flat(synthetic)
        predictions = np.stack([x @ np.average(s, 0, v * labels[:, c]) for c in range(y.shape[1])], 1)
    elif isinstance(learner, Ridge):
        table, intercept = coefficients(learner, synthetic)
        predictions = x @ table.T + intercept
    else:
        s, labels, v = flat(synthetic)
        if learner.centred:
            y, labels = y - 1 / y.shape[1], labels - 1 / y.shape[1]
        kernel = learner.kernel
        names = (
            {"kernel": "rbf", "gamma": 1 / (2 * kernel.lengthscale**2)}
            if isinstance(kernel, Gaussian)
            else {"kernel": "linear"}
        )
        penalty = learner.penalty
        if learner.relative:
            penalty *= v @ (np.ones(len(s)) if isinstance(kernel, Gaussian) else np.square(s).sum(1))
        model = sklearn.kernel_ridge.KernelRidge(alpha=penalty, **names).fit(s, labels, sample_weight=v)
        predictions = model.predict(x)
    if loss == "cross_entropy":
        surprise = [-(row_y @ scipy.special.log_softmax(row)) for row, row_y in zip(predictions, y, strict=True)]
        return reduced(np.array(surprise), w, reduce)
    return reduced(np.square(predictions - y).sum(1), w, reduce)


def wider(learner, factor: float):
    """The learner that predicts the same where points are ``factor`` times as far apart; None where there is none."""
    if isinstance(learner, ClassMeans):
        return None
    if isinstance(learner, KernelRidge) and isinstance(learner.kernel, Gaussian):
        return replace(learner, kernel=Gaussian(lengthscale=factor * float(learner.kernel.lengthscale)))  # pyright: ignore
    return replace(learner, penalty=factor**2 * learner.penalty)


class TestParameters(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "ridge": Parameters(learner=Ridge(penalty=0.1)),
        "least-squares": Parameters(learner=Ridge(penalty=0.0)),
        "intercept": Parameters(learner=Ridge(penalty=0.1, intercept=True)),
        "function": Parameters(learner=Ridge(penalty=0.1), space="function"),
        "function-intercept": Parameters(learner=Ridge(penalty=0.1, intercept=True), space="function"),
        "function-least-squares": Parameters(learner=Ridge(penalty=0.0, intercept=True), space="function"),
        "relative": Parameters(learner=Ridge(penalty=0.1, relative=True)),
    }
    classes = 3

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Parameters)
        assert isinstance(discrepancy.learner, Ridge)
        (first, a), (second, b) = (coefficients(discrepancy.learner, side) for side in (mu, nu))
        if discrepancy.space == "parameters":
            return float(np.square(first - second).sum() + np.square(a - b).sum())
        x, _, w = flat(mu)
        return float(w @ np.square(x @ (first - second).T + a - b).sum(1))

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy | None:
        assert isinstance(discrepancy, Parameters)
        if discrepancy.space == "parameters":
            return None
        return replace(discrepancy, learner=wider(discrepancy.learner, factor))


class TestRisk(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "ridge": Risk(learner=Ridge(penalty=0.1)),
        "intercept": Risk(learner=Ridge(penalty=0.1, intercept=True)),
        "least-squares": Risk(learner=Ridge(penalty=0.0)),
        "excess": Risk(learner=Ridge(penalty=0.1), excess=True),
        "excess-least-squares": Risk(learner=Ridge(penalty=0.0, intercept=True), excess=True),
        "relative": Risk(learner=Ridge(penalty=0.1, intercept=True, relative=True)),
        "kernel": Risk(learner=KernelRidge(kernel=Gaussian(lengthscale=1.5), penalty=0.1)),
        "kernel-relative": Risk(learner=KernelRidge(kernel=Gaussian(lengthscale=1.5), penalty=0.1, relative=True)),
        "kernel-centred": Risk(learner=KernelRidge(kernel=Gaussian(), penalty=0.1, centred=True)),
        "kernel-linear": Risk(learner=KernelRidge(kernel=Linear(), penalty=0.1)),
        "kernel-linear-relative": Risk(learner=KernelRidge(kernel=Linear(), penalty=0.1, relative=True)),
        "ridge-cross-entropy": Risk(learner=Ridge(penalty=0.1, intercept=True), loss="cross_entropy"),
        "kernel-cross-entropy": Risk(
            learner=KernelRidge(kernel=Gaussian(lengthscale=1.5), penalty=0.1), loss="cross_entropy"
        ),
        "class-means": Risk(learner=ClassMeans(), loss="cross_entropy"),
        "class-means-squared": Risk(learner=ClassMeans()),
        "ridge-cvar": Risk(learner=Ridge(penalty=0.1, intercept=True), reduce=CVaR(fraction=0.35)),
        "kernel-cvar": Risk(
            learner=KernelRidge(kernel=Gaussian(), penalty=0.1, centred=True), reduce=CVaR(fraction=0.35)
        ),
        "kernel-max": Risk(learner=KernelRidge(kernel=Gaussian(), penalty=0.1), reduce=Max()),
        "class-means-cvar": Risk(learner=ClassMeans(), loss="cross_entropy", reduce=CVaR(fraction=0.35)),
    }
    classes = 3

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Risk)
        own = risk(discrepancy.learner, mu, mu) if discrepancy.excess else 0
        return risk(discrepancy.learner, mu, nu, discrepancy.loss, discrepancy.reduce) - own

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy | None:
        assert isinstance(discrepancy, Risk)
        learner = wider(discrepancy.learner, factor)
        return None if learner is None else replace(discrepancy, learner=learner)


def data(n: int, d: int = 3, c: int = 2, seed: int = 0) -> Measure:
    generator = torch.Generator().manual_seed(seed)
    points, labels = (torch.randn(n, size, generator=generator, dtype=torch.float64) for size in (d, c))
    return Measure(points, torch.rand(n, generator=generator, dtype=torch.float64) + 0.1, labels)


# Labels

LEARNED = {
    "parameters": Parameters(learner=Ridge(penalty=0.1)),
    "function": Parameters(learner=Ridge(penalty=0.1, intercept=True), space="function"),
    "risk": Risk(learner=Ridge(penalty=0.1)),
    "kernel": Risk(learner=KernelRidge(kernel=Gaussian(), penalty=0.1)),
    "class-means": Risk(learner=ClassMeans(), loss="cross_entropy"),
}
learned = pytest.mark.parametrize("discrepancy", LEARNED.values(), ids=LEARNED.keys())


@learned
def test_two_derivatives_by_labels_too(discrepancy: Discrepancy):
    summary, synthetic = discrepancy.summarise(data(7).as_groups()), data(3, seed=1)
    leaves = [side.clone().requires_grad_() for side in (synthetic.points, synthetic.weights, synthetic.labels)]  # pyright: ignore

    def value(points: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
        return discrepancy.compare(summary, Measure(points, weights, labels).as_groups())

    assert torch.autograd.gradcheck(value, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(value, leaves, fast_mode=True)


@learned
def test_real_labels_get_no_gradient(discrepancy: Discrepancy):
    real, synthetic = data(7), data(3, seed=1)
    asking = [side.clone().requires_grad_() for side in (real.points, real.weights, real.labels)]  # pyright: ignore
    leaf = synthetic.labels.clone().requires_grad_()  # pyright: ignore[reportOptionalMemberAccess]
    discrepancy(Measure(*asking), Measure(synthetic.points, synthetic.weights, leaf)).backward()
    assert [side.grad for side in asking] == [None] * 3
    assert leaf.grad is not None


@learned
def test_class_numbers_are_one_hot_labels(discrepancy: Discrepancy):
    real, synthetic = data(7), data(3, seed=1)
    numbers, few = torch.arange(7) % 3, torch.tensor([1, 0, 1])  # the synthetic side knows nothing of class 2
    mu, nu = Measure(real.points, real.weights, numbers), Measure(synthetic.points, synthetic.weights, few)
    torch.testing.assert_close(discrepancy(mu, nu), discrepancy(mu.with_label_vectors(3), nu.with_label_vectors(3)))


# Known answers


def test_one_point_each():
    """x = 2 with y = 3 and x = 1 with y = 1, λ = 1: W_μ = 6 / 5, W_ν = 1 / 2; risk of W_ν: (2 / 2 - 3)² = 4."""
    mu, nu = (Measure(torch.tensor([[x]]), labels=torch.tensor([[y]])) for x, y in ((2.0, 3.0), (1.0, 1.0)))
    ridge = Ridge(penalty=1.0)
    assert Parameters(learner=ridge)(mu, nu).item() == pytest.approx(0.49)
    assert Parameters(learner=ridge, space="function")(mu, nu).item() == pytest.approx(4 * 0.49)
    assert Risk(learner=ridge)(mu, nu).item() == pytest.approx(4)
    assert Risk(learner=ridge, excess=True)(mu, nu).item() == pytest.approx(4 - 0.36)


def test_a_line_is_learned_from_two_points():
    """y = 2 x + 1, seen at 7 places, and at 2 others: zero risk, equal parameters, with an intercept and without penalty."""
    real, few = (torch.randn(size, 1, generator=torch.Generator().manual_seed(size)).double() for size in (7, 2))
    mu, nu = (Measure(x, labels=2 * x + 1) for x in (real, few))
    line = Ridge(penalty=0.0, intercept=True)
    for discrepancy in (Parameters(learner=line), Risk(learner=line), Risk(learner=line, excess=True)):
        assert discrepancy(mu, nu).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("intercept", [False, True])
def test_least_squares_have_a_slope_by_the_weight_of_a_point_without_weight(intercept: bool):
    discrepancy = Parameters(learner=Ridge(penalty=0.0, intercept=intercept))
    mu, nu = data(9), data(6, seed=1)
    weights = nu.weights.clone()
    weights[2] = 0
    leaf = weights.clone().requires_grad_()
    value = discrepancy(mu, Measure(nu.points, leaf, nu.labels))
    (slope,) = torch.autograd.grad(value, leaf)
    ahead = weights + 1e-7 * torch.eye(6)[2]
    difference = (discrepancy(mu, Measure(nu.points, ahead, nu.labels)) - value.detach()).item() / 1e-7
    assert abs(difference) > 0.01
    assert slope[2].item() == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("m", [3, 5, 11], ids=["m=k", "m<d", "m>d"])
def test_theorem_of_chen_et_al(m: int):
    """Theorem 4.1.2: without penalty on the synthetic side X_S = D⁺ with D = Y_S⁺ W + (I - Y_S⁺ Y_S) Z learns W exactly.

    W is learned with a penalty on the real side, so its summary is that of another learner: parameters are compared with those
    of a real set that has W for its least squares.
    """
    d, k, rng = 7, 3, np.random.default_rng(m)
    x, y = rng.standard_normal((d, 40)), rng.standard_normal((k, 40))
    table = y @ x.T @ np.linalg.inv(x @ x.T + 0.7 * np.eye(d))
    labels = rng.standard_normal((k, m))
    inverse = np.linalg.pinv(labels)
    target = inverse @ table + (np.eye(m) - inverse @ labels) @ rng.standard_normal((m, d))
    synthetic = Measure(torch.from_numpy(np.linalg.pinv(target).T.copy()), labels=torch.from_numpy(labels.T.copy()))
    real = Measure(torch.from_numpy(x.T.copy()), labels=torch.from_numpy((table @ x).T.copy()))
    exact = Ridge(penalty=0.0)
    assert Parameters(learner=exact)(real, synthetic).item() == pytest.approx(0, abs=1e-15)
    assert Risk(learner=exact)(real, synthetic).item() == pytest.approx(0, abs=1e-12)


def test_is_the_loss_of_kip():
    """½ is left out: mean over real points of ‖y_t - K_ts (K_ss + 1e-6 tr(K_ss) / m)⁻¹ y_s‖², value and gradient."""
    real, synthetic, kernel = data(11), data(5, seed=1), Gaussian(lengthscale=1.2)
    leaf = synthetic.points.clone().requires_grad_()  # pyright: ignore[reportAttributeAccessIssue]

    def gram(a: Tensor, b: Tensor) -> Tensor:
        return (-(a[:, None] - b).square().sum(-1) / (2 * 1.2**2)).exp()

    own = gram(leaf, leaf)
    penalty = 1e-6 * own.trace() / 5 * torch.eye(5).double()
    errors = gram(real.points, leaf) @ torch.linalg.solve(own + penalty, synthetic.labels) - real.labels  # pyright: ignore
    expected = errors.square().sum(1).mean()
    (slope,) = torch.autograd.grad(expected, leaf)
    discrepancy = Risk(learner=KernelRidge(kernel=kernel, penalty=1e-6 / 5, relative=True))
    value = discrepancy(Measure(real.points, labels=real.labels), Measure(leaf, labels=synthetic.labels))
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, leaf)[0], slope, rtol=1e-5, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 9), d=st.integers(1, 5), intercept=st.booleans(), seed=st.integers(0, 99))
def test_excess_risk_is_the_distance_of_functions(n: int, m: int, d: int, intercept: bool, seed: int):
    """Pythagoras: the errors of least squares are orthogonal to every linear function."""
    mu, nu = data(n, d, seed=seed), data(m, d, seed=seed + 100)
    learner = Ridge(penalty=0.0, intercept=intercept)
    excess, apart = Risk(learner=learner, excess=True)(mu, nu), Parameters(learner=learner, space="function")(mu, nu)
    torch.testing.assert_close(excess, apart, atol=1e-8, rtol=1e-5)
    assert excess >= -1e-8


# Summaries


def test_summary_does_not_grow_with_n():
    for discrepancy in (LEARNED["parameters"], LEARNED["function"], LEARNED["risk"]):
        sizes = {discrepancy.summarise(data(n, 11).as_groups()).nbytes for n in (3, 3001)}
        assert len(sizes) == 1


def test_real_side_is_solved_once(monkeypatch):
    solved = []
    of_summary = Ridge.of_summary
    monkeypatch.setattr(Ridge, "of_summary", lambda self, *args: solved.append(1) or of_summary(self, *args))
    discrepancy, synthetic = Risk(learner=Ridge(), excess=True), data(3, seed=1).as_groups()
    summary = discrepancy.summarise(data(7).as_groups())
    assert isinstance(summary, FittedSummary)

    def value(points: Tensor) -> Tensor:
        return discrepancy.compare(summary, Measure(points, synthetic.weights, synthetic.labels)).sum()

    first = torch.func.grad(value)(synthetic.points)
    again = torch.vmap(torch.func.grad(value))(torch.stack([synthetic.points] * 2))  # pyright: ignore
    discrepancy.compare(summary.select(torch.tensor([0])), synthetic)
    assert len(solved) == 1
    torch.testing.assert_close(again, torch.stack([first] * 2))


def test_is_the_discrimination_loss_of_cafe():
    """Cross-entropy, summed over the real examples, of their products with the synthetic class means."""
    real, synthetic = data(11), data(6, seed=1)
    numbers = torch.arange(11) % 3, torch.arange(6) % 3
    means = torch.stack([synthetic.points[numbers[1] == c].mean(0) for c in range(3)])  # pyright: ignore
    expected = torch.nn.functional.cross_entropy(real.points @ means.T, numbers[0], reduction="sum")  # pyright: ignore
    discrepancy = Risk(learner=ClassMeans(), loss="cross_entropy")
    found = discrepancy(*(Measure(side.points, labels=y) for side, y in zip((real, synthetic), numbers, strict=True)))
    torch.testing.assert_close(11 * found, expected)


def test_a_class_without_mass_has_a_mean_of_zero():
    points, labels = torch.eye(2, dtype=torch.float64), torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).double()
    leaf = points.clone().requires_grad_()
    found = ClassMeans().fit(Measure(leaf, labels=labels).as_groups())
    torch.testing.assert_close(found.table[0].detach(), torch.tensor([[0.5, 0.5], [0, 0], [0, 0]]).double())
    (slope,) = torch.autograd.grad(found.table.sum(), leaf)
    torch.testing.assert_close(slope, torch.full((2, 2), 0.5).double())


def test_saved_bytes_of_a_cross_entropy_do_not_grow_with_n():
    def saved(n: int) -> int:
        discrepancy, total = Risk(learner=ClassMeans(), loss="cross_entropy"), 0
        summary, synthetic = discrepancy.summarise(data(n).as_groups()), data(5, seed=1)
        leaf = synthetic.points.clone().requires_grad_()  # pyright: ignore

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            discrepancy.compare(summary, Measure(leaf, synthetic.weights, synthetic.labels).as_groups())
        return total

    assert saved(17) == saved(1009) > 0


# Refusals


def test_unknown_losses_and_an_excess_of_cross_entropy_are_refused():
    discrepancy = object.__new__(Risk)
    for name, value in {"learner": Ridge(), "loss": "hinge", "excess": False}.items():
        object.__setattr__(discrepancy, name, value)
    with pytest.raises(InvalidInput, match="'loss' must be one of squared, cross_entropy; got 'hinge'"):
        discrepancy.__post_init__()
    with pytest.raises(InvalidInput, match="'excess' needs loss 'squared', got 'cross_entropy'"):
        Risk(loss="cross_entropy", excess=True)


def test_parameters_of_a_kernel_are_refused():
    with pytest.raises(InvalidInput, match=r"'learner' must be 'ridge', .* got 'kernel_ridge'"):
        Parameters(learner=KernelRidge())


def test_excess_of_a_kernel_is_refused():
    with pytest.raises(InvalidInput, match="'excess' needs learner 'ridge', got 'kernel_ridge'"):
        Risk(learner=KernelRidge(), excess=True)


def test_unknown_space_is_refused():
    discrepancy = object.__new__(Parameters)
    for name, value in {"learner": Ridge(), "space": "weights"}.items():
        object.__setattr__(discrepancy, name, value)
    with pytest.raises(InvalidInput, match="'space' must be one of parameters, function; got 'weights'"):
        discrepancy.__post_init__()


def test_labels_of_different_length_are_refused():
    with pytest.raises(InvalidInput, match="labels of 2 and 3 classes"):
        Risk()(data(5), data(3, c=3))


def test_resolve_puts_the_number_in():
    real, rule = data(23), Median(factor=0.5)
    discrepancy = Risk(learner=KernelRidge(kernel=Gaussian(lengthscale=rule)))
    assert not discrepancy.resolved
    expected = Risk(learner=KernelRidge(kernel=Gaussian(lengthscale=rule.measured(real))))
    assert discrepancy.resolve(real) == expected


def test_a_third_derivative_of_kernel_ridge_is_refused():
    discrepancy, mu, nu = Risk(learner=KernelRidge(kernel=Gaussian(), penalty=0.1)), data(7), data(5, seed=1)
    leaf = nu.points.clone().requires_grad_()  # pyright: ignore[reportAttributeAccessIssue]
    slope = discrepancy(mu, replace(nu, points=leaf))
    for _ in range(2):
        (slope,) = torch.autograd.grad(slope.sum(), leaf, create_graph=True)
    with pytest.raises(Unsupported, match="no third derivative"):
        torch.autograd.grad(slope.sum(), leaf)


# The worst real examples


def tail(values: Tensor, mass: Tensor, fraction: float) -> Tensor:
    """The mean of the worst share of the mass, example by example; the one at the edge counts in part."""
    left, total = fraction, values.new_zeros(())
    for place in values.detach().argsort(descending=True).tolist():
        part = min(left, float(mass[place] / mass.sum()))
        total, left = total + part * values[place], left - part
    return total / fraction


def errors(real: Measure, points: Tensor, labels: Tensor, kernel: Gaussian, penalty: float) -> Tensor:
    """The squared error of each real example under kernel ridge regression on m points of equal weight."""
    gram = torch.exp(-torch.cdist(points, points).square() / (2 * kernel.lengthscale**2))  # pyright: ignore
    cross = torch.exp(-torch.cdist(real.points, points).square() / (2 * kernel.lengthscale**2))  # pyright: ignore
    weights = torch.linalg.solve(gram + penalty * len(points) * torch.eye(len(points)).double(), labels)
    return (cross @ weights - real.labels).square().sum(1)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.63, 1.0])
@pytest.mark.parametrize("block", [3, 1000], ids=["blocks", "whole"])
def test_the_tail_of_the_errors_is_that_of_the_formula(
    fraction: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, mine, kernel = data(31, seed=3), data(5, seed=4), Gaussian(lengthscale=1.3)
    monkeypatch.setattr("discrepancy.learning.risks._rows", lambda *rest: block)
    discrepancy = Risk(learner=KernelRidge(kernel=kernel, penalty=0.01), reduce=CVaR(fraction=fraction))
    points, labels = (item.clone().requires_grad_() for item in (mine.points, mine.labels))  # pyright: ignore
    value = discrepancy(real, Measure(points, labels=labels))
    by_hand = tail(errors(real, points, labels, kernel, 0.01), real.weights, fraction)
    torch.testing.assert_close(value, by_hand, rtol=1e-9, atol=0)
    for found, expected in zip(
        torch.autograd.grad(value, [points, labels]), torch.autograd.grad(by_hand, [points, labels]), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("reduce", [CVaR(fraction=0.2), Max()], ids=["cvar", "max"])
def test_the_gradient_of_the_tail_is_that_of_finite_differences(reduce: Reduction) -> None:
    real, mine = data(31, seed=3), data(5, seed=4)
    discrepancy = Risk(learner=KernelRidge(kernel=Gaussian(lengthscale=1.3), penalty=0.01), reduce=reduce)

    def value(points: Tensor) -> Tensor:
        return discrepancy(real, replace(mine, points=points))

    points = mine.points.clone().requires_grad_()  # pyright: ignore
    (slope,) = torch.autograd.grad(value(points), [points])
    by_hand, step = torch.zeros_like(slope), 1e-6
    for place in range(slope.numel()):
        moved = torch.zeros_like(slope)
        moved.view(-1)[place] = step
        by_hand.view(-1)[place] = (value(points.detach() + moved) - value(points.detach() - moved)) / (2 * step)
    torch.testing.assert_close(slope, by_hand, rtol=1e-6, atol=1e-7)
    assert float(slope.abs().max()) > 1e-3


def test_the_tail_of_all_the_mass_is_the_mean() -> None:
    real, mine = data(31, seed=3), data(5, seed=4)
    for learner in (Ridge(penalty=0.1, intercept=True), KernelRidge(kernel=Gaussian(), penalty=0.1)):
        whole = Risk(learner=learner, reduce=CVaR(fraction=1.0))
        torch.testing.assert_close(whole(real, mine), Risk(learner=learner)(real, mine), rtol=1e-12, atol=0)


def test_what_the_tail_of_errors_refuses() -> None:
    with pytest.raises(
        InvalidInput, match="'reduce' of 'risk' is over examples, which count by their mass, got 'mean'"
    ):
        Risk(reduce=Mean())
    with pytest.raises(InvalidInput, match="'excess' is of means, got reduce 'max'"):
        Risk(excess=True, reduce=Max())
    worst = Risk(reduce=Max())
    assert not worst.has_best_labels
    assert not worst.mergeable
    with pytest.raises(InvalidInput, match="in closed form for reduce 'proportional' only, got 'max'"):
        worst.best_labels(worst.summarise(data(5)).groups, data(3, seed=1).as_groups())
