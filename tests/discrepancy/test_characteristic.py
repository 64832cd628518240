"""Characteristic functions: the contract, loops, the MMD of the same spectral measure.

Properties (Hypothesis):
1. the squared form with unit weights lies between 0 and 4 and is the MMD of the kernel of its frequencies;
2. summaries merge to the same value in any partition.
"""

import cmath
import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract, rows
from frequencies_drawn import drawn, frequencies, sample, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from discrepancy import MMD, Discrepancy, Gaussian, InvalidInput, Measure
from discrepancy.discrepancy import MeanSummary
from discrepancy.kernels import Median
from discrepancy.mean_embeddings.characteristic import CharacteristicFunction


def flat(side: Measure) -> tuple[np.ndarray, np.ndarray]:
    points, weights = side.points.double().flatten(1).numpy(), side.weights.double().numpy()  # pyright: ignore
    return points, weights / weights.sum()


def phi(side: Measure, t: np.ndarray) -> complex:
    return sum(w * cmath.exp(1j * float(t @ x)) for x, w in zip(*flat(side), strict=True))


def at_frequencies(discrepancy: CharacteristicFunction, mu: Measure, nu: Measure, ts: np.ndarray) -> float:
    """The mean over frequencies, with angles and lengths as the definition has them."""
    total = 0.0
    for t in ts:
        (r, a), (s, b) = cmath.polar(phi(mu, t)), cmath.polar(phi(nu, t))
        chf = discrepancy.amplitude * (r - s) ** 2 + discrepancy.phase * 2 * r * s * (1 - math.cos(a - b))
        total += math.sqrt(chf) if discrepancy.root else chf
    return total / len(ts)


def ascended(discrepancy: CharacteristicFunction, mu: Measure, nu: Measure, draws: Mapping[str, Tensor]) -> np.ndarray:
    """The scales after Adam, with its slopes from differences."""
    scales = np.zeros(draws["scales"].shape)
    first, second = np.zeros_like(scales), np.zeros_like(scales)
    for step in range(1, discrepancy.steps + 1):
        slope = np.zeros_like(scales)
        for place in np.ndindex(*scales.shape):
            nudge = np.zeros_like(scales)
            nudge[place] = 1e-5
            values = [
                at_frequencies(discrepancy, mu, nu, frequencies(discrepancy, draws, scales + sign * nudge))
                for sign in (1, -1)
            ]
            slope[place] = (values[0] - values[1]) / 2e-5
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        scales = scales + discrepancy.rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return scales


class TestCharacteristicFunction(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "plain": CharacteristicFunction(frequencies=32, lengthscale=3.0),
        "root": CharacteristicFunction(frequencies=32, lengthscale=3.0, root=True),
        "ncfm": CharacteristicFunction(frequencies=32, lengthscale=3.0, amplitude=0.5, phase=0.5, root=True),
        "amplitude": CharacteristicFunction(frequencies=17, lengthscale=2.0, phase=0.0),
        "mostly-phase": CharacteristicFunction(frequencies=32, lengthscale=3.0, amplitude=0.1, phase=0.9),
        "phase-root": CharacteristicFunction(frequencies=32, lengthscale=3.0, amplitude=0.0, root=True),
        "mixture": CharacteristicFunction(frequencies=31, lengthscale=(3.0, 6.0)),
        "student": CharacteristicFunction(frequencies=32, lengthscale=6.0, freedom=2),
        "learned": CharacteristicFunction(frequencies=32, lengthscale=(3.0, 4.0), learned=True, steps=3),
        "learned-root": CharacteristicFunction(frequencies=32, lengthscale=3.0, learned=True, root=True, steps=3),
        "learned-components": CharacteristicFunction(
            frequencies=33, lengthscale=(3.0, 4.0), learned=True, components=3, steps=2
        ),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, CharacteristicFunction)
        draws = discrepancy.draw(torch.Generator().manual_seed(5), mu.points.shape[1:])  # pyright: ignore
        scales = ascended(discrepancy, mu, nu, draws) if discrepancy.learned else np.zeros((2, flat(mu)[0].shape[1]))
        return at_frequencies(discrepancy, mu, nu, frequencies(discrepancy, draws, scales))

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy:
        assert isinstance(discrepancy, CharacteristicFunction)
        length = discrepancy.lengthscale
        wide = tuple(factor * item for item in length) if isinstance(length, tuple) else factor * length  # pyright: ignore
        return replace(discrepancy, lengthscale=wide)


