"""Samples, and gaussians fitted in numpy."""

import numpy as np
import torch

from discrepancy import Measure

__all__ = ["fit", "sample", "weights"]


def fit(side: Measure, shrink: float = 0.0, towards: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance by numpy."""
    points, weights = side.points.double().flatten(1).numpy(), side.weights.double().numpy()  # pyright: ignore
    mean = np.average(points, axis=0, weights=weights)
    matrix = np.einsum("n,ni,nj->ij", weights / weights.sum(), points - mean, points - mean)
    target = np.trace(matrix) / len(mean) if towards is None else towards**2
    return mean, (1 - shrink) * matrix + shrink * target * np.eye(len(mean))


def sample(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
