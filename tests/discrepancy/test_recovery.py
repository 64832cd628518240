"""Points from which given weights are learned: the theorems, held to ridge regression written out with numpy.

Properties (Hypothesis): whatever m, c, p, Z and labels of full rank are, W comes back.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.learning.recovery import duals, features_of, labels_for, largest_penalty, learned, reachable, turned
from discrepancy.learning.ridge import Ridge
from discrepancy.measure import Measure

C, P, N = 4, 9, 60


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ridge(features: Tensor, labels: Tensor, penalty: float) -> np.ndarray:
    """argmin ‖Φ Wᵀ - Y‖² + λ ‖W‖² by numpy; of least norm for λ = 0."""
    x, y = features.numpy(), labels.numpy()
    if penalty == 0:
        return np.linalg.lstsq(x, y, rcond=1e-12)[0].T
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y).T


def apart(found: np.ndarray | Tensor, weights: Tensor) -> float:
    return float(np.linalg.norm(np.asarray(found) - weights.numpy()) / np.linalg.norm(weights.numpy()))


@pytest.fixture
def weights() -> Tensor:
    """Learned from sixty points."""
    labels = functional.one_hot(torch.arange(N) % C, C).double()
    return torch.from_numpy(ridge(normal(N, P), labels, 0.3))


def balanced(m: int) -> Tensor:
    return functional.one_hot(torch.arange(m) % C, C).double()


@pytest.mark.parametrize("m", [C, C + 1, P, 3 * P])
def test_weights_are_learned_exactly(weights: Tensor, m: int):
    """Theorem 4.1, λ_S = 0, from one point a class on; with Z from noise."""
    labels = balanced(m)
    features = features_of(duals(weights, labels, 0.1 * normal(m, P, seed=1)))
    assert apart(ridge(features, labels, 0.0), weights) < 1e-12
    assert apart(learned(features, labels), weights) < 1e-12


@pytest.mark.parametrize("root", ["small", "large"])
@pytest.mark.parametrize("part", [1e-6, 0.5, 1.0])
def test_weights_are_learned_exactly_with_a_penalty(weights: Tensor, part: float, root):
    """Theorem 4.1, λ_S > 0, up to its bound; and by the library's own learner, whose penalty is one over the mean."""
    m = 3 * C
    labels = balanced(m)
    dual = duals(weights, labels, 0.1 * normal(m, P, seed=1))
    penalty = part * largest_penalty(dual)
    features = features_of(dual, penalty, root)
    tolerance = 1e-10 if part < 1 else 1e-6  # at the bound a double root costs half the digits
    assert apart(ridge(features, labels, penalty), weights) < tolerance
    table = Ridge(penalty=penalty / m).fit(Measure(features[None], torch.ones(1, m), labels[None])).table[0]
    assert apart(table, weights) < tolerance


def test_the_roots_solve_the_equation(weights: Tensor):
    dual = duals(weights, balanced(8), normal(8, P, seed=1))
    penalty = 0.3 * largest_penalty(dual)
    small, large = (torch.linalg.svdvals(features_of(dual, penalty, root)) for root in ("small", "large"))
    sigma = torch.linalg.svdvals(dual)
    torch.testing.assert_close(small / (small.square() + penalty), sigma)
    torch.testing.assert_close(
        small.sort().values, ((1 - (1 - 4 * penalty * sigma**2).sqrt()) / (2 * sigma)).sort().values
    )
    torch.testing.assert_close(
        large.sort().values, ((1 + (1 - 4 * penalty * sigma**2).sqrt()) / (2 * sigma)).sort().values
    )


def test_a_penalty_above_the_bound_is_refused(weights: Tensor):
    dual = duals(weights, balanced(C))
    bound = largest_penalty(dual)
    assert bound == pytest.approx(1 / (4 * np.linalg.svd(dual.numpy())[1][0] ** 2))
    with pytest.raises(InvalidInput, match=r"must be at most 1/\(4 σ²\) = .* got"):
        features_of(dual, 1.001 * bound)
    # and rightly: σ/(σ² + λ) is at most 1/(2 √λ), which is below σ'₁ then
    sigma = np.logspace(-6, 6, 10_001)
    assert (sigma / (sigma**2 + 1.001 * bound)).max() < torch.linalg.svdvals(dual)[0]