# The kernel of a spectral measure


def mmd_of_cosines(mu: Measure, nu: Measure, ts: np.ndarray) -> float:
    """MMD² of k(x, y) = mean over t of cos⟨t, x - y⟩, pair by pair."""

    def mean(first: Measure, second: Measure) -> float:
        return sum(
            w * v * float(np.cos(ts @ (x - y)).mean())
            for x, w in zip(*flat(first), strict=True)
            for y, v in zip(*flat(second), strict=True)
        )

    return mean(mu, mu) - 2 * mean(mu, nu) + mean(nu, nu)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 6),
    m=st.integers(1, 4),
    d=st.integers(1, 4),
    count=st.integers(1, 9),
    offset=st.sampled_from([0.0, 100.0]),
    freedom=st.sampled_from([None, 1, 4]),
)
def test_is_the_mmd_of_the_kernel_of_its_frequencies(n, m, d, count, offset, freedom):
    discrepancy = CharacteristicFunction(frequencies=count, lengthscale=(1.0, 3.0), freedom=freedom)
    mu, nu = Measure(sample(n, d) + offset, weights(n)), Measure(sample(m, d, 1) + offset)
    draws = drawn(discrepancy, d)
    value = discrepancy(mu, nu, draws).item()
    assert -1e-12 <= value <= 4 + 1e-12
    ts = frequencies(discrepancy, draws, np.zeros((2, d)))
    assert value == pytest.approx(mmd_of_cosines(mu, nu, ts), abs=1e-10)


def test_tends_to_the_gaussian_mmd():
    """The error of a mean over D frequencies, each in 0 .. 4, falls as 1/√D: 4 standard errors are allowed, all D alike."""
    mu, nu = Measure(sample(23)), Measure(sample(5, seed=1) + 0.7)
    exact = MMD(kernel=Gaussian(lengthscale=1.5))(mu, nu).item()
    for count in (100, 10_000, 200_000):
        one = CharacteristicFunction(frequencies=count, lengthscale=1.5)
        error = abs(one(mu, nu, drawn(one)).item() - exact)
        assert error < 4 * 0.4 / math.sqrt(count)
    assert exact > 0.1


def test_cauchy_frequencies_tend_to_the_laplace_kernel():
    x, y = sample(7), sample(5, seed=1) + 1
    one = CharacteristicFunction(frequencies=200_000, lengthscale=2.0, freedom=1)
    gram = [torch.exp(-torch.cdist(a, b) / 2.0).mean() for a, b in ((x, x), (x, y), (y, y))]
    value = one(Measure(x), Measure(y), drawn(one))
    torch.testing.assert_close(value, gram[0] - 2 * gram[1] + gram[2], atol=4e-3, rtol=0)


def test_three_degrees_of_freedom_tend_to_the_matern_kernel():
    x, y = sample(7), sample(5, seed=1) + 1
    one = CharacteristicFunction(frequencies=200_000, lengthscale=2.0, freedom=3)
    lengths = [math.sqrt(3) * torch.cdist(a, b) / 2.0 for a, b in ((x, x), (x, y), (y, y))]
    gram = [((1 + r) * torch.exp(-r)).mean() for r in lengths]
    value = one(Measure(x), Measure(y), drawn(one))
    torch.testing.assert_close(value, gram[0] - 2 * gram[1] + gram[2], atol=4e-3, rtol=0)


def test_a_mixture_has_its_lengthscales_in_turn():
    parts = [CharacteristicFunction(frequencies=8, lengthscale=length) for length in (1.0, 4.0)]
    both = CharacteristicFunction(frequencies=8, lengthscale=(1.0, 4.0))
    mu, nu, draws = Measure(sample(7)), Measure(sample(5, seed=1)), drawn(both)
    halves = [
        replace(part, frequencies=4)(mu, nu, {"frequencies": draws["frequencies"][index::2]})
        for index, part in enumerate(parts)
    ]
    torch.testing.assert_close(both(mu, nu, draws), (halves[0] + halves[1]) / 2)


