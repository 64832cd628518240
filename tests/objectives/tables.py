"""Small tables, images and labels."""

import numpy as np
import torch

from objectives.data.labels import Labels

__all__ = ["LABELS", "hard", "images", "table"]


LABELS = np.array([0, 1, 2, 0, 1, 2, 0])


def table(n: int = 7, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def images(n: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 5, 11), dtype=np.uint8)


def hard(*numbers: int) -> Labels:
    return Labels("hard", torch.tensor(numbers))
