"""The risk of a predictor on a sample that is kept: E ℓ(f(x), y), in blocks of bounded memory."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import SampleSummary
from discrepancy.numerics.blocks import block_sum
from discrepancy.numerics.distances import block_bytes
from discrepancy.reductions import Proportional, Weighing

__all__ = ["LOSSES", "Loss", "sample_losses", "sample_moments", "sample_risk"]

Loss = Literal["squared", "cross_entropy"]


def _squared(outputs: Float[Tensor, "g n c"], labels: Float[Tensor, "g n c"]) -> Float[Tensor, "g n"]:
    return (outputs - labels).square().sum(-1)


def _cross_entropy(outputs: Float[Tensor, "g n c"], labels: Float[Tensor, "g n c"]) -> Float[Tensor, "g n"]:
    return -(labels * outputs.log_softmax(-1)).sum(-1)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"squared": _squared, "cross_entropy": _cross_entropy}


def sample_risk(
    summary: SampleSummary,
    make: Callable[..., Callable[[Tensor], Tensor]],
    *tensors: Tensor,
    loss: Loss = "squared",
    reduce: Weighing = Proportional(),  # noqa: B008  (frozen)
) -> Float[Tensor, " g"]:
    """E ℓ(f(x), y) over the measure that was summarised, or another reduction of the losses, in float64, for the predictor
    f = ``make(*tensors)``.

    Nothing is kept of a block, whose outputs are made again for every derivative: memory O(m (m + d)) beyond the points for a
    predictor of m points. Where the factors of the losses depend on these, they are made first, in one more pass.
    """
    rows = _rows(summary, *tensors)

    def of(x: Tensor, weights: Tensor, labels: Tensor, *tensors: Tensor) -> tuple[Tensor]:
        return ((weights.double() * LOSSES[loss](make(*tensors)(x), labels.double())).sum(-1),)

    points, weights, labels = _fixed(summary)
    if not reduce.separable:
        shares = weights.double() / weights.double().sum(-1, keepdim=True)
        weights = reduce.factors(sample_losses(summary, make, *tensors, loss=loss), shares)
    (total,) = block_sum(of, rows, (points, weights, labels), *tensors)
    return total / weights.double().sum(-1)


@torch.no_grad()
def sample_losses(
    summary: SampleSummary, make: Callable[..., Callable[[Tensor], Tensor]], *tensors: Tensor, loss: Loss = "squared"
) -> Float[Tensor, "g n"]:
    """ℓ(f(x), y) of each point that was summarised, in float64 and without gradient."""
    predictor, rows, (points, _, labels) = make(*tensors), _rows(summary, *tensors), _fixed(summary)
    blocks = zip(points.split(rows, 1), labels.split(rows, 1), strict=True)
    return torch.cat([LOSSES[loss](predictor(x), y.double()) for x, y in blocks], 1)


def sample_moments(
    summary: SampleSummary, make: Callable[..., Callable[[Tensor], Tensor]], *tensors: Tensor
) -> tuple[Float[Tensor, "g p p"], Float[Tensor, "g p c"]]:
    """E f fᵀ and E f yᵀ over the measure that was summarised, in float64, for the predictor f = ``make(*tensors)``."""

    def of(x: Tensor, weights: Tensor, labels: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        values = make(*tensors)(x)
        weighted = (weights.double()[..., None] * values).mT
        return weighted @ values, weighted @ labels.double()

    fixed = _fixed(summary)
    squares, products = block_sum(of, _rows(summary, *tensors), fixed, *tensors)
    mass = fixed[1].double().sum(-1)[:, None, None]
    return squares / mass, products / mass


def _rows(summary: SampleSummary, *tensors: Tensor) -> int:
    """Points of a block, for predictors of these tensors."""
    g, width = len(tensors[0]), max(max(tensor.shape[1:]) for tensor in tensors)
    budget = block_bytes(summary.real.rows.device)
    return max(1, budget // (tensors[0].element_size() * g * width))


def _fixed(summary: SampleSummary) -> tuple[Tensor, Tensor, Tensor]:
    real = summary.real
    assert real.labels is not None
    return real.rows.detach(), real.weights.detach(), real.labels.detach()
