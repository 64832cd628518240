"""The energy distance: the contract, one dimension by scipy, loops, and MMD of two kernels.

Properties (Hypothesis):
1. in one dimension the root is scipy's energy distance, for any weights and ties.
"""

import math

import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance
from torch import Tensor

from discrepancy import MMD, Discrepancy, InvalidInput, Measure, Unsupported
from discrepancy.energy import EnergyDistance
from discrepancy.kernels import Energy


def by_scipy(discrepancy: EnergyDistance, mu: Measure, nu: Measure) -> float:
    """By the matrices of distances."""
    x, y = (side.points.flatten(1).numpy() for side in (mu, nu))  # pyright: ignore
    w, v = ((side.mass_of / side.mass_of.sum()).numpy() for side in (mu, nu))
    own = w @ cdist(x, x) @ w / (1 - w @ w if discrepancy.estimator == "u" else 1)
    value = 2 * w @ cdist(x, y) @ v - own - v @ cdist(y, y) @ v
    return math.sqrt(value) if discrepancy.root else float(value)


class TestEnergyDistance(DiscrepancyContract):
    instances = {  # noqa: RUF012
        "squared": EnergyDistance(),
        "unbiased": EnergyDistance(estimator="u"),
        "root": EnergyDistance(root=True),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, EnergyDistance)
        return by_scipy(discrepancy, mu, nu)


class TestEnergyDistanceOfImages(TestEnergyDistance):
    shape = (2, 3, 1)


def sample(n: int, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
