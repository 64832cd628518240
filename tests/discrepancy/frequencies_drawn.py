"""Frequencies, samples and weights for tests of characteristic functions."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from discrepancy.mean_embeddings.characteristic import REACH, CharacteristicFunction

__all__ = ["drawn", "frequencies", "learned", "sample", "weights"]


def frequencies(discrepancy: CharacteristicFunction, draws: Mapping[str, Tensor], scales: np.ndarray) -> np.ndarray:
    """t of every frequency; ``scales`` (components, d) are what the adversary has reached."""
    lengths = discrepancy.lengthscale if isinstance(discrepancy.lengthscale, tuple) else (discrepancy.lengthscale,)
    made = []
    for index, z in enumerate(draws["frequencies"].double().numpy()):
        scale = scales[index % len(scales)]
        made.append(z / lengths[index % len(lengths)] * np.exp(REACH * np.tanh(scale / REACH)))
    return np.stack(made)


def sample(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.1


def drawn(discrepancy: CharacteristicFunction, d: int = 3) -> Mapping[str, Tensor]:
    return discrepancy.draw(torch.Generator().manual_seed(0), (d,))


def learned(**settings) -> CharacteristicFunction:
    return CharacteristicFunction(frequencies=32, lengthscale=(2.0, 4.0), learned=True, **settings)
