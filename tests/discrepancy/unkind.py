"""Small unkind inputs, by a seeded generator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from contract import DiscrepancyContract

from discrepancy import Measure

__all__ = ["SITUATIONS", "sides"]

Arrays = list[Any]
"""Points and weights of one side."""


def nothing(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    pass


def ties(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    for side in (mu, nu):
        side[0] = np.round(side[0])
        side[1] = np.ones_like(side[1])


def coincident(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    some = mu[0][random.integers(len(mu[0]), size=2)]
    for side in (mu, nu):
        side[0] = some[random.integers(2, size=len(side[0]))]


def itself(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    nu[:] = mu


def reweighted(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    nu[:] = mu[0], random.random(len(mu[0])) + 0.1


def levels(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    """Equal weights, the points of one side so many times those of the other."""
    nu[0] = np.concatenate([nu[0], nu[0] + random.normal(size=nu[0].shape)])[: max(2, len(nu[0]))]
    mu[0] = mu[0][: len(nu[0]) // random.integers(1, 3)]
    nu[0] = nu[0][: len(nu[0]) // len(mu[0]) * len(mu[0])]
    for side in (mu, nu):
        side[1] = np.ones(len(side[0]))


def weightless(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    for side in (mu, nu):
        side[1] = side[1] * (random.random(len(side[1])) < 0.5)
        side[1][:2] += side[1].sum() == 0


def scaled(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    mu[1], nu[1] = 1e-170 * mu[1], 1e160 * nu[1]


def uneven(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    for side in (mu, nu):
        side[1][0] *= random.choice([1e-170, 1e-9, 1e9])


def near(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    mu[0], nu[0] = mu[0] + 1e3, nu[0] + 1e3


def far(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    mu[0], nu[0] = mu[0] + 1e6, nu[0] + 1e6


def clusters(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    for side in (mu, nu):
        side[0][::2] += 75.0


def outlier(random: np.random.Generator, mu: Arrays, nu: Arrays) -> None:
    side = (mu, nu)[random.integers(2)]
    side[0][0] = 1e5


Situation = Callable[[np.random.Generator, Arrays, Arrays], None]
SITUATIONS: dict[str, Situation] = {
    "plain": nothing,
    "ties": ties,
    "coincident": coincident,
    "itself": itself,
    "reweighted": reweighted,
    "levels": levels,
    "weightless": weightless,
    "scaled": scaled,
    "uneven": uneven,
    "near": near,
    "far": far,
    "clusters": clusters,
    "outlier": outlier,
}


def sides(
    contract: DiscrepancyContract, situation: str, random: np.random.Generator, least: int = 1
) -> tuple[Measure, Measure]:
    """Two measures of points that the contract's discrepancies take."""
    shape = contract.shape if contract.shape != (3,) else (int(random.integers(1, 4)),)
    sizes = random.integers(least, 7, size=2)
    if random.random() < 0.4:
        sizes[:] = sizes[0]
    equal = random.random() < 0.3
    arrays = [[1.5 * random.normal(size=(n, *shape)), np.ones(n) if equal else random.random(n) + 0.1] for n in sizes]
    SITUATIONS[situation](random, *arrays)
    dtype = torch.float32 if random.random() < 0.5 else torch.float64
    seeds = (3, 3) if situation == "itself" else (3, 4)
    found = []
    for (points, weights), seed in zip(arrays, seeds, strict=True):
        small = dtype == torch.float32 and situation not in ("scaled", "uneven")
        found.append(
            Measure(
                torch.tensor(points, dtype=dtype),
                torch.tensor(weights, dtype=torch.float32 if small else torch.float64),
                contract.sample(len(points), seed, dtype).labels,
            )
        )
    return found[0], found[1]
