"""Points with given features: networks that reach every feature vector are undone layer by layer, each by what is least.

A layer x ↦ W x + b reaches everything if W has full row rank, so if it does not widen; W⁺ (y - b) is then the least of all that
it maps to y. Activations that rise everywhere and reach every number are undone number by number.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput

__all__ = ["UNDONE", "Preimage", "least", "undone"]

UNDONE = ("leaky_relu", "identity")
"""Activations that rise everywhere and reach every number."""


@dataclass(frozen=True, eq=False)
class Preimage:
    """Points with given features, and the factor by which a relative error of these may have grown, to first order: the
    product of the condition numbers of the layers."""

    points: Float[Tensor, "n d"]
    condition: float


def least(name: str, weight: Float[Tensor, "q d"], values: Float[Tensor, "n q"]) -> tuple[Float[Tensor, "n d"], float]:
    """W⁺ y for each y, and the condition number of W, in float64.

    Raises:
        InvalidInput: if W, the weight of this name, has no full row rank, to working precision.
    """
    weight = weight.double()
    rows, columns = weight.shape
    left, sigma, right = torch.linalg.svd(weight, full_matrices=False)
    rank = int((sigma > max(rows, columns) * torch.finfo(torch.float64).eps * sigma[0]).sum())
    if rank < rows:
        raise InvalidInput(
            f"'{name}', {rows} x {columns}, has rank {rank}, and so reaches only a part of all the features; a layer must not "
            f"be wider than what it follows: use a width of at most {columns}"
        )
    return ((values.double() @ left) / sigma) @ right, float(sigma[0] / sigma[-1])


def undone(activation: str, slope: float, values: Tensor) -> tuple[Tensor, float]:
    """What the activation maps to the values, and by what factor it stretches at most more than elsewhere.

    Raises:
        InvalidInput: if it does not reach every number, or several numbers at one.
    """
    if activation not in UNDONE:
        raise InvalidInput(
            f"'activation' must be one of {', '.join(UNDONE)}, to be undone for every number, got '{activation}'"
        )
    if activation == "identity":
        return values, 1.0
    return torch.where(values > 0, values, values / slope), 1 / slope
