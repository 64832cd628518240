"""Closed forms on large, degenerate and unlabelled data: precision, parts, penalties, targets."""

from contextlib import nullcontext
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
from torch import Tensor

from discrepancy import Ridge
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.learning.ridge import Validation
from discrepancy.networks import MLP
from objectives import LabelledData, Pixels, Pool, SyntheticSet, condense
from objectives.engine.real_side import STREAMED_BYTES
from objectives.solvers import ClosedForm, Problem
from objectives.terms.match import BoundMatch

__all__ = ["data"]


@pytest.mark.parametrize("kept", [0, 2**30])
def test_mixed_precision_finds_the_weights_of_double_precision(
    data: LabelledData, monkeypatch: pytest.MonkeyPatch, kept: int
):
    """Those of features in float32, to the last digits; with and without an intercept, and with a penalty over the spread;
    features kept or made again."""
    monkeypatch.setattr("objectives.solvers.closed_form.closed_form.KEPT_BYTES", kept)
    for learner in (
        Ridge(penalty=PENALTY),
        Ridge(penalty=1e-4, intercept=True),
        Ridge(penalty=1e-3, relative=True, centred=True),
    ):
        made = condensed(data, SPACES["linear"], match(real=learner), per_class=4, precision="mixed")
        x = data.normalisation.apply(data.train.points).flatten(1).double().numpy()
        spread = ((x - x.mean(0)) ** 2).sum() / len(x) if learner.intercept else (x**2).sum() / len(x)
        penalty = learner.number * (spread if learner.relative else 1.0)
        shift = 1 / C if learner.centred else 0.0
        sought = ridge(x, vectors(data) - shift, penalty, learner.intercept)
        found = ridge(features(data, SPACES["linear"], made.points), labels_of(made) - shift, 0.0, learner.intercept)
        assert error(found, sought) < 1e-11


