"""An evaluation by a learner on the features of networks, as the run drew and trained them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learning import NETWORK, OF_FEATURES, Embed, assert_row, compared, digits, linear, made, one_hot, ridge, scores
from torch import Tensor

from discrepancy.errors import InvalidInput
from experiments.evaluate import (
    ByLearner,
    LearnerEvaluator,
    learner_evaluator,
)
from experiments.evaluate.learner_evaluator import UNSEEN
from experiments.evaluate.real_rows import random_rows
from objectives.contexts import Fresh, Interpolated, Pool, Renewed, Trained, Watch
from objectives.data.labelled import LabelledData
from objectives.engine.extractor import Extractor
from objectives.rng import rng
from objectives.solvers import Descent
from objectives.synthetic.artefact import SyntheticSet
from objectives.training.training import Training

__all__ = ["digits", "linear"]


# --- networks ---------------------------------------------------------------------------------------------------------


def network_features(data: LabelledData, number: int, seed: int = 0) -> Embed:
    initial = NETWORK.initial(rng(seed, "network", number), data.shape, 10, affine=False)
    weights = {name: value.double() for name, value in initial.items()}

    def features(points: Tensor) -> np.ndarray:
        normalised = data.normalisation.apply(points, torch.float64)
        return NETWORK(weights, normalised, ("features",))["features"].flatten(1).numpy()

    return features


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
