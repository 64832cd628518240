"""Distances of data sets: the contract, linear programs by scipy, bures by matrix roots, other label sets, soft labels.

Properties (Hypothesis): both distances of data sets equal scipy's linear program for any sizes and labels; names of classes,
order and points of weight zero do not matter.
"""

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_sides import by_class, entries, labelled, normal, over_classes, program

from discrepancy import (
    MMD,
    Discrepancy,
    Gaussian,
    InvalidInput,
    Measure,
    Unsupported,
)
from discrepancy.datasets import ClassesDistance, DataSetDistance

# Truth for the distances of data sets


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


# Properties


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
