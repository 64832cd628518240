"""Small data, protocols and networks for evaluations."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from discrepancy.networks import ConvNet
from experiments.evaluate import (
    NetworkEvaluator,
    Protocol,
    TrainingSet,
)
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime

__all__ = ["SMALL", "digits", "few", "trained"]


SMALL = Protocol(network=ConvNet(width=5, depth=2), networks=2, epochs=7, batch=13, lr=0.05)


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    bunch = load_digits()
    points, labels = torch.tensor(bunch.images, dtype=torch.float32)[:, None], torch.tensor(bunch.target)
    return LabelledData.of(points[:600], labels[:600], test=(points[600:900], labels[600:900]), name="digits")


@pytest.fixture(scope="module")
def few(digits: LabelledData) -> TrainingSet:
    return TrainingSet(digits.normalisation.apply(digits.train.points[:29]), digits.train.labels.take(torch.arange(29)))


def trained(
    examples: TrainingSet, data: LabelledData, protocol: Protocol, seed: int = 3
) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]] | None]:
    evaluator = NetworkEvaluator(data, protocol, runtime=Runtime(seed, compile="never")).suited(examples)
    parameters, statistics = evaluator.trained(examples, 0)
    return dict(parameters), statistics
