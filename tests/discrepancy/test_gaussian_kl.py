"""The Kullback-Leibler divergence of fitted Gaussians: the contract, torch's distributions, refusals.

Properties (Hypothesis): Fréchet² <= 2 λ_max KL (Talagrand), and total variation <= √(KL/2) (Pinsker).
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from normal_samples import fit, sample, weights
from scipy import integrate, stats
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from discrepancy import Discrepancy, InvalidInput, Measure
from discrepancy.kernels import Median
from discrepancy.moments.gaussians import Frechet, GaussianKL


class TestGaussianKL(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "forward": GaussianKL(shrink=0.3, towards=1.5),
        "reverse": GaussianKL(shrink=0.3, towards=1.5, direction="reverse"),
        "jeffreys": GaussianKL(shrink=0.3, towards=1.5, direction="jeffreys"),
        "diagonal": GaussianKL(shrink=0.3, towards=1.5, covariance="diagonal"),
        "diagonal-jeffreys": GaussianKL(shrink=0.3, towards=1.5, covariance="diagonal", direction="jeffreys"),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, GaussianKL)
        return by_torch(discrepancy, mu, nu)

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy:
        assert isinstance(discrepancy, GaussianKL)
        return replace(discrepancy, towards=factor * float(discrepancy.towards))  # pyright: ignore


def by_torch(discrepancy: GaussianKL, mu: Measure, nu: Measure) -> float:
    fits = []
    for side in (mu, nu):
        mean, matrix = map(torch.from_numpy, fit(side, discrepancy.shrink, discrepancy.towards))  # pyright: ignore
        fits.append(
            MultivariateNormal(mean, matrix)
            if discrepancy.covariance == "full"
            else Independent(Normal(mean, matrix.diagonal().sqrt()), 1)
        )
    forward, reverse = kl_divergence(*fits).item(), kl_divergence(*fits[::-1]).item()
    return {"forward": forward, "reverse": reverse, "jeffreys": forward + reverse}[discrepancy.direction]


# KL: other forms, and what is refused


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "jeffreys"])
@pytest.mark.parametrize("shrink", [0.0, 0.2])
def test_kl_without_a_target_is_that_of_torch(covariance, direction, shrink: float):
    discrepancy = GaussianKL(covariance=covariance, direction=direction, shrink=shrink)
    mu, y, v = Measure(sample(9) * 2 + 50, weights(9)), sample(7, seed=1) + 50, weights(7, 1)
    nu = Measure(y, v)
    assert discrepancy(mu, nu).item() == pytest.approx(by_torch(discrepancy, mu, nu), rel=1e-9)
    leaves = y.requires_grad_(), v.requires_grad_()
    assert torch.autograd.gradcheck(lambda y, v: discrepancy(mu, Measure(y, v)), leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda y, v: discrepancy(mu, Measure(y, v)), leaves, fast_mode=True)


def test_kl_known_answer():
    """N(0, 1) and N(1, 4): ½ (1/4 + 1/4 - 1 + log 4), and ½ (4 + 1 - 1 - log 4)."""
    mu, nu = Measure(torch.tensor([[-1.0], [1.0]])), Measure(torch.tensor([[-1.0], [3.0]]))
    forward, reverse = (math.log(4) - 0.5) / 2, (4 - math.log(4)) / 2
    assert GaussianKL()(mu, nu).item() == pytest.approx(forward)
    assert GaussianKL(direction="reverse")(mu, nu).item() == pytest.approx(reverse)
    assert GaussianKL(direction="jeffreys", covariance="diagonal")(mu, nu).item() == pytest.approx(forward + reverse)


def test_kl_does_not_know_the_units():
    mu, nu = Measure(sample(9)), Measure(sample(7, seed=1))
    scale = torch.tensor([1e-4, 1.0, 1e4]).double()
    for kind in ("full", "diagonal"):
        discrepancy = GaussianKL(covariance=kind)
        wide = discrepancy(Measure(mu.points * scale), Measure(nu.points * scale))  # pyright: ignore
        torch.testing.assert_close(wide, discrepancy(mu, nu))


def test_full_kl_does_not_know_the_basis():
    mu, nu, turn = sample(9), sample(7, seed=1), sample(3, seed=2)
    torch.testing.assert_close(
        GaussianKL()(Measure(mu @ turn), Measure(nu @ turn)), GaussianKL()(Measure(mu), Measure(nu))
    )


@pytest.mark.parametrize("side", ["real", "synthetic"])
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_singular_covariance_is_refused(side: str, covariance, offset: float):
    regular, flat = sample(9), sample(9, seed=1)
    flat[:, 1] = 0.3
    pair = [flat, regular] if side == "real" else [regular, flat]
    mu, nu = (Measure(points + offset) for points in pair)
    discrepancy = GaussianKL(covariance=covariance)
    message = rf"the covariance of the {side} points is singular, so 'gaussian_kl' is infinite; give shrink > 0"
    with pytest.raises(InvalidInput, match=message):
        discrepancy(mu, nu)
    assert bool(torch.isfinite(replace(discrepancy, shrink=0.1)(mu, nu)))


def test_too_few_points_are_refused():
    mu, nu = Measure(sample(30, 6) + 100), Measure(sample(6, 6, seed=1) + 100)
    with pytest.raises(InvalidInput, match="the covariance of the synthetic points is singular"):
        GaussianKL()(mu, nu)
    assert bool(torch.isfinite(GaussianKL(shrink=1e-3)(mu, nu)))


def test_one_point_needs_a_length():
    mu, nu = Measure(sample(30)), Measure(sample(1, seed=1))
    with pytest.raises(InvalidInput, match="with towards > 0 where no feature varies"):
        GaussianKL(shrink=0.5)(mu, nu)
    assert bool(torch.isfinite(GaussianKL(shrink=0.5, towards=1.0)(mu, nu)))


def test_a_singular_covariance_is_refused_under_vmap():
    discrepancy = GaussianKL()
    summary = discrepancy.summarise(Measure(sample(9)).as_groups())

    def function(points: torch.Tensor) -> torch.Tensor:
        return discrepancy.compare(summary, Measure(points[None], torch.ones(1, 4).double()))[0]

    stack = sample(8, seed=1).view(2, 4, 3).contiguous()
    expected = torch.stack([torch.func.grad(function)(points) for points in stack])
    torch.testing.assert_close(torch.vmap(torch.func.grad(function))(stack), expected)
    stack[1, 1:] = stack[1, 0]
    with pytest.raises(InvalidInput, match="singular"):
        torch.vmap(torch.func.grad(function))(stack)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Frechet(shrink=1.5), r"'shrink' must lie in 0 \.\. 1, got 1.5"),
        (lambda: GaussianKL(shrink=-0.1), r"'shrink' must lie in 0 \.\. 1, got -0.1"),
        (lambda: GaussianKL(towards=0.0), "'towards' must be finite and > 0, got 0.0"),
        (lambda: GaussianKL(towards=math.inf), "'towards' must be finite and > 0, got inf"),
    ],
)
def test_bad_settings_are_refused(build, message: str):
    with pytest.raises(InvalidInput, match=message):
        build()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"direction": "back"}, "'direction' must be one of forward"),
        ({"covariance": "low"}, "'covariance' must be one of full"),
    ],
)
def test_unknown_choices_are_refused(settings: dict[str, str], message: str):
    discrepancy = object.__new__(GaussianKL)
    for name, value in {"direction": "forward", "covariance": "full", "shrink": 0.0, **settings}.items():
        object.__setattr__(discrepancy, name, value)
    with pytest.raises(InvalidInput, match=message):
        discrepancy.__post_init__()


def test_the_target_may_be_a_rule():
    real, nu = Measure(sample(23)), Measure(sample(5, seed=1))
    discrepancy = GaussianKL(shrink=0.1, towards=Median(factor=0.5))
    assert not discrepancy.resolved
    with pytest.raises(InvalidInput, match=r"'towards' is the rule 'median' .* call resolve\(sample\)"):
        discrepancy(real, nu)
    assert discrepancy.resolve(real) == replace(discrepancy, towards=Median(factor=0.5).measured(real))
    assert GaussianKL().resolve(real) == GaussianKL()


# Inequalities


@settings(max_examples=40, deadline=None)
@given(d=st.integers(1, 4), spread=st.sampled_from([0.3, 1.0, 3.0]), seed=st.integers(0, 100))
def test_talagrand(d: int, spread: float, seed: int):
    mu, nu = Measure(sample(9, d, seed)), Measure(sample(8, d, seed + 1) * spread)
    largest = float(np.linalg.eigvalsh(fit(nu)[1])[-1])
    assert Frechet()(mu, nu).item() <= 2 * largest * GaussianKL()(mu, nu).item() + 1e-9


@settings(max_examples=25, deadline=None)
@given(spread=st.sampled_from([0.5, 1.0, 2.0]), shift=st.sampled_from([0.0, 0.5, 2.0]), seed=st.integers(0, 50))
def test_pinsker(spread: float, shift: float, seed: int):
    """Total variation of two Gaussians in one dimension, by quadrature of ½ |p - q|."""
    mu, nu = Measure(sample(6, 1, seed)), Measure(sample(5, 1, seed + 1) * spread + shift)
    (a, first), (b, second) = fit(mu), fit(nu)
    s, t = math.sqrt(first.item()), math.sqrt(second.item())
    assume(min(s, t) > 0.1)
    grid = np.linspace(min(a - 9 * s, b - 9 * t).item(), max(a + 9 * s, b + 9 * t).item(), 20_001)
    gap = np.abs(stats.norm.pdf(grid, a, s) - stats.norm.pdf(grid, b, t))
    variation = integrate.simpson(gap, x=grid) / 2
    for direction in ("forward", "reverse"):
        assert variation <= math.sqrt(GaussianKL(direction=direction)(mu, nu).item() / 2) + 1e-6


def test_jeffreys_is_the_sum_of_both_directions():
    mu, nu = Measure(sample(9)), Measure(sample(7, seed=1))
    forward, reverse, both = (GaussianKL(direction=way)(mu, nu) for way in ("forward", "reverse", "jeffreys"))
    torch.testing.assert_close(both, forward + reverse)
    torch.testing.assert_close(reverse, GaussianKL()(nu, mu))
