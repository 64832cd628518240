"""A discrepancy between the classes of both sides."""

import pytest
import torch
from contract import DiscrepancyContract, claims, rows
from labelled_sides import Witness, labelled, normal, over_classes

from discrepancy import (
    MMD,
    Discrepancy,
    Gaussian,
    Grouping,
    InvalidInput,
    Measure,
)
from discrepancy.datasets import ClassesDistance
from discrepancy.divergences import NeighbourKL, SmoothedTotalVariation
from discrepancy.kernels import Median


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
