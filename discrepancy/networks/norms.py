"""Normalisation of maps: over the batch, over each example, or not at all."""

import warnings
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.networks.base import Activation, Network, NetworkParameters, Statistics
from discrepancy.parts import check_choice
from discrepancy.precision import filled

__all__ = ["BIASED", "FEW", "Norm", "check_maps", "moments", "norm_parameters", "normalised", "warn_of_few"]

Norm = Literal["instance", "batch", "layer", "group", "none"]
"""``group`` means four groups of channels, and ``layer`` normalises over channels and positions together."""

BIASED = ("layer", "group", "none")
"""After a convolution with a bias; the other normalisations would take it away again, exactly."""

FEW = 32
"""Examples below which the statistics of a batch are taken for noisy."""

GROUPS = 4
EPSILON = 1e-5


def check_maps(norm: str, activation: str, width: int, multiple: int = GROUPS) -> None:
    """Refuses an unknown normalisation or activation, and a ``width`` whose channels cannot be grouped."""
    check_choice("norm", norm, get_args(Norm))
    check_choice("activation", activation, get_args(Activation))
    if norm == "group" and width % multiple:
        raise InvalidInput(f"'width' must be a multiple of {multiple} with norm 'group', got {width}")


def warn_of_few(network: Network, examples: int, what: str) -> None:
    """Warns where batch normalisation takes its statistics, which are pooled over the classes, from few examples."""
    if not network.pointwise and examples < FEW:
        warnings.warn(
            f"batch normalisation of '{network.kind}' takes its means and variances from {what} of {examples} examples, which "
            f"are few (below {FEW}) and make them noisy; use norm: instance (or group, or layer), more examples a class, or "
            "synthetic: formation, which decodes to several examples each",
            NumericalWarning,
            stacklevel=3,
        )


def norm_parameters(name: str, norm: Norm, channels: int, side: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Scale 1 and shift 0 under the names ``name.weight`` and ``name.bias``; layer normalisation needs the maps' ``side``."""
    if norm == "none":
        return {}
    size = (channels, *side) if norm == "layer" else (channels,)
    return {f"{name}.weight": filled(1, *size), f"{name}.bias": filled(0, *size)}


def moments(name: str, x: Float[Tensor, "n channels height width"]) -> Mapping[str, Tensor]:
    """What ``statistics`` takes of the maps before a batch normalisation of this name."""
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    count = torch.tensor(x.numel() // x.shape[1], device="cpu")
    return {f"{name}.mean": mean, f"{name}.variance": variance, f"{name}.count": count}


def normalised(
    x: Float[Tensor, "n channels height width"],
    norm: Norm,
    parameters: NetworkParameters,
    name: str,
    statistics: Statistics | None,
    layer: str,
) -> Float[Tensor, "n channels height width"]:
    """``x`` with the scale and shift of this name, if there are some; by the ``statistics`` of the ``layer``, if given."""
    if norm == "none":
        return x
    scale, shift = parameters.get(f"{name}.weight"), parameters.get(f"{name}.bias")
    if norm == "batch":
        given = None if statistics is None else statistics.get(layer)
        mean, variance = given or (None, None)
        return functional.batch_norm(x, mean, variance, scale, shift, training=given is None, eps=EPSILON)
    if norm == "layer":
        return functional.layer_norm(x, x.shape[1:], scale, shift, EPSILON)
    groups = GROUPS if norm == "group" else x.shape[1]
    if scale is not None:
        return torch.group_norm(x, groups, scale, shift, EPSILON)
    # The same numbers; with no scale and shift this primitive has the faster backward pass, compiled or not.
    blocks = x.unflatten(1, (groups, -1))
    return functional.layer_norm(blocks, blocks.shape[2:], eps=EPSILON).flatten(1, 2)
