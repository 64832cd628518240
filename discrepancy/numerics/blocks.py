"""Sums over blocks of points, with nothing kept of a block."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from discrepancy.numerics.derivatives import refused

__all__ = ["block_sum", "padded"]

Term = Callable[..., tuple[Tensor, ...]]


def block_sum(term: Term, rows: int, fixed: Sequence[Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Σ over blocks of ``term(*block, *inputs)``, a block being so many rows (axis 1) of every ``fixed`` tensor.

    What a block needs is made again for every derivative, which is such a sum too; a third one is refused, except in the
    direction of a product of the Hessian and a vector. Fixed tensors get no gradient, and must not be written to before the
    last backward pass.
    """
    return _BlockSum.apply(term, rows, len(fixed), 0, 0, *fixed, *inputs)  # pyright: ignore[reportReturnType]


class _BlockSum(Function):
    """The sum, the ``order``-th derivative of that of a term; the first ``held`` inputs have no derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(term: Term, rows: int, count: int, order: int, held: int, *tensors: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        fixed, inputs = tensors[:count], tensors[count:]
        return functools.reduce(
            lambda total, values: tuple(a + b for a, b in zip(total, values, strict=True)),
            (tuple(term(*block, *inputs)) for block in zip(*(side.split(rows, 1) for side in fixed), strict=True)),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        # The fixed tensors are held but not saved: they belong to the summary, and are not memory of the step.
        ctx.term, ctx.rows, count, ctx.order, ctx.held, *tensors = inputs
        ctx.fixed = tensors[:count]
        ctx.save_for_backward(*tensors[count:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        term, inputs, count, held = ctx.term, ctx.saved_tensors, len(ctx.fixed), ctx.held

        def derivative(*tensors: Tensor) -> tuple[Tensor, ...]:
            block, inputs, pull = tensors[:count], tensors[count : -len(grads)], tensors[-len(grads) :]
            return torch.func.vjp(lambda *moving: term(*block, *inputs[:held], *moving), *inputs[held:])[1](pull)

        still = len(inputs) if ctx.order else 0  # a kernel has no third derivative, and vjp would ask for it
        inputs = (
            *(refused(item, "sums over blocks have no third derivative") for item in inputs[:still]),
            *inputs[still:],
        )
        found = _BlockSum.apply(derivative, ctx.rows, count, ctx.order + 1, still, *ctx.fixed, *inputs, *grads)
        return *(None,) * (5 + count + held), *found  # pyright: ignore[reportGeneralTypeIssues]


def padded(points: Tensor, size: int) -> Tensor:
    """``points`` filled up to ``size`` rows by repeating the first, so that a compiled function sees one shape."""
    missing = size - points.shape[0]
    if missing <= 0:
        return points
    return torch.cat([points, points[:1].expand(missing, *points.shape[1:])])
