"""Moments and CORAL: the contract, loops, batch norm, sums about the mean.

Properties (Hypothesis):
1. sums about the mean merge to the moments of the whole in any partition, also far from the origin;
2. the mean, and the mean and the variance, equal the loops for any sizes (n, m, d >= 1), weights and offsets.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import MMD, Discrepancy, InvalidInput, Measure
from discrepancy.discrepancy import MeanSummary
from discrepancy.kernels import Median
from discrepancy.moments.moments import Coral, Moments


def pooled(side: Measure, over: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, q) and weights summing to one; every position of a channel is a point of its own."""
    points, weights = side.points.double().numpy(), side.weights.double().numpy()  # pyright: ignore
    if over == "features":
        return points.reshape(len(points), -1), weights / weights.sum()
    points = points.reshape(*points.shape[:2], -1)
    values = [(image[:, p], w) for image, w in zip(points, weights, strict=True) for p in range(points.shape[2])]
    return np.stack([value for value, _ in values]), np.array([w for _, w in values]) / (
        weights.sum() * points.shape[2]
    )


def moment(points: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
    mean = sum(w * x for w, x in zip(weights, points, strict=True))
    if k == 1:
        return np.asarray(mean)
    return np.asarray(sum(w * (x - mean) ** k for w, x in zip(weights, points, strict=True)))


def loops(discrepancy: Moments, mu: Measure, nu: Measure) -> float:
    total = 0.0
    for k in discrepancy.orders:
        gap = moment(*pooled(mu, discrepancy.over), k) - moment(*pooled(nu, discrepancy.over), k)
        norm = math.sqrt((gap**2).sum()) / float(discrepancy.unit) ** k  # pyright: ignore
        total += norm if discrepancy.root else norm**2
    return total


class TestMoments(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "mean": Moments(),
        "mean-root": Moments(root=True),
        "batch-norm": Moments(orders=(1, 2)),
        "batch-norm-root": Moments(orders=(1, 2), root=True),
        "variance": Moments(orders=(2,)),
        "channels": Moments(orders=(1, 2), over="channels"),
        "cmd": Moments(orders=(1, 2, 3, 4, 5), unit=2.0, root=True),
        "high": Moments(orders=(4, 1), unit=2.0),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Moments)
        return loops(discrepancy, mu, nu)

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy:
        assert isinstance(discrepancy, Moments)
        return replace(discrepancy, unit=factor * float(discrepancy.unit))  # pyright: ignore


class TestCoral(DiscrepancyContract):
    instances = {"plain": Coral()}  # noqa: RUF012

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        first, second = (
            np.cov(points.T, aweights=weights, bias=True)
            for points, weights in (pooled(side, "features") for side in (mu, nu))
        )
        return float(((first - second) ** 2).sum() / (4 * first.shape[0] ** 2))


def sample(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Known answers


def test_mean_is_the_linear_mmd():
    mu, nu = Measure(sample(7)), Measure(sample(5, seed=1), sample(5, 1, seed=2)[:, 0].abs())
    torch.testing.assert_close(Moments()(mu, nu), MMD()(mu, nu))
    torch.testing.assert_close(Moments(root=True)(mu, nu), MMD(root=True)(mu, nu))


@pytest.mark.parametrize("discrepancy", [Moments(orders=(2,)), Moments(orders=(3,)), Coral()], ids=str)
def test_central_moments_do_not_know_where_a_set_lies(discrepancy: Discrepancy):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 2, generator=generator).double() for n in (6, 5))
    far = discrepancy(Measure(x), Measure((y * 2**20).round() / 2**20 + 1e8))
    torch.testing.assert_close(far, discrepancy(Measure(x), Measure((y * 2**20).round() / 2**20)), rtol=1e-6, atol=0)


def test_known_answer():
    """On 0, 2 and on 0, 0, 3, 9: means 1 and 3, variances 1 and 27/2, third moments 0 and (2·(-27) + 0 + 216)/4 = 81/2."""
    mu, nu = Measure(torch.tensor([[0.0], [2]])), Measure(torch.tensor([[0.0], [0], [3], [9]]))
    assert Moments(orders=(1, 2, 3), root=True)(mu, nu).item() == pytest.approx(2 + 12.5 + 40.5)
    assert Moments(orders=(1, 2, 3), unit=2.0)(mu, nu).item() == pytest.approx(1 + 12.5**2 / 16 + 40.5**2 / 64)
    assert Coral()(mu, nu).item() == pytest.approx(12.5**2 / 4)


