"""From what people have (tensors, numpy arrays, nested lists, what has ``__array__``) to tensors that lose no digit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from discrepancy.errors import InvalidInput

__all__ = ["are_tensors", "as_tensor", "check_dense", "check_numbers", "check_unmasked", "exactly", "in_floats"]

EXACT = 1 << 53
"""Whole numbers up to this size are float64 numbers too."""


def as_tensor(value: Any, name: str) -> Tensor:
    """A dense tensor of real numbers: tensors as they are, anything else by numpy, so that lists of Python floats are float64.

    Raises:
        InvalidInput: for what holds no real numbers, has masked values, or is ragged.
    """
    if not isinstance(value, Tensor):
        value = torch.from_numpy(_as_array(value, name))
    check_dense(value, f"'{name}'")
    return value


def are_tensors(value: Any) -> bool:
    """Whether a value is a mapping from names to tensors."""
    return isinstance(value, Mapping) and all(isinstance(item, Tensor) for item in value.values())


def check_dense(tensor: Tensor, what: str) -> None:
    """Refuse complex, quantized and sparse tensors; ``what`` begins the message."""
    if tensor.is_complex() or tensor.is_quantized or tensor.layout != torch.strided:
        kind = "complex numbers" if tensor.is_complex() else f"a tensor that is quantized or of layout {tensor.layout}"
        raise InvalidInput(
            f"{what} must be a dense tensor of real numbers, got {kind}; use torch.view_as_real, .dequantize() or .to_dense()"
        )


def check_unmasked(value: Any, what: str) -> None:
    """Refuse masked values, which numpy would read as what lies below the mask; ``what`` begins the message."""
    masked = _masked(value)
    if masked:
        raise InvalidInput(f"{what} have {masked} masked values; fill them, or drop these points")


def _masked(value: Any) -> int:
    """The number of masked values of a numpy array, or of a list of such arrays."""
    if isinstance(value, np.ma.MaskedArray):
        return int(np.ma.count_masked(value))
    if isinstance(value, list | tuple):
        return sum(_masked(item) for item in value if isinstance(item, np.ma.MaskedArray | list | tuple))
    return 0


def _as_array(value: Any, name: str) -> np.ndarray:
    """A copy in native byte order."""
    check_unmasked(value, f"'{name}'")
    try:
        array = np.array(value)
        torch.empty(0, dtype=getattr(torch, array.dtype.name))  # the types that both have
    except (ValueError, TypeError, AttributeError, RuntimeError):
        raise InvalidInput(
            f"'{name}' must be a tensor, an array or nested lists of numbers, all rows of one length; got {_shown(value)}"
        ) from None
    return array.astype(array.dtype.newbyteorder("="))


def _shown(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    return f"a {type(value).__name__}" + (f" of {dtype}" if dtype is not None else "")


def in_floats(tensor: Tensor) -> Tensor:
    """The same numbers in float32 or float64: float64 for whole numbers of 32 bits or more, which float32 would round."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    wide = not tensor.is_floating_point() and tensor.element_size() >= 4
    return tensor.double() if wide else tensor.float()


def exactly(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers in this floating type, or in float64 if that would round one of them."""
    found = tensor.to(dtype)
    return found if bool((found.to(torch.float64) == tensor.to(torch.float64)).all()) else tensor.to(torch.float64)


def check_numbers(tensor: Tensor, name: str) -> tuple[Tensor, str]:
    """What must hold of points, as one truth value, and what is wrong where it does not."""
    if tensor.is_floating_point():
        problem = f"{name} has points that are not finite (NaN or infinity); remove or repair them first"
        return torch.isfinite(tensor).all(), problem
    problem = f"{name} has whole numbers beyond 2^53, which no float64 holds; subtract those of the first point first"
    if tensor.element_size() < 8:
        return torch.ones((), dtype=torch.bool, device=tensor.device), problem
    return ((tensor <= EXACT) & (tensor >= -EXACT)).all(), problem
