"""What stands behind ``condense compare``: intervals, yardsticks, p-values, memory."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from discrepancy import MMD, Discrepancy, Gaussian, InvalidInput, MeanDiscrepancy, Measure, SampleDiscrepancy
from discrepancy.kernels import Linear
from discrepancy.mean_embeddings.energy import EnergyDistance
from experiments.benchmarks.levels import rejected
from experiments.compare.estimates import CAPS, KEPT_CAP, Bound, cap_of
from experiments.compare.halves import Halved, Interval, blocks_of, splits_of
from experiments.compare.permutation import p_value
from experiments.compare.yardstick import Curve, PowerLaw, simulated
from objectives.rng import rng

SPLITS = 25


class MeansByTest(MeanDiscrepancy, kind="means_by_test"):
    """‖E x - E y‖², by summaries and not by pairs."""

    @property
    def tags(self):
        return frozenset({"mergeable", "differentiable"})

    def statistic(self, points, draws):
        return points.flatten(2)

    def distance(self, real, synthetic):
        return (real - synthetic).square().sum(-1)


class NearestByTest(SampleDiscrepancy, kind="nearest_by_test"):
    """The mean distance of a real point to the nearest one of the set."""

    @property
    def tags(self):
        return frozenset({"differentiable"})

    def constants(self, real, draws):
        return {}

    def compare_groups(self, summary, synthetic, draws):
        return torch.cdist(summary.real.rows, synthetic.rows).amin(-1).mean(-1)


@pytest.fixture(scope="module", autouse=True)
def _unregistered():
    yield
    for kind in ("means_by_test", "nearest_by_test"):
        Discrepancy.members.pop(kind, None)


def population(n: int = 20_000, d: int = 5) -> Tensor:
    """Two clusters of unequal shape."""
    generator = torch.Generator().manual_seed(1)
    far = (torch.rand(n, 1, generator=generator) > 0.5).float()
    return torch.randn(n, d, generator=generator) * (1 + far) + 2 * far


def measured(discrepancy: Discrepancy, real: Tensor, *sets: Tensor, seed: int = 0, yardstick: bool = True) -> Any:
    bound, others = Bound(discrepancy, None, SPLITS), [Measure(points) for points in sets]
    return bound.measured(Measure(real), others, seed, "all", yardstick=yardstick)


# --- halves -----------------------------------------------------------------------------------------------------------------


def test_splits_are_halves_and_blocks_a_partition(generator):
    splits = splits_of(11, 7, generator)
    assert splits.sum(1).tolist() == [6] * 7
    assert len({tuple(row) for row in splits.tolist()}) > 1
    blocks = blocks_of(11, 4, generator)
    assert sorted(torch.cat(blocks).tolist()) == list(range(11))
    assert {len(block) for block in blocks} == {2, 3}
    assert len(blocks_of(3, 20, generator)) == 3


def test_the_error_of_a_mean_is_the_textbook_one(generator):
    x = torch.randn(200, generator=generator).double()
    first, second = [], []
    for half in splits_of(200, 4000, generator):
        first.append(x[half].mean())
        second.append(x[~half].mean())
    found = Halved.corrected(float(x.mean()), torch.stack(first), torch.stack(second), 199)
    assert found.error == pytest.approx(float(x.std()) / math.sqrt(200), rel=0.05)
    assert found.estimate == pytest.approx(float(x.mean()), abs=1e-12)
    low, high = stats.t.interval(0.9, 199, float(x.mean()), found.error)
    interval = found.interval(0.9)
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


def test_a_bias_of_order_one_over_n_is_taken_off(generator):
    """The square of a mean has the bias σ²/n, which the squares of means of halves show twice over."""
    x = torch.randn(2000, 30, generator=generator).double()
    estimates, plain = [], []
    for row in x:
        halves = splits_of(30, 20, generator)
        first, second = ((half.double() @ row / 15).square() for half in (halves, ~halves))
        found = Halved.corrected(float(row.mean().square()), first, second, 19)
        estimates.append(found.estimate)
        plain.append(found.value)
    assert sum(plain) / 2000 == pytest.approx(1 / 30, rel=0.1)
    assert abs(sum(estimates) / 2000) < 0.1 / 30


def test_sums_keep_the_splits_together():
    one = Halved(1.0, 0.9, torch.tensor([1.0, 2.0]).double(), torch.tensor([3.0, 1.0]).double(), 5)
    total = Halved.total([one, one], 0.5)
    assert (total.value, total.estimate, total.degrees) == (1.0, 0.9, 5)
    assert total.error == pytest.approx(one.error)
    nothing = Halved.corrected(2.0, torch.empty(0).double(), torch.empty(0).double(), 1)
    assert nothing.interval(0.95) is None
    assert nothing.estimate == 2.0


@pytest.mark.parametrize(
    ("discrepancy", "shift"),
    [
        (MMD(kernel=Gaussian(lengthscale=2.0)), 0.0),
        (MMD(kernel=Gaussian(lengthscale=2.0)), 1.0),
        (EnergyDistance(), 0.0),
        (MeansByTest(), 0.0),
        (NearestByTest(), 1.0),
    ],
    ids=["mmd near", "mmd far", "energy", "means", "nearest"],
)
def test_an_interval_of_95_percent_contains_the_value_of_the_population_as_often(discrepancy, shift):
    """300 real points against a fixed set of 10: the interval is to hold D(P, S) of the population P."""
    points, runs = population(8000), 60
    some = points[:10] + shift
    if discrepancy.kind == "mmd":
        truth = float(MMD(kernel=discrepancy.kernel, estimator="u")(Measure(points), Measure(some)))
    elif discrepancy.kind == "energy_distance":
        truth = float(EnergyDistance(estimator="u")(Measure(points), Measure(some)))
    else:
        truth = float(discrepancy(Measure(points), Measure(some)))
    inside, below, values = 0, 0, []
    for run in range(runs):
        real = points[torch.randperm(len(points), generator=rng(run, "sample"))[:300]]
        (found,) = measured(discrepancy, real, some, seed=run, yardstick=False).values
        interval = found.interval(0.95)
        inside += interval.low <= truth <= interval.high
        below += truth < interval.low
        values.append(found.estimate)
    assert 0.86 <= inside / runs <= 1.0
    assert below / runs <= 0.09  # a naive bootstrap has nearly all of its misses on this side
    spread = torch.tensor(values).std().item()
    assert abs(sum(values) / runs - truth) < 3.5 * spread / math.sqrt(runs)


def test_ways_of_measuring_agree(generator):
    """MMD by pairs of blocks, the same D by merging, and D itself."""
    real, some = torch.randn(57, 3, generator=generator) + 100, torch.randn(6, 3, generator=generator) + 100
    by_pairs, by_merging = measured(MMD(kernel=Linear()), real, some), measured(MeansByTest(), real, some)
    truth = float(MeansByTest()(Measure(real), Measure(some)))
    assert by_pairs.values[0].value == pytest.approx(truth, rel=1e-4)
    assert by_merging.values[0].value == pytest.approx(truth, rel=1e-4)
    unbiased = float(MMD(kernel=Linear(), estimator="u")(Measure(real.double()), Measure(some.double())))
    assert by_pairs.values[0].estimate == pytest.approx(unbiased, rel=1e-4)
    for kernel in (Gaussian(lengthscale=1.5), Linear()):
        for root in (False, True):
            mmd = MMD(kernel=kernel, root=root)
            (found,) = measured(mmd, real - 100, some - 100).values
            assert found.value == pytest.approx(float(mmd(Measure(real - 100), Measure(some - 100))), rel=1e-4)


def test_weights_of_a_set_count(generator):
    real, some = torch.randn(40, 3, generator=generator), torch.randn(4, 3, generator=generator)
    once = Measure(some, torch.tensor([1.0, 2.0, 1.0, 1.0]))
    twice = Measure(torch.cat([some, some[1:2]]))
    for discrepancy in (EnergyDistance(), MeansByTest()):
        first, second = Bound(discrepancy, None, 10).measured(Measure(real), [once, twice], 0, "all").values
        assert first.estimate == pytest.approx(second.estimate, rel=1e-5)
        assert first.error == pytest.approx(second.error, rel=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_real_points_are_said_to_be_too_few(n, generator):
    real, some = torch.randn(n, 3, generator=generator), torch.randn(4, 3, generator=generator)
    found = measured(EnergyDistance(), real, some)
    if n == 1:
        assert found.values == (None,)
        assert "estimator 'u'" in found.reason
    else:
        assert found.values[0].interval(0.95) is None
        assert "at least 4 real points" in found.reason
    found = measured(MeansByTest(), real[:1], some)
    assert found.values[0].interval(0.95) is None
    assert "at least 2 real points" in found.reason


@pytest.mark.parametrize("kind", ["covering_radius", "neighbour_kl", "precision", "classifier", "data_set_distance"])
def test_what_halves_say_nothing_of_has_no_interval(kind, generator):
    labels = torch.eye(2).repeat(20, 1)
    sides = [Measure(torch.randn(40, 3, generator=generator), labels=labels) for _ in range(2)]
    found = Bound(Discrepancy.members[kind](), None, SPLITS).measured(*sides[:1], sides[1:], 0, "all", yardstick=False)
    (value,) = found.values
    assert value.interval(0.95) is None
    assert value.estimate == value.value
    assert found.reason.startswith("no interval, because it ")


# --- the yardstick ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "discrepancy",
    [MMD(kernel=Gaussian(lengthscale=2.0)), MMD(), EnergyDistance()],
    ids=["gaussian", "linear", "energy"],
)
@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_closed_yardstick_is_the_mean_of_simulations(discrepancy, k):
    """(E k(x, x) - E k(x, x')) / k against fresh samples of size k, drawn with replacement from a population of 1,000."""
    points = population(1000)
    law = measured(discrepancy, points, points[:2]).yardstick
    summary = discrepancy.summarise(Measure(points).as_groups()).select(torch.zeros(200, dtype=torch.long))
    rows = torch.randint(1000, (200, k), generator=torch.Generator().manual_seed(k))
    drawn = discrepancy.compare(summary, Measure(points[rows], torch.ones(200, k)))
    error = drawn.std() / math.sqrt(len(drawn))
    assert abs(float(drawn.mean()) - law.expected(k)) < 4 * float(error)


def test_as_close_as_k_and_back():
    law = PowerLaw(6.0, 1.0)
    assert law.of(law.expected(37)) == pytest.approx(37)
    assert law.rooted().of(math.sqrt(law.expected(37))) == pytest.approx(37)
    size = law.size(0.5, Interval(0.25, 1.0))
    assert (size.k, size.interval) == (pytest.approx(12), Interval(6, 24))
    assert str(size) == "12"
    assert str(law.size(-0.1, Interval(-0.3, 0.1))) == "≥ 60"
    assert str(law.size(9.0, None)) == "≤ 1"
    assert PowerLaw(0.0, 1.0).size(1.0, None) is None
    assert PowerLaw.total([law, law], 0.5) == law


def test_a_simulated_yardstick_is_that_in_closed_form():
    points = population(4000)
    bound = Bound(MeansByTest(), None, SPLITS)
    curve = simulated(bound.summary, bound.values, Measure(points), rng(0, "yardstick"))
    assert curve.sizes == tuple(2**power for power in range(11))
    trace = float(points.double().var(0).sum())
    for k, mean, error in zip(curve.sizes, curve.means, curve.errors, strict=True):
        assert abs(mean - trace / k) < 5 * error + 0.1 * trace / k
    size = curve.size(trace / 37, Interval(trace / 50, trace / 30))
    assert pytest.approx(size.k, rel=0.6) == 37
    assert size.interval.low < 30
    assert size.interval.high > 50


def test_a_simulated_yardstick_has_no_bias_of_few_real_points():
    """Of 200 real points half are the reference, whose mean alone would add trace / 100 to trace / 64."""
    points, bound = population(), Bound(MeansByTest(), None, SPLITS)
    expected, found = float(points.double().var(0).sum()) / 64, []
    for run in range(120):
        real = Measure(points[torch.randperm(len(points), generator=rng(run, "sample"))[:200]])
        found.append(simulated(bound.summary, bound.values, real, rng(run, "yardstick"), 64).expected(64))
    assert sum(found) / len(found) == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("discrepancy", [MeansByTest(), NearestByTest(), EnergyDistance()], ids=lambda item: item.kind)
def test_several_samples_at_once(discrepancy, generator, monkeypatch):
    bound = Bound(discrepancy, None, SPLITS)
    summary = bound.summary(Measure(torch.randn(40, 3, generator=generator)))
    samples = [Measure(torch.randn(5, 3, generator=generator)) for _ in range(4)]
    at_once = bound.values(summary, samples)
    monkeypatch.setattr("experiments.compare.estimates.BATCH_BYTES", 0)
    assert at_once == pytest.approx(bound.values(summary, samples), rel=1e-5)


def test_beyond_the_ends_of_a_curve():
    curve = Curve((1, 2, 4), (4.0, 2.0, 1.0), (0.01, 0.01, 0.01))
    assert curve.size(math.sqrt(2.0), None).k == pytest.approx(2 * math.sqrt(2))
    assert str(curve.size(0.3, None)) == "≥ 4"
    assert str(curve.size(-0.3, None)) == "≥ 4"
    assert str(curve.size(5.0, None)) == "≤ 1"
    assert curve.expected(3) == pytest.approx(4 / 3)
    assert Curve((1, 2), (0.5, 0.9), (0.1, 0.1)).size(0.7, None) is None  # it does not fall: no yardstick
    assert simulated(lambda m: None, lambda s, m: [], Measure(torch.zeros(5, 1)), rng(0)) is None


# --- permutations -------------------------------------------------------------------------------------------------------------


def test_p_values_are_uniform_where_nothing_differs():
    points, found = population(), []
    for run in range(100):
        rows = torch.randperm(len(points), generator=rng(run, "null"))
        sides = Measure(points[rows[:25]]), Measure(points[rows[25:40]])
        found.append(p_value(MeansByTest(), *sides, 19, rng(run, "deals")))
    assert stats.chisquare([found.count(k / 20) for k in range(1, 21)]).pvalue > 0.01
    assert min(found) == 1 / 20


def test_tests_at_5_percent_reject_as_often_where_nothing_differs():
    """Samples of 24 and 15 points in 64 features; in units of the first sample alone 19 % were rejected. The whole simulation:
    ``python -m experiments.benchmarks.levels``."""
    assert rejected(MMD(), (24, 15), 100).value <= 0.11  # more by chance: once in 200


def test_p_values_are_small_where_a_mean_differs(generator):
    points = population()
    p = p_value(EnergyDistance(), Measure(points[:60]), Measure(points[60:100] + 1.5), 99, generator)
    assert p == 0.01


def test_constants_are_of_both_sides_together(generator):
    """A lengthscale of one side alone would tell the sides apart."""
    from discrepancy.kernels import Median

    seen = []

    class Spy(MMD, kind="spy_by_test"):
        def resolve(self, sample):
            seen.append(len(sample))
            return MMD(kernel=self.kernel.resolve(sample))

    try:
        spy = Spy(kernel=Gaussian(lengthscale=Median()))
        p_value(spy, Measure(torch.randn(9, 2)), Measure(torch.randn(5, 2)), 19, generator)
    finally:
        Discrepancy.members.pop("spy_by_test")
    assert seen == [14]


# --- memory -----------------------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for item in made if isinstance(made, tuple | list) else [made]:
            if isinstance(item, Tensor):
                self.entries = max(self.entries, item.untyped_storage().nbytes() // item.element_size())
        return made


@pytest.mark.parametrize("discrepancy", [MMD(kernel=Gaussian(lengthscale=8.0)), EnergyDistance(), MeansByTest()])
def test_nothing_of_size_n_times_m_is_held(discrepancy, generator):
    n, m, d = 5000, 500, 64
    real, some = torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)
    with Largest() as largest:
        measured(discrepancy, real, some)
    assert largest.entries < 1.2 * (1 << 20) < n * m < n * n


def test_what_keeps_points_has_a_stated_cap():
    assert cap_of(MMD(kernel=Gaussian())) is None
    assert cap_of(EnergyDistance()) is None
    assert cap_of(MeansByTest()) is None
    assert cap_of(NearestByTest()) == KEPT_CAP
    assert CAPS["wasserstein"] is not None


def test_a_value_that_cannot_be_taken_is_a_reason_and_no_failure(generator):
    class Refusing(MeansByTest, kind="refusing_by_test"):
        def distance(self, real, synthetic):
            raise InvalidInput("two points are needed; give more")

    try:
        found = measured(Refusing(), torch.randn(20, 2, generator=generator), torch.zeros(1, 2))
    finally:
        Discrepancy.members.pop("refusing_by_test")
    assert found.values == (None,)
    assert found.reason == "two points are needed; give more"
