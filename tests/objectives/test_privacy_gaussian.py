"""Gaussian privacy: δ by numerical integration of its definition, published numbers, the trade-off by its definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from discrepancy import InvalidInput
from objectives.privacy.gaussian import (
    best_true_positive_rate,
    composed,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
)
from objectives.privacy.noise import secure_normal
from tests.objectives.small import unchecked


@settings(max_examples=40, deadline=None)
@given(mu=st.floats(0.05, 5), epsilon=st.floats(0, 5))
def test_delta_is_the_mass_by_which_one_density_exceeds_the_other(mu: float, epsilon: float) -> None:
    """δ(ε) = ∫ max(0, p - e^ε q) with p = N(μ, 1), q = N(0, 1); p > e^ε q to the right of μ/2 + ε/μ."""
    start = mu / 2 + epsilon / mu

    def excess(x: float) -> float:
        return stats.norm.pdf(x, mu) - math.exp(epsilon) * stats.norm.pdf(x)

    expected, _ = integrate.quad(excess, start, start + 12, epsabs=1e-14, limit=200)
    assert gaussian_delta(mu, epsilon) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_published_numbers() -> None:
    assert 1 / gaussian_mu(1.0, 1e-5) == pytest.approx(3.7306316, abs=1e-7)
    assert gaussian_epsilon(1 / 2, 1e-5) == pytest.approx(1.9930914, abs=1e-7)
    assert [gaussian_epsilon(mu, 1e-5) for mu in (1, 2, 3)] == pytest.approx([4.38, 10.0, 16.7], abs=0.05)


@settings(max_examples=100, deadline=None)
@given(epsilon=st.floats(1e-3, 200), exponent=st.floats(-12, -0.1))
def test_the_three_functions_are_inverse_to_each_other(epsilon: float, exponent: float) -> None:
    delta = 10**exponent
    mu = gaussian_mu(epsilon, delta)
    assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-9)
    assert gaussian_epsilon(mu, delta) == pytest.approx(epsilon, rel=1e-6)
    assert gaussian_delta(1.001 * mu, epsilon) > delta > gaussian_delta(0.999 * mu, epsilon)


def test_nothing_released_gives_nothing_away() -> None:
    assert gaussian_delta(0.0, 0.0) == 0
    assert gaussian_epsilon(0.0, 1e-5) == 0
    assert best_true_positive_rate(0.0, 0.03) == pytest.approx(0.03)
    assert composed([]) == 0
    assert composed([3.0, 4.0]) == 5


def test_no_threshold_finds_more_than_the_best_attack_and_one_finds_as_much() -> None:
    """Thresholds on x of N(μ, 1) against N(0, 1), which the lemma of Neyman and Pearson says are best."""
    generator = np.random.default_rng(0)
    there, not_there = generator.normal(0.7, 1, 400_000), generator.normal(0, 1, 400_000)
    for rate in (0.001, 0.01, 0.1, 0.5):
        found = (there > np.quantile(not_there, 1 - rate)).mean()
        assert best_true_positive_rate(0.7, rate) == pytest.approx(found, abs=4e-3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gaussian_mu(-1.0, 1e-5), "'epsilon' must be >= 0"),
        (lambda: gaussian_mu(math.inf, 1e-5), "'epsilon' must be >= 0 and finite"),
        (lambda: gaussian_mu(1.0, 0.0), "'delta' must lie strictly between"),
        (lambda: gaussian_epsilon(math.nan, 1e-5), "'mu' must be >= 0"),
        (lambda: gaussian_epsilon(1.0, 1.0), "'delta' must lie strictly between"),
        (lambda: gaussian_delta(1.0, -0.1), "'epsilon' must be >= 0"),
        (lambda: best_true_positive_rate(1.0, 1.5), "'false_positive_rate' must lie between"),
        (lambda: gaussian_mu(0.0, 1e-50), "equal to rounding; take a larger epsilon or delta"),
    ],
)
def test_refusals(call, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        call()


def test_a_text_is_refused_by_name() -> None:
    with unchecked(), pytest.raises(InvalidInput, match="'epsilon'"):
        gaussian_mu("one", 1e-5)  # pyright: ignore[reportArgumentType]


def test_noise_is_standard_normal_and_never_the_same() -> None:
    first, second = secure_normal((50_000,)), secure_normal((50_000,))
    assert first.dtype == second.dtype
    assert str(first.dtype) == "torch.float64"
    assert not bool((first == second).any())
    assert stats.kstest(first.numpy(), "norm").pvalue > 1e-6
    assert abs(float((first * second).mean())) < 6 / 50_000**0.5
    assert len(first.unique()) == 50_000
    assert secure_normal((0, 3)).shape == (0, 3)


def test_the_largest_and_the_smallest_noise_are_finite_and_opposite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all bits one and all bits zero; Φ⁻¹(1 - 2⁻⁵³) from mpmath."""
    found = []
    for byte in (b"\xff", b"\x00"):
        monkeypatch.setattr("os.urandom", lambda count, byte=byte: byte * count)
        found.append(float(secure_normal((1,))))
    assert found == pytest.approx([8.2095361516, -8.2095361516], rel=1e-9)
