"""Sums over blocks of points, with nothing kept of a block."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["block_sum", "padded"]

Term = Callable[..., tuple[Tensor, ...]]


def block_sum(term: Term, rows: int, fixed: Sequence[Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Σ over blocks of ``term(*block, *inputs)``, a block being so many rows (axis 1) of every ``fixed`` tensor.

    What a block needs is made again for every derivative, which is such a sum too. Fixed tensors get no gradient, and must not
    be written to before the last backward pass.
    """
    return _BlockSum.apply(term, rows, len(fixed), *fixed, *inputs)  # pyright: ignore[reportReturnType]


class _BlockSum(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(term: Term, rows: int, count: int, *tensors: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        fixed, inputs = tensors[:count], tensors[count:]
        return functools.reduce(
            lambda total, values: tuple(a + b for a, b in zip(total, values, strict=True)),
            (tuple(term(*block, *inputs)) for block in zip(*(side.split(rows, 1) for side in fixed), strict=True)),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        # The fixed tensors are held but not saved: they belong to the summary, and are no memory of the step.
        ctx.term, ctx.rows, count, *tensors = inputs
        ctx.fixed = tensors[:count]
        ctx.save_for_backward(*tensors[count:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        term, inputs, count = ctx.term, ctx.saved_tensors, len(ctx.fixed)

        def derivative(*tensors: Tensor) -> tuple[Tensor, ...]:
            block, both = tensors[:count], tensors[count:]
            moving, pull = both[: len(inputs)], both[len(inputs) :]
            return torch.func.vjp(lambda *inputs: term(*block, *inputs), *moving)[1](pull)

        return *(None,) * (3 + count), *block_sum(derivative, ctx.rows, ctx.fixed, *inputs, *grads)


def padded(points: Tensor, size: int) -> Tensor:
    """``points`` filled up to ``size`` rows by repeating the first, so that a compiled function sees one shape."""
    missing = size - points.shape[0]
    if missing <= 0:
        return points
    return torch.cat([points, points[:1].expand(missing, *points.shape[1:])])
