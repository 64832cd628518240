"""Sums over pairs of points, exact, at bounded memory: the one place where n x m work is done.

    cross_sum:  Σᵢ Σⱼ wᵢ vⱼ k(xᵢ, yⱼ)         self_sum:  Σⱼ Σⱼ' vⱼ vⱼ' k(yⱼ, yⱼ')

A kernel is a function k = f(t) of t = ⟨x, y⟩ or of t = ‖x - y‖² (:mod:`discrepancy.kernels`). With x̃ = ∂t/∂y, which is x or
2 (y - x), with the potential A and the field G, and with δ for a change in a direction of (y, v),

    Aⱼ = Σᵢ wᵢ f(tᵢⱼ)              value = Σⱼ vⱼ Aⱼ
    Gⱼ = Σᵢ wᵢ f'(tᵢⱼ) x̃ᵢⱼ         gradients vⱼ Gⱼ and Aⱼ
                                   Hessian times direction δ(vⱼ Gⱼ) and δAⱼ

and everything twice for the self-sum, where x = y and w = v move along. Value and gradient are made in one pass over tiles:
one product, one evaluation of f, one more product. Nothing of size n is kept for the backward pass. A second derivative is
another pass of the same kind, and a third is refused, not wrong.

Each squared distance, and what a pair adds to a derivative, has a relative error at rounding level: near pairs are taken out
of the products and computed by differences (:mod:`discrepancy.numerics.distances`).

Kernels of wide networks are not such functions: they are evaluated whole, block by block (:mod:`discrepancy.numerics.blocks`).

Tiles are sized by a byte budget. Points are centred before they enter a product, squared distances are exactly zero on the
diagonal of a self-sum, and tiles are accumulated in float64, which is what the values are returned in.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.errors import InvalidInput
from discrepancy.kernels import Kernel
from discrepancy.numerics.blocks import block_sum
from discrepancy.numerics.derivatives import refused
from discrepancy.numerics.distances import BLOCK_BYTES, block_bytes
from discrepancy.numerics.tiles import Pairs

__all__ = ["BLOCK_BYTES", "cross_sum", "self_sum"]


def cross_sum(
    kernel: Kernel,
    x: Float[Tensor, "g n d"],
    w: Float[Tensor, "g n"],
    y: Float[Tensor, "g m d"],
    v: Float[Tensor, "g m"],
) -> Float[Tensor, " g"]:
    """Σᵢ Σⱼ wᵢ vⱼ k(xᵢ, yⱼ) of each group in float64, twice differentiable in y and v.

    The real side (x, w) is fixed: it gets no gradient, and must not be written to before the last backward pass.

    Raises:
        InvalidInput: if x or w asks for a gradient, or if the points differ in dtype.
    """
    if x.requires_grad or w.requires_grad:
        raise InvalidInput("the real side of a sum over pairs gets no gradient; detach() it, or swap the two sides")
    if x.dtype != y.dtype:
        raise InvalidInput(f"points must have one dtype, got {x.dtype} and {y.dtype}; convert one with .to(...)")
    if not kernel.single:

        def of(x: Tensor, w: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor]:
            return (_weighted(kernel(x, y), w, v),)

        return block_sum(of, _rows(y), (x, w), y, v)[0]
    return _sum(kernel, x, w.to(x.dtype), y, v)


def self_sum(kernel: Kernel, y: Float[Tensor, "g m d"], v: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
    """Σⱼ Σⱼ' vⱼ vⱼ' k(yⱼ, yⱼ') of each group in float64, twice differentiable in y and v (both places of each count).

    Without gradient (``torch.no_grad``) it costs half the pairs.
    """
    if not kernel.single:

        def of(rows: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor]:
            return (_weighted(kernel(y[:, rows[0]], y), v[:, rows[0]], v),)

        return block_sum(of, _rows(y), (torch.arange(y.shape[1], device=y.device)[None],), y, v)[0]
    return _sum(kernel, None, None, y, v)


def _rows(y: Float[Tensor, "g m d"]) -> int:
    """Points of a block, for kernels that are evaluated whole in float64, a few tensors of the block's size at a time."""
    return max(1, block_bytes(y.device) // (8 * y.shape[0] * max(y.shape[1:])))


def _weighted(entries: Float[Tensor, "g b m"], w: Float[Tensor, "g b"], v: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
    """Σᵢ Σⱼ wᵢ vⱼ kᵢⱼ in float64."""
    return torch.einsum("gb,gbm,gm->g", w.double(), entries.double(), v.double())


def _sum(kernel: Kernel, x: Tensor | None, w: Tensor | None, y: Tensor, v: Tensor) -> Tensor:
    inputs = kernel, x, w, y[:, None], v.double()[:, None]
    return _Sum.apply(*inputs)[0][:, 0] if torch.is_grad_enabled() else _Value.apply(*inputs)[:, 0]  # pyright: ignore


def _vmapped(function: type[Function]) -> type[Function]:
    """``function`` with the rule for ``torch.vmap``: the batch becomes replicas if the real side is shared, else groups."""

    def rule(info: Any, dims: tuple[int | None, ...], kernel: Kernel, *tensors: Tensor | None) -> tuple[Any, Any]:
        shared = all(dim is None for dim in dims[1:3])
        folded = []
        for place, (dim, tensor) in enumerate(zip(dims[1:], tensors, strict=True)):
            axis = 1 if shared and place >= 2 else 0
            if tensor is not None and not (shared and place < 2):
                moved = tensor.unsqueeze(axis) if dim is None else tensor.movedim(dim, axis)
                size = [*moved.shape[:axis], info.batch_size, *moved.shape[axis + 1 :]]
                tensor = moved.expand(size).flatten(axis, axis + 1)
            folded.append(tensor)
        axis = 1 if shared else 0
        outputs = function.apply(kernel, *folded)
        if isinstance(outputs, Tensor):
            return outputs.unflatten(axis, (info.batch_size, -1)), axis
        return tuple(output.unflatten(axis, (info.batch_size, -1)) for output in outputs), (axis,) * len(outputs)

    function.vmap = staticmethod(rule)  # pyright: ignore[reportAttributeAccessIssue]
    return function


@_vmapped
class _Value(Function):
    """The value alone; used where no gradient is recorded."""

    @staticmethod
    def forward(kernel: Kernel, *tensors: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Pairs(kernel, *tensors).value()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass


@_vmapped
class _Sum(Function):
    """The value, with its gradient as two further outputs that are kept for the backward pass."""

    @staticmethod
    def forward(kernel: Kernel, *tensors: Any) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Pairs(kernel, *tensors).value_and_gradient()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _remember(ctx, inputs, output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        by_y, by_v = _Gradient.apply(*ctx.real, *ctx.saved_tensors)  # pyright: ignore
        scale = grads[0]
        return None, None, None, scale[..., None, None].to(by_y.dtype) * by_y, scale[..., None] * by_v


@_vmapped
class _Gradient(Function):
    """The gradient, which is known already, as a function of (y, v)."""

    @staticmethod
    def forward(kernel: Kernel, *tensors: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tensors[4].clone(), tensors[5].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _remember(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        by_y, by_v = _hessian_times(ctx, grads)
        return None, None, None, by_y, by_v, None, None


@_vmapped
class _HessianTimes(Function):
    """The Hessian at (y, v) times a direction: symmetric, so its derivative in the direction is the same product; it has none
    in (y, v)."""

    @staticmethod
    def forward(kernel: Kernel, *tensors: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Pairs(kernel, *tensors[:4]).hessian_times(*tensors[4:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _remember(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return *(None,) * 5, *_hessian_times(ctx, grads)


def _hessian_times(ctx: Any, direction: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    fixed = (refused(item, "sums over pairs have no third derivative") for item in ctx.saved_tensors)
    return _HessianTimes.apply(*ctx.real, *fixed, *direction)  # pyright: ignore[reportReturnType]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...] = ()) -> None:
    # The real side is held but not saved: it belongs to the summary, and a saved tensor would count as memory of the step.
    ctx.real = inputs[:3]
    ctx.save_for_backward(*inputs[3:5], *output)