# Known answers


def test_two_diracs():
    """|e^(ita) - e^(itb)|² = 2 - 2 cos t(a - b), all of it phase."""
    t = torch.tensor([[0.5], [2.0]])
    one = CharacteristicFunction(frequencies=2)
    mu, nu, draws = Measure(torch.zeros(1, 1)), Measure(torch.full((1, 1), 3.0)), {"frequencies": t}
    terms = [2 - 2 * math.cos(1.5), 2 - 2 * math.cos(6.0)]
    assert one(mu, nu, draws).item() == pytest.approx(sum(terms) / 2)
    assert replace(one, amplitude=0.0)(mu, nu, draws).item() == pytest.approx(sum(terms) / 2)
    assert replace(one, phase=0.0)(mu, nu, draws).item() == pytest.approx(0, abs=1e-12)
    assert replace(one, root=True)(mu, nu, draws).item() == pytest.approx(sum(map(math.sqrt, terms)) / 2)


def test_the_largest_value_is_4():
    one = CharacteristicFunction(frequencies=1)
    mu, nu = Measure(torch.zeros(1, 1)), Measure(torch.full((1, 1), math.pi))
    assert one(mu, nu, {"frequencies": torch.ones(1, 1)}).item() == pytest.approx(4)


def test_both_parts_add_to_the_squared_distance_and_half_weights_give_half():
    mu, nu = Measure(sample(7)), Measure(sample(5, seed=1))
    one = CharacteristicFunction(frequencies=64)
    draws = drawn(one)
    value = {
        (a, p): replace(one, amplitude=a, phase=p)(mu, nu, draws)
        for a, p in [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    }
    torch.testing.assert_close(value[1.0, 0.0] + value[0.0, 1.0], value[1.0, 1.0])
    torch.testing.assert_close(value[0.5, 0.5], value[1.0, 1.0] / 2)


def test_the_mean_of_roots_is_at_most_the_root_of_the_mean():
    mu, nu = Measure(sample(7)), Measure(sample(5, seed=1))
    one = CharacteristicFunction(frequencies=64)
    mean, of_roots = (replace(one, root=root)(mu, nu, drawn(one)).item() for root in (False, True))
    assert of_roots < math.sqrt(mean)


def test_gradient_is_zero_at_frequencies_where_both_agree():
    leaf = sample(1).requires_grad_()
    one = CharacteristicFunction(frequencies=8, root=True, amplitude=0.5, phase=0.5)
    one(Measure(leaf.detach()), Measure(leaf), drawn(one)).backward()
    torch.testing.assert_close(leaf.grad, torch.zeros_like(leaf))


def test_gradient_is_finite_where_a_characteristic_function_vanishes():
    """cos t on ±1 at t = π/2."""
    leaf = torch.tensor([[1.0], [-1.0]]).requires_grad_()
    one = CharacteristicFunction(frequencies=1, amplitude=1.0, phase=0.5)
    one(Measure(torch.zeros(1, 1)), Measure(leaf), {"frequencies": torch.full((1, 1), math.pi / 2)}).backward()
    assert bool(torch.isfinite(leaf.grad).all())  # pyright: ignore


@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
def test_float32_far_from_the_origin(learned: bool):
    one = CharacteristicFunction(frequencies=64, learned=learned)
    draws = drawn(one)
    mu, nu = sample(23).float() + 1000, sample(5, seed=1).float() + 1000
    value = one(Measure(mu), Measure(nu), draws)
    exact = one(Measure(mu.double()), Measure(nu.double()), draws)
    torch.testing.assert_close(value.double(), exact, atol=1e-6, rtol=1e-6)


# Summaries


def test_summary_does_not_know_n():
    one = CharacteristicFunction(frequencies=16)
    small, large = (one.summarise(Measure(sample(n)).as_groups(), drawn(one)) for n in (7, 7001))
    assert isinstance(small, MeanSummary)
    assert small.nbytes == large.nbytes == 8 * (2 * 16 + 1)


def test_statistic_has_norm_one_and_is_what_the_summary_adds_up():
    one, x = CharacteristicFunction(frequencies=16), sample(7)
    values = one.statistic(x[None], drawn(one))[0]
    torch.testing.assert_close(values.norm(dim=1), torch.ones(7).double())
    summary = one.summarise(Measure(x).as_groups(), drawn(one))
    assert isinstance(summary, MeanSummary)
    torch.testing.assert_close(summary.mean[0], values.mean(0))
    images = x.reshape(7, 3, 1)
    torch.testing.assert_close(one.statistic(images[None], drawn(one))[0], values)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 10), max_size=4, unique=True), root=st.booleans())
