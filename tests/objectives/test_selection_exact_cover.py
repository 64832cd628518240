"""The exact cover against all subsets, beside greedy k-centre, in pieces, and where the time is up."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from conformance import selected
from scipy import optimize
from small import NETWORK, images, start, table

from discrepancy import CoveringRadius, Measure
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput, NumericalWarning
from objectives.condensation import condense, solve
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.solvers import ExactCover, KCentre, Solver
from objectives.solvers.selection.cover import Block, farthest_first
from objectives.solvers.selection.exact_cover import least_cover, weighted_cover
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.objective import Summand
from objectives.terms.penalties import TotalVariation

NORMS = pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2), ("linf", np.inf)])


def finished(
    data: LabelledData, count: int, solver: Solver | None = None, objective: Summand | None = None, **options: Any
) -> Any:
    solver, options = solver or ExactCover(time_limit=None), {"context": Pool(), **options}
    solving = start(data, objective or Match(CoveringRadius()), solver, synthetic=Pixels(per_class=count), **options)
    solve(solving)
    return solving


def classes(data: LabelledData) -> list[np.ndarray]:
    points = data.normalisation.apply(data.train.points).double().flatten(1).numpy()
    return [points[members.numpy()] for members in data.train.members]


def apart(x: np.ndarray, order: float = 2) -> np.ndarray:
    return np.linalg.norm(x[:, None] - x[None], order, axis=-1)


def least(distances: np.ndarray, count: int) -> float:
    """Over all subsets."""
    return min(distances[:, list(some)].min(1).max() for some in combinations(range(len(distances)), count))


def radii(solving: Any) -> list[float]:
    return solving.findings["radius"]


@NORMS
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_no_subset_has_a_smaller_radius(norm: Any, order: float, count: int) -> None:
    data = table(sizes=(7, 12, 10))
    solving = finished(data, count, objective=Match(CoveringRadius(norm=norm)))
    expected = [least(apart(x, order), count) for x in classes(data)]
    assert radii(solving) == pytest.approx(expected, rel=1e-6)
    assert solving.findings["at_least"] == pytest.approx(expected, rel=1e-6)
    for members, x, radius in zip(data.train.members, classes(data), expected, strict=True):
        rows = [i for i, number in enumerate(members.tolist()) if number in solving.chosen.tolist()]
        assert len(rows) == count
        reached = CoveringRadius(norm=norm)(Measure(torch.from_numpy(x)), Measure(torch.from_numpy(x[rows])))
        assert float(reached) == pytest.approx(radius, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_ties_of_a_lattice(seed: int) -> None:
    """Many distances are equal, some examples coincide."""
    x = torch.randint(0, 3, (24, 2), generator=torch.Generator().manual_seed(seed)).float()
    data = LabelledData.of(x, torch.arange(24) // 12)
    expected = [least(apart(rows), 3) for rows in classes(data)]
    assert radii(finished(data, 3)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_greedy_is_within_a_factor_of_two_and_is_improved_on() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    data = LabelledData.of(x, torch.arange(60) // 30)
    greedy, exact = (
        start(data, Match(CoveringRadius()), solver, context=Pool()) for solver in (KCentre(), ExactCover())
    )
    ratios = [float(greedy.advance().loss) / float(exact.advance().loss) for _ in range(2)]
    assert all(1 <= ratio <= 2 for ratio in ratios)
    assert max(ratios) > 1.05


def test_of_features_as_k_centre() -> None:
    data = images(sizes=(7, 9))
    options: dict[str, Any] = {
        "context": Pool(network=NETWORK, size=1),
        "objective": Match(CoveringRadius(), via=Features()),
    }
    solving = finished(data, 2, **options)
    points = data.normalisation.apply(data.train.points)
    features = NETWORK(solving.bound_context.initial(0), points, ("features",))["features"].double().numpy()
    expected = [least(apart(features[members.numpy()]), 2) for members in data.train.members]
    assert radii(solving) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_greedy_choices_by_weights_find_most_least_covers(seed: int) -> None:
    """Points in the plane: what is found covers, with no more balls than asked for; below the least radius nothing is
    found, and at a tenth above it something."""
    x = np.random.default_rng(seed).normal(size=(16, 2))
    distances = apart(x)
    for count in (2, 3, 4):
        exact = least(distances, count)
        below, above = (distances <= exact * factor for factor in (1 - 1e-9, 1.1))
        assert weighted_cover(below, count) is None
        rows = weighted_cover(above, count)
        assert rows is not None
        assert len(rows) <= count
        assert above[rows].any(0).all()


def test_weights_find_what_plain_greedy_choices_miss() -> None:
    """Six points: the largest ball, of four, leaves two that no other ball has together; two balls of three are a cover."""
    near = np.eye(6, dtype=bool)
    near[0, [1, 2]] = near[3, [4, 5]] = near[1, [2, 4, 5]] = True
    assert near[1].sum() == 4
    assert sorted(weighted_cover(near, 2) or ()) == [0, 3]


def test_large_classes_are_improved_on_without_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objectives.solvers.selection.exact_cover._cover", lambda near, count, seconds: (None, False))
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(3))
    blocks = [Block(x, 1.0, 2.0)]
    rows, bound, ended = least_cover(blocks, 6)
    greedy, found = farthest_first(blocks, 6), farthest_first(blocks, 6, rows)
    assert not ended
    assert bound <= found.value < 0.9 * greedy.value


def test_fewer_balls_than_asked_for_are_filled_up() -> None:
    x = torch.zeros(14, 2)
    x[7:] = 100
    data = LabelledData.of(x, torch.arange(14) // 7)
    solving = finished(data, 4)
    assert len(set(solving.chosen.tolist())) == 8
    assert radii(solving) == [0, 0]


def test_pieces_are_covered_each_by_its_own() -> None:
    data = table(sizes=(12, 11, 5))
    solving = finished(data, 5, ExactCover(time_limit=None, pieces=6))
    assert solving.findings["pieces"] == [2, 2, 1]
    assert solving.findings["at_least"][:2] == [None, None]
    for label, (x, members) in enumerate(zip(classes(data), data.train.members, strict=True)):
        rows = [members.tolist().index(number) for number in solving.chosen.tolist() if number in members.tolist()]
        assert len(rows) == 5
        assert radii(solving)[label] == pytest.approx(apart(x)[:, rows].min(1).max(), rel=1e-6, abs=1e-12)
        if label < 2:
            for own, share in ((range(6), 3), (range(6, len(x)), 2)):
                mine = [row for row in rows if row in own]
                assert len(mine) == share
                inside = apart(x[list(own)])
                assert inside[:, [row - own[0] for row in mine]].min(1).max() == pytest.approx(
                    least(inside, share), rel=1e-6
                )


def test_where_the_time_is_up_the_gap_is_reported() -> None:
    data = table(sizes=(40, 41, 42))
    with pytest.warns(NumericalWarning) as told:
        solving = finished(data, 4, ExactCover(time_limit=1e-9))
    for name, warning in zip("012", told, strict=True):
        assert f"'exact_cover' reached its time limit of 1e-09 s at '{name}': its radius is " in str(warning.message)
    assert solving.chosen.equal(finished(data, 4, KCentre()).chosen)
    for radius, bound, exact in zip(
        radii(solving), solving.findings["at_least"], radii(finished(data, 4)), strict=True
    ):
        assert radius / 2 * (1 - 1e-6) <= bound <= exact <= radius


def test_larger_radii_are_tried_where_a_program_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Covers are taken; that there is none is never proved, so the bound is that of the greedy radius."""
    data, answers = table(sizes=(14, 14, 14), features=2), []

    def stopped(*arguments: Any, **options: Any) -> Any:
        found = solved(*arguments, **options)
        answers.append(found.status)
        found.status = 1
        return found

    solved = optimize.milp
    monkeypatch.setattr(optimize, "milp", stopped)
    monkeypatch.setattr("objectives.solvers.selection.exact_cover.weighted_cover", lambda near, count: None)
    solving = start(data, Match(CoveringRadius()), ExactCover(), context=Pool(), synthetic=Pixels(per_class=3))
    with pytest.warns(NumericalWarning, match="the least one is at least"):
        loss = float(solving.advance().loss)
    assert {0, 2} <= set(answers)
    distances = apart(classes(data)[0])
    assert loss == pytest.approx(least(distances, 3), rel=1e-6)
    greedy = start(data, Match(CoveringRadius()), KCentre(), context=Pool(), synthetic=Pixels(per_class=3)).advance()
    smallest = distances[distances >= float(greedy.loss) / 2].min()
    assert solving.findings["at_least"] == pytest.approx([smallest], rel=1e-6)


