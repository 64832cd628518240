"""The ConvNet on which data set condensation is measured: blocks of convolution, normalisation, activation, pooling."""

import math
from collections.abc import Collection
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.base import check_choice
from discrepancy.errors import InvalidInput
from discrepancy.networks.base import (
    ACTIVATIONS,
    OUTPUTS,
    Activation,
    Network,
    Parameters,
    Statistics,
    read_out,
    read_out_parameters,
    uniform,
)

__all__ = ["ConvNet"]

Norm = Literal["instance", "batch", "layer", "group", "none"]
Pooling = Literal["average", "max", "none"]

GROUPS = 4
EPSILON = 1e-5


class ConvNet(Network, kind="convnet"):
    """``depth`` × [convolution 3 × 3, normalisation, activation, pooling 2 × 2], then one linear layer.

    Images of 28 × 28 get a border of 3 in the first convolution, which makes them 32 × 32; all others keep their size.
    ``group`` means four groups of channels, and ``layer`` normalises over channels and positions together. A 1 × 1 map
    has no spread, so instance normalisation makes it zero (plus the shift). A convolution has no bias where instance or
    batch normalisation follows, which would take it away again, exactly.

    Parameters are named ``convL.weight``, ``convL.bias``, ``normL.weight``, ``normL.bias`` for L = 1, ..., depth, and
    ``linear.weight``, ``linear.bias``.

    References:
        Dynamic Few-Shot Visual Learning without Forgetting (Gidaris & Komodakis, 2018);
        Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929.
    """

    width: int = 128
    depth: int = 3
    norm: Norm = "instance"
    activation: Activation = "relu"
    pooling: Pooling = "average"

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("depth", self.depth)):
            if value < 1:
                raise InvalidInput(f"'{name}' must be >= 1, got {value}")
        check_choice("norm", self.norm, get_args(Norm))
        check_choice("activation", self.activation, get_args(Activation))
        check_choice("pooling", self.pooling, get_args(Pooling))
        if self.norm == "group" and self.width % GROUPS:
            raise InvalidInput(f"'width' must be a multiple of {GROUPS} with norm 'group', got {self.width}")

    @property
    def pointwise(self) -> bool:
        return self.norm != "batch"

    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        sides = self._sides(shape)
        parameters: dict[str, Tensor] = {}
        channels = shape[0]
        for layer, (height, width) in enumerate(sides[:-1], 1):
            fan_in = 9 * channels
            parameters[f"conv{layer}.weight"] = uniform(generator, (self.width, channels, 3, 3), fan_in)
            if self.norm not in ("instance", "batch"):
                parameters[f"conv{layer}.bias"] = uniform(generator, (self.width,), fan_in)
            if affine and self.norm != "none":
                size = (self.width, height, width) if self.norm == "layer" else (self.width,)
                parameters[f"norm{layer}.weight"] = torch.ones(size)
                parameters[f"norm{layer}.bias"] = torch.zeros(size)
            channels = self.width
        features = self.width * math.prod(sides[-1])
        return parameters | read_out_parameters(generator, features, classes)

    def __call__(
        self,
        parameters: Parameters,
        points: Float[Tensor, "n channels height width"],
        take: Collection[str] = ("logits",),
        statistics: Statistics | None = None,
    ) -> dict[str, Tensor]:
        for name in take:
            check_choice("take", name, OUTPUTS)
        outputs: dict[str, Tensor] = {}
        x = points
        for layer in range(1, self.depth + 1):
            padding = _border(points.shape) if layer == 1 else 1
            x = functional.conv2d(
                x, parameters[f"conv{layer}.weight"], parameters.get(f"conv{layer}.bias"), padding=padding
            )
            if self.norm == "batch" and "statistics" in take:
                variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
                outputs[f"layer{layer}.mean"], outputs[f"layer{layer}.variance"] = mean, variance
                outputs[f"layer{layer}.count"] = torch.tensor(x.numel() // x.shape[1])
            given = None if statistics is None else statistics.get(f"layer{layer}")
            x = self._normalised(x, parameters.get(f"norm{layer}.weight"), parameters.get(f"norm{layer}.bias"), given)
            x = ACTIVATIONS[self.activation](x)
            if self.pooling != "none":
                pool = functional.avg_pool2d if self.pooling == "average" else functional.max_pool2d
                x = pool(x, 2)
            if "layers" in take:
                outputs[f"layer{layer}"] = x
        return outputs | read_out(parameters, x.flatten(1), take)

    def _normalised(
        self, x: Tensor, scale: Tensor | None, shift: Tensor | None, given: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        if self.norm == "none":
            return x
        if self.norm == "batch":
            mean, variance = given or (None, None)
            return functional.batch_norm(x, mean, variance, scale, shift, training=given is None, eps=EPSILON)
        if self.norm == "layer":
            return functional.layer_norm(x, x.shape[1:], scale, shift, EPSILON)
        groups = GROUPS if self.norm == "group" else self.width
        if scale is not None:
            return torch.group_norm(x, groups, scale, shift, EPSILON)
        # The same numbers; with no scale and shift this primitive has the faster backward pass, compiled or not.
        blocks = x.unflatten(1, (groups, -1))
        return functional.layer_norm(blocks, blocks.shape[2:], eps=EPSILON).flatten(1, 2)

    def _sides(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Height and width of the maps in each layer, and at last of the features."""
        if len(shape) != 3:
            raise InvalidInput(
                f"a convnet needs examples of shape (channels, height, width), got {tuple(shape)}; use an mlp"
            )
        border = _border(shape)
        sides = [(shape[1] + 2 * border - 2, shape[2] + 2 * border - 2)]
        for _ in range(self.depth):
            height, width = sides[-1]
            sides.append((height, width) if self.pooling == "none" else (height // 2, width // 2))
        if 0 in sides[-1]:
            deepest = min(sides[0]).bit_length() - 1
            raise InvalidInput(
                f"images of {shape[1]} x {shape[2]} are too small for a convnet of depth {self.depth}, which halves "
                f"them {self.depth} times; use {f'depth {deepest} or less, or ' if deepest > 0 else ''}pooling 'none'"
            )
        return sides


def _border(shape: tuple[int, ...]) -> int:
    return 3 if tuple(shape[-2:]) == (28, 28) else 1
