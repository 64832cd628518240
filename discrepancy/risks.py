"""The risk of a predictor on a sample that is kept: E ℓ(f(x), y), in blocks of bounded memory."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy import pairwise
from discrepancy.sorts import SampleSummary

__all__ = ["LOSSES", "Loss", "sample_risk"]

Loss = Literal["squared", "cross_entropy"]


def _squared(outputs: Float[Tensor, "g n c"], labels: Float[Tensor, "g n c"]) -> Float[Tensor, "g n"]:
    return (outputs - labels).square().sum(-1)


def _cross_entropy(outputs: Float[Tensor, "g n c"], labels: Float[Tensor, "g n c"]) -> Float[Tensor, "g n"]:
    return -(labels * outputs.log_softmax(-1)).sum(-1)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"squared": _squared, "cross_entropy": _cross_entropy}


def sample_risk(
    summary: SampleSummary, make: Callable[..., Callable[[Tensor], Tensor]], *tensors: Tensor, loss: Loss = "squared"
) -> Float[Tensor, " g"]:
    """E ℓ(f(x), y) over the measure that was summarised, in float64, for the predictor f = ``make(*tensors)``.

    Nothing is kept of a block, whose outputs are made again for every derivative: memory O(m (m + d)) beyond the points for a
    predictor of m points.
    """
    real = summary.real
    g, width = len(tensors[0]), max(max(tensor.shape[1:]) for tensor in tensors)
    budget = pairwise.BLOCK_BYTES.get(real.rows.device.type, pairwise.BLOCK_BYTES["cpu"])
    rows = max(1, budget // (tensors[0].element_size() * g * width))

    def of(x: Tensor, weights: Tensor, labels: Tensor, *tensors: Tensor) -> tuple[Tensor]:
        return ((weights.double() * LOSSES[loss](make(*tensors)(x), labels.double())).sum(-1),)

    assert real.labels is not None
    fixed = real.rows.detach(), real.mass_of.detach(), real.labels.detach()
    total = _BlockSum.apply(of, rows, *fixed, *tensors)[0]  # pyright: ignore
    return total / fixed[1].double().sum(-1)


class _BlockSum(Function):
    """Σ over blocks of real points of a function of (block, *inputs), with nothing kept of a block; every derivative is such a
    sum again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(term: Callable[..., Any], rows: int, *tensors: Any) -> Any:  # pyright: ignore
        real, inputs = tensors[:3], tensors[3:]
        return functools.reduce(
            lambda total, values: tuple(a + b for a, b in zip(total, values, strict=True)),
            (tuple(term(*block, *inputs)) for block in zip(*(side.split(rows, 1) for side in real), strict=True)),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        # The real side is held but not saved: it belongs to the summary.
        ctx.fixed = inputs[:5]
        ctx.save_for_backward(*inputs[5:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (term, *fixed), inputs = ctx.fixed, ctx.saved_tensors

        def derivative(*tensors: Tensor) -> tuple[Tensor, ...]:
            block, both = tensors[:3], tensors[3:]
            moving, pull = both[: len(inputs)], both[len(inputs) :]
            return torch.func.vjp(lambda *inputs: term(*block, *inputs), *moving)[1](pull)

        return *(None,) * 5, *_BlockSum.apply(derivative, *fixed, *inputs, *grads)  # pyright: ignore
