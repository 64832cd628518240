"""The learner protocol: every row is what numpy learns from the same features; the record says what was learned, and where."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import Embed, assert_row, compared, digits, linear, made, one_hot, ridge, scores
from scipy.spatial.distance import cdist
from sklearn.metrics import r2_score, root_mean_squared_error

from discrepancy import KernelRidge, Parameters, Ridge, Risk
from discrepancy.embeddings import RandomCosine
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Gaussian
from discrepancy.learning.ridge import Validation
from experiments.data import Diabetes
from experiments.evaluate import (
    ByLearner,
    LearnerEvaluator,
    held_out,
)
from experiments.evaluate.real_rows import random_rows
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.solvers import ClosedForm
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match

__all__ = ["digits", "linear"]


# --- in numpy ---------------------------------------------------------------------------------------------------------


def flat(data: LabelledData) -> Embed:
    return lambda points: data.normalisation.apply(points, torch.float64).flatten(1).numpy()


def gaussian(x: np.ndarray, y: np.ndarray, penalty: float, length: float) -> Callable[[np.ndarray], np.ndarray]:
    gram = lambda a, b: np.exp(-cdist(a, b, "sqeuclidean") / (2 * length**2))  # noqa: E731
    coefficients = np.linalg.solve(gram(x, x) + penalty * len(x) * np.eye(len(x)), y)
    return lambda points: gram(points, x) @ coefficients


# --- rows -------------------------------------------------------------------------------------------------------------


def test_every_row_is_that_of_numpy(digits: LabelledData, linear: SyntheticSet) -> None:
    found = compared(linear, digits, ByLearner(networks=3), controls=("random", "herding", "whole"))
    phi, train = flat(digits), digits.train.points
    assert linear.labels is not None
    y = linear.labels.numpy()
    assert list(found.rows) == ["condensed", "in float32", "in 8 bits", "random", "herding", "whole"]
    assert_row(found.rows["condensed"], [scores(digits, phi, ridge(phi(linear.points), y, 0.1))])
    single = linear.points.float().double()
    assert_row(found.rows["in float32"], [scores(digits, phi, ridge(phi(single), y, 0.1))])
    bits = (linear.points / 16 * 255).round().clamp(0, 255) / 255 * 16
    assert_row(found.rows["in 8 bits"], [scores(digits, phi, ridge(phi(bits), y, 0.1))])
    drawn = [random_rows((1,) * 10, digits.train, 0, trial) for trial in range(3)]
    assert_row(
        found.rows["random"],
        [scores(digits, phi, ridge(phi(train[rows]), one_hot(digits, rows), 0.1)) for rows in drawn],
    )
    assert_row(found.rows["whole"], [scores(digits, phi, ridge(phi(train), one_hot(digits), 0.1))])
    assert [row.labels for row in found.rows.values()] == ["scores"] * 3 + ["hard"] * 3
    assert (found.rows["condensed"].loss, found.rows["whole"].examples) == ("squared", len(digits.train))


def test_bytes_after_rounding_are_those_that_are_stored(digits: LabelledData, linear: SyntheticSet) -> None:
    rows = compared(linear, digits, ByLearner(), controls=()).rows
    assert [row.stored_bytes for row in rows.values()] == [10 * (64 * size + 80) for size in (8, 4, 1)]


def test_rounding_is_reported_of_what_is_more_exact_than_that(digits: LabelledData) -> None:
    single = made(digits, dtype=torch.float32)
    assert list(compared(single, digits, ByLearner(), controls=()).rows) == ["condensed"]


def test_kernel_ridge_learns_from_the_whole_below_a_cap(digits: LabelledData) -> None:
    kernel = Risk(learner=KernelRidge(kernel=Gaussian(lengthscale=8.0), penalty=1e-3))
    synthetic = made(digits, Match(kernel, by="none"))
    found = compared(synthetic, digits, ByLearner(), controls=("whole",))
    phi = flat(digits)
    assert synthetic.labels is not None
    learned = gaussian(phi(synthetic.points), synthetic.labels.numpy(), 1e-3, 8.0)
    assert_row(found.rows["condensed"], [scores(digits, phi, learned)])
    assert_row(
        found.rows["whole"], [scores(digits, phi, gaussian(phi(digits.train.points), one_hot(digits), 1e-3, 8.0))]
    )
    with pytest.raises(InvalidInput, match=r"learn from all 1,437 real examples at once.* --set most=1437"):
        compared(synthetic, digits, ByLearner(most=1436), controls=("whole",))


def test_hard_labels_of_a_set_with_scores(digits: LabelledData, linear: SyntheticSet) -> None:
    phi, hard = flat(digits), linear.hardened()
    found = compared(hard, digits, ByLearner(), controls=())
    assert_row(found.rows["condensed"], [scores(digits, phi, ridge(phi(linear.points), np.eye(10), 0.1))])
    assert found.rows["condensed"].labels == "hard"


def test_centred_labels_are_answered_in_full(digits: LabelledData) -> None:
    synthetic = made(digits, Match(Risk(learner=Ridge(penalty=0.1, centred=True)), by="none"))
    phi = flat(digits)
    assert synthetic.labels is not None
    predict = ridge(phi(synthetic.points), synthetic.labels.numpy() - 0.1, 0.1)
    row = compared(synthetic, digits, ByLearner(), controls=()).rows["condensed"]
    assert_row(row, [scores(digits, phi, lambda points: predict(points) + 0.1)])


def test_targets_have_errors_in_their_own_units() -> None:
    data = Diabetes().load()
    synthetic = made(data, synthetic=Pixels(examples=12, labels="learned"))
    found = compared(synthetic, data, ByLearner(networks=2))
    units, test = data.target_units, data.test
    assert units is not None
    assert test is not None
    assert synthetic.labels is not None
    phi = flat(data)
    t = units.apply(synthetic.labels[:, None], torch.float64).numpy()
    answers = units.invert(torch.tensor(ridge(phi(synthetic.points), t, 0.1)(phi(test.points))))
    row = found.rows["condensed"]
    assert row.rmse == pytest.approx([root_mean_squared_error(test.labels.rows, answers)])
    assert row.r2 == pytest.approx([r2_score(test.labels.rows, answers)])
    assert "in 8 bits" not in found.rows
    assert len(found.rows["random"].rmse) == 2


def test_validation_takes_the_held_out_part(digits: LabelledData, linear: SyntheticSet) -> None:
    part, phi = held_out(digits, 4), flat(digits)
    record = {name: value for name, value in linear.record.items() if name not in ("fingerprint", "sketch")}
    unknown = replace(linear, record=record)  # that it has seen all the training examples
    found = compared(unknown, digits, ByLearner(), controls=("whole",), runtime=Runtime(seed=4), validation=True)
    assert linear.labels is not None
    assert_row(found.rows["condensed"], [scores(part, phi, ridge(phi(linear.points), linear.labels.numpy(), 0.1))])
    assert_row(found.rows["whole"], [scores(part, phi, ridge(phi(part.train.points), one_hot(part), 0.1))])
    assert found.rows["condensed"].validation


# --- closed form ------------------------------------------------------------------------------------------------------


def test_what_is_condensed_exactly_predicts_as_the_whole(digits: LabelledData) -> None:
    match = Match(Parameters(learner=Ridge(penalty=Validation()), synthetic=Ridge(penalty=0)), by="none")
    synthetic = made(
        digits,
        match,
        Pool(size=1),
        Pixels(per_class=1, start="noise"),
        solver=ClosedForm(),
    )
    found = compared(synthetic, digits, ByLearner(), controls=("whole",))
    condensed, whole = found.rows["condensed"], found.rows["whole"]
    assert condensed.accuracies == whole.accuracies
    assert condensed.risk == pytest.approx(whole.risk, rel=1e-9)
    protocol = found.protocol
    assert isinstance(protocol, ByLearner)
    assert (protocol.learner, protocol.whole) == (
        Ridge(penalty=0),
        Ridge(penalty=synthetic.record["findings"]["penalty"]),
    )


def test_predictions_are_divided_by_the_factor_that_a_bounded_embedding_needs() -> None:
    match = Match(
        Parameters(learner=Ridge(penalty=1e-3), synthetic=Ridge(penalty=0)),
        via=RandomCosine(features=10, lengthscale=2.0),
        by="none",
    )
    data = Diabetes().load()
    synthetic = made(data, match, Pool(size=1), Pixels(examples=3), solver=ClosedForm())
    rows = compared(synthetic, data, ByLearner(), controls=("whole",)).rows
    assert synthetic.record["findings"]["factor"] > 1.1
    assert rows["condensed"].rmse == pytest.approx(rows["whole"].rmse, rel=1e-9)


def test_a_penalty_that_no_record_has_is_chosen_again(digits: LabelledData) -> None:
    match = Match(Parameters(learner=Ridge(penalty=Validation(lowest=1e-3, highest=1e3, per_decade=1))), by="none")
    judge = LearnerEvaluator(made(digits, match, Pool(size=1, batch="all")), digits, ByLearner())
    phi, held = flat(digits), np.arange(1, len(digits.train) + 1) * (5**0.5 - 1) / 2 % 1 < 0.05
    x, y = phi(digits.train.points), one_hot(digits)
    risks = {
        penalty: np.square(ridge(x[~held], y[~held], penalty)(x[held]) - y[held]).sum(1).mean()
        for penalty in 10.0 ** np.arange(-3, 4)
    }
    assert isinstance(judge.learner, Ridge)
    assert judge.learner.penalty == pytest.approx(min(risks, key=risks.__getitem__))
    assert judge.whole_learner == judge.learner
