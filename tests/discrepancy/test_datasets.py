"""Measures of structure: the contracts, linear programs by scipy, bures by matrix roots, other label sets, soft labels.

Properties (Hypothesis):
1. Joint equals its discrepancy on points with labels appended by hand;
2. both distances of data sets equal scipy's linear program for any sizes and labels; names of classes do not matter;
3. renaming, order and zero-weight points do nothing.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract, claims, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from discrepancy import (
    MMD,
    Discrepancy,
    Gaussian,
    Grouping,
    InvalidInput,
    Joint,
    Measure,
    SampleDiscrepancy,
    Unsupported,
)
from discrepancy.datasets import ClassesDistance, DataSetDistance
from discrepancy.discrepancy import Adversary, MeanSummary, Tag
from discrepancy.divergences import NeighbourKL, SmoothedTotalVariation
from discrepancy.kernels import Median


class Witness(SampleDiscrepancy, kind="witness_by_test"):
    """|E_μ h - E_ν h|² with h = cos⟨a, x⟩ and an adversary for a."""

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset({"zero-at-equality", "symmetric", "splits", "differentiable"})

    @property
    def adversary(self) -> Adversary:
        return Adversary(frozenset({"a"}), steps=3, rate=0.1)

    def draw(self, generator, shape):
        return {"a": torch.randn(math.prod(shape), generator=generator)}

    def constants(self, real, draws):
        return {}

    def compare_groups(self, summary, synthetic, draws):
        assert draws is not None
        a = draws["a"].to(synthetic.rows)
        a = a if a.ndim == 2 else a.expand(len(synthetic.weights), -1)
        means = [
            (side.shares * torch.einsum("gnd,gd->gn", side.rows, a).cos()).sum(-1) for side in (summary.real, synthetic)
        ]
        return (means[0] - means[1]).square().to(synthetic.rows.dtype)


def normal(n: int, d: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def appended(scale: float, side: Measure) -> Measure:
    assert side.labels is not None
    return Measure(torch.cat([side.rows, scale * side.labels.to(side.rows)], -1), side.weights)


# Joint


class TestJoint(DiscrepancyContract):
    classes = 3
    instances = {  # noqa: RUF012
        "linear": Joint(of=MMD()),
        "gaussian": Joint(of=MMD(kernel=Gaussian(lengthscale=1.5)), scale=0.7),
        "draws": Joint(of=SmoothedTotalVariation(noises=2), scale=2.0, classes=3),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Joint)
        assert isinstance(discrepancy.scale, float)
        first, second = appended(discrepancy.scale, mu), appended(discrepancy.scale, nu)
        draws = discrepancy.of.draw(torch.Generator().manual_seed(5), (math.prod(mu.points.shape[1:]) + 3,))  # pyright: ignore
        return discrepancy.of(first, second, draws).item()

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy | None:
        assert isinstance(discrepancy, Joint)
        assert isinstance(discrepancy.scale, float)
        if isinstance(discrepancy.of, SmoothedTotalVariation):
            of = replace(discrepancy.of, lengthscale=factor)
        elif discrepancy.of == MMD():
            return None
        else:
            of = MMD(kernel=Gaussian(lengthscale=factor * 1.5))
        return replace(discrepancy, of=of, scale=factor * discrepancy.scale)


def labelled(n: int, seed: int = 0, d: int = 2, classes: int = 3) -> Measure:
    labels = torch.arange(n) % classes
    return Measure(normal(n, d, seed) + labels[:, None], labels=labels).with_label_vectors(classes)


def test_joint_sees_labels_that_the_points_do_not_show():
    x = normal(12)
    first, second = Measure(x, labels=torch.arange(12) % 2), Measure(x, labels=torch.arange(12) // 6)
    kernel = Gaussian(lengthscale=1.0)
    assert MMD(kernel=kernel)(first, second).item() == pytest.approx(0, abs=1e-12)
    assert Joint(of=MMD(kernel=kernel))(first, second).item() > 0.01


def test_joint_takes_class_numbers_with_a_class_that_one_side_lacks():
    x, y = (
        Measure(normal(4), labels=torch.tensor([0, 1, 1, 0])),
        Measure(normal(3, seed=1), labels=torch.tensor([2, 0, 0])),
    )
    expected = (x.rows.mean(0) - y.rows.mean(0)).square().sum() + (1 / 2 - 2 / 3) ** 2 + 1 / 4 + 1 / 9
    torch.testing.assert_close(Joint(of=MMD())(x, y), expected)


def test_joint_streams_and_keeps_a_bound_where_its_discrepancy_does():
    assert Joint(of=MMD()).mergeable
    assert isinstance(Joint(of=MMD()).summarise(labelled(5).as_groups()), MeanSummary)
    assert not Joint(of=MMD(kernel=Gaussian())).mergeable
    assert Joint(of=MMD()).bound == MMD().bound


def test_joint_is_differentiable_in_soft_labels():
    mu, nu = labelled(7), labelled(5, 1)
    assert nu.labels is not None
    leaf = nu.labels.clone().requires_grad_()
    discrepancy = Joint(of=MMD(kernel=Gaussian()))
    summary = discrepancy.summarise(mu.as_groups())
    function = lambda labels: discrepancy.compare(summary, Measure(nu.points, nu.weights, labels).as_groups())  # noqa: E731
    assert torch.autograd.gradcheck(function, leaf)


def test_joint_resolves_its_scale_its_discrepancy_and_the_number_of_classes():
    real = Measure(normal(30), labels=torch.arange(30) % 4)
    discrepancy = Joint(of=SmoothedTotalVariation(lengthscale=Median(factor=0.3)), scale=Median())
    assert not discrepancy.resolved
    resolved = discrepancy.resolve(real)
    scale = Median().measured(real)
    wide = appended(scale, real.with_label_vectors(4))
    assert resolved == Joint(
        of=SmoothedTotalVariation(lengthscale=Median(factor=0.3).measured(wide)), scale=scale, classes=4
    )
    assert resolved.resolved
    draws = resolved.draw(torch.Generator(), (2,))
    assert draws is not None
    assert draws["noise"].shape == (8, 6)
    assert resolved(real, real, draws).item() == pytest.approx(0, abs=1e-12)


def test_joint_with_random_parts_needs_the_number_of_classes():
    discrepancy = Joint(of=SmoothedTotalVariation())
    assert not discrepancy.resolved
    assert Joint(of=MMD()).resolved
    with pytest.raises(
        InvalidInput, match=r"'smoothed_total_variation' has random parts .* give 'classes', or call resolve"
    ):
        discrepancy.draw(torch.Generator(), (2,))


def test_joint_passes_the_adversary_on():
    discrepancy = Joint(of=Witness(), classes=3)
    mu, nu = labelled(9), labelled(5, 1)
    draws = discrepancy.draw(torch.Generator().manual_seed(0), (2,))
    assert draws is not None
    assert discrepancy.adversary == Witness().adversary
    expected = Witness()(appended(1.0, mu), appended(1.0, nu), draws)
    torch.testing.assert_close(discrepancy(mu, nu, draws), expected)
    still = discrepancy.compare(discrepancy.summarise(mu.as_groups(), draws), nu.as_groups(), draws)
    assert expected > still[0]


def test_joint_refuses_what_it_cannot_read():
    with pytest.raises(InvalidInput, match="'scale' must be finite and > 0, got 0"):
        Joint(of=MMD(), scale=0.0)
    with pytest.raises(InvalidInput, match="'classes' must be at least 1, got 0"):
        Joint(of=MMD(), classes=0)
    with pytest.raises(InvalidInput, match="'classes' is 4, and the label vectors have length 3"):
        Joint(of=MMD(), classes=4)(labelled(5), labelled(4))
    with pytest.raises(InvalidInput, match=r"'scale' is the rule 'median' .* resolve\(sample\)"):
        Joint(of=MMD(), scale=Median())(labelled(5), labelled(4))
    with pytest.raises(InvalidInput, match="looks at labels, and a measure has none"):
        Joint(of=MMD()).summarise(Measure(normal(3)).as_groups())
    with pytest.raises(InvalidInput, match="a measure has none"):
        Joint(of=MMD())(Measure(normal(3)), labelled(4))


# Truth for the distances of data sets


def program(cost: np.ndarray, w: np.ndarray, v: np.ndarray) -> float:
    n, m = cost.shape
    rows_sum, columns_sum = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    result = linprog(cost.ravel(), A_eq=np.vstack([rows_sum, columns_sum]), b_eq=np.concatenate([w, v]))
    assert result.status == 0
    return result.fun


def entries(side: Measure) -> list[tuple[np.ndarray, float, int]]:
    """(point, weight, class) with soft labels spread over their classes."""
    assert side.labels is not None
    labels = side.labels.double().numpy()
    return [
        (side.rows[i].double().numpy(), side.shares[i].item() * label / labels[i].sum(), c)
        for i in range(len(side))
        for c, label in enumerate(labels[i])
        if label > 0 and side.shares[i] > 0
    ]


def by_class(side: Measure) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    some = entries(side)
    return {
        c: (np.array([x for x, _, a in some if a == c]), np.array([w for _, w, a in some if a == c]))
        for c in sorted({c for _, _, c in some})
    }


def wasserstein(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], p: float) -> float:
    (x, w), (y, v) = first, second
    return program(np.linalg.norm(x[:, None] - y, axis=-1) ** p, w / w.sum(), v / v.sum())


def bures(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    means, covariances = [], []
    for x, w in (first, second):
        means.append(np.average(x, axis=0, weights=w))
        covariances.append(np.einsum("n,nd,ne->de", w / w.sum(), x - means[-1], x - means[-1]))
    a, b = covariances
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    values = np.linalg.eigvalsh(root @ b @ root).clip(0)
    return ((means[0] - means[1]) ** 2).sum() + np.trace(a + b) - 2 * np.sqrt(values).sum()


def otdd(discrepancy: DataSetDistance, mu: Measure, nu: Measure) -> float:
    parts, p = [by_class(side) for side in (mu, nu)], discrepancy.p
    between = {
        (a, b): bures(first, second) if discrepancy.between == "gaussian" else wasserstein(first, second, p)
        for a, first in parts[0].items()
        for b, second in parts[1].items()
    }
    x, y = entries(mu), entries(nu)
    cost = np.array([[np.linalg.norm(s - t) ** p + between[a, b] for t, _, b in y] for s, _, a in x])
    value = program(cost, np.array([w for _, w, _ in x]), np.array([v for _, v, _ in y]))
    return value ** (1 / p) if discrepancy.root else value


class TestDataSetDistance(DiscrepancyContract):
    classes = 3
    instances = {  # noqa: RUF012
        "gaussian": DataSetDistance(),
        "gaussian-root": DataSetDistance(root=True),
        "exact": DataSetDistance(between="exact"),
        "exact-1": DataSetDistance(between="exact", p=1.0),
        "exact-3-root": DataSetDistance(between="exact", p=3.0, root=True),
    }
    float32_tolerance = 5e-6

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, DataSetDistance)
        return otdd(discrepancy, mu, nu)


def test_two_classes_far_apart():
    """One point a class: gaussians without spread, so each pair costs ‖x - y‖² twice."""
    x, y = torch.tensor([[0.0], [10.0]]).double(), torch.tensor([[1.0], [12.0]]).double()
    mu, nu = Measure(x, labels=torch.tensor([0, 1])), Measure(y, labels=torch.tensor([1, 0]))
    assert DataSetDistance()(mu, nu).item() == pytest.approx(2 * (1 + 4) / 2)
    assert DataSetDistance(between="exact", p=1.0)(mu, nu).item() == pytest.approx(2 * (1 + 2) / 2)


def test_names_and_number_of_classes_are_free():
    """Classes 0, 1 on one side against 5, 3, 9 on the other: names only, in label vectors of the union."""
    x, y = normal(8), normal(9, seed=1)
    of_x, of_y = torch.arange(8) % 2, torch.arange(9) % 3
    renamed = torch.tensor([5, 3, 9])[of_y]
    for discrepancy in (DataSetDistance(), ClassesDistance(of=MMD(kernel=Gaussian()))):
        value = discrepancy(Measure(x, labels=of_x), Measure(y, labels=renamed))
        torch.testing.assert_close(value, discrepancy(Measure(x, labels=1 - of_x), Measure(y, labels=of_y)))
        assert value > 0.01


def test_labels_matter_though_points_are_the_same():
    x = torch.cat([normal(6), normal(6, seed=1) + 5])
    right, wrong = torch.arange(12) // 6, torch.arange(12) % 2
    mu = Measure(x, labels=right)
    for discrepancy in (DataSetDistance(), ClassesDistance(of=MMD(kernel=Gaussian()))):
        assert discrepancy(mu, Measure(x, labels=1 - right)).item() == pytest.approx(0, abs=1e-9)
        assert discrepancy(mu, Measure(x, labels=wrong)).item() > 0.1


def test_a_soft_label_is_a_point_of_each_class():
    x, y = normal(4), normal(5, seed=1)
    soft = torch.tensor([[0.25, 0.75], [1, 0], [0, 1], [0.5, 0.5]]).double()
    spread = Measure(x[[0, 0, 1, 2, 3, 3]], torch.tensor([1, 3, 4, 4, 2, 2]), torch.tensor([0, 1, 0, 1, 0, 1]))
    spread = Measure(spread.points, spread.weights.double(), spread.labels)
    nu = Measure(y, labels=torch.arange(5) % 2)
    for discrepancy in (DataSetDistance(), DataSetDistance(between="exact"), ClassesDistance(of=MMD())):
        torch.testing.assert_close(discrepancy(Measure(x, labels=soft), nu), discrepancy(spread, nu))


def test_gaussian_is_at_most_exact():
    """The Bures distance of the gaussians is a lower bound of W₂² (Gelbrich)."""
    for seed in range(5):
        mu, nu = labelled(9, seed), labelled(8, seed + 50)
        assert DataSetDistance()(mu, nu) <= DataSetDistance(between="exact")(mu, nu) + 1e-9


@pytest.mark.parametrize("d", [1, 4, 40])
def test_gaussians_of_any_rank(d: int):
    """More dimensions than points in a class, and fewer."""
    mu, nu = labelled(21, 0, d), labelled(15, 1, d)
    assert DataSetDistance()(mu, nu).item() == pytest.approx(otdd(DataSetDistance(), mu, nu), rel=1e-5)


def test_small_costs_are_not_lost():
    mu, nu = labelled(7), labelled(6, 1)
    x, y = (Measure(1e-9 * side.rows, side.weights, side.labels) for side in (mu, nu))
    torch.testing.assert_close(1e18 * DataSetDistance()(x, y), DataSetDistance()(mu, nu))


def test_data_set_distance_refuses_what_it_cannot_do():
    with pytest.raises(InvalidInput, match="between 9 and 8 points exceeds its 'cap' of 71 pairs"):
        DataSetDistance(cap=71)(labelled(9), labelled(8, 1))
    assert DataSetDistance(cap=72)(labelled(9), labelled(8, 1)) > 0
    with pytest.raises(InvalidInput, match="'between' gaussian needs 'p' 2, got 1"):
        DataSetDistance(p=1.0)
    with pytest.raises(InvalidInput, match=r"'p' must be finite and >= 1, got 0\.5"):
        DataSetDistance(p=0.5, between="exact")
    with pytest.raises(InvalidInput, match="'cap' must be at least 1, got 0"):
        DataSetDistance(cap=0)
    mu, nu = labelled(4), labelled(3, 1)
    assert nu.labels is not None
    for spoilt in (-nu.labels, 0 * nu.labels):
        with pytest.raises(
            InvalidInput, match="the synthetic side has a label vector with no positive or a negative entry"
        ):
            DataSetDistance()(mu, Measure(nu.points, nu.weights, spoilt))
    with pytest.raises(InvalidInput, match="a label vector has negative entries"):
        ClassesDistance(of=MMD())(mu, Measure(nu.points, nu.weights, -nu.labels))


def test_a_simplex_that_does_not_arrive_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("discrepancy.transport.simplex.PIVOTS", 1)
    with pytest.raises(Unsupported, match="between 30 and 20 points was not solved in 1 steps"):
        DataSetDistance()(labelled(30), labelled(20, 1))


# Measures over classes


def over_classes(discrepancy: ClassesDistance, mu: Measure, nu: Measure) -> float:
    first, second = (by_class(side) for side in (mu, nu))
    cost = np.array([
        [discrepancy.of(*(Measure(torch.from_numpy(x), torch.from_numpy(w)) for x, w in pair)).item() for pair in row]
        for row in ([(one, other) for other in second.values()] for one in first.values())
    ])  # fmt: skip
    return program(cost, *(np.array([w.sum() for _, w in side.values()]) for side in (first, second)))


class TestClassesDistance(DiscrepancyContract):
    classes = 3
    instances = {  # noqa: RUF012
        "linear": ClassesDistance(of=MMD()),
        "gaussian": ClassesDistance(of=MMD(kernel=Gaussian(lengthscale=1.5))),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, ClassesDistance)
        return over_classes(discrepancy, mu, nu)

    @staticmethod
    def rescaled(discrepancy: Discrepancy, factor: float) -> Discrepancy:
        return ClassesDistance(of=MMD(kernel=Gaussian(lengthscale=factor * 1.5)))


def test_classes_far_apart_match_themselves():
    """Then the value is the mean over classes of the discrepancy of the conditional measures."""
    labels = torch.arange(12) % 3
    mu = Measure(normal(12) + 100 * labels[:, None], labels=labels)
    nu = Measure(normal(12, seed=1) + 100 * labels[:, None], labels=labels)
    grouping = Grouping.of(labels, 3)
    expected = MMD()(mu.conditioned(grouping), nu.conditioned(grouping)).mean()
    torch.testing.assert_close(ClassesDistance(of=MMD())(mu, nu), expected)


def test_shares_of_classes_matter():
    """Two classes at 0 and 3, shares (1/2, 1/2) and (1/4, 3/4): a quarter of the mass moves, at cost 9."""
    x = torch.tensor([[0.0], [3.0]]).double()
    mu, nu = (Measure(x, torch.tensor([share, 4 - share]).double(), torch.tensor([0, 1])) for share in (2, 1))
    assert ClassesDistance(of=MMD())(mu, nu).item() == pytest.approx(9 / 4)


def test_a_class_without_points_is_left_out():
    """Also where the inner discrepancy could not bear an empty sample."""
    mu, nu = labelled(12, classes=3), labelled(10, 1, classes=2)
    nu = Measure(nu.points, nu.weights, torch.nn.functional.pad(nu.labels, (0, 1)))  # pyright: ignore
    for of in (NeighbourKL(k=1), MMD(kernel=Gaussian())):
        discrepancy = ClassesDistance(of=of)
        for pair in ((mu, nu), (nu, mu)):
            assert discrepancy(*pair).item() == pytest.approx(over_classes(discrepancy, *pair), rel=1e-9)


def test_groups_may_have_different_classes():
    real, synthetic = labelled(12), labelled(12, 1)
    of = torch.tensor([0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1])
    discrepancy = ClassesDistance(of=MMD(kernel=Gaussian()))
    first = Measure.merged([real, rows(real, torch.tensor([0, 3]))])
    grouped = first.conditioned(Grouping.of(torch.tensor([*of, 2, 2]), 3))
    other = Measure.merged([synthetic, rows(synthetic, torch.tensor([1, 2]))]).conditioned(
        Grouping.of(torch.tensor([*of.flip(0), 2, 2]), 3)
    )
    together = discrepancy(grouped, other)
    summary = discrepancy.summarise(grouped)
    for group in range(3):
        alone = discrepancy.compare(summary.select(torch.tensor([group])), other.select(torch.tensor([group])))
        torch.testing.assert_close(alone, together[group : group + 1])
    assert summary.select(torch.tensor([2])).nbytes < summary.nbytes


def test_classes_distance_follows_its_discrepancy():
    assert ClassesDistance(of=MMD()).mergeable
    assert ClassesDistance(of=MMD()).degree == 2
    assert "zero-at-equality" not in claims(ClassesDistance(of=MMD(estimator="u", kernel=Gaussian())))
    unresolved = ClassesDistance(of=SmoothedTotalVariation(lengthscale=Median()))
    assert not unresolved.resolved
    resolved = unresolved.resolve(labelled(12))
    assert resolved.resolved
    draws = resolved.draw(torch.Generator().manual_seed(0), (2,))
    assert 0 < resolved(labelled(12), labelled(9, 1), draws).item() < 1
    with pytest.raises(InvalidInput, match="'of' must have no adversary, got 'witness_by_test'"):
        ClassesDistance(of=Witness())


# Properties


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 4),
    classes=st.integers(1, 4),
    scale=st.sampled_from([0.1, 3.0]),
    offset=st.sampled_from([0.0, -100.0]),
)
def test_joint_equals_its_discrepancy_on_longer_points(n, m, d, classes, scale, offset):
    mu, nu = (
        Measure(side.rows + offset, side.weights, side.labels)
        for side in (labelled(n, 0, d, classes), labelled(m, 1, d, classes))
    )
    of = MMD(kernel=Gaussian(lengthscale=1.3))
    torch.testing.assert_close(Joint(of=of, scale=scale)(mu, nu), of(appended(scale, mu), appended(scale, nu)))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 6),
    d=st.integers(1, 3),
    discrepancy=st.sampled_from(
        [
            DataSetDistance(),
            DataSetDistance(between="exact", p=1.5),
            ClassesDistance(of=MMD()),
            ClassesDistance(of=MMD(kernel=Gaussian())),
        ]
    ),
    data=st.data(),
)
def test_equals_the_linear_program(n, m, d, discrepancy, data):
    def side(size: int, seed: int) -> Measure:
        labels = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
        weights = torch.tensor(data.draw(st.lists(st.sampled_from([0.3, 1.0, 2.0]), min_size=size, max_size=size)))
        return Measure(normal(size, d, seed) + 100, weights.double(), labels).with_label_vectors(4)

    mu, nu = side(n, 0), side(m, 1)
    truth = otdd if isinstance(discrepancy, DataSetDistance) else over_classes
    value = discrepancy(mu, nu)
    assert value.item() == pytest.approx(truth(discrepancy, mu, nu), rel=1e-5, abs=1e-6)  # pyright: ignore
    order = torch.randperm(4, generator=torch.Generator().manual_seed(n))
    padding = Measure(normal(2, d, 5), torch.zeros(2).double(), torch.eye(4).double()[:2])
    changed = Measure.merged([padding, rows(nu, torch.arange(m).flip(0))])
    assert changed.labels is not None
    renamed = Measure(changed.points, changed.weights, changed.labels[:, order])
    torch.testing.assert_close(discrepancy(mu, renamed), value, rtol=1e-7, atol=1e-9)
