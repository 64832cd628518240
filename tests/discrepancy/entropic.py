"""Samples, and entropic transport in plain numpy."""

from typing import Any

import numpy as np
import torch

__all__ = ["TIGHT", "dense", "pair_costs", "sample", "weights"]


TIGHT: dict[str, Any] = {"tolerance": 1e-11, "iterations": 1000}


def sample(n: int, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(n: int, seed: int = 0) -> torch.Tensor:
    values = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    return values / values.sum()


def pair_costs(x: torch.Tensor, y: torch.Tensor, p: int) -> np.ndarray:
    return (x[:, None] - y).norm(dim=-1).pow(p).div(p).numpy()


def dense(p: int, eps: float, x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """OT on the points that have weight, by updates of both potentials that are averaged with what was there before."""
    x, y, a, b = x[a > 0], y[b > 0], a[a > 0], b[b > 0]
    cost = torch.from_numpy(pair_costs(x, y, p))
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(500):
        row = -eps * torch.logsumexp(b.log() + (g - cost) / eps, 1)
        column = -eps * torch.logsumexp(a.log()[:, None] + (f[:, None] - cost) / eps, 0)
        f, g = 0.5 * (f + row), 0.5 * (g + column)
    return a @ f + b @ g