def test_channels_are_the_statistics_of_batch_norm():
    images = [torch.randn(n, 3, 4, 5, generator=torch.Generator().manual_seed(n)) + 2 for n in (7, 5)]
    norms = []
    for batch in images:
        norm = torch.nn.BatchNorm2d(3, momentum=1.0)
        norm(batch)
        count = batch[:, 0].numel()
        norms.append((norm.running_mean, norm.running_var * (count - 1) / count))  # pyright: ignore
    expected = sum((a - b).norm() for a, b in zip(*norms, strict=True))  # pyright: ignore
    value = Moments(orders=(1, 2), over="channels", root=True)(Measure(images[0]), Measure(images[1]))
    torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)


def test_channels_of_vectors_are_features():
    mu, nu = Measure(sample(7)), Measure(sample(5, seed=1))
    by = [Moments(orders=(1, 3), over=over)(mu, nu) for over in ("channels", "features")]
    torch.testing.assert_close(*by)


def test_bytes_and_numbers_are_points_too():
    x = torch.randint(0, 256, (7, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    value = Moments(orders=(1, 2))(Measure(x), Measure(x[:5]))
    torch.testing.assert_close(value, Moments(orders=(1, 2))(Measure(x.float()), Measure(x[:5].float())))
    flat = x[:, 0, 0].float()
    torch.testing.assert_close(
        Moments(orders=(2,))(Measure(flat), Measure(flat[:5])),
        Moments(orders=(2,))(Measure(flat[:, None]), Measure(flat[:5, None])),
    )


def test_equal_means_and_variances_are_told_apart_by_the_fourth_moment():
    signs, three = torch.tensor([[-1.0], [1]]), torch.tensor([[-2.0], [0], [0], [0], [0], [0], [0], [2]])
    mu, nu = Measure(signs), Measure(three)
    assert Moments(orders=(1, 2, 3))(mu, nu).item() == pytest.approx(0, abs=1e-12)
    assert Moments(orders=(4,), root=True)(mu, nu).item() == pytest.approx(3)


# Summaries


def test_summary_does_not_know_n():
    small, large = (Moments(orders=(1, 2)).summarise(Measure(sample(n)).as_groups()) for n in (7, 7001))
    assert isinstance(small, MeanSummary)
    assert small.nbytes == large.nbytes


@pytest.mark.parametrize("discrepancy", [Moments(orders=(1, 2, 4)), Coral()], ids=["moments", "coral"])
def test_sums_of_the_statistic_are_a_summary_about_the_origin(discrepancy):
    """What a curator releases: Σ w t(x) and Σ w, without an origin of their own."""
    x, w, nu = sample(7), torch.rand(7, generator=torch.Generator().manual_seed(0)).double(), Measure(sample(5, seed=1))
    plain = MeanSummary(torch.einsum("n,np->p", w, discrepancy.statistic(x[None], None)[0])[None], w.sum()[None])
    mu = Measure(x, w)
    torch.testing.assert_close(discrepancy.compare(plain, nu.as_groups())[0], discrepancy(mu, nu))


def test_channel_statistic_is_the_average_over_positions():
    images = torch.randn(5, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    discrepancy = Moments(orders=(1, 2), over="channels")
    values = discrepancy.statistic(images[None], None)[0]
    torch.testing.assert_close(values, torch.cat([images.mean((2, 3)), images.square().mean((2, 3))], 1))
    plain = MeanSummary(values.sum(0)[None], torch.full((1,), 5.0).double())
    nu = Measure(images[:2] + 1).as_groups()
    torch.testing.assert_close(
        discrepancy.compare(plain, nu), discrepancy(Measure(images), Measure(images[:2] + 1))[None]
    )


@pytest.mark.parametrize("discrepancy", [Moments(orders=(1, 2, 3, 4)), Coral()], ids=["moments", "coral"])
def test_moved_sums_are_the_sums_of_moved_points(discrepancy):
    x, w, step = (
        sample(7)[None],
        torch.rand(1, 7, generator=torch.Generator().manual_seed(0)).double(),
        sample(1, seed=2),
    )
    moved = discrepancy.moved(discrepancy.total(Measure(x, w), None), w.sum(1), step)
    torch.testing.assert_close(moved, discrepancy.total(Measure(x + step, w), None))


def test_a_batch_without_mass_does_nothing():
    discrepancy, side = Moments(orders=(1, 2)), Measure(sample(7) + 100)
    empty = discrepancy.summarise(Measure(sample(3), torch.zeros(3).double()).as_groups())
    whole = discrepancy.summarise(side.as_groups())
    for pair in ((empty, whole), (whole, empty)):
        merged, nu = discrepancy.merge(*pair), Measure(sample(5, seed=1) + 100).as_groups()
        torch.testing.assert_close(discrepancy.compare(merged, nu), discrepancy.compare(whole, nu))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_fourth_moments_far_from_the_origin(offset: float):
    x, y = sample(2003), sample(31, seed=1)
    discrepancy = Moments(orders=(1, 2, 3, 4))
    parts = [
        discrepancy.summarise(Measure(part + offset, torch.ones(len(part)).double()).as_groups())
        for part in x.split(97)
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = discrepancy.merge(merged, part)
    value = discrepancy.compare(merged, Measure(y + offset).as_groups())[0]
    assert value.item() == pytest.approx(loops(discrepancy, Measure(x), Measure(y)), rel=1e-7)


# What is refused, and rules


@pytest.mark.parametrize("orders", [(), (0,), (1, 1), (2, -1)])
def test_orders_that_are_none_are_refused(orders):
    with pytest.raises(InvalidInput, match="'orders' must be different numbers >= 1, at least one, got"):
        Moments(orders=orders)


@pytest.mark.parametrize("unit", [0.0, -1.0, math.inf, math.nan])
def test_a_unit_that_is_no_length_is_refused(unit: float):
    with pytest.raises(InvalidInput, match="'unit' must be finite and > 0"):
        Moments(unit=unit)


def test_unknown_pooling_is_refused():
    discrepancy = object.__new__(Moments)
    for name, value in {"orders": (1,), "over": "positions", "unit": 1.0}.items():
        object.__setattr__(discrepancy, name, value)
    with pytest.raises(InvalidInput, match="'over' must be one of features, channels; got 'positions'"):
        discrepancy.__post_init__()


def test_unit_may_be_a_rule():
    real, nu = Measure(sample(23)), Measure(sample(5, seed=1))
    discrepancy = Moments(orders=(1, 2), unit=Median(factor=0.5))
    assert not discrepancy.resolved
    with pytest.raises(InvalidInput, match=r"'unit' is the rule 'median' .* call resolve\(sample\)"):
        discrepancy(real, nu)
    assert discrepancy.resolve(real) == Moments(orders=(1, 2), unit=Median(factor=0.5).measured(real))
    assert Moments().resolve(real) == Moments()


def test_root_has_gradient_zero_for_an_order_that_agrees():
    x = torch.tensor([[0.0, 1, 2], [2, 3, 0], [4, 5, 10], [6, 7, 8]])
    leaf = (x + 1).requires_grad_()
    Moments(orders=(1, 2), root=True)(Measure(x), Measure(leaf)).backward()
    torch.testing.assert_close(leaf.grad, torch.full_like(x, 1 / (4 * math.sqrt(3))))


# Properties


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 10), max_size=4, unique=True),
    offset=st.sampled_from([0.0, 100.0, -1e4]),
    discrepancy=st.sampled_from([Moments(orders=(1, 2, 3)), Moments(orders=(2, 4), root=True), Coral()]),
)
def test_sums_merge_in_any_partition(cuts: list[int], offset: float, discrepancy):
    w = torch.rand(11, generator=torch.Generator().manual_seed(0)).double()
    whole, nu = Measure(sample(11) + offset, w), Measure(sample(5, seed=1) + offset).as_groups()
    edges = [0, *sorted(cuts), 11]
    parts = [discrepancy.summarise(rows(whole, torch.arange(a, b)).as_groups()) for a, b in itertools.pairwise(edges)]
    merged = parts[-1]
    for part in parts[-2::-1]:
        merged = discrepancy.merge(merged, part)
    expected = discrepancy.compare(discrepancy.summarise(whole.as_groups()), nu)
    torch.testing.assert_close(discrepancy.compare(merged, nu), expected, atol=1e-9, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 4),
    offset=st.sampled_from([0.0, -100.0]),
    orders=st.sampled_from([(1,), (1, 2), (3,)]),
    data=st.data(),
)
def test_equals_the_loops(n: int, m: int, d: int, offset: float, orders, data: st.DataObject):
    def weights(size: int) -> torch.Tensor:
        some = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=size - 1, max_size=size - 1))
        return torch.tensor([*some, 1.0], dtype=torch.float64)

    discrepancy = Moments(orders=orders)
    mu, nu = Measure(sample(n, d) + offset, weights(n)), Measure(sample(m, d, 1) + offset, weights(m))
    expected = torch.tensor(loops(discrepancy, mu, nu), dtype=torch.float64)
    torch.testing.assert_close(discrepancy(mu, nu), expected, atol=1e-9, rtol=1e-9)