def test_the_record_says_what_was_found() -> None:
    made = condense(table(), Match(CoveringRadius()), context=Pool(), solver=ExactCover(), per_class=3)
    found = made.record["findings"]
    assert found["pieces"] == [1, 1, 1]
    assert found["radius"] == pytest.approx(found["at_least"])
    assert len(made.record["chosen"]) == 9


def test_it_resumes_class_by_class() -> None:
    whole = finished(table(), 3)
    first, second = (
        start(table(), Match(CoveringRadius()), ExactCover(), context=Pool(), synthetic=Pixels(per_class=3))
        for _ in range(2)
    )
    first.advance()
    second.restore(first.state())
    solve(second)
    assert second.chosen is not None
    assert second.chosen.equal(whole.chosen)
    assert second.findings == whole.findings


@pytest.mark.conformance("mfc")
@NORMS
def test_the_packaged_method_has_the_least_radius_of_all_subsets(norm: str, order: float) -> None:
    some = selected("mfc", ("synthetic.per_class=3", f"objective.terms.pixels.match.norm={norm}"))
    data = some.problem.data
    x = data.normalised(torch.arange(len(data)), dtype=torch.float64).flatten(1).numpy()
    for members, radius in zip(data.members, radii(some.run), strict=True):
        own = members.numpy()
        chosen = [row for row, number in enumerate(own) if number in some.run.chosen.tolist()]
        distances = apart(x[own], order)
        assert distances[:, chosen].min(1).max() == pytest.approx(least(distances, 3), rel=1e-9)
        assert radius == pytest.approx(least(distances, 3), rel=1e-6)


@pytest.mark.parametrize(
    ("objective", "solver", "count", "message"),
    [
        (Match(CoveringRadius(), by="none"), ExactCover(), 2, "'exact_cover' selects within classes; term"),
        (
            Match(CoveringRadius()) + TotalVariation(),
            ExactCover(),
            2,
            "'total_variation' must be a match with by: class",
        ),
        (Match(CoveringRadius(), weight=-1.0), ExactCover(), 2, "'exact_cover' needs weights >= 0, got a negative one"),
        (Match(CoveringRadius()), ExactCover(), 8, "solver: exact_cover needs 8 examples of each class"),
        (Match(CoveringRadius()), ExactCover(pieces=4), 2, "cuts the 11 examples of '1' into 3 pieces, but 2 of them"),
    ],
    ids=["none", "penalty", "negative", "too-many", "pieces"],
)
def test_what_it_refuses(objective: Summand, solver: Solver, count: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        start(images(), objective, solver, context=Pool(), synthetic=Pixels(per_class=count))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("time_limit", 0.0, "'time_limit' must be finite and > 0, got 0.0"),
        ("pieces", 0, "'pieces' must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ExactCover(**{field: value})
