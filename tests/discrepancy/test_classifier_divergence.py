"""Divergence by a classifier: the contract, the fit by another minimiser, gaussians, the folds.

Properties (Hypothesis):
1. values lie in range, and order, copies and zero-weight points do nothing, for any estimate and folds;
2. the folds are balanced on each side and keep a shared point together.
"""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from larger_groups import LargerGroups
from scipy.optimize import minimize

from discrepancy import Discrepancy, InvalidInput, Measure, NumericalWarning
from discrepancy.divergences import ClassifierDivergence
from discrepancy.divergences import classifier as module


def by_scipy(discrepancy: ClassifierDivergence, mu: Measure, nu: Measure) -> float:
    """Distinct points that no two sides share: folds by lexicographic rank, the loss minimised by scipy."""
    (x, w), (y, v) = ((side.rows.double().numpy(), side.shares.numpy()) for side in (mu, nu))
    folds, points, sign = discrepancy.folds, np.concatenate([x, y]), np.repeat([1.0, -1.0], [len(x), len(y)])
    weights = np.concatenate([w, v]) / 2
    fold = np.concatenate([np.argsort(np.lexsort(side.T[::-1])) % folds for side in (x, y)])
    points = points - np.average(points, axis=0, weights=weights)
    points = points / np.sqrt(np.average(points**2, axis=0, weights=weights))
    logits = np.zeros(len(points))
    for part in range(folds):
        seen = fold != part
        share = np.where(
            sign > 0, weights / weights[seen & (sign > 0)].sum(), weights / weights[seen & (sign < 0)].sum()
        )

        def loss(beta: np.ndarray, seen: np.ndarray = seen, share: np.ndarray = share) -> float:
            f = points[seen] @ beta[1:] + beta[0]
            losses = np.logaddexp(0, -sign[seen] * f)
            return share[seen] @ losses / 2 + discrepancy.ridge / 2 * beta[1:] @ beta[1:]

        beta = minimize(loss, np.zeros(points.shape[1] + 1), method="BFGS", options={"gtol": 1e-10}).x
        logits[~seen] = points[~seen] @ beta[1:] + beta[0]
    f, g = logits[sign > 0], logits[sign < 0]
    if discrepancy.estimate == "js":
        return math.log(2) - float(w @ np.logaddexp(0, -f) + v @ np.logaddexp(0, g)) / 2
    if discrepancy.estimate == "kl":
        return float(w @ f) - math.log(v @ np.exp(g))
    return float(w @ (f > 0) + v @ (g < 0)) / 2 - 0.5


class TestClassifierDivergence(LargerGroups):
    instances = {  # noqa: RUF012
        "js": ClassifierDivergence(folds=2, ridge=0.1),
        "kl": ClassifierDivergence(estimate="kl", folds=2, ridge=0.1),
        "accuracy": ClassifierDivergence(estimate="accuracy", folds=3, ridge=0.1),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, ClassifierDivergence)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return by_scipy(discrepancy, mu, nu)


