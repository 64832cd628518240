"""A step of DM (ConvNet-3, width 32, 32 x 32 colour, 10 classes, 32 real examples each) beside the same with robust objectives.

With a real side that was attacked before, a step must cost what the plain one costs. With the worst real side in a ball it
costs restarts x (steps + 1) forward and restarts x steps backward passes of the real batch more. Nothing is compiled, so that
operations can be counted where they happen.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.networks import ConvNet
from experiments.benchmarks.distribution_matching import CLASSES, random_images, started
from experiments.benchmarks.timing import beside
from objectives import PGD, Adversarial, Fresh, Match, Siamese, Teacher, Training, Worst

__all__ = ["rows"]

BATCH, STEPS = 32, 5
QUICK = Adversarial(
    attack=PGD(steps=1), teacher=Teacher(network=ConvNet(width=4), rounds=1, training=Training(steps=1, batch=8))
)
"""An attack that is soon done: what it finds plays no part in the time of a step."""


def rows(rounds: int = 5, width: int = 32, side: int = 32) -> list[dict[str, Any]]:
    """The measurements, one mapping a row."""
    data = random_images(4 * CLASSES * BATCH, side)
    context = Fresh(network=ConvNet(width=width), augment=Siamese(), batch=BATCH)
    match = Match(MMD(), via=Features())
    objectives = {
        f"step, {BATCH} real a class": match,
        "step, real examples attacked before": replace(match, transform=QUICK),
        f"step, worst real side of {STEPS} steps": Worst(match, steps=STEPS),
    }
    steps = {what: started(data, context, "never", {}, what, objective=one) for what, one in objectives.items()}
    work = {what: operations(step) for what, step in steps.items()}
    plain, *_ = work.values()
    return beside({f"{what}: {work[what] / plain:.2f}x the operations": step for what, step in steps.items()}, rounds)


def operations(step: Callable[[], object]) -> int:
    """Floating-point operations of the convolutions and matrix products of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()
