"""Chains of convolutions, which most of the older networks are: [convolution, normalisation, activation, pooling] × L.

Parameters are named ``convL.weight``, ``convL.bias``, ``normL.weight``, ``normL.bias``.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import ACTIVATIONS, OUTPUTS, Activation, NetworkParameters, Statistics, uniform
from discrepancy.networks.norms import BIASED, Norm, moments, norm_parameters, normalised
from discrepancy.parts import check_choice

__all__ = ["Pooling", "Step", "border", "chain", "chain_parameters", "check_fits", "check_image", "sides"]

Pooling = Literal["average", "max", "none"]


@dataclass(frozen=True)
class Step:
    """A convolution with a square kernel and a border of zeros, and the pooling, 2 × 2, that follows its activation."""

    channels: int
    kernel: int = 3
    border: int = 1
    pooling: Pooling = "none"


def border(shape: Sequence[int], usual: int) -> int:
    """That of the first convolution: two more around 28 × 28, which makes them 32 × 32, as published."""
    return usual + 2 * (tuple(shape[-2:]) == (28, 28))


def check_image(kind: str, shape: tuple[int, ...]) -> None:
    """Refuses examples that are no images."""
    if len(shape) != 3:
        raise InvalidInput(
            f"a {kind} needs examples of shape (channels, height, width), got {tuple(shape)}; use an mlp"
        )


def sides(steps: Sequence[Step], height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the maps after each convolution, and at last of the features."""
    found = []
    for step in steps:
        height, width = (side + 2 * step.border - step.kernel + 1 for side in (height, width))
        found.append((height, width))
        if step.pooling != "none":
            height, width = height // 2, width // 2
    return [*found, (height, width)]


def check_fits(kind: str, steps: Sequence[Step], shape: tuple[int, ...]) -> None:
    """Refuses images of which nothing is left after the last step."""
    check_image(kind, shape)
    if min(sides(steps, *shape[1:])[-1]) < 1:
        least = next(side for side in range(1, 1025) if min(sides(steps, side, side)[-1]) > 0)
        raise InvalidInput(
            f"images of {shape[1]} x {shape[2]} are too small for a {kind}; use {least} x {least} or more, or a convnet "
            f"of less depth"
        )


def chain_parameters(
    generator: Generator, shape: tuple[int, ...], steps: Sequence[Step], norm: Norm, affine: bool
) -> tuple[dict[str, Tensor], int]:
    """Initial weights of a chain for images of this shape, and the number of its features."""
    parameters: dict[str, Tensor] = {}
    channels, maps = shape[0], sides(steps, *shape[1:])
    for layer, (step, side) in enumerate(zip(steps, maps[:-1], strict=True), 1):
        fan_in = step.kernel**2 * channels
        kernel = (step.channels, channels, step.kernel, step.kernel)
        parameters[f"conv{layer}.weight"] = uniform(generator, kernel, fan_in)
        if norm in BIASED:
            parameters[f"conv{layer}.bias"] = uniform(generator, (step.channels,), fan_in)
        if affine:
            parameters |= norm_parameters(f"norm{layer}", norm, step.channels, side)
        channels = step.channels
    return parameters, channels * math.prod(maps[-1])


def chain(
    parameters: NetworkParameters,
    points: Float[Tensor, "n channels height width"],
    steps: Sequence[Step],
    norm: Norm,
    activation: Activation,
    take: Collection[str],
    statistics: Statistics | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The maps after the last step, and what is taken of the steps."""
    for name in take:
        check_choice("take", name, OUTPUTS)
    outputs: dict[str, Tensor] = {}
    x = points
    for number, step in enumerate(steps, 1):
        layer = f"layer{number}"
        weight, bias = parameters[f"conv{number}.weight"], parameters.get(f"conv{number}.bias")
        x = functional.conv2d(x, weight, bias, padding=step.border)
        outputs |= moments(layer, norm, x, take)
        x = normalised(x, norm, parameters, f"norm{number}", statistics, layer)
        x = ACTIVATIONS[activation](x)
        if "activations" in take:
            outputs[f"activation{number}"] = x
        if step.pooling != "none":
            pool = functional.avg_pool2d if step.pooling == "average" else functional.max_pool2d
            x = pool(x, 2)
        if "layers" in take:
            outputs[layer] = x
    return x, outputs
