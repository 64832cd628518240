"""Scaling by powers of two, which changes no digit: what would overflow or vanish is computed near 1."""

import math

import torch
from torch import Tensor

__all__ = ["directions", "power_of_two", "unit_of_powers"]

SAFE = 300.0
"""Powers between 2^-300 and 2^300 (1e-90 and 1e90) may be multiplied and added as they are."""


def power_of_two(size: Tensor) -> Tensor:
    """The largest power of two that is at most ``size`` (of a size a rounding below a power, that power), without gradient; 1
    where the size is zero or not finite.

    Example:
        >>> import torch
        >>> from discrepancy.scale import power_of_two
        >>> power_of_two(torch.tensor([5.0, 0.3, 0.0])).tolist()
        [4.0, 0.25, 1.0]
    """
    size = size.detach()
    least, most = math.log2(torch.finfo(size.dtype).tiny), math.frexp(torch.finfo(size.dtype).max)[1] - 1
    proper = torch.where((size > 0) & (size < torch.inf), size, 1.0)
    return proper.log2().floor().clamp(least, most).exp2()


def directions(vectors: Tensor) -> Tensor:
    """Each of the vectors (n, ...) divided by its Euclidean length, whatever that is, without gradient; zero where it is zero.

    Example:
        >>> import torch
        >>> from discrepancy.scale import directions
        >>> directions(torch.tensor([[3e-30, 4e-30], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    flat = vectors.detach().flatten(1)
    flat = flat / power_of_two(flat.abs().amax(1, keepdim=True))
    lengths = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return (flat / torch.where(lengths > 0, lengths, 1.0)).reshape(vectors.shape)


def unit_of_powers(size: Tensor, p: float) -> Tensor:
    """The unit in which lengths up to ``size`` are raised to the power p: 1 where size^p is far from overflow, else about the
    size. Without gradient."""
    unit = power_of_two(size)
    return torch.where((p * unit.log2()).abs() <= SAFE, 1.0, unit)
