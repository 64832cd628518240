"""The multilayer perceptron, for tables and as the plainest network for images."""

import math
from collections.abc import Collection
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor
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
)
from discrepancy.networks.invertible import InvertibleNetwork
from discrepancy.networks.preimages import Preimage, least, undone
from discrepancy.parts import check_choice

__all__ = ["MLP"]


class MLP(Network, InvertibleNetwork, kind="mlp"):
    """``depth`` hidden layers of ``width`` units, then one linear layer; examples of any shape are flattened.

    Where no layer is wider than what it follows and the activation is ``leaky_relu`` or ``identity``, every feature vector is
    reached, and ``preimage`` finds the points.

    Args:
        width: of the hidden layers; None for as many units as an example has numbers.
        depth: the number of hidden layers.
        activation: after each of them.
        slope: of ``leaky_relu``, below zero.
        bias: whether the hidden layers have one.

    Parameters are named ``hiddenL.weight``, ``hiddenL.bias`` for L = 1, ..., depth, and ``linear.weight``,
    ``linear.bias``.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.MLP(width=8, depth=2)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (6,), 10)
        >>> outputs = network(parameters, torch.zeros((2, 6)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 8), 'logits': (2, 10)}
    """

    width: int | None = 128
    depth: int = 2
    activation: Activation = "relu"
    slope: float = 0.01
    bias: bool = True

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("depth", self.depth)):
            if value is not None and value < 1:
                raise InvalidInput(f"'{name}' must be >= 1, got {value}")
        check_choice("activation", self.activation, get_args(Activation))
        if not 0 < self.slope <= 1:
            raise InvalidInput(f"'slope' must be > 0 and at most 1, got {self.slope}")

    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        size = math.prod(shape)
        width = size if self.width is None else self.width
        parameters = hidden_parameters(generator, (size, *[width] * self.depth), self.bias)
        return parameters | read_out_parameters(generator, width, classes)

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Float[Tensor, "n *shape"],
        take: Collection[str] = ("logits",),
        statistics: Statistics | None = None,
    ) -> dict[str, Tensor]:
        for name in take:
            check_choice("take", name, OUTPUTS)
        outputs: dict[str, Tensor] = {}
        x = points.flatten(1)
        for layer in range(1, self.depth + 1):
            x = self._layer(parameters, layer, x)
            outputs |= layer_outputs(layer, x, take)
        return outputs | read_out(parameters, x, take)

    def _layer(self, parameters: NetworkParameters, layer: int, x: Float[Tensor, "n d"]) -> Float[Tensor, "n q"]:
        x = functional.linear(x, parameters[f"hidden{layer}.weight"], parameters.get(f"hidden{layer}.bias"))
        leaky = self.activation == "leaky_relu"
        return functional.leaky_relu(x, self.slope) if leaky else ACTIVATIONS[self.activation](x)

    def preimage(
        self,
        parameters: NetworkParameters,
        features: Float[Tensor, "n p"],
        shape: tuple[int, ...],
        nearest: bool = False,
        near: Float[Tensor, "n d"] | None = None,
    ) -> Preimage:
        parameters = {name: value.double() for name, value in parameters.items()}
        before = [None if near is None else near.double()]
        for layer in range(1, self.depth):
            before.append(None if before[-1] is None else self._layer(parameters, layer, before[-1]))
        x, condition = features.double(), 1.0
        for layer in range(self.depth, 0, -1):
            x, bent = undone(self.activation, self.slope, x)
            bias = parameters.get(f"hidden{layer}.bias")
            x = x if bias is None else x - bias
            name = f"hidden{layer}.weight"
            x, own = least(name, parameters[name], x, nearest, before[layer - 1])
            condition *= bent * own
        return Preimage(x, condition)
