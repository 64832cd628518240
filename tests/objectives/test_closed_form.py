"""Closed forms, from the condensed sets alone: ridge regressions solved with numpy on their features give the weights that
numpy finds on the features of the real data."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from closed import (
    DOUBLE,
    PENALTY,
    SPACES,
    C,
    D,
    condensed,
    data,
    error,
    features,
    labels_of,
    match,
    ridge,
    tolerance,
    vectors,
)

from discrepancy import Parameters, Ridge
from discrepancy.embeddings import Features, RandomCosine
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.networks import MLP
from objectives import LabelledData, Match, Pixels, Pool, condense
from objectives.condensation import solve
from objectives.solvers import ClosedForm, Problem

__all__ = ["data"]


in_each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


@in_each_space
@pytest.mark.parametrize(("per_class", "start"), [(1, "real"), (4, "noise"), (20, "noise")])  # 17 real examples
def test_the_same_weights_are_learned(data: LabelledData, space, per_class: int, start: str):
    made = condensed(data, space, per_class=per_class, start=start)
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), 0.0) / made.record["findings"]["factor"]
    assert error(found, sought) < tolerance(made)
    assert made.record["findings"]["error"] < tolerance(made)
    sigma = np.linalg.svd(features(data, space, made.points), compute_uv=False)
    least, scale = sigma[sigma > 1e-12 * sigma[0]][-1], made.record["findings"]["factor"]
    own = np.linalg.norm(labels_of(made), 2) * sigma[0] / least**2 / np.linalg.norm(scale * sought, 2)
    assert made.record["findings"]["condition"] == pytest.approx(
        made.record["findings"]["condition_embedding"] * own, rel=1e-6
    )
    assert made.points.dtype == torch.float64


@in_each_space
@pytest.mark.parametrize(
    ("start", "labels"), [("noise", "hard"), ("real", "learned")], ids=["noise-hard", "real-learned"]
)
def test_from_any_number_of_points_on_from_one_a_class(data: LabelledData, space, start: str, labels: str):
    """One more than classes is what Theorem 5.3 has for deep linear networks."""
    for more in (0, 1, 5):
        made = condensed(data, space, examples=C + more, start=start, labels=labels)
        assert len(made) == C + more
        sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
        found = ridge(features(data, space, made.points), labels_of(made), 0.0) / made.record["findings"]["factor"]
        assert error(found, sought) < tolerance(made)


@pytest.mark.parametrize("name", ["linear", "leaky", "coupling", "deep linear, wide"])
@pytest.mark.parametrize("few", [1, 2])
def test_from_fewer_points_than_classes_the_rows_of_theirs(data: LabelledData, name: str, few: int):
    """Hard labels of some classes tell the rows of W of these, and nothing of the others."""
    space = SPACES[name]
    with pytest.warns(NumericalWarning, match=rf"the nearest miss them by .*; use at least {C} examples"):
        made = condensed(data, space, examples=few)
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), 0.0)
    nearest = np.where(np.arange(C)[:, None] < few, sought, 0)
    assert error(found, nearest) < tolerance(made)
    missed = np.linalg.norm(sought[few:]) / np.linalg.norm(sought)
    assert made.record["findings"]["error"] == pytest.approx(missed, rel=1e-9)


@pytest.mark.parametrize("root", ["small", "large"])
@pytest.mark.parametrize("name", ["linear", "leaky", "coupling"])
def test_with_a_penalty_on_the_synthetic_side(data: LabelledData, name: str, root):
    space, own = SPACES[name], 1e-4
    made = condensed(data, space, match(space[0], own=own), per_class=3, root=root)
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), own)
    assert error(found, sought) < 1e-11


def test_cosines_with_a_penalty_are_made_smaller_until_they_are_reached(data: LabelledData):
    space, own = SPACES["cosine"], 1e-3
    made = condensed(data, space, match(space[0], own=own), per_class=3, root="small")
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), own) / made.record["findings"]["factor"]
    assert error(found, sought) < 1e-9


@pytest.mark.parametrize("name", ["linear", "leaky", "coupling", "deep linear, wide"])
@pytest.mark.parametrize("labels", ["hard", "learned"])
@pytest.mark.parametrize("start", ["noise", "real"])
def test_an_intercept_is_learned_too(data: LabelledData, name: str, labels: str, start: str):
    space = SPACES[name]
    made = condensed(data, space, match(space[0], intercept=True), per_class=4, labels=labels, start=start)
    x, y = features(data, space, data.train.points), vectors(data)
    synthetic, own = features(data, space, made.points), labels_of(made)
    sought, found = ridge(x, y, PENALTY, intercept=True), ridge(synthetic, own, 0.0, intercept=True)
    assert error(found, sought) < tolerance(made)
    offsets = [b.mean(0) - w @ a.mean(0) for a, b, w in ((x, y, sought), (synthetic, own, found))]
    np.testing.assert_allclose(*offsets, atol=1e-8)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("labels", ["hard", "learned"])
@pytest.mark.parametrize("per_class", [1, 4])
def test_centred_labels(data: LabelledData, name: str, labels: str, per_class: int):
    """1/c is taken off the labels of both sides; W then has one rank less than there are classes."""
    space = SPACES[name]
    term = match(space[0], real=Ridge(penalty=PENALTY, centred=True))
    made = condensed(data, space, term, per_class=per_class, start="real", labels=labels)
    sought = ridge(features(data, space, data.train.points), vectors(data) - 1 / C, PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made) - 1 / C, 0.0) / made.record["findings"]["factor"]
    assert error(found, sought) < tolerance(made)
    assert made.record["findings"]["error"] < tolerance(made)


@pytest.mark.parametrize("name", ["linear", "leaky", "convolution", "cosine", "fewer cosines"])
def test_predictions_as_labels_keep_points_near_their_start(data: LabelledData, name: str):
    """With labels that are the predictions of W, the points stay nearer to the real ones; and no factor is left."""
    space, moved = SPACES[name], []
    start = None
    for labels in ("hard", "learned"):
        made = condensed(data, space, per_class=15, start="real", labels=labels)
        problem_start = Pixels(per_class=15, start="real").initial(data.train, 0)["points"]
        start = data.normalisation.invert(problem_start.double())
        moved.append(float((made.points - start).norm() / start.norm()))
        sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
        found = ridge(features(data, space, made.points), labels_of(made), 0.0)
        if labels == "learned":
            assert made.record["findings"]["factor"] == 1.0
            assert error(found, sought) < tolerance(made)
    assert moved[1] < 0.6 * moved[0]


@pytest.mark.parametrize("per_class", [4, 15])
@pytest.mark.parametrize("name", ["linear", "leaky", "cosine"])
def test_how_far_points_move_is_recorded(data: LabelledData, name: str, per_class: int):
    """With as many points as features their predictions are exact, and nothing that is reached has to move."""
    made = condensed(data, SPACES[name], per_class=per_class, start="real", labels="learned")
    start = Pixels(per_class=per_class, start="real").initial(data.train, 0)["points"].double()
    moved = data.normalisation.apply(made.points, torch.float64) - start
    assert made.record["findings"]["moved"] == pytest.approx(float(moved.norm() / start.norm()), abs=1e-12)
    assert (made.record["findings"]["moved"] < 1e-9) == (per_class * C >= D)
    assert "moved" not in condensed(data, SPACES[name], per_class=1).record["findings"]


def test_labels_for_points_as_they_are(data: LabelledData):
    """Theorem 4.2: exact from as many points as features on; below the residual is that of the projection."""
    sought = ridge(features(data, SPACES["linear"], data.train.points), vectors(data), PENALTY)
    for per_class, exact in ((14, True), (3, False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = condensed(data, SPACES["linear"], per_class=per_class, labels="learned", condense="labels")
        x = features(data, SPACES["linear"], made.points)
        missed = error(ridge(x, labels_of(made), 0.0), sought)
        span = np.linalg.pinv(x) @ x
        assert missed == pytest.approx(np.linalg.norm(sought @ (np.eye(D) - span)) / np.linalg.norm(sought), abs=1e-10)
        assert made.record["findings"]["error"] == pytest.approx(missed, abs=1e-10)
        assert (missed < 1e-10) == exact
        assert bool([item for item in caught if issubclass(item.category, NumericalWarning)]) != exact
        kept = Pixels(per_class=per_class, start="noise").initial(data.train, 0)["points"].double()
        torch.testing.assert_close(data.normalisation.apply(made.points, torch.float64), kept)


def test_labels_for_points_as_they_are_with_an_intercept(data: LabelledData):
    """Their means are what the real side predicts at the means of the features."""
    space = SPACES["linear"]
    made = condensed(data, space, match(space[0], intercept=True), per_class=14, labels="learned", condense="labels")
    x, y, own = features(data, space, data.train.points), vectors(data), features(data, space, made.points)
    sought = ridge(x, y, PENALTY, intercept=True)
    assert error(ridge(own, labels_of(made), 0.0, intercept=True), sought) < 1e-9
    expected = y.mean(0) + (own.mean(0) - x.mean(0)) @ sought.T
    np.testing.assert_allclose(labels_of(made).mean(0), expected, atol=1e-9)


def test_a_solution_is_restored(data: LabelledData):
    problem = Problem(data.train, match().as_objective(), Pool(size=1), Pixels(per_class=2, start="noise"), DOUBLE)
    first, second = ClosedForm().start(problem), ClosedForm().start(problem)
    solve(first)
    second.restore(first.state())
    assert second.step == second.steps == 1
    torch.testing.assert_close(second.parameters, first.parameters, rtol=0, atol=0)
    assert second.findings == first.findings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": match() + match().named("other")}, "solves one match of 'parameters' with learner 'ridge'"),
        ({"objective": replace(match(), by="class")}, "term 'parameters' must be by: none"),
        ({"context": Pool(size=2)}, "give the context kind: pool, size: 1, batch: all"),
        ({"context": Pool(size=1, batch=4)}, "give the context kind: pool, size: 1, batch: all"),
        ({"synthetic": Pixels(weights="learned")}, "pixels with equal weights and without 'clip'"),
        ({"synthetic": Pixels(clip=True)}, "pixels with equal weights and without 'clip'"),
        (
            {"solver": ClosedForm(condense="labels")},
            "'condense' is labels, so the synthetic set must have labels: learned",
        ),
        (
            {"objective": Match(Parameters(learner=Ridge(penalty=0.1, relative=True)), by="none")},
            "'relative' multiplies the penalty of the synthetic side by what is yet to be found",
        ),
        ({"objective": match(own=1e3)}, r"must be at most 1/\(4 σ²\) = .* lower it"),
        (
            {"objective": match(Features()), "context": Pool(size=1, network=MLP())},
            "'activation' must be one of leaky_relu, identity",
        ),
    ],
)
def test_what_cannot_be_solved_is_refused(data: LabelledData, changes, message: str):
    settings = {"objective": match(), "context": Pool(size=1), "synthetic": Pixels(), "solver": ClosedForm(), **changes}
    with pytest.raises(InvalidInput, match=message):
        condense(data, **settings)


def test_a_bounded_embedding_cannot_have_an_intercept(data: LabelledData):
    term = match(RandomCosine(lengthscale=6.0), intercept=True)
    with pytest.raises(InvalidInput, match="which with an 'intercept' cannot be divided"):
        condensed(data, SPACES["cosine"], term, per_class=2)
