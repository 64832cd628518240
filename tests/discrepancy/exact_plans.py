"""Samples and weights for tests of exact transport."""

import torch
from hypothesis import strategies as st

__all__ = ["drawn", "masses", "sample", "weights"]


def sample(n: int, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


masses = st.sampled_from([0.0, 0.5, 1.0, 3.0])


def drawn(data: st.DataObject, n: int) -> torch.Tensor:
    some = data.draw(st.lists(masses, min_size=n - 1, max_size=n - 1))
    return torch.tensor([*some, 1.0], dtype=torch.float64)
