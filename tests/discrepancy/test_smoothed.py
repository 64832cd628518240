"""Smoothed total variation: the contract, the integral in one dimension, bounds, memory.

Properties (Hypothesis):
1. equals the sums in numpy for any sizes, weights, tiles and offsets, within [0, 1];
2. splitting points, order and zero-weight points do nothing.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract, M, N
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from discrepancy import Discrepancy, InvalidInput, Measure, Unsupported
from discrepancy.divergences import SmoothedTotalVariation
from discrepancy.kernels import Median
from discrepancy.numerics import pairwise


def log_density(z: np.ndarray, points: np.ndarray, weights: np.ndarray, scale: float) -> np.ndarray:
    squares = ((z[:, None] - points) ** 2).sum(-1)
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(np.log(weights) - squares / (2 * scale**2), axis=1))


def sums(discrepancy: SmoothedTotalVariation, mu: Measure, nu: Measure, noise: np.ndarray) -> float:
    (x, w), (y, v) = ((side.rows.double().numpy(), side.shares.numpy()) for side in (mu, nu))
    scale, total = float(discrepancy.lengthscale), 0.0  # pyright: ignore[reportArgumentType]
    for sign, row in itertools.product((1, -1), noise):
        for points, weights in ((x, w), (y, v)):
            z = points + sign * scale * row
            p, q = (log_density(z, *side, scale) for side in ((x, w), (y, v)))
            total += float(weights @ np.abs(np.tanh((p - q) / 2))) / 2
    return total / (2 * len(noise))


class TestSmoothedTotalVariation(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "wide": SmoothedTotalVariation(lengthscale=1.5, noises=3),
        "narrow": SmoothedTotalVariation(lengthscale=0.5, noises=1),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, SmoothedTotalVariation)
        draws = discrepancy.draw(torch.Generator().manual_seed(5), tuple(mu.points.shape[1:]))  # pyright: ignore
        assert draws is not None
        return sums(discrepancy, mu, nu, draws["noise"].double().numpy())

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy:
        assert isinstance(discrepancy, SmoothedTotalVariation)
        return replace(discrepancy, lengthscale=factor * float(discrepancy.lengthscale))  # pyright: ignore


def normal(n: int, d: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_of(discrepancy: SmoothedTotalVariation, mu: Measure, nu: Measure, seed: int = 0) -> torch.Tensor:
    shape = tuple(mu.points.shape[1:])  # pyright: ignore[reportAttributeAccessIssue]
    return discrepancy(mu, nu, discrepancy.draw(torch.Generator().manual_seed(seed), shape))


# Known answers


@pytest.mark.parametrize("scale", [0.1, 0.5, 2.0])
def test_is_the_integral(scale: float):
    """½ ∫ |p - q| of two kernel densities on the line, by a fine sum."""
    x, y, w = normal(9).numpy(), normal(6, seed=1).numpy() + 0.7, np.arange(1.0, 10.0) / 45
    z = np.linspace(-12, 12, 20_001)[:, None]
    p, q = (np.exp(log_density(z, *side, scale)) for side in ((x, w), (y, np.full(6, 1 / 6))))
    expected = np.trapezoid(np.abs(p - q), z[:, 0]) / 2 / (scale * math.sqrt(2 * math.pi))
    mu, nu = Measure(torch.from_numpy(x), torch.from_numpy(w)), Measure(torch.from_numpy(y))
    value = value_of(SmoothedTotalVariation(lengthscale=scale, noises=150), mu, nu)
    assert value.item() == pytest.approx(expected, abs=0.01)


def test_is_unbiased_for_any_number_of_vectors():
    mu, nu, generator = Measure(normal(5)), Measure(normal(4, seed=1) + 0.5), torch.Generator().manual_seed(0)
    one = SmoothedTotalVariation(noises=1)
    few = torch.stack([one(mu, nu, one.draw(generator, (1,))) for _ in range(200)])
    many = value_of(SmoothedTotalVariation(noises=150), mu, nu)
    assert few.mean().item() == pytest.approx(many.item(), abs=4 * few.std().item() / 14 + 0.003)


def test_the_points_alone_would_not_do():
    """TV(N(0, 1), N(1, 1)) = 2 Φ(1/2) - 1 = 0.383; |p - q|/(p + q) at the points 0 and 1 is tanh 1/4 = 0.245."""
    mu, nu = Measure(torch.zeros(1, 1).double()), Measure(torch.ones(1, 1).double())
    alone = sums(SmoothedTotalVariation(), mu, nu, np.zeros((1, 1)))
    assert alone == pytest.approx(math.tanh(0.25))
    expected = math.erf(0.5 / math.sqrt(2))
    assert value_of(SmoothedTotalVariation(noises=200), mu, nu).item() == pytest.approx(expected, abs=0.015)


def test_is_one_for_samples_far_apart_and_its_gradient_is_finite():
    x, y = normal(4, 3), (normal(3, 3, 1) + 1e6).requires_grad_()
    weights = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    value = value_of(SmoothedTotalVariation(), Measure(x), Measure(y, weights))
    value.backward()
    assert value.item() == pytest.approx(1.0, abs=1e-12)
    for leaf in (y, weights):
        assert leaf.grad is not None
        assert bool(torch.isfinite(leaf.grad).all())


@pytest.mark.parametrize("distance", [1.0, 8.0, 20.0, 1e4])
def test_gradient_of_a_weight_of_zero(distance: float):
    """Of a point among the real ones, where the others are many l away, and one of them without weight still farther."""
    x, y = normal(4, 2), torch.cat([normal(1, 2, 1), normal(2, 2, 2) + torch.tensor([[distance], [3 * distance]])])

    def value(share: float) -> torch.Tensor:
        return value_of(SmoothedTotalVariation(), Measure(x), Measure(y, torch.tensor([share, 1.0, 0.0]).double()))

    weights = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    value_of(SmoothedTotalVariation(), Measure(x), Measure(y, weights)).backward()
    assert weights.grad is not None
    assert bool(torch.isfinite(weights.grad).all())
    if distance < 30:
        slope = (value(1e-6) - value(0.0)) / 1e-6
        assert weights.grad[0].item() == pytest.approx(slope.item(), rel=1e-3)
        assert slope < -0.2


def test_gradient_pulls_a_near_point():
    leaf = torch.full((1, 2), 0.7, dtype=torch.float64, requires_grad=True)
    value_of(SmoothedTotalVariation(), Measure(torch.zeros(1, 2).double()), Measure(leaf)).backward()
    assert leaf.grad is not None
    assert bool((leaf.grad > 0).all())


# Memory, fields


def test_nothing_of_size_n_m_is_kept():
    def saved(n: int) -> int:
        discrepancy = SmoothedTotalVariation(noises=2)
        draws = discrepancy.draw(torch.Generator().manual_seed(0), (3,))
        summary = discrepancy.summarise(Measure(normal(n, 3)).as_groups(), draws)
        leaf, total = normal(50, 3, 1).requires_grad_(), 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            discrepancy.compare(summary, Measure(leaf).as_groups(), draws)
        return total

    # Some 30 numbers a real point for 4 shifts in 3 dimensions; a table with the 50 synthetic points would be 1600.
    assert (saved(2000) - saved(1000)) / 1000 / 8 < 100


def test_second_derivatives_are_refused():
    leaf = normal(3, 2).requires_grad_()
    value = value_of(SmoothedTotalVariation(), Measure(normal(4, 2, 1)), Measure(leaf))
    (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
    with pytest.raises(Unsupported, match="'smoothed_total_variation' has first derivatives only"):
        slope.sum().backward()


def test_resolve_measures_the_length():
    real = Measure(normal(30, 2))
    discrepancy = SmoothedTotalVariation(lengthscale=Median(factor=0.3))
    assert not discrepancy.resolved
    resolved = discrepancy.resolve(real)
    assert resolved.resolved
    assert resolved == SmoothedTotalVariation(lengthscale=Median(factor=0.3).measured(real))
    assert resolved.resolve(real) == resolved
    with pytest.raises(InvalidInput, match=r"call resolve\(sample\) with real points first"):
        value_of(discrepancy, real, real)


def test_bad_fields_and_missing_draws_are_refused():
    with pytest.raises(InvalidInput, match="'lengthscale' must be finite and > 0, got 0"):
        SmoothedTotalVariation(lengthscale=0.0)
    with pytest.raises(InvalidInput, match="'noises' must be at least 1, got 0"):
        SmoothedTotalVariation(noises=0)
    with pytest.raises(InvalidInput, match="has random parts; give draws"):
        SmoothedTotalVariation()(Measure(normal(3)), Measure(normal(2)))


# Properties


def some_weights(data: st.DataObject, size: int) -> torch.Tensor:
    some = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=size - 1, max_size=size - 1))
    return torch.tensor([*some, 1.0], dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 4),
    scale=st.sampled_from([0.01, 0.5, 30.0]),
    offset=st.sampled_from([0.0, -100.0]),
    tile=st.sampled_from([8, 100, 4 << 20]),
    data=st.data(),
)
def test_equals_the_sums(n, m, d, scale, offset, tile, data):
    discrepancy = SmoothedTotalVariation(lengthscale=scale, noises=2)
    mu, nu = (
        Measure(normal(n, d) + offset, some_weights(data, n)),
        Measure(normal(m, d, 1) + offset, some_weights(data, m)),
    )
    draws = discrepancy.draw(torch.Generator().manual_seed(0), (d,))
    assert draws is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pairwise.BLOCK_BYTES, "cpu", tile)
        value = discrepancy(mu, nu, draws).item()
    assert 0 <= value <= 1
    assert value == pytest.approx(sums(discrepancy, mu, nu, draws["noise"].double().numpy()), abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), share=st.floats(0.0, 1.0))
def test_order_splitting_and_padding(seed, share):
    x, y = normal(N, 2, seed), normal(M, 2, seed + 1000)
    w = torch.rand(N, generator=torch.Generator().manual_seed(seed)).double() + 0.1
    discrepancy = SmoothedTotalVariation(lengthscale=0.4, noises=2)
    split = Measure(torch.cat([x, x[:1], y[:1]]), torch.cat([w, w[:1] * share, 0 * w[:1]]))
    split = Measure(split.points.flip(0), split.weights.index_fill(0, torch.tensor([0]), 0.0).flip(0))  # pyright: ignore
    split.weights[-1] = (1 - share) * w[0]
    torch.testing.assert_close(
        value_of(discrepancy, split, Measure(y)), value_of(discrepancy, Measure(x, w), Measure(y))
    )