@pytest.mark.parametrize("nbytes", [1, 5 * 8 * 64, 1 << 30])
def test_the_real_side_comes_in_parts_of_bounded_size(data: LabelledData, monkeypatch: pytest.MonkeyPatch, nbytes: int):
    monkeypatch.setitem(STREAMED_BYTES, "cpu", nbytes)
    some = Problem(data.train, match().named("ridge"), Pool(size=1), Pixels(per_class=1), DOUBLE)
    engine = some.engine(1)
    bound = engine.terms["ridge"]
    assert isinstance(bound, BoundMatch)
    parts = [measure.rows[0] for measure in engine.real_side.streamed(0, bound)]
    size = max(1, nbytes // (8 * D))
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert len(parts[-1]) <= size
    together, every = torch.cat(parts), data.normalisation.apply(data.train.points, torch.float64).flatten(1)
    torch.testing.assert_close(together.sort(0).values, every.sort(0).values)


def test_the_penalty_is_chosen_once_and_recorded(data: LabelledData):
    learner = Ridge(penalty=Validation(lowest=1e-4, highest=1.0, share=0.2))
    made = condensed(data, SPACES["linear"], match(real=learner))
    number = made.record["findings"]["penalty"]
    assert 1e-4 <= number <= 1.0
    sought = ridge(features(data, SPACES["linear"], data.train.points), vectors(data), number)
    assert error(ridge(features(data, SPACES["linear"], made.points), labels_of(made), 0.0), sought) < 1e-12


def test_the_artefact_is_exact_and_one_of_float32_is_not(data: LabelledData, tmp_path):
    sought = ridge(features(data, SPACES["linear"], data.train.points), vectors(data), PENALTY)
    made = condensed(data, SPACES["linear"], per_class=2)
    made.save(tmp_path / "exact.safetensors")
    again = SyntheticSet.load(tmp_path / "exact.safetensors")
    assert error(ridge(features(data, SPACES["linear"], again.points), labels_of(again), 0.0), sought) < 1e-13
    assert again.record["findings"] == made.record["findings"]
    rounded = condense(
        data,
        match(),
        context=Pool(size=1),
        synthetic=Pixels(per_class=2, start="noise"),
        solver=ClosedForm(),
        dtype=torch.float32,
    )
    assert rounded.points.dtype == torch.float32
    assert 1e-9 < rounded.record["findings"]["error"] < 1e-5


@pytest.mark.parametrize(
    "trouble",
    [
        "collinear",
        "constant",
        "fewer examples than features",
        "no penalty",
        "neither examples nor penalty",
        "a chosen penalty",
        "soft labels",
        "an empty feature",
    ],
)
@pytest.mark.parametrize(("name", "intercept"), [("linear", True), ("leaky", False)])
def test_troubled_data(data: LabelledData, trouble: str, name: str, intercept: bool):
    points, labels, learner, y = data.train.points.clone(), data.train.strata, Ridge(penalty=PENALTY), vectors(data)
    flat = points.flatten(1)
    given: Tensor = labels
    if trouble == "collinear":
        flat[:, 3] = 2 * flat[:, 4]
    if trouble == "constant":
        flat[:, 5] = 3.0
    if trouble == "an empty feature":
        flat[:, 0] = 0.0
    if trouble in ("fewer examples than features", "neither examples nor penalty"):
        flat, given, y = flat[::5], labels[::5], y[::5]
    if trouble == "no penalty":
        flat[:, 3], learner = 2 * flat[:, 4], Ridge(penalty=0.0)
    if trouble == "neither examples nor penalty":
        learner = Ridge(penalty=0.0)
    if trouble == "a chosen penalty":
        flat[:, 3], learner = 2 * flat[:, 4], Ridge(penalty=Validation())
    if trouble == "soft labels":
        given = torch.rand(len(flat), C, generator=torch.Generator().manual_seed(1)).softmax(1)
    troubled, space = LabelledData.of(flat, given), SPACES[name]
    if troubled.train.labels.kind == "soft":
        y = troubled.train.labels.rows.double().numpy()
    rounded = trouble == "soft labels" and intercept  # to float32: their sum is not quite 1, but that of hard ones is
    says = pytest.warns(NumericalWarning, match="use labels: learned") if rounded else nullcontext()
    with says:
        made = condensed(troubled, space, match(space[0], replace(learner, intercept=intercept)), per_class=2)
    sought = ridge(features(troubled, space, flat), y, made.record["findings"]["penalty"], intercept)
    found = ridge(features(troubled, space, made.points), labels_of(made), 0.0, intercept)
    assert error(found, sought) < (1e-6 if rounded else max(tolerance(made), 1e-12))


def test_nothing_is_learned_where_nothing_differs(data: LabelledData):
    """Of constant features an intercept is all, W is zero, and so is its error."""
    same = LabelledData.of(torch.full((20, 4), 3.0, dtype=torch.float64), torch.arange(20) % 2)
    made = condensed(same, SPACES["linear"], match(intercept=True), per_class=2)
    assert made.record["findings"]["norm"] == 0
    assert made.record["findings"]["error"] < 1e-14
    found = ridge(made.points.numpy(), np.eye(2)[np.array([0, 0, 1, 1])], 0.0, intercept=True)
    assert np.abs(found).max() < 1e-14


def with_targets(columns: int) -> LabelledData:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(6, columns, generator=generator).double() + torch.randn(40, columns, generator=generator)
    return LabelledData.with_targets(x, y)


def test_targets_of_a_regression():
    """One example is enough for one target; for two targets it is not, and then it is said by how much they are missed."""
    one = with_targets(1)
    settings = {
        "synthetic": Pixels(examples=1),
        "context": Pool(size=1),
        "solver": ClosedForm(),
        "dtype": torch.float64,
    }
    made = condense(one, match(), **settings)
    assert one.target_units is not None
    assert one.train.labels.kind == "targets"
    x = one.normalisation.apply(one.train.points, torch.float64).numpy()
    sought = ridge(x, one.target_units.apply(one.train.labels.rows, torch.float64).numpy(), PENALTY)
    targets = made.labelling.vectors(1)
    assert targets is not None
    kept = one.normalisation.apply(made.points, torch.float64).numpy()
    assert error(ridge(kept, targets.double().numpy(), 0.0), sought) < 1e-6  # targets are kept in float32
    assert made.record["findings"]["error"] < 1e-13
    with pytest.warns(
        NumericalWarning, match=r"the labels of the 1 synthetic examples have rank 1, .* miss them by 0\."
    ):
        condense(with_targets(2), match(), **settings)


def test_what_is_not_reached_is_taken_from_nearby_where_asked_for(data: LabelledData):
    space = (Features(), MLP(width=D + 9, depth=1, activation="leaky_relu"))
    with pytest.raises(InvalidInput, match="reaches only a part of all the features"):
        condensed(data, space, per_class=2)
    with pytest.warns(NumericalWarning, match="weights are learned that differ from those of the real data by"):
        made = condensed(data, space, per_class=2, nearest=True)
    sought = ridge(features(data, space, data.train.points), vectors(data), PENALTY)
    found = ridge(features(data, space, made.points), labels_of(made), 0.0)
    assert made.record["findings"]["error"] == pytest.approx(error(found, sought), rel=1e-6)