def test_the_nearest_to_chosen_points(weights: Tensor):
    """Corollary 4.1.1: of all D with Yᵀ D = W that one is nearest to E(Φ̂), which random other ones confirm."""
    m, chosen = 3 * C, normal(3 * C, P, seed=2)
    labels, target = balanced(m), torch.from_numpy(np.linalg.pinv(chosen.numpy()).T)
    torch.testing.assert_close(turned(chosen), target)
    nearest = duals(weights, labels, target)
    torch.testing.assert_close(labels.mT @ nearest, weights)
    for seed in range(5):
        other = duals(weights, labels, target + normal(m, P, seed=seed))
        assert (other - target).norm() > (nearest - target).norm()


def test_predictions_as_labels_keep_points_where_they_are(weights: Tensor):
    """With Y = Φ̂ Wᵀ the points come out nearer to Φ̂ than with labels of the classes."""
    chosen = normal(3 * P, P, seed=2)
    labels = labels_for(chosen, weights)
    torch.testing.assert_close(labels, chosen @ weights.mT)
    kept = features_of(duals(weights, labels, turned(chosen)))
    moved = features_of(duals(weights, balanced(len(chosen)), turned(chosen)))
    assert (kept - chosen).norm() < 1e-10
    assert (moved - chosen).norm() > 0.1 * chosen.norm()


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize(("m", "exact"), [(P, True), (2 * P, True), (P - 3, False)])
def test_labels_for_given_points(weights: Tensor, penalty: float, m: int, exact: bool):
    """Theorem 4.2: exact from p points on; with fewer the residual is that of the projection, and no labels do better."""
    features = normal(m, P, seed=3)
    labels = labels_for(features, weights, penalty)
    residual = np.linalg.norm(ridge(features, labels, penalty) - weights.numpy())
    span = np.linalg.pinv(features.numpy()) @ features.numpy()
    truth = np.linalg.norm(weights.numpy() @ (np.eye(P) - span))
    assert residual == pytest.approx(truth, abs=1e-10)
    assert (residual < 1e-10) == exact
    for seed in range(3):
        other = labels + 0.01 * normal(m, C, seed=seed)
        assert np.linalg.norm(ridge(features, other, penalty) - weights.numpy()) > residual


def test_fewer_points_than_classes_give_the_best_that_there_is(weights: Tensor):
    labels = balanced(C - 1)
    features = features_of(duals(weights, labels, normal(C - 1, P, seed=1)))
    best = weights.clone()
    best[C - 1] = 0  # a class without a label is never learned
    assert apart(ridge(features, labels, 0.0), best) < 1e-12
    torch.testing.assert_close(reachable(weights, labels), best)
    torch.testing.assert_close(reachable(weights, balanced(C)), weights)


def test_who_holds_points_and_labels_has_the_weights_at_any_noise(weights: Tensor):
    """Theorem 6.2's noise Z lies in the null space of Yᵀ: released together, X_S and Y_S give W, however loud it is."""
    labels = balanced(3 * C)
    for noise in (1e-2, 1.0, 1e2):
        dual = duals(weights, labels, noise * normal(len(labels), P, seed=5))
        error = apart(learned(features_of(dual), labels), weights)
        assert error < 100 * torch.finfo(torch.float64).eps * float(torch.linalg.cond(dual)) ** 2


def test_weights_of_low_rank(weights: Tensor):
    low = weights.clone()
    low[1] = low[0]
    features = features_of(duals(low, balanced(C)))
    assert apart(ridge(features, balanced(C), 0.0), low) < 1e-12
    assert largest_penalty(torch.zeros(3, P)) == math.inf
    assert features_of(torch.zeros(3, P)).equal(torch.zeros(3, P, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(
    c=st.integers(1, 5),
    more=st.integers(0, 12),
    p=st.integers(5, 12),
    noise=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 99),
)
def test_whatever_the_sizes(c: int, more: int, p: int, noise: float, seed: int):
    weights, labels = normal(c, p, seed=seed), normal(c + more, c, seed=seed + 1)
    dual = duals(weights, labels, noise * normal(c + more, p, seed=seed + 2))
    condition = float(torch.linalg.cond(labels)) * float(torch.linalg.cond(dual))
    torch.testing.assert_close(labels.mT @ dual, weights, rtol=1e-9, atol=1e-9)
    if condition < 1e6:
        assert apart(learned(features_of(dual), labels), weights) < 1e-14 * condition * 100
        penalty = 0.5 * largest_penalty(dual)
        assert apart(learned(features_of(dual, penalty), labels, penalty), weights) < 1e-14 * condition * 100
