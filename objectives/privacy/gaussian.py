"""Gaussian differential privacy: how much a release with normal noise gives away, and how much noise a budget needs.

A query with the sensitivity Δ (the largest change of its value, a vector, by one example) is released as v + σ z with standard
normal z. To tell from the release whether an example took part is then as hard as to tell N(0, 1) from N(μ, 1), with

    μ = Δ / σ                                                                     "μ-GDP", Dong, Roth and Su, Theorem 1
    δ(ε) = Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ)                                       Balle and Wang, Theorem 8
    TPR(FPR) = Φ(Φ⁻¹(FPR) + μ)                                                    Dong, Roth and Su, equation 6

Several releases, each with noise of its own, are together one with μ = √(Σ μᵢ²), exactly.

References: Gaussian Differential Privacy (Dong, Roth and Su, 2022), https://arxiv.org/abs/1905.02383; Improving the Gaussian
Mechanism for Differential Privacy (Balle and Wang, 2018), https://arxiv.org/abs/1805.06530.
"""

import math
from collections.abc import Callable, Iterable

from scipy import optimize, special

from discrepancy.arguments import checked_arguments
from discrepancy.errors import InvalidInput

__all__ = ["best_true_positive_rate", "composed", "gaussian_delta", "gaussian_epsilon", "gaussian_mu"]

SMALLEST, LARGEST = 1e-100, 1e6
"""Between these μ is looked for."""

COARSEST = 1e-7
"""δ / Φ(a) below which its rounding, some 1e-16 of Φ(a), would count."""


@checked_arguments
def gaussian_delta(mu: float, epsilon: float) -> float:
    """δ(ε) of a release that is μ-GDP: Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ).

    Args:
        mu: sensitivity over standard deviation of the noise, >= 0.
        epsilon: ε >= 0.

    Raises:
        InvalidInput: if one of them is negative or not finite.

    Example:
        >>> from objectives.privacy.gaussian import gaussian_delta
        >>> round(gaussian_delta(1.0, 1.0), 6)
        0.126937
    """
    _check("mu", mu)
    _check("epsilon", epsilon)
    return 0.0 if mu == 0 else math.exp(_log_delta(mu, epsilon))


@checked_arguments
def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest ε >= 0 for which a release that is μ-GDP is (ε, δ)-private.

    Raises:
        InvalidInput: if μ is negative or not finite, δ not between 0 and 1, or one of them too small to compute with.

    Example:
        >>> from objectives.privacy.gaussian import gaussian_epsilon
        >>> round(gaussian_epsilon(0.5, 1e-5), 6)  # noise of twice the sensitivity
        1.993091
    """
    _check("mu", mu)
    _check_delta(delta)
    if mu == 0 or _log_delta(mu, 0.0) <= math.log(delta):
        return 0.0
    high = 1.0
    while _log_delta(mu, high) > math.log(delta):
        high *= 2
    epsilon = _root(lambda eps: _log_delta(mu, eps) - math.log(delta), 0.0, high)
    _check_share(mu, epsilon)
    return epsilon


@checked_arguments
def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest μ for which a release is (ε, δ)-private. Noise of the standard deviation Δ / μ is the least that will do.

    Raises:
        InvalidInput: if ε is negative or not finite, δ not between 0 and 1, or both too small to compute with.

    Example:
        >>> from objectives.privacy.gaussian import gaussian_mu
        >>> round(1 / gaussian_mu(1.0, 1e-5), 7)  # standard deviation of the noise for a sensitivity of one
        3.7306316
    """
    _check("epsilon", epsilon)
    _check_delta(delta)

    def excess(log_mu: float) -> float:
        return _log_delta(math.exp(log_mu), epsilon) - math.log(delta)

    low, high = math.log(SMALLEST), math.log(LARGEST)
    if excess(high) < 0:
        raise InvalidInput(f"'epsilon' is {epsilon:g}, which is as good as no privacy at all; take a smaller one")
    mu = math.exp(_root(excess, low, high))
    _check_share(mu, epsilon)
    return mu


@checked_arguments
def best_true_positive_rate(mu: float, false_positive_rate: float) -> float:
    """Φ(Φ⁻¹(FPR) + μ): of the examples that took part, the share that the best attack finds when it is wrong about so many of
    the others.

    Raises:
        InvalidInput: if μ is negative or not finite, or the rate not between 0 and 1.

    Example:
        >>> from objectives.privacy.gaussian import best_true_positive_rate
        >>> [round(best_true_positive_rate(mu, 0.01), 3) for mu in (0.0, 0.27, 1.0)]
        [0.01, 0.02, 0.092]
    """
    _check("mu", mu)
    if not 0 <= false_positive_rate <= 1:
        raise InvalidInput(f"'false_positive_rate' must lie between 0 and 1, got {false_positive_rate}")
    return float(special.ndtr(special.ndtri(false_positive_rate) + mu))


def composed(mus: Iterable[float]) -> float:
    """√(Σ μᵢ²), of releases each of which has noise of its own."""
    return math.hypot(*mus)


def _log_delta(mu: float, epsilon: float) -> float:
    """log δ(ε), also where δ is far below the smallest float; -inf where it is lost to rounding."""
    share = _share(mu, epsilon)
    return special.log_ndtr(mu / 2 - epsilon / mu) + math.log(share) if share > 0 else -math.inf


def _share(mu: float, epsilon: float) -> float:
    """1 - e^(ε + log Φ(b) - log Φ(a)), with which δ = Φ(a) - e^ε Φ(b) is Φ(a) times this."""
    first, second = special.log_ndtr(mu / 2 - epsilon / mu), special.log_ndtr(-mu / 2 - epsilon / mu)
    return -math.expm1(min(0.0, epsilon + second - first))


def _check_share(mu: float, epsilon: float) -> None:
    """Refuses a solution of which fewer than some nine digits are right."""
    if _share(mu, epsilon) < COARSEST:
        raise InvalidInput(
            f"at μ = {mu:.3g} and ε = {epsilon:.3g} δ is a difference of numbers that are equal to rounding; take a larger "
            "epsilon or delta"
        )


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.root_scalar(function, bracket=(low, high), method="brentq", xtol=1e-14).root)


def _check(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise InvalidInput(f"'{name}' must be >= 0 and finite, got {value}")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InvalidInput(f"'delta' must lie strictly between 0 and 1, got {delta}")
