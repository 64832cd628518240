"""One step of DM (ConvNet-3, width 128, 32 x 32 colour, 10 classes, 10 synthetic examples a class).

Against plain eager modules, class by class, written here as the papers' codes do it; with 256 and 64 real examples a class; and
with a pool of cached summaries, where the size of the real set must not matter.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.networks import ConvNet
from experiments.benchmarks.timing import alternating
from objectives import Descent, Fresh, LabelledData, Match, Pixels, Pool, Siamese
from objectives.contexts import Context
from objectives.engine.compile import Policy
from objectives.engine.runtime import Runtime
from objectives.solvers import Problem
from objectives.terms.objective import Summand

__all__ = ["rows"]

CLASSES, PER_CLASS, WIDTH = 10, 10, 128
REAL = (1_000, 10_000, 50_000)


def rows(rounds: int = 5, policy: Policy = "always", side: int = 32) -> list[dict[str, Any]]:
    """The measurements, one mapping a row."""
    data = random_images(max(CLASSES * 256, REAL[0]), side)
    cold: dict[str, float] = {}
    ours256 = started(data, Fresh(network=ConvNet(width=WIDTH), augment=Siamese(), batch=256), policy, cold, "256")
    ours64 = started(data, Fresh(network=ConvNet(width=WIDTH), augment=Siamese(), batch=64), policy, cold, "64")
    found = alternating({"eager": eager_modules(data, 256), "ours256": ours256, "ours64": ours64}, rounds)
    result: list[dict[str, Any]] = [
        {"what": "step, plain eager modules, 256 real a class", "seconds": found["eager"], "ratio": 1.0},
        {"what": "step, 256 real a class", "seconds": found["ours256"], "ratio": found["eager"] / found["ours256"]},
        {"what": "step, 64 real a class", "seconds": found["ours64"], "ratio": found["eager"] / found["ours64"]},
        {"what": "first step with compilation, 256 real a class", "seconds": cold["256"], "ratio": None},
    ]
    return result + pool_rows(rounds, policy)


def pool_rows(rounds: int, policy: Policy) -> list[dict[str, Any]]:
    """A step with a pool of 20 networks, when all the summaries are cached."""
    filled: dict[str, float] = {}
    steps = {}
    for n in REAL:
        data = random_images(n, 8)
        step = started(data, Pool(network=ConvNet(width=8), size=20), policy, filled, str(n), fill=100)
        steps[str(n)] = step
    found = alternating(steps, 10 * rounds)
    return [
        {
            "what": f"step with a filled pool of 20, {name} real images of 8 x 8, width 8",
            "seconds": seconds,
            "ratio": seconds / found[str(REAL[0])],
        }
        for name, seconds in found.items()
    ]


def random_images(n: int, side: int = 32) -> LabelledData:
    """Noise: time does not depend on what the images show."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, side, side), generator=generator, dtype=torch.uint8)
    return LabelledData.of(images, torch.arange(n) % CLASSES)


def started(
    data: LabelledData,
    context: Context,
    policy: Policy,
    cold: dict[str, float],
    name: str,
    fill: int = 1,
    objective: Summand = Match(MMD(), via=Features()),  # noqa: B008  (frozen)
) -> Callable[[], object]:
    """A step of DM, or of another objective, in this context, after ``fill`` steps whose time goes into ``cold``."""
    problem = Problem(
        data.train,
        objective.as_objective(),
        context,
        Pixels(per_class=PER_CLASS),
        Runtime(compile=policy),
    )
    solving = Descent(momentum=0.5, steps=1_000_000).start(problem)
    start = time.perf_counter()
    for _ in range(fill):
        solving.advance()
    cold[name] = time.perf_counter() - start
    return solving.advance


def eager_modules(data: LabelledData, batch: int) -> Callable[[], object]:
    """The same step with torch's modules, a new network each time, and a loop over the classes."""
    synthetic = torch.randn(
        CLASSES * PER_CLASS, *data.shape, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()
    optimiser = torch.optim.SGD([synthetic], lr=1.0, momentum=0.5)
    generator = torch.Generator().manual_seed(2)
    augment = Siamese()

    def step() -> None:
        network = _modules()
        loss = torch.zeros(())
        for label, indices in enumerate(data.train.class_batch(generator, batch).split(batch)):
            draws = augment.draw(generator, 1, data.shape)
            real = data.train.normalised(indices)
            own = synthetic[label * PER_CLASS : (label + 1) * PER_CLASS]
            with torch.no_grad():
                target = network(augment(real, draws, _zeros(len(real)))).mean(0)
            loss = loss + (target - network(augment(own, draws, _zeros(len(own)))).mean(0)).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _zeros(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.long)


def _modules() -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (3, WIDTH, WIDTH):
        layers += [
            nn.Conv2d(channels, WIDTH, 3, padding=1),
            nn.GroupNorm(WIDTH, WIDTH),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten()).requires_grad_(False)
