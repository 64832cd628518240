"""Derivatives where the formula alone would give NaN, or a second derivative that is silently wrong."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from discrepancy.errors import Unsupported

__all__ = ["first_order_only", "one_by_one", "refused", "safe_root"]


def safe_root(value: Tensor) -> Tensor:
    """√value, zero below zero; its derivative is zero wherever value <= 0, in place of infinity. NaN stays NaN."""
    absent = value <= 0
    return torch.where(absent, torch.zeros_like(value), torch.where(absent, torch.ones_like(value), value).sqrt())


def first_order_only(tensor: Tensor, kind: str) -> Tensor:
    """``tensor`` itself, through which a second derivative is refused, by an error that names ``kind``.

    For values whose gradient comes from the envelope theorem: an optimal plan, direction or potential is held fixed, which
    gives the right first derivative and would give a wrong second one.
    """
    return _Once.apply(tensor, kind)  # pyright: ignore[reportReturnType]


def refused(tensor: Tensor, message: str) -> Tensor:
    """``tensor`` itself, through which no derivative goes: asking for one raises the message as an error."""
    return _Refused.apply(tensor, message)  # pyright: ignore[reportReturnType]


def one_by_one(function: type[Function]) -> type[Function]:
    """``function`` with a rule for ``torch.vmap``: one call after another, which needs no memory for the batch."""

    def rule(info: Any, dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        outputs = [
            function.apply(
                *(item if dim is None else item.select(dim, i) for item, dim in zip(arguments, dims, strict=True))
            )
            for i in range(info.batch_size)
        ]
        if isinstance(outputs[0], Tensor):
            return torch.stack(outputs), 0
        return tuple(map(torch.stack, zip(*outputs, strict=True))), (0,) * len(outputs[0])

    function.vmap = staticmethod(rule)  # pyright: ignore[reportAttributeAccessIssue]
    return function


class _Once(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, kind: str) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tensor.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kind = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        reason = "its gradient holds what is optimal fixed, so a second one would be wrong"
        return refused(grads[0], f"'{ctx.kind}' has first derivatives only: {reason}"), None


class _Refused(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, message: str) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tensor.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.message = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        raise Unsupported(ctx.message)
