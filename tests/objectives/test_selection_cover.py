"""Greedy k-centre against loops, and at most twice the smallest radius, which is found by trying all subsets."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from conformance import selected
from small import NETWORK, images, problem, start, table

from discrepancy import MMD, CoveringRadius, Measure
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from objectives.condensation import solve
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.solvers import KCentre
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.objective import Summand
from objectives.terms.penalties import TotalVariation


def finished(data: LabelledData, objective: Summand, count: int, **options: Any) -> Any:
    options = {"context": Pool(), **options}
    solving = start(data, objective, KCentre(), synthetic=Pixels(per_class=count), **options)
    solve(solving)
    return solving


def farthest(x: np.ndarray, count: int, order: Any = 2) -> list[int]:
    """The definition: start next to the mean, then the one whose nearest chosen one is farthest."""
    picked = [int(np.argmin([np.linalg.norm(row - x.mean(0), order) for row in x]))]
    while len(picked) < count:
        away = [
            -1.0 if i in picked else min(float(np.linalg.norm(x[i] - x[j], order)) for j in picked)
            for i in range(len(x))
        ]
        picked.append(int(np.argmax(away)))
    return picked


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2), ("linf", np.inf)])
def test_it_is_farthest_first(count: int, norm: Any, order: float) -> None:
    data = table(sizes=(7, 30, 13))
    x = data.normalisation.apply(data.train.points).double().numpy()
    rows: list[int] = []
    for members in data.train.members:
        rows += members[farthest(x[members.numpy()], count, order)].tolist()
    assert finished(data, Match(CoveringRadius(norm=norm)), count).chosen.tolist() == rows


def test_terms_and_blocks_are_one_euclidean_space() -> None:
    data = images()
    objective = Match(CoveringRadius(), via=Features(), weight=4.0) + Match(MMD(), weight=0.01).named("pixels")
    solving = finished(data, objective, 5, context=Pool(network=NETWORK, size=1))
    points = data.normalisation.apply(data.train.points)
    features = NETWORK(problem(data).engine(1).bound_context.initial(0), points, ("features",))["features"]
    x = torch.cat([2 * features.double(), 0.1 * points.flatten(1).double()], 1).numpy()
    rows: list[int] = []
    for members in data.train.members:
        rows += members[farthest(x[members.numpy()], 5)].tolist()
    assert solving.chosen.tolist() == rows


@pytest.mark.conformance("k_centre")
def test_the_packaged_method_is_farthest_first_on_features() -> None:
    some = selected("k_centre")
    x, rows = some.features().numpy(), []
    for members in some.problem.data.members:
        rows += members[farthest(x[members.numpy()], 4)].tolist()
    assert some.run.chosen.tolist() == rows


@pytest.mark.parametrize("seed", range(6))
def test_the_radius_is_at_most_twice_the_smallest(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(11, 2, generator=generator)
    data = LabelledData.of(torch.cat([x, x + 9]), torch.arange(22) // 11)
    solving = start(data, Match(CoveringRadius()), KCentre(), context=Pool(), synthetic=Pixels(per_class=3))
    radius = float(solving.advance().loss)
    points = data.normalisation.apply(data.train.points)[:11].double().numpy()
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    smallest = min(distances[:, list(some)].min(1).max() for some in combinations(range(11), 3))
    assert smallest <= radius <= 2 * smallest
    chosen = solving.state()["chosen"]
    reached = CoveringRadius()(Measure(torch.from_numpy(points)), Measure(torch.from_numpy(points[chosen.numpy()])))
    assert float(reached) == pytest.approx(radius, rel=1e-6)


def test_no_example_is_taken_twice_and_of_equal_ones_the_first() -> None:
    x = torch.zeros(14, 2)
    x[7:] = 100
    data = LabelledData.of(x, torch.arange(14) // 7)
    assert finished(data, Match(CoveringRadius()), 4).chosen.tolist() == [0, 1, 2, 3, 7, 8, 9, 10]


def test_small_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = finished(table(), Match(CoveringRadius()), 5).chosen
    monkeypatch.setattr("discrepancy.numerics.distances.BLOCK_BYTES", {"cpu": 100})
    assert finished(table(), Match(CoveringRadius()), 5).chosen.equal(whole)


def test_nothing_is_summarised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a summary was made")

    monkeypatch.setattr(CoveringRadius, "summarise", refuse)
    assert len(finished(table(), Match(CoveringRadius()), 2).chosen) == 6


def test_it_resumes_class_by_class() -> None:
    whole = finished(table(), Match(CoveringRadius()), 3)
    options: dict[str, Any] = {"context": Pool(), "synthetic": Pixels(per_class=3)}
    first = start(table(), Match(CoveringRadius()), KCentre(), **options)
    first.advance()
    second = start(table(), Match(CoveringRadius()), KCentre(), **options)
    second.restore(first.state())
    solve(second)
    assert second.chosen is not None
    assert second.chosen.equal(whole.chosen)


@pytest.mark.parametrize(
    ("objective", "count", "message"),
    [
        (Match(CoveringRadius(), by="none"), 2, "'k_centre' selects within classes; term 'covering_radius' must be"),
        (Match(CoveringRadius()) + TotalVariation(), 2, "term 'total_variation' must be a match with by: class"),
        (Match(CoveringRadius(), weight=-1.0), 2, "'k_centre' needs weights >= 0, got a negative one"),
        (Match(CoveringRadius()), 8, "solver: k_centre needs 8 examples of each class, but '0' of 'data' has 7"),
    ],
    ids=["none", "penalty", "negative", "too-many"],
)
def test_what_k_centre_refuses(objective: Summand, count: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        start(images(), objective, KCentre(), context=Pool(), synthetic=Pixels(per_class=count))
