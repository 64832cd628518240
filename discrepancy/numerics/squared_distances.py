"""Squared distances of all pairs as a function that can be differentiated any number of times, with derivatives as exact."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.numerics.distances import flat, pull, squares, table

__all__ = ["squared_distances"]


def squared_distances(x: Float[Tensor, "*g n d"], y: Float[Tensor, "*g m d"]) -> Float[Tensor, "*g n m"]:
    """The squared distances ‖xᵢ - yⱼ‖² of all pairs, ``(n, m)``, each with a relative error at rounding level.

    That holds whatever else is in the cloud. Differentiable any number of times, with derivatives as exact. Memory O(n m).

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> kernels.squared_distances(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])).tolist()
        [[9.0], [4.0]]
    """
    if torch.compiler.is_compiling():  # no sizes that depend on values; what is not fused needs memory O(n m d)
        return (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1)
    return _Squares.apply(x, y)  # pyright: ignore[reportReturnType]


def _vmapped(function: type[Function]) -> type[Function]:
    """``function`` with the rule for ``torch.vmap``: the batch is one more leading axis."""

    def rule(info: Any, dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Any, Any]:
        folded = [
            tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
            for dim, tensor in zip(dims, tensors, strict=True)
        ]
        outputs = function.apply(*folded)
        return outputs, 0 if isinstance(outputs, Tensor) else (0,) * len(outputs)

    function.vmap = staticmethod(rule)  # pyright: ignore[reportAttributeAccessIssue]
    return function


@_vmapped
class _Squares(Function):
    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return squares(x, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        by_x, by_y = _Pull.apply(grads[0], *ctx.saved_tensors)  # pyright: ignore
        return 2 * by_x, 2 * by_y


@_vmapped
class _Pull(Function):
    """Σⱼ Gᵢⱼ (xᵢ - yⱼ) and Σᵢ Gᵢⱼ (yⱼ - xᵢ): half the gradient of Σ Gᵢⱼ ‖xᵢ - yⱼ‖²."""

    @staticmethod
    def forward(factors: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        sides = flat(factors, x, y)
        found = table(sides[1], sides[2])
        by_y = pull(found.turned, sides[0].mT, sides[2], sides[1])
        return pull(found, *sides).view(x.shape), by_y.view(y.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        factors, x, y = ctx.saved_tensors
        by_x, by_y = _Pull.apply(factors, *grads)  # pyright: ignore
        return _Along.apply(x, y, *grads), by_x, by_y


@_vmapped
class _Along(Function):
    """⟨xᵢ - yⱼ, aᵢ - bⱼ⟩."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        shape = *x.shape[:-1], y.shape[-2]
        x, y, a, b = flat(x, y, a, b)
        made = table(x, y)
        found = torch.zeros_like(made.squared)
        if made.direct:
            for k in range(x.shape[-1]):
                found += (x[..., k, None] - y[:, None, :, k]).mul_(a[..., k, None] - b[:, None, :, k])
            return found.view(shape)
        centre = x.mean(1, keepdim=True)
        here, there = x - centre, y - centre
        found += (here * a).sum(-1)[:, :, None] + (there * b).sum(-1)[:, None] - here @ b.mT - a @ there.mT
        if made.near is not None:
            for (part, gap), (_, move) in zip(made.near.gaps(x, y), made.near.gaps(a, b), strict=True):
                found[made.near.part(part)] = (gap * move).sum(-1)
        return found.view(shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, y, a, b = ctx.saved_tensors
        return *_Pull.apply(grads[0], a, b), *_Pull.apply(grads[0], x, y)  # pyright: ignore
