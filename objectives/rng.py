"""Random streams without state: a generator seeded by a hash of (seed, names).

No global generator is read or written. Draws are made on the CPU and then moved, since a seeded CUDA stream differs between
models of GPU. Because a stream is a function of its names (``"batch", step, ...``), a checkpoint holds no generator, and
adding one stream leaves all the others as they were.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["rng", "shuffled"]


def rng(seed: int, *names: str | int) -> torch.Generator:
    """The generator of the stream with this name, e.g. ``rng(seed, "batch", step)``."""
    key = str(seed)
    for name in names:
        key += f"\x1f{type(name).__name__}:{name}"
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def shuffled(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """A function that returns the rows of a tensor in random order, each time it is called in another one."""
    return lambda rows: rows[torch.randperm(len(rows), generator=generator)]
