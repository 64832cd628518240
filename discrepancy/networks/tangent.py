"""The gradient of a network's answer to one example by its weights: the features of its neural tangent kernel."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.networks.base import Network, NetworkParameters

__all__ = ["JACOBIAN", "jacobians"]

JACOBIAN = "jacobian"


def jacobians(
    network: Network, parameters: NetworkParameters, points: Float[Tensor, "n *shape"]
) -> Float[Tensor, "n p"]:
    """∇_θ Σ_k f_k(x) / √c of each example, over all the weights in the order of ``parameters``; differentiable in the points.

    n p numbers and one backward pass of each example, all at once: give it chunks.
    """

    def answer(parameters: NetworkParameters, point: Tensor) -> Tensor:
        logits = network(parameters, point[None])["logits"]
        return logits.sum() / math.sqrt(logits.shape[1])

    rows = torch.func.vmap(torch.func.grad(answer), (None, 0))(dict(parameters), points)
    return torch.cat([row.flatten(1) for row in rows.values()], 1)
