"""Random real examples, as many of each class as a set has."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.real import RealData
from objectives.rng import rng

__all__ = ["random_rows"]


def random_rows(counts: Sequence[int], data: RealData, seed: int, number: int) -> Int[Tensor, " m"]:
    """So many random real examples of each class, without replacement: another subset for each number.

    Raises:
        InvalidInput: if a class has fewer examples than that.
    """
    generator, chosen = rng(seed, "control", "random", number), []
    for name, rows, count in zip(data.classes or ("",), data.members, counts, strict=True):
        if count > len(rows):
            of = f" of class '{name}'" if data.classes else ""
            raise InvalidInput(
                f"a random control needs {count} examples{of}, but '{data.name}' has {len(rows)}; leave this control out"
            )
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen)