def test_summaries_merge_in_any_partition(cuts: list[int], root: bool):
    one = CharacteristicFunction(frequencies=16, root=root, amplitude=0.3)
    whole = Measure(sample(11) + 50, torch.rand(11, generator=torch.Generator().manual_seed(0)).double())
    nu, draws, edges = Measure(sample(5, seed=1) + 50).as_groups(), drawn(one), [0, *sorted(cuts), 11]
    merged, *parts = (
        one.summarise(rows(whole, torch.arange(a, b)).as_groups(), draws) for a, b in itertools.pairwise(edges)
    )
    for part in parts:
        merged = one.merge(merged, part)
    expected = one.compare(one.summarise(whole.as_groups(), draws), nu, draws)
    torch.testing.assert_close(one.compare(merged, nu, draws), expected, atol=1e-9, rtol=1e-9)


# What is refused, and rules


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frequencies": 0}, "'frequencies' must be >= 1, got 0"),
        ({"freedom": 0}, "'freedom' must be >= 1, got 0"),
        ({"steps": 0}, "'steps' must be >= 1, got 0"),
        ({"rate": 0.0}, "'rate' must be finite and > 0, got 0.0"),
        ({"lengthscale": 0.0}, "'lengthscale' must be finite and > 0, got 0.0"),
        ({"lengthscale": (1.0, -2.0)}, "'lengthscale' must be finite and > 0, got -2.0"),
        ({"lengthscale": ()}, "'lengthscale' must have at least one length"),
        ({"amplitude": -1.0}, "'amplitude' must be finite and >= 0, got -1.0"),
        ({"phase": math.nan}, "'phase' must be finite and >= 0, got nan"),
        ({"amplitude": 0.0, "phase": 0.0}, "'amplitude' and 'phase' must not both be 0"),
    ],
)
def test_bad_settings_are_refused(settings, message: str):
    with pytest.raises(InvalidInput, match=message):
        CharacteristicFunction(**settings)


def test_missing_and_foreign_frequencies_are_refused():
    one, mu = CharacteristicFunction(frequencies=4), Measure(sample(3))
    with pytest.raises(InvalidInput, match=r"needs frequencies; give draws=discrepancy.draw"):
        one(mu, mu)
    with pytest.raises(InvalidInput, match=r"frequencies of 5 features do not fit points of 3"):
        one(mu, mu, drawn(one, 5))


def test_lengthscales_may_be_rules():
    real = Measure(sample(23))
    length = Median(factor=0.5).measured(real)
    one = CharacteristicFunction(frequencies=4, lengthscale=Median(factor=0.5))
    assert not one.resolved
    with pytest.raises(InvalidInput, match=r"'lengthscale' is the rule 'median' .* call resolve\(sample\)"):
        one(real, real, drawn(one))
    assert one.resolve(real) == replace(one, lengthscale=length)
    mixed = replace(one, lengthscale=(1.0, Median(factor=0.5)))
    assert mixed.resolve(real) == replace(one, lengthscale=(1.0, length))
    assert replace(one, lengthscale=2.0).resolve(real) == replace(one, lengthscale=2.0)


def test_frequencies_are_the_generator_s():
    one = CharacteristicFunction(frequencies=4)
    before = torch.random.get_rng_state()
    draws = [one.draw(torch.Generator().manual_seed(seed), (2, 3))["frequencies"] for seed in (0, 0, 1)]
    torch.testing.assert_close(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].shape == (4, 6)
    assert torch.equal(before, torch.random.get_rng_state())
