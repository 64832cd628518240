"""Batches and summaries for tests of the engine, in plain torch."""

import torch
from torch import Tensor, nn

from discrepancy.networks import ConvNet
from objectives.data.labelled import LabelledData
from objectives.rng import rng

__all__ = ["BATCH", "batch_of", "means", "module"]


def module(parameters: dict[str, Tensor], channels: int) -> nn.Sequential:
    """The published ConvNet up to its features, of torch's own modules, with these weights."""
    layers: list[nn.Module] = []
    for number in (1, 2):
        convolution = nn.Conv2d(channels if number == 1 else 8, 8, 3, padding=1, bias=False)
        convolution.weight.data = parameters[f"conv{number}.weight"]
        layers += [convolution, nn.GroupNorm(8, 8), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


def batch_of(data: LabelledData, size: int, seed: int, number: int) -> dict[int, Tensor]:
    """The real examples of each class in the batch of this number."""
    indices = data.train.class_batch(rng(seed, "batch", number), size)
    return {c: indices[data.train.labels.numbers[indices] == c] for c in range(data.count)}


def means(points: Tensor, labels: Tensor, count: int) -> Tensor:
    return torch.stack([points[labels == c].double().mean(0).flatten() for c in range(count)])


BATCH = ConvNet(width=8, depth=2, norm="batch")
