"""The types of the arguments of public functions, checked by their annotations, so that a mistake is named where it is made."""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray
from torch import Tensor

from discrepancy.arrays import as_tensor
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure, as_measure
from discrepancy.parts import fits, shown, word

__all__ = ["checked_arguments"]

F = TypeVar("F", bound=Callable[..., Any])


def checked_arguments(function: F) -> F:
    """The function with a look at its arguments: arrays and nested lists become tensors, points a measure; what is of another
    type than its annotation, or has another number of axes, is refused.

    Raises:
        InvalidInput: by the function that is made, naming the argument.
    """

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        signature, hints = _signature(function)
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in hints:
                bound.arguments[name] = _argument(value, hints[name], name)
        return function(*bound.args, **bound.kwargs)

    return checked  # pyright: ignore[reportReturnType]


@functools.cache
def _signature(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    return inspect.signature(function), get_type_hints(function)


def _argument(value: Any, hint: Any, name: str) -> Any:
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and type(None) in members:
        return None
    for member in members:
        if member is Measure:
            return as_measure(value, name)
        if member is Tensor:
            return as_tensor(value, name)
        if isinstance(member, type) and issubclass(member, AbstractArray):
            tensor = as_tensor(value, name)
            if "..." not in member.dim_str and "*" not in member.dim_str and tensor.ndim != len(member.dims):
                raise InvalidInput(f"'{name}' must have shape ({member.dim_str}), got {tuple(tensor.shape)}")
            return tensor
    if not fits(value, hint):
        words = " or ".join(dict.fromkeys(map(word, members)))
        raise InvalidInput(f"'{name}' must be {words}, got {shown(value)}")
    return value
