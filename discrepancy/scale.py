"""Scaling by powers of two, which changes no digit: what would overflow or vanish is computed near 1."""

import math

import torch
from torch import Tensor

__all__ = ["power_of_two", "unit_of_powers"]

SAFE = 300.0
"""Powers between 2^-300 and 2^300 (1e-90 and 1e90) may be multiplied and added as they are."""


def power_of_two(size: Tensor) -> Tensor:
    """The largest power of two that is at most ``size``, without gradient; 1 where the size is zero or not finite.

    Example:
        >>> import torch
        >>> from discrepancy.scale import power_of_two
        >>> power_of_two(torch.tensor([5.0, 0.3, 0.0])).tolist()
        [4.0, 0.25, 1.0]
    """
    size = size.detach()
    least = math.log2(torch.finfo(size.dtype).tiny)
    proper = torch.where((size > 0) & (size < torch.inf), size, 1.0)
    return proper.log2().floor().clamp(min=least).exp2()


def unit_of_powers(size: Tensor, p: float) -> Tensor:
    """The unit in which lengths up to ``size`` are raised to the power p: 1 where size^p is far from overflow, else about the
    size. Without gradient."""
    unit = power_of_two(size)
    return torch.where((p * unit.log2()).abs() <= SAFE, 1.0, unit)
