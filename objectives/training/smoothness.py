"""How fast a network's loss, or its logits, change with its input: one value for each example, differentiable twice."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.scale import directions

__all__ = ["Order", "curvatures", "input_gradients", "squared_jacobians"]

Order = Literal["first", "second"]

Losses = Callable[[Float[Tensor, "n ..."]], Float[Tensor, " n"]]
"""Points -> the loss of each, where no example depends on the others."""


def input_gradients(losses: Losses, points: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """∇_x loss(x) of each example, with a graph."""
    here = points if points.requires_grad else points.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(losses(here).sum(), [here], create_graph=True)[0]


def curvatures(losses: Losses, points: Float[Tensor, "n ..."], step: float, order: Order) -> Float[Tensor, " n"]:
    """How the loss bends along its steepest direction, z = ∇loss(x) / ‖∇loss(x)‖, which is taken as fixed:

        second:  ‖∇loss(x + h z) - ∇loss(x)‖²        first:  |loss(x + h z) - loss(x)|

    with a step h in the units of the points. An example whose gradient is zero does not move, and has the value 0.
    """
    slopes = input_gradients(losses, points)
    moved = points + step * directions(slopes)
    if order == "first":
        return (losses(moved) - losses(points)).abs()
    return _attached((input_gradients(losses, moved) - slopes).flatten(1).square().sum(1), points)


def squared_jacobians(
    classify: Callable[[Tensor], Float[Tensor, "n c"]], points: Float[Tensor, "n ..."]
) -> Float[Tensor, " n"]:
    """‖J(x)‖_F² = Σ_k ‖∇_x f_k(x)‖² over the logits f_k, by one backward pass for each."""
    here = points if points.requires_grad else points.detach().requires_grad_()
    with torch.enable_grad():
        logits = classify(here)
        rows = [torch.autograd.grad(one.sum(), [here], create_graph=True)[0] for one in logits.unbind(1)]
    return _attached(torch.stack([row.flatten(1).square().sum(1) for row in rows]).sum(0), points)


def _attached(values: Float[Tensor, " n"], points: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """The values in a graph of the points, also where these slopes are constant, as those of a linear map."""
    return values + 0 * points.flatten(1).sum(1)