def normal(n: int, d: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Known answers


def test_gaussians_of_one_covariance():
    """P = N(0, 1), Q = N(1, 1): log p/q = 1/2 - z is linear, KL = 1/2, the best accuracy Φ(1/2), JS by quadrature."""
    z = np.linspace(-12, 13, 100_001)
    p, q = (np.exp(-((z - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (0, 1))
    js = np.trapezoid(p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)), z) / 2
    mu, nu = Measure(normal(4000)), Measure(normal(3000, seed=1) + 1)
    expected = {"js": js, "kl": 0.5, "accuracy": math.erf(0.5 / math.sqrt(2)) / 2}
    for estimate, value in expected.items():
        discrepancy = ClassifierDivergence(estimate=estimate, ridge=1e-4)  # pyright: ignore[reportArgumentType]
        assert discrepancy(mu, nu).item() == pytest.approx(value, abs=0.03), estimate


def test_weights_are_those_of_the_measure():
    points = normal(5000)
    tilted = Measure(points, torch.exp(points[:, 0]))
    assert abs(ClassifierDivergence()(tilted, Measure(normal(5000, seed=1) + 1)).item()) < 0.01
    assert ClassifierDivergence(estimate="kl")(Measure(points), tilted).item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("estimate", ["js", "kl", "accuracy"])
def test_the_training_error_does_not_inflate(estimate: str):
    """In 50 dimensions 40 points a side of one law are separable; judged without themselves they are not told apart."""
    value = ClassifierDivergence(estimate=estimate)(Measure(normal(40, 50)), Measure(normal(40, 50, 1)))  # pyright: ignore
    assert value.item() < 0.1


def test_separated_samples_reach_the_bounds():
    mu, nu = Measure(normal(50, 2)), Measure(normal(50, 2, 1) + 100)
    assert ClassifierDivergence(estimate="accuracy")(mu, nu).item() == 0.5
    assert 0.9 * math.log(2) < ClassifierDivergence(ridge=1e-5)(mu, nu).item() < math.log(2)


def test_a_chosen_part_is_not_told_apart():
    """A point and its twin on the other side are judged together, so copies do not mislead the fit to below chance."""
    x = normal(60, 3)
    whole = ClassifierDivergence(estimate="accuracy")(Measure(x), Measure(x)).item()
    assert whole == pytest.approx(0.0, abs=1e-12)
    part = ClassifierDivergence(estimate="js")(Measure(x), Measure(x[::2])).item()
    assert abs(part) < 0.05


def test_constant_features_do_nothing():
    x, y = normal(20, 2), normal(15, 2, 1) + 0.5
    wide = [torch.cat([side, torch.full((len(side), 1), 0.1)], 1) for side in (x, y)]
    torch.testing.assert_close(
        ClassifierDivergence()(Measure(wide[0]), Measure(wide[1])),
        ClassifierDivergence()(Measure(x), Measure(y)),
        rtol=1e-6,
        atol=1e-8,
    )


# Refusals


@pytest.mark.parametrize("side", ["real", "synthetic"])
def test_too_few_points_are_refused(side: str):
    many, few = Measure(normal(9)), Measure(normal(4).repeat(2, 1))
    with pytest.raises(
        InvalidInput, match=rf"needs at least 5 distinct points .* got 4 on the {side} side; give fewer"
    ):
        ClassifierDivergence()(*((few, many) if side == "real" else (many, few)))


def test_bad_fields_are_refused():
    with pytest.raises(InvalidInput, match="'folds' must be at least 2, got 1"):
        ClassifierDivergence(folds=1)
    with pytest.raises(InvalidInput, match="'ridge' must be finite and > 0, got 0"):
        ClassifierDivergence(ridge=0.0)
    discrepancy = object.__new__(ClassifierDivergence)
    object.__setattr__(discrepancy, "estimate", "tv")
    with pytest.raises(InvalidInput, match="'estimate' must be one of js, kl, accuracy; got 'tv'"):
        discrepancy.__post_init__()


def test_a_fit_that_did_not_arrive_warns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ITERATIONS", 1)
    with pytest.warns(NumericalWarning, match="2 of 2 classifiers stopped after 1 steps"):
        ClassifierDivergence(folds=2)(Measure(normal(9, 2)), Measure(normal(7, 2, 1)))


def test_no_global_generator_is_touched():
    state, other = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  # pyright: ignore
    ClassifierDivergence(folds=2)(Measure(normal(9, 2)), Measure(normal(7, 2, 1)))
    assert torch.equal(state, torch.get_rng_state())
    assert (other == np.random.get_state()[1]).all()  # noqa: NPY002  # pyright: ignore


# Properties


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(4, 12),
    m=st.integers(4, 12),
    d=st.integers(1, 6),
    folds=st.integers(2, 4),
    estimate=st.sampled_from(["js", "kl", "accuracy"]),
    offset=st.sampled_from([0.0, -100.0]),
    seed=st.integers(0, 99),
)
def test_range_order_copies_and_padding(n, m, d, folds, estimate, offset, seed):
    x, y = normal(n, d, seed) + offset, normal(m, d, seed + 100) + offset + 0.5
    discrepancy = ClassifierDivergence(estimate=estimate, folds=folds)
    value = discrepancy(Measure(x), Measure(y))
    assert value <= {"js": math.log(2), "kl": math.inf, "accuracy": 0.5}[estimate]
    assert estimate != "accuracy" or value >= -0.5
    padded = Measure.merged([Measure(normal(3, d), torch.zeros(3).double()), Measure(y.flip(0))])
    doubled = Measure(torch.cat([x, x]).flip(0))
    torch.testing.assert_close(discrepancy(doubled, padded), value, rtol=1e-5, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), shared=st.integers(0, 12), folds=st.integers(2, 5))
def test_folds_are_balanced_and_keep_twins_together(n, m, shared, folds):
    shared = min(shared, n, m)
    points = torch.randperm(n + m, generator=torch.Generator().manual_seed(n)).double()[:, None]
    x, y = points[:n], torch.cat([points[:shared], points[n : n + m - shared]])
    fold = module._folds(torch.cat([x, y]), n, folds)
    assert torch.equal(fold[:shared], fold[n : n + shared])
    for side in (fold[:n], fold[n:]):
        sizes = torch.bincount(side, minlength=folds)
        assert sizes.max() - sizes.min() <= 1
