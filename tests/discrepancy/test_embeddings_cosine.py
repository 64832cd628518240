"""Random cosine features: the kernel that they estimate, and the points that have given ones."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from discrepancy import Gaussian
from discrepancy.discrepancy import Draws
from discrepancy.embeddings import RandomCosine
from discrepancy.embeddings.invertible import Within
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Median
from discrepancy.measure import Measure


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(embedding: RandomCosine, shape: tuple[int, ...]) -> Draws:
    return embedding.draw(torch.Generator().manual_seed(1), {"points": shape})


def test_features_are_cosines_with_phases():
    embedding = RandomCosine(features=5, lengthscale=2.0)
    draws, points = drawn(embedding, (2, 3)), normal(4, 2, 3)
    assert draws is not None
    values = embedding({"points": points}, draws)
    for n in range(4):
        for p in range(5):
            angle = float(points[n].flatten() @ draws["frequencies"][p].double()) / 2 + float(draws["phases"][p])
            assert float(values[n, p]) == pytest.approx(math.sqrt(2 / 5) * math.cos(angle), abs=1e-9)


def test_products_estimate_the_gaussian_kernel():
    """The error of a mean of p products, each of at most 2 in size, is at most 6 standard deviations of 1.5/√p."""
    embedding, points = RandomCosine(features=40_000, lengthscale=1.7), normal(6, 3)
    values = embedding({"points": points}, drawn(embedding, (3,)))
    truth = Gaussian(lengthscale=1.7)(points[None], points[None])[0]
    assert float((values @ values.mT - truth).abs().max()) < 6 * 1.5 / math.sqrt(40_000)


def test_phases_are_uniform_on_the_circle():
    phases = drawn(RandomCosine(features=10_000), (3,))["phases"].double() / (2 * math.pi)  # pyright: ignore
    assert stats.kstest(phases.numpy(), "uniform").pvalue > 0.01


def test_without_a_number_there_are_as_many_features_as_numbers():
    embedding = RandomCosine()
    assert embedding({"points": normal(3, 2, 4)}, drawn(embedding, (2, 4))).shape == (3, 8)


@pytest.mark.parametrize("features", [None, 4])
def test_points_have_the_features(features: int | None):
    embedding = RandomCosine(features=features, lengthscale=30.0)
    draws = drawn(embedding, (2, 3))
    p = features or 6
    wanted = math.sqrt(2 / p) * torch.linspace(-0.9, 0.9, 5 * p, dtype=torch.float64).reshape(5, p)
    found = embedding.preimage(wanted, Within((2, 3), draws))
    again = embedding({"points": found.points.reshape(5, 2, 3)}, draws)
    assert float((again - wanted).norm() / wanted.norm()) < 100 * torch.finfo(torch.float64).eps * found.condition


def test_points_are_the_nearest_of_all_with_the_features():
    """Of one feature of one number, x = (±arccos(c) + 2πk - b) l / a; and a point that has the features already stays."""
    embedding = RandomCosine(features=1, lengthscale=2.0)
    draws = {"frequencies": torch.tensor([[1.3]]), "phases": torch.tensor([0.4])}
    for near in (0.0, 3.1, -17.0):
        wanted = torch.tensor([[0.3 * 2**0.5]], dtype=torch.float64)
        start = torch.tensor([[near]], dtype=torch.float64)
        found = embedding.preimage(wanted, Within((1,), draws, near=start)).points
        angles = [s * math.acos(0.3) + 2 * math.pi * k for s in (1, -1) for k in range(-9, 10)]
        truth = min(((angle - 0.4) * 2 / 1.3 for angle in angles), key=lambda x: abs(x - near))
        assert float(found) == pytest.approx(truth, rel=1e-6)
    embedding = RandomCosine(lengthscale=2.0)
    draws, points = drawn(embedding, (2, 3)), 10 * normal(4, 2, 3).double()
    wanted = embedding({"points": points}, draws)
    found = embedding.preimage(wanted, Within((2, 3), draws, near=points.flatten(1)))
    torch.testing.assert_close(found.points, points.flatten(1), rtol=1e-5, atol=1e-5)
    least = embedding.preimage(wanted, Within((2, 3), draws))
    assert float(least.points.norm()) < float(points.norm())


def test_features_that_no_cosine_reaches_are_refused():
    embedding = RandomCosine(features=2)
    with pytest.raises(InvalidInput, match=r"features must be at most √\(2/p\) = 1, .* got 1\.5; scale them"):
        embedding.preimage(torch.tensor([[0.1, -1.5]]), Within((3,), drawn(embedding, (3,))))


def test_more_features_than_numbers_are_refused():
    embedding = RandomCosine(features=5)
    with pytest.raises(InvalidInput, match="'frequencies', 5 x 3, reaches only a part"):
        embedding.preimage(torch.zeros(1, 5), Within((3,), drawn(embedding, (3,))))


def test_a_rule_becomes_a_number():
    embedding, points = RandomCosine(lengthscale=Median()), normal(20, 3)
    assert not embedding.resolved
    resolved = embedding.resolve(Measure(points))
    assert resolved.lengthscale == pytest.approx(float(torch.pdist(points).median()), rel=0.05)
    assert resolved.resolved
    with pytest.raises(InvalidInput, match="'random_cosine' needs its frequencies"):
        resolved({"points": points})


@pytest.mark.parametrize(("features", "length"), [(0, 1.0), (3, 0.0)])
def test_senseless_numbers_are_refused(features: int, length: float):
    with pytest.raises(InvalidInput, match=r"'(features|lengthscale)'"):
        RandomCosine(features=features, lengthscale=length)


def test_features_are_divided_by_their_excess():
    embedding, features = RandomCosine(), torch.tensor([[0.5, -3.0]])
    assert embedding.excess(features) == pytest.approx(3.0 / 0.9)
    assert embedding.excess(features / 4) == 1.0
