"""Small sets whose objective holds a learner, and ridge regression in numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discrepancy import Ridge, Risk
from discrepancy.embeddings import Features
from discrepancy.networks import ConvNet
from experiments.data import Digits
from experiments.evaluate import (
    CONTROLS,
    ByLearner,
    Comparison,
    LearnerEvaluator,
    comparison,
)
from objectives.condensation import condense
from objectives.contexts import Context, Fresh
from objectives.data.labelled import LabelledData
from objectives.solvers import Descent
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match

__all__ = [
    "Embed",
    "LEARNED",
    "NETWORK",
    "OF_FEATURES",
    "RIDGE",
    "assert_row",
    "compared",
    "digits",
    "linear",
    "made",
    "one_hot",
    "ridge",
    "scores",
]


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


Embed = Callable[[Tensor], np.ndarray]


def one_hot(data: LabelledData, rows: Any = slice(None)) -> np.ndarray:
    return np.eye(10)[data.train.labels.numbers[rows].numpy()]


def ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> Callable[[np.ndarray], np.ndarray]:
    table = np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(x.shape[1]), x.T @ y / len(x))
    return lambda points: points @ table


def scores(data: LabelledData, features: Embed, predict: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    assert data.test is not None
    answers, labels = predict(features(data.test.points)), data.test.labels.numbers.numpy()
    return (answers.argmax(1) == labels).mean(), np.square(answers - np.eye(10)[labels]).sum(1).mean()


def assert_row(row: Any, expected: list[tuple[float, float]]) -> None:
    assert row.accuracies == pytest.approx([accuracy for accuracy, _ in expected])
    assert row.risk == pytest.approx([risk for _, risk in expected], rel=1e-8)


OF_FEATURES = Match(Risk(learner=Ridge(penalty=0.01)), via=Features(), by="none")
