"""The learner protocol: every row is what numpy learns from the same features; the record says what was learned, and where."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import r2_score, root_mean_squared_error
from torch import Tensor

from discrepancy import MMD, KernelRidge, Parameters, Ridge, Risk
from discrepancy.embeddings import Features, Layers, RandomCosine
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Gaussian
from discrepancy.learning.ridge import Validation
from discrepancy.networks import ConvNet
from experiments.cli import main
from experiments.data import Diabetes, Digits
from experiments.evaluate import (
    CONTROLS,
    ByLearner,
    Comparison,
    LearnerEvaluator,
    by_learner,
    comparison,
    held_out,
    learner_evaluator,
)
from experiments.evaluate.comparison import random_rows
from experiments.evaluate.learner_evaluator import UNSEEN
from objectives.condensation import condense
from objectives.contexts import Context, Fresh, Interpolated, Pool, Renewed, Trained, Watch
from objectives.data.labelled import LabelledData
from objectives.engine.extractor import Extractor
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.solvers import ClosedForm, Descent
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.training.training import Training

NETWORK = ConvNet(width=4, depth=2)
LEARNED = Pixels(per_class=1, labels="learned")
RIDGE = Match(Risk(learner=Ridge(penalty=0.1)), by="none")


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return Digits().load()


def compared(
    synthetic: SyntheticSet, data: LabelledData, protocol: ByLearner, controls: Any = CONTROLS, **options: Any
) -> Comparison:
    return comparison(synthetic, LearnerEvaluator(synthetic, data, protocol, **options), controls=controls)


def made(
    data: LabelledData,
    match: Any = RIDGE,
    context: Context | None = None,
    synthetic: Pixels = LEARNED,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> SyntheticSet:
    solver = options.pop("solver", None) or Descent(lr=0.02, steps=5)
    context = context or Fresh(batch=20)
    return condense(data, match, context=context, synthetic=synthetic, solver=solver, dtype=dtype, **options)


@pytest.fixture(scope="module")
def linear(digits: LabelledData) -> SyntheticSet:
    return made(digits)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, linear: SyntheticSet) -> Path:
    path = tmp_path_factory.mktemp("learner")
    linear.save(path / "a.safetensors")
    return path


# --- in numpy ---------------------------------------------------------------------------------------------------------

Embed = Callable[[Tensor], np.ndarray]


def flat(data: LabelledData) -> Embed:
    return lambda points: data.normalisation.apply(points, torch.float64).flatten(1).numpy()


def one_hot(data: LabelledData, rows: Any = slice(None)) -> np.ndarray:
    return np.eye(10)[data.train.labels.numbers[rows].numpy()]


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
    table = np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(x.shape[1]), x.T @ y / len(x))
    return lambda points: points @ table


def gaussian(x: np.ndarray, y: np.ndarray, penalty: float, length: float) -> Callable[[np.ndarray], np.ndarray]:
    gram = lambda a, b: np.exp(-cdist(a, b, "sqeuclidean") / (2 * length**2))  # noqa: E731
    coefficients = np.linalg.solve(gram(x, x) + penalty * len(x) * np.eye(len(x)), y)
    return lambda points: gram(points, x) @ coefficients


def scores(data: LabelledData, features: Embed, predict: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    assert data.test is not None
    answers, labels = predict(features(data.test.points)), data.test.labels.numbers.numpy()
    return (answers.argmax(1) == labels).mean(), np.square(answers - np.eye(10)[labels]).sum(1).mean()


def assert_row(row: Any, expected: list[tuple[float, float]]) -> None:
    assert row.accuracies == pytest.approx([accuracy for accuracy, _ in expected])
    assert row.risk == pytest.approx([risk for _, risk in expected], rel=1e-8)


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


# --- networks ---------------------------------------------------------------------------------------------------------


def network_features(data: LabelledData, number: int, seed: int = 0) -> Embed:
    initial = NETWORK.initial(rng(seed, "network", number), data.shape, 10, affine=False)
    weights = {name: value.double() for name, value in initial.items()}

    def features(points: Tensor) -> np.ndarray:
        normalised = data.normalisation.apply(points, torch.float64)
        return NETWORK(weights, normalised, ("features",))["features"].flatten(1).numpy()

    return features


OF_FEATURES = Match(Risk(learner=Ridge(penalty=0.01)), via=Features(), by="none")


@pytest.mark.parametrize(
    ("context", "numbers"),
    [
        (Fresh(network=NETWORK, batch=9), [UNSEEN, UNSEEN + 1, UNSEEN + 2]),
        (Pool(network=NETWORK, size=2, batch=9), [0, 1]),
    ],
    ids=["fresh ones are new", "a pool comes back"],
)
def test_sets_are_judged_in_the_networks_of_the_context(digits: LabelledData, context: Any, numbers: list[int]) -> None:
    synthetic = made(digits, OF_FEATURES, context)
    judge = LearnerEvaluator(synthetic, digits, ByLearner(networks=3))
    assert sorted(evaluation_draw.draw.network for evaluation_draw in judge.evaluation_draws) == numbers
    found = compared(synthetic, digits, ByLearner(networks=3), controls=("whole",))
    assert synthetic.labels is not None
    met = [network_features(digits, evaluation_draw.draw.network) for evaluation_draw in judge.evaluation_draws]
    expected = [scores(digits, phi, ridge(phi(synthetic.points), synthetic.labels.numpy(), 0.01)) for phi in met]
    assert_row(found.rows["condensed"], expected)
    whole = [scores(digits, phi, ridge(phi(digits.train.points), one_hot(digits), 0.01)) for phi in met]
    assert_row(found.rows["whole"], whole)


def test_networks_are_trained_on_the_set_that_is_judged(digits: LabelledData) -> None:
    training = Training(on="synthetic", steps=1, batch=100, lr=0.1, loss="squared")
    context = Renewed(network=NETWORK, size=1, keep=100, training=training, batch=9)
    synthetic = made(digits, OF_FEATURES, context, solver=Descent(lr=0.02, steps=20), dtype=torch.float32)
    judge = LearnerEvaluator(synthetic, digits, ByLearner(networks=2))
    assert [evaluation_draw.rounds for evaluation_draw in judge.evaluation_draws] == [5, 15]
    own, real = judge.condensed(synthetic)["condensed"], judge.real(random_rows((1,) * 10, digits.train, 0, 0))
    small, other = judge._tensors(own), judge._tensors(real)
    evaluation_draw = judge.evaluation_draws[1]
    first, again, second = (judge._weights(evaluation_draw, examples) for examples in (small, small, other))
    assert all(value.equal(again[name]) for name, value in first.items())
    assert not any(value.equal(second[name]) for name, value in first.items() if "weight" in name)
    logits = NETWORK(first, small[0], ("logits",))["logits"]
    before = NETWORK(judge.context.initial(evaluation_draw.draw.network), small[0], ("logits",))
    error = lambda answers: float((answers - small[1] + 0.1).square().sum(1).mean())  # noqa: E731
    assert error(logits) < error(before["logits"])


def test_weights_lie_between_those_before_and_after_training(digits: LabelledData) -> None:
    context = Interpolated(network=NETWORK, size=2, trained=2, training=Training(on="real", steps=1, lr=0.1), batch=9)
    judge = LearnerEvaluator(made(digits, OF_FEATURES, context), digits, ByLearner(networks=1))
    (evaluation_draw,) = judge.evaluation_draws
    draw = evaluation_draw.draw
    trained = replace(evaluation_draw, draw=replace(draw, mixture=1.0))
    before, after = judge.context.initial(draw.network), judge._weights(trained, None)
    assert 0 < draw.mixture < 1
    for name, value in judge._weights(evaluation_draw, None).items():
        torch.testing.assert_close(value, before[name] + draw.mixture * (after[name] - before[name]))
        assert not value.equal(after[name])


def test_training_that_a_run_decides_cannot_be_done_again(digits: LabelledData) -> None:
    context = Trained(
        network=NETWORK, training=Training(on="real", steps=1), batch=9, watch=Watch(window=2, most=2, examples=3)
    )
    synthetic = made(digits, OF_FEATURES, context, dtype=torch.float32)
    with pytest.raises(InvalidInput, match=r"'trained' ends the training .* cannot be done again"):
        compared(synthetic, digits, ByLearner())


# --- in parts ---------------------------------------------------------------------------------------------------------


def test_features_are_made_in_parts(
    digits: LabelledData, linear: SyntheticSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compared(linear, digits, ByLearner(), controls=("whole",))
    monkeypatch.setattr(learner_evaluator, "PART_EXAMPLES", 97)
    sizes, taken = [], Extractor.__call__

    def watched(self: Any, parameters: Any, points: Tensor, *rest: Any, **options: Any) -> Any:
        sizes.append(len(points))
        return taken(self, parameters, points, *rest, **options)

    monkeypatch.setattr(Extractor, "__call__", watched)
    parts = compared(linear, digits, ByLearner(), controls=("whole",))
    assert max(sizes) == 97
    for name, row in whole.rows.items():
        assert parts.rows[name].risk == pytest.approx(row.risk, rel=1e-9)


# --- what holds no learner --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "term", "message"),
    [
        (Match(MMD()), None, "holds no learner to evaluate it by: none of the terms of its objective holds one"),
        (RIDGE, "other", "term 'other' of its objective is not there, or holds none"),
        (RIDGE.named("a") + RIDGE.named("b"), None, "the terms a, b hold a learner each; .* --set term=a"),
        (
            Match(Risk(learner=Ridge(penalty=0.1)), by="class"),
            None,
            "term 'risk' is by: class, so a learner of its own",
        ),
        (
            Match(Risk(learner=Ridge(penalty=0.1)), via=Layers(), by="none"),
            None,
            "term 'risk' (learns from . blocks apart|does not learn from single features)",
        ),
    ],
    ids=["none", "no such term", "several", "by class", "layers"],
)
def test_what_cannot_be_judged_is_refused_with_what_to_do(
    digits: LabelledData, objective: Any, term: str | None, message: str
) -> None:
    synthetic = made(digits, objective, Fresh(network=NETWORK, batch=5), Pixels(per_class=1))
    with pytest.raises(InvalidInput, match=message):
        compared(synthetic, digits, ByLearner(term=term))


def test_a_set_without_record_is_refused_and_judged_by_a_learner_that_is_named(
    digits: LabelledData, linear: SyntheticSet
) -> None:
    bare = replace(linear, record={})
    with pytest.raises(
        InvalidInput, match=r"holds no learner .* its record has no objective; train networks .* --set learner"
    ):
        compared(bare, digits, ByLearner())
    own, named = (
        compared(synthetic, digits, protocol, controls=()).rows["condensed"]
        for synthetic, protocol in ((linear, ByLearner()), (bare, by_learner(["learner={kind: ridge, penalty: 0.1}"])))
    )
    assert named.risk == own.risk


def test_other_data_are_refused(digits: LabelledData, linear: SyntheticSet) -> None:
    with pytest.raises(InvalidInput, match=r"the set has the classes a, b, .*, but 'digits' has the classes 0"):
        compared(replace(linear, classes=tuple("abcdefghij")), digits, ByLearner())
    with pytest.raises(InvalidInput, match="'via' and 'whole' go with a 'learner' of their own"):
        ByLearner(via=Features())
    with pytest.raises(InvalidInput, match="'networks' must be at least 1, got 0"):
        ByLearner(networks=0)


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_hash_is_of_what_learns_and_on_what(digits: LabelledData, linear: SyntheticSet) -> None:
    protocol = LearnerEvaluator(linear, digits, ByLearner()).protocol
    same = LearnerEvaluator(made(digits, seed=3), digits, ByLearner(name="own")).protocol
    other = LearnerEvaluator(
        made(digits, Match(Risk(learner=Ridge(penalty=0.2)), by="none")), digits, ByLearner()
    ).protocol
    features = LearnerEvaluator(made(digits, OF_FEATURES, Pool(network=NETWORK)), digits, ByLearner()).protocol
    assert protocol.hash == same.hash
    assert len({protocol.hash, other.hash, features.hash, replace(protocol, networks=4).hash}) == 4
    assert (protocol.title, features.title) == ("ridge on points", "ridge on features of convnet")
    assert (protocol.dtype, features.network) == ("float64", NETWORK)


@pytest.mark.parametrize("name", ["learner", "ridge"])
def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    asked = ["evaluate", str(folder / "a.safetensors"), "--protocol", name, "--data", "digits", "--quiet"]
    assert main([*asked, "--networks", "2", "--controls", "random,whole"]) == 0
    lines = capsys.readouterr().out.splitlines()
    columns = ["set", "examples", "labels", "test accuracy %", "std", "test MSE", "n", "stored", "time"]
    assert re.split(r"\s\s+", lines[0]) == columns
    assert [line[:11].strip() for line in lines[1:6]] == ["condensed", "in float32", "in 8 bits", "random", "whole"]
    assert "digits, learner ridge on points (" in lines[6]
    assert "in closed form" in lines[6]
    assert main([*asked, "--controls", "none", "--set", "learner.penalty=3", "--json"]) == 2
    assert main([*asked, "--controls", "none", "--set", "learner={kind: ridge, penalty: 3}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"]["learner"] == {"kind": "ridge", "penalty": 3.0}
    assert found["rows"]["condensed"]["protocol_hash"] == found["protocol"]["hash"]
