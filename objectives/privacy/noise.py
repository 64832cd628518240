"""Normal noise from the operating system's cryptographic generator."""

import math
import os
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

__all__ = ["Noise", "secure_normal"]

Noise = Callable[[tuple[int, ...]], Tensor]
"""Standard normal numbers of a shape, in float64."""

BITS = 52
"""Of a uniform number: with one more, k + 1/2 would be rounded, and the largest to 2⁵³, whose Φ⁻¹(1) is infinite."""


def secure_normal(shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    """Standard normal numbers Φ⁻¹(u) in float64, of uniform u = (k + 1/2) / 2⁵² with k from ``os.urandom``. There is no seed.

    They lie within 8.21 of zero, symmetrically, and are values of a finite grid: attacks that use the rounding of
    floating-point noise are not defended against.

    Example:
        >>> from objectives.privacy.noise import secure_normal
        >>> secure_normal((2, 3)).shape
        torch.Size([2, 3])
    """
    words = np.frombuffer(os.urandom(8 * math.prod(shape)), dtype=np.uint64) >> np.uint64(64 - BITS)
    return torch.from_numpy(special.ndtri((words.astype(np.float64) + 0.5) * 2.0**-BITS)).reshape(shape)
