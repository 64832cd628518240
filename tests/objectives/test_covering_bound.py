"""The covering bound: known answers, the inequality for losses that are known everywhere, and where it is vacuous."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import images, table
from torch import Tensor

from discrepancy import CoveringRadius
from discrepancy.errors import InvalidInput
from objectives.attacks import Threat
from objectives.attacks.threat import Norm
from objectives.condensation import condense
from objectives.contexts import Pool
from objectives.covering import CoveringBound, covering_bound
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.solvers import ExactCover, KCentre
from objectives.synthetic.artefact import SyntheticSet
from objectives.terms.match import Match


def chosen(data: LabelledData, count: int) -> SyntheticSet:
    return condense(data, Match(CoveringRadius()), context=Pool(), solver=ExactCover(), per_class=count)


def worst(points: Tensor, labels: Tensor, loss: np.ndarray, eps: float) -> float:
    """The largest loss within ε of any point of [0, 1], of a loss that is constant on cells of equal length."""
    cells, found = loss.shape[1], 0.0
    for x, y in zip(points[:, 0].tolist(), labels.tolist(), strict=True):
        low, high = max(0, int((x - eps) * cells)), min(cells - 1, int((x + eps) * cells))
        found = max(found, float(loss[y, low : high + 1].max()))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_it_holds_for_any_loss(seed: int) -> None:
    generator, random = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    x = torch.rand(30, 1, generator=generator)
    data = LabelledData.of(x, torch.arange(30) % 2, limits=(0.0, 1.0))
    made = chosen(data, 2)
    bound = covering_bound(data, made, Threat("linf", 0.02))
    for _ in range(20):
        loss = random.exponential(size=(2, 400)) ** 3
        real = worst(data.train.points, data.train.labels.numbers, loss, 0.02)
        assert real <= worst(made.points, made.numbers, loss, bound.eps + 1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_radii_have_all_digits_in_other_units(norm: Norm) -> None:
    """Bytes whose channels have means and deviations that float32 rounds: the examples themselves cover with radius zero, and
    one of each class as numpy says."""
    x = torch.randint(0, 256, (9, 3, 2, 2), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    x[:, 0] //= 8
    labels = torch.arange(9) % 3
    data, order = LabelledData.of(x, labels), np.inf if norm == "linf" else 2
    assert max(covering_bound(data, chosen(data, 3), Threat(norm, 0.1)).radii.values()) < 1e-15
    bound, made = covering_bound(data, chosen(data, 1), Threat(norm, 0.1)), chosen(data, 1).points
    for label, radius in enumerate(bound.radii.values()):
        apart = (x[labels == label].double() - made[label].double()).flatten(1).numpy() / 255
        assert radius == pytest.approx(float(np.linalg.norm(apart, order, axis=1).max()), rel=1e-14)


def test_no_smaller_radius_would_do() -> None:
    """For the loss that is 1 just where the worst of the real examples is moved to by the attack, and 0 elsewhere."""
    x = torch.tensor([[0.1], [0.3], [0.405], [0.8], [0.9]])
    data = LabelledData.of(x, torch.tensor([0, 0, 0, 1, 1]), limits=(0.0, 1.0))
    made = chosen(data, 1)
    bound = covering_bound(data, made, Threat("linf", 0.05))
    loss = np.zeros((2, 1000))
    loss[0, 51] = 1
    assert worst(data.train.points, data.train.labels.numbers, loss, 0.05) == 1
    assert worst(made.points, made.numbers, loss, bound.eps) == 1
    assert worst(made.points, made.numbers, loss, bound.eps - 0.003) == 0


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("linf", np.inf)])
def test_radii_and_separation_are_in_the_units_of_the_threat(norm, order: float) -> None:
    data = images()
    made = chosen(data, 3)
    bound = covering_bound(data, made, Threat(norm, 4 / 255))
    real, own = (points.double().flatten(1).numpy() / 255 for points in (data.train.points, made.points))

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b[None], order, axis=-1)

    of_real, of_own = data.train.labels.numbers.numpy(), made.numbers.numpy()
    for label, name in enumerate(data.classes):
        expected = apart(real[of_real == label], own[of_own == label]).min(1).max()
        assert bound.radii[name] == pytest.approx(expected, rel=1e-5)
    other = of_own[:, None] != of_own[None]
    assert bound.separation == pytest.approx(apart(own, own)[other].min(), rel=1e-5)
    assert bound.radius == max(bound.radii.values())
    assert bound.eps == 4 / 255 + bound.radius


@pytest.mark.parametrize(("eps", "vacuous"), [(0.2, False), (0.25, True), (0.3, True)])
def test_it_is_vacuous_where_balls_of_two_classes_meet(eps: float, vacuous: bool) -> None:
    bound = CoveringBound(Threat("l2", eps), {"a": 0.25, "b": 0.125}, separation=1.0)
    assert bound.vacuous == vacuous
    assert ("(vacuous)" in str(bound)) == vacuous


def test_the_exact_cover_has_the_smaller_bound() -> None:
    data = images(sizes=(20, 25, 30))  # of one channel, so that the norms of both units differ by a factor
    greedy = condense(data, Match(CoveringRadius()), context=Pool(), solver=KCentre(), per_class=3)
    exact, other = (covering_bound(data, made, Threat("l2", 0.1)) for made in (chosen(data, 3), greedy))
    assert all(0 < exact.radii[name] <= radius + 1e-6 for name, radius in other.radii.items())
    assert exact.radius < other.radius


def test_examples_without_weight_cover_nothing() -> None:
    data = table()
    made = chosen(data, 2)
    light = replace(made, weights=torch.tensor([1.0, 0, 1, 1, 1, 1]))
    both, one = (covering_bound(data, some, Threat("l2", 0.1)).radii["0"] for some in (made, light))
    assert one > both


def test_what_it_refuses() -> None:
    data = table()
    made = chosen(data, 2)
    with pytest.raises(InvalidInput, match="needs a set with the classes and the shape of 'data'"):
        covering_bound(images(), made, Threat("l2", 0.1))
    soft = replace(made, labelling=Labels("soft", torch.full((6, 3), 1 / 3)))
    with pytest.raises(InvalidInput, match="needs labels that are class numbers, got 'hard' ones of 'data' and 'soft'"):
        covering_bound(data, soft, Threat("l2", 0.1))
    none = replace(made, weights=torch.tensor([0.0, 0, 1, 1, 1, 1]))
    with pytest.raises(InvalidInput, match="class '0' of 'data' has no example in the set"):
        covering_bound(data, none, Threat("l2", 0.1))
