"""Sums over pairs of points, exact, at bounded memory: the one place where n x m work is done.

    cross_sum:  Σᵢ Σⱼ wᵢ vⱼ k(xᵢ, yⱼ)         self_sum:  Σⱼ Σⱼ' vⱼ vⱼ' k(yⱼ, yⱼ')

Kernels are functions of an inner product of lifted points, k = f(⟨x̃ᵢ, ŷⱼ⟩) with x̃ = M x̂ (:mod:`discrepancy.kernels`).
With the potential A and the field G, and with δ for a change in a direction of (ŷ, v),

    Aⱼ = Σᵢ wᵢ f(tᵢⱼ)              value = Σⱼ vⱼ Aⱼ
    Gⱼ = Σᵢ wᵢ f'(tᵢⱼ) x̃ᵢ          gradients vⱼ Gⱼ and Aⱼ
                                   Hessian times direction δ(vⱼ Gⱼ) and δAⱼ

and everything twice for the self-sum, where x = y and w = v move along. Value and gradient are made in one pass over tiles:
one product, one evaluation of f, one more product. Nothing of size n is kept for the backward pass. A second derivative is
another pass of the same kind, and a third is refused, not wrong.

Kernels of wide networks, which are no such functions, are evaluated whole, block by block (:mod:`discrepancy.numerics.blocks`).

Tiles are sized by a byte budget. Points are centred before they are lifted, squared distances are clamped at zero and are
exactly zero on the diagonal of a self-sum, and tiles are accumulated in float64, which is what the values are returned in.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.kernels import Kernel
from discrepancy.numerics.blocks import block_sum

__all__ = ["BLOCK_BYTES", "cross_sum", "self_sum"]

BLOCK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
"""Bytes of one tile by type of device: what stays in the cache of a CPU, what fills a GPU."""


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
    origin = kernel.origin(x)
    return _sum(kernel, origin, x, w.to(x.dtype), kernel.lift(y - origin), v)


def self_sum(kernel: Kernel, y: Float[Tensor, "g m d"], v: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
    """Σⱼ Σⱼ' vⱼ vⱼ' k(yⱼ, yⱼ') of each group in float64, twice differentiable in y and v (both places of each count).

    Without gradient (``torch.no_grad``) it costs half the pairs.
    """
    if not kernel.single:

        def of(rows: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor]:
            return (_weighted(kernel(y[:, rows[0]], y), v[:, rows[0]], v),)

        return block_sum(of, _rows(y), (torch.arange(y.shape[1], device=y.device)[None],), y, v)[0]
    return _sum(kernel, None, None, None, kernel.lift(y - kernel.origin(y)), v)


def _rows(y: Float[Tensor, "g m d"]) -> int:
    """Points of a block, for kernels that are evaluated whole in float64, a few tensors of the block's size at a time."""
    budget = BLOCK_BYTES.get(y.device.type, BLOCK_BYTES["cpu"])
    return max(1, budget // (8 * y.shape[0] * max(y.shape[1:])))


def _weighted(entries: Float[Tensor, "g b m"], w: Float[Tensor, "g b"], v: Float[Tensor, "g m"]) -> Float[Tensor, " g"]:
    """Σᵢ Σⱼ wᵢ vⱼ kᵢⱼ in float64."""
    return torch.einsum("gb,gbm,gm->g", w.double(), entries.double(), v.double())


def _sum(kernel: Kernel, origin: Tensor | None, x: Tensor | None, w: Tensor | None, y: Tensor, v: Tensor) -> Tensor:
    inputs = kernel, origin, x, w, y[:, None], v.double()[:, None]
    return _Sum.apply(*inputs)[0][:, 0] if torch.is_grad_enabled() else _Value.apply(*inputs)[:, 0]  # pyright: ignore


class _Tile(NamedTuple):
    """A block of pairs: where it lies, x̃ and w of its rows, and ⟨x̃ᵢ, ŷⱼ⟩."""

    groups: slice
    rows: slice
    columns: slice
    points: Float[Tensor, "g b D"]
    weights: Float[Tensor, "g b 1"]
    products: Float[Tensor, "g b m"]

    @property
    def at(self) -> tuple[slice, slice]:
        return self.groups, self.columns

    def clear_diagonal(self, block: Tensor) -> None:
        """Zero where row and column are the same point."""
        offset = self.rows.start - self.columns.start
        if -block.shape[1] < offset < block.shape[2]:
            block.diagonal(offset, 1, 2).zero_()


class _Pairs:
    """The pairs of one call. ``y`` has a second leading axis, replicas that share a real side (from ``torch.vmap``)."""

    def __init__(self, kernel: Kernel, origin: Tensor | None, x: Tensor | None, w: Tensor | None, y: Tensor, v: Tensor):
        self.kernel, self.shape, self.own = kernel, v.shape, x is None
        self.y, self.v = self.flat(y), self.flat(v)
        if x is None or w is None or origin is None:
            self.w = self.v.to(y.dtype)
            self.rows = lambda groups, rows: kernel.dual(self.y[groups, rows])
        else:
            self.w = w
            self.rows = lambda groups, rows: kernel.dual(kernel.lift(x[groups, rows] - origin[groups]))

    def flat(self, tensor: Tensor) -> Tensor:
        """Replicas become groups where each is its own real side, and further columns where they share one."""
        return tensor.flatten(0, 1) if self.own else tensor.flatten(1, 2)

    def zeros(self, *size: int) -> Tensor:
        return torch.zeros(*self.v.shape, *size, dtype=torch.float64, device=self.y.device)

    def tiles(self, triangle: bool = False) -> Iterator[_Tile]:
        """All the tiles; with ``triangle`` those on and above the diagonal of a self-sum."""
        (g, m, width), n = self.y.shape, self.w.shape[1]
        budget = BLOCK_BYTES.get(self.y.device.type, BLOCK_BYTES["cpu"])
        entries = max(1, budget // self.y.element_size())
        columns = max(1, min(m, math.isqrt(entries)))
        rows = columns if triangle else max(1, min(n, entries // max(columns, width)))
        groups = max(1, min(g, entries // (rows * max(columns, width))))
        buffer = self.y.new_empty(groups * rows * columns)
        for at in _slices(g, groups):
            for to in _slices(m, columns):
                targets = self.y[at, to].mT
                for of in _slices(n, rows):
                    if triangle and of.start > to.start:
                        break
                    points = self.rows(at, of)
                    size = (points.shape[0], points.shape[1], targets.shape[2])
                    products = torch.bmm(points, targets, out=buffer[: math.prod(size)].view(size))
                    tile = _Tile(at, of, to, points, self.w[at, of, None], products)
                    if self.kernel.radial:
                        products.clamp_(min=0)
                        if self.own:
                            tile.clear_diagonal(products)
                    yield tile

    def value(self) -> Tensor:
        potential = self.zeros()
        for tile in self.tiles(triangle=self.own):
            ((scale, f),) = self.kernel.profile(tile.products, 0)
            twice = 2 if self.own and tile.rows.start < tile.columns.start else 1
            potential[tile.at].add_((f.mT @ tile.weights)[..., 0], alpha=scale * twice)
        return (self.v * potential).view(self.shape).sum(-1)

    def value_and_gradient(self) -> tuple[Tensor, Tensor, Tensor]:
        """The value, and its derivatives with respect to ŷ and v."""
        potential, field = self.zeros(), self.zeros(self.y.shape[-1])
        for tile in self.tiles():
            (scale0, f0), (scale1, f1) = self.kernel.profile(tile.products, 1)
            # The weights ride as one more column of the right factor, so no pass over the tile applies them.
            sums = f1.mT @ torch.cat([tile.points * tile.weights, tile.weights], -1)
            field[tile.at].add_(sums[..., :-1], alpha=scale1)
            potential[tile.at].add_(sums[..., -1] if f0 is f1 else (f0.mT @ tile.weights)[..., 0], alpha=scale0)
        twice = 2 if self.own else 1
        by_y, by_v = field.mul_(twice * self.v[..., None]).to(self.y.dtype), twice * potential
        return (self.v * potential).view(self.shape).sum(-1), by_y.view(*self.shape, -1), by_v.view(self.shape)

    def hessian_times(self, dy: Tensor, dv: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of both gradients in the direction (dy, dv)."""
        dy, dv = self.flat(dy), self.flat(dv)
        v, speed = self.v.to(dy.dtype)[:, None], dv.to(dy.dtype)[:, None]
        by_y, by_v = self.zeros(self.y.shape[-1]), self.zeros()
        for tile in self.tiles():
            weighted = tile.points * tile.weights
            along = tile.points @ dy[tile.at].mT
            moving = self.kernel.dual(dy[tile.groups, tile.rows]) if self.own else None
            if moving is not None:
                along += moving @ self.y[tile.at].mT
            (scale0, f0), (scale1, f1), (scale2, f2) = self.kernel.profile(tile.products, 2)
            along1 = f1 * along
            by_v[tile.at].add_((along1.mT @ tile.weights)[..., 0], alpha=scale1)
            along2 = along1 if f1 is f2 else f2 * along
            bent = along2.mul_(scale2 * v[tile.groups, :, tile.columns]).add_(
                f1 * (scale1 * speed[tile.groups, :, tile.columns])
            )
            by_y[tile.at].add_(bent.mT @ weighted)
            if moving is not None:
                growing = speed[tile.groups, 0, tile.rows, None]
                turning = tile.points * growing + moving * tile.weights
                by_v[tile.at].add_((f0.mT @ growing)[..., 0], alpha=scale0)
                by_y[tile.at].add_(v[tile.groups, :, tile.columns].mT * (f1.mT @ turning), alpha=scale1)
        twice = 2 if self.own else 1
        return (twice * by_y).to(dy.dtype).view(*self.shape, -1), (twice * by_v).view(self.shape)


def _slices(size: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _vmapped(function: type[Function]) -> type[Function]:
    """``function`` with the rule for ``torch.vmap``: the batch becomes replicas if the real side is shared, else groups."""

    def rule(info: Any, dims: tuple[int | None, ...], kernel: Kernel, *tensors: Tensor | None) -> tuple[Any, Any]:
        shared = all(dim is None for dim in dims[1:4])
        folded = []
        for place, (dim, tensor) in enumerate(zip(dims[1:], tensors, strict=True)):
            axis = 1 if shared and place >= 3 else 0
            if tensor is not None and not (shared and place < 3):
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
        return _Pairs(kernel, *tensors).value()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass


@_vmapped
class _Sum(Function):
    """The value, with its gradient as two further outputs that are kept for the backward pass."""

    @staticmethod
    def forward(kernel: Kernel, *tensors: Any) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Pairs(kernel, *tensors).value_and_gradient()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _remember(ctx, inputs, output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        by_y, by_v = _Gradient.apply(*ctx.real, *ctx.saved_tensors)  # pyright: ignore
        scale = grads[0]
        return None, None, None, None, scale[..., None, None].to(by_y.dtype) * by_y, scale[..., None] * by_v


@_vmapped
class _Gradient(Function):
    """The gradient, which is known already, as a function of (ŷ, v)."""

    @staticmethod
    def forward(kernel: Kernel, *tensors: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tensors[5].clone(), tensors[6].clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _remember(ctx, inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        by_y, by_v = _HessianTimes.apply(*ctx.real, *ctx.saved_tensors, *grads)  # pyright: ignore
        return None, None, None, None, by_y, by_v, None, None


@_vmapped
class _HessianTimes(Function):
    """The Hessian at (ŷ, v) times a direction; has no derivative."""

    @staticmethod
    def forward(kernel: Kernel, *tensors: Any) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Pairs(kernel, *tensors[:5]).hessian_times(*tensors[5:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        raise Unsupported("sums over pairs have no third derivative")


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...] = ()) -> None:
    # The real side is held but not saved: it belongs to the summary, and a saved tensor would count as memory of the step.
    ctx.real = inputs[:4]
    ctx.save_for_backward(*inputs[4:6], *output)
