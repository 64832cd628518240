"""Derivatives where the formula alone would give NaN, or a second derivative that is silently wrong."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from discrepancy.errors import Unsupported

__all__ = ["first_order_only", "safe_root"]


def safe_root(value: Tensor) -> Tensor:
    """√value, zero below zero; its derivative is zero wherever value <= 0, in place of infinity."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, torch.ones_like(value)).sqrt(), torch.zeros_like(value))


def first_order_only(tensor: Tensor, kind: str) -> Tensor:
    """``tensor`` itself, through which a second derivative is refused, by an error that names ``kind``.

    For values whose gradient comes from the envelope theorem: an optimal plan, direction or potential is held fixed, which
    gives the right first derivative and would give a wrong second one.
    """
    return _Once.apply(tensor, kind)  # pyright: ignore[reportReturnType]


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
        return _Refusing.apply(grads[0], ctx.kind), None


class _Refusing(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, kind: str) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tensor.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kind = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        raise Unsupported(
            f"'{ctx.kind}' has first derivatives only: its gradient holds what is optimal fixed, so a second one would be wrong"
        )
