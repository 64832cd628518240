"""Chains of convolutions, which most of the older networks are: [convolution, normalisation, activation, pooling] × L.

A kind of :class:`ChainNetwork` gives its steps; weights and outputs are made here. Parameters are named ``convL.weight``,
``convL.bias``, ``normL.weight``, ``normL.bias``, ``hiddenL.weight``, ``hiddenL.bias``, ``linear.weight``, ``linear.bias``.
"""

import math
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import (
    ACTIVATIONS,
    OUTPUTS,
    Activation,
    Network,
    NetworkParameters,
    Statistics,
    hidden_parameters,
    layer_outputs,
    read_out,
    read_out_parameters,
    uniform,
)
from discrepancy.networks.norms import BIASED, Norm, moments, norm_parameters, normalised
from discrepancy.parts import check_choice

__all__ = ["ChainNetwork", "Pooling", "Step", "averaged", "border", "check_image", "sides"]

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
    """Refuses examples that are not images."""
    if len(shape) != 3:
        raise InvalidInput(
            f"a {kind} needs examples of shape (channels, height, width), got {tuple(shape)}; use an mlp"
        )


def averaged(x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n channels h w"]:
    """Means over squares of 2 × 2. The compiled backward pass of ``avg_pool2d`` finds the square of every place by divisions;
    that of means over a view has a loop over squares."""
    if not torch.compiler.is_compiling():
        return functional.avg_pool2d(x, 2)
    height, width = (side // 2 for side in x.shape[2:])
    return x[:, :, : 2 * height, : 2 * width].unflatten(3, (width, 2)).unflatten(2, (height, 2)).mean((3, 5))


def sides(steps: Sequence[Step], height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the maps after each convolution, and at last of the features."""
    found = []
    for step in steps:
        shrunk = step.kernel - 1 - 2 * step.border
        height, width = height - shrunk, width - shrunk
        found.append((height, width))
        if step.pooling != "none":
            height, width = height // 2, width // 2
    return [*found, (height, width)]


class ChainNetwork(Network):
    """A chain of convolutions, then hidden layers where there are some, then one linear layer."""

    hidden: ClassVar[tuple[int, ...]] = ()
    """The widths of the linear layers between the maps and the last linear layer, each followed by the activation."""

    norm: Norm
    activation: Activation

    @property
    def pointwise(self) -> bool:
        return self.norm != "batch"

    @abstractmethod
    def steps(self, shape: Sequence[int]) -> list[Step]:
        """The convolutions for images of this shape, whose last two sizes are height and width."""

    def initial(
        self, generator: Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        steps = self.steps(shape)
        check_image(self.kind, shape)
        parameters: dict[str, Tensor] = {}
        channels, maps = shape[0], sides(steps, *shape[1:])
        if min(maps[-1]) < 1:
            raise _too_small(self.kind, steps, shape)
        for layer, (step, side) in enumerate(zip(steps, maps[:-1], strict=True), 1):
            fan_in = step.kernel**2 * channels
            kernel = (step.channels, channels, step.kernel, step.kernel)
            parameters[f"conv{layer}.weight"] = uniform(generator, kernel, fan_in)
            if self.norm in BIASED:
                parameters[f"conv{layer}.bias"] = uniform(generator, (step.channels,), fan_in)
            if affine:
                parameters |= norm_parameters(f"norm{layer}", self.norm, step.channels, side)
            channels = step.channels
        size = channels * math.prod(maps[-1])
        parameters |= hidden_parameters(generator, (size, *self.hidden))
        return parameters | read_out_parameters(generator, (size, *self.hidden)[-1], classes)

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Float[Tensor, "n channels height width"],
        take: Collection[str] = ("logits",),
        statistics: Statistics | None = None,
    ) -> dict[str, Tensor]:
        for name in take:
            check_choice("take", name, OUTPUTS)
        outputs: dict[str, Tensor] = {}
        activation, steps, x = ACTIVATIONS[self.activation], self.steps(points.shape), points
        for number, step in enumerate(steps, 1):
            layer = f"layer{number}"
            weight, bias = parameters[f"conv{number}.weight"], parameters.get(f"conv{number}.bias")
            x = functional.conv2d(x, weight, bias, padding=step.border)
            if self.norm == "batch" and "statistics" in take:
                outputs |= moments(layer, x)
            x = activation(normalised(x, self.norm, parameters, f"norm{number}", statistics, layer))
            if "activations" in take:
                outputs[f"activation{number}"] = x
            if step.pooling != "none":
                x = averaged(x) if step.pooling == "average" else functional.max_pool2d(x, 2)
            if "layers" in take:
                outputs[layer] = x
        x = x.flatten(1)
        for number in range(1, len(self.hidden) + 1):
            weight, bias = parameters[f"hidden{number}.weight"], parameters[f"hidden{number}.bias"]
            x = activation(functional.linear(x, weight, bias))
            outputs |= layer_outputs(len(steps) + number, x, take)
        return outputs | read_out(parameters, x, take)


def _too_small(kind: str, steps: Sequence[Step], shape: tuple[int, ...]) -> InvalidInput:
    """Of images of this shape nothing is left after the last step."""
    least = next(side for side in range(1, 1025) if min(sides(steps, side, side)[-1]) > 0)
    halvings = min(shape[1:]).bit_length() - 1
    return InvalidInput(
        f"images of {shape[1]} x {shape[2]} are too small for a {kind}; use {least} x {least} or more, or a convnet "
        f"with {f'depth {halvings} or less, or ' if halvings else ''}pooling 'none'"
    )
