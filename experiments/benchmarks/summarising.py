"""Summarising 50,000 colour images (ConvNet-3, width 32): rows, normalisation, augmentation, network and sums.

Against the network alone, compiled as well, on images that are normalised already and cut into the same chunks.
"""

from typing import Any

import torch

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.networks import ConvNet
from experiments.benchmarks.distribution_matching import random_images
from experiments.benchmarks.timing import beside
from objectives import Match, Pool, Siamese
from objectives.engine.compile import Policy
from objectives.engine.engine import Engine
from objectives.engine.runtime import Runtime

__all__ = ["rows"]


def rows(rounds: int = 5, n: int = 50_000, width: int = 32, policy: Policy = "always") -> list[dict[str, Any]]:
    """The measurements, one mapping a row."""
    data = random_images(n)
    context = Pool(network=ConvNet(width=width), size=1, augment=Siamese(), batch="all")
    objective = Match(MMD(), via=Features()).as_objective()
    engine = Engine(data.train, objective, context, Runtime(compile=policy), examples=10, steps=1)
    real, extractor = engine.real_side, engine.bound_context.extractor
    parameters, size = real.networks.parameters(real.networks.draw(0)), extractor.size(n)
    normalised = data.train.normalised(torch.arange(n))

    @torch.no_grad()
    def network() -> None:
        for chunk in normalised.split(size):
            extractor(parameters, chunk, size)

    def summarised() -> None:
        real.kept.clear()
        real.at(0)

    what = f"{n:,} colour images, width {width}"
    return beside({f"the network alone, {what}": network, f"the summary of {what}": summarised}, rounds)
