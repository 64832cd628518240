"""Training a network from scratch on 100 colour images of 32 x 32 (ConvNet-3, width 32), and testing it on 2,000 others.

Ours, compiled and eager, against a plain loop over an eager ``torch.nn.Module``, written here as the papers' codes do it; each
action is one network, and networks follow one another in all of them. The last action is not training: it is the convolutions
alone, forward and backward, in the layout that suits them best, which no training can be faster than.
"""

import time
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from discrepancy.networks import ConvNet
from experiments.benchmarks.timing import beside
from experiments.evaluate import Protocol, TrainingSet, evaluate
from objectives.data.labelled import LabelledData
from objectives.engine.compile import Policy
from objectives.engine.runtime import Runtime

__all__ = ["rows"]

CLASSES, EXAMPLES, TEST = 10, 100, 2_000


def rows(rounds: int = 5, width: int = 32, epochs: int = 101, policy: Policy = "always") -> list[dict[str, Any]]:
    """The measurements, one mapping a row; ``rounds`` networks are trained in each way."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(0, 256, (EXAMPLES + TEST, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(EXAMPLES + TEST) % CLASSES
    data = LabelledData.of(points[:EXAMPLES], labels[:EXAMPLES], test=(points[EXAMPLES:], labels[EXAMPLES:]))
    protocol = Protocol(network=ConvNet(width=width), networks=1, epochs=epochs)
    training_set = TrainingSet(data.train.normalised(torch.arange(len(data.train))), data.train.labels)

    def ours(policy: Policy) -> None:
        evaluate(training_set, data, protocol, Runtime(compile=policy))

    started = time.perf_counter()
    evaluate(training_set, data, Protocol(network=ConvNet(width=width), networks=1, epochs=1), Runtime(compile=policy))
    cold = time.perf_counter() - started
    actions = {
        "eager modules": partial(eager_modules, training_set, data, width, epochs),
        "ours, eager": partial(ours, "never"),
        "ours, compiled beforehand": partial(ours, policy),
        "the convolutions alone": partial(convolutions, width, epochs),
    }
    what = f"a network of width {width}, {epochs} epochs on {EXAMPLES} images"
    return [
        *(row | {"what": f"{what}: {row['what']}"} for row in beside(actions, rounds)),
        {"what": "one epoch with compilation, once a process", "seconds": cold, "ratio": None},
    ]


def eager_modules(training_set: TrainingSet, data: LabelledData, width: int, epochs: int) -> float:
    """The accuracy by the plain loop."""
    assert data.test is not None
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(3):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.GroupNorm(width, width),
            nn.ReLU(True),
            nn.AvgPool2d(2, 2),
        ]
        channels = width
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 16, CLASSES))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(EXAMPLES, generator=generator)
        optimiser.zero_grad()
        functional.cross_entropy(network(training_set.points[order]), training_set.labels.rows[order]).backward()
        optimiser.step()
    right = 0
    with torch.no_grad():
        for rows in torch.arange(TEST).split(256):
            logits = network(data.test.normalised(rows))
            right += int((logits.argmax(1) == data.test.strata[rows]).sum())
    return right / TEST


def convolutions(width: int, epochs: int) -> None:
    """The convolutions of so many epochs, of random maps, and their gradients by weights and maps (of the first by weights)."""
    layout = torch.channels_last
    maps = [
        torch.randn(EXAMPLES // 2, *shape).to(memory_format=layout)
        for shape in ((3, 32, 32), (width, 16, 16), (width, 8, 8))
    ]
    weights = [torch.randn(width, x.shape[1], 3, 3).to(memory_format=layout) for x in maps]
    slopes = [functional.conv2d(x, weight, padding=1) for x, weight in zip(maps, weights, strict=True)]
    geometry = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    with torch.no_grad():
        for _ in range(2 * epochs):
            for number, (x, weight, slope) in enumerate(zip(maps, weights, slopes, strict=True)):
                functional.conv2d(x, weight, padding=1)
                torch.ops.aten.convolution_backward(slope, x, weight, None, *geometry, [number > 0, True, False])


if __name__ == "__main__":
    for row in rows():
        ratio = "" if row["ratio"] is None else f"{row['ratio']:8.2f} x {row.get('range', '')}"
        print(f"{row['what']:75s}{row['seconds']:9.2f} s{ratio}")
