"""LeNet-5 as it is used today: rectified, with max pooling."""

from collections.abc import Collection, Sequence
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.networks.base import (
    ACTIVATIONS,
    Activation,
    Network,
    NetworkParameters,
    Statistics,
    layer_outputs,
    read_out,
    read_out_parameters,
    uniform,
)
from discrepancy.networks.chain import Step, border, chain, chain_parameters, check_fits
from discrepancy.parts import check_choice

__all__ = ["LeNet"]

HIDDEN = (120, 84)


class LeNet(Network, kind="lenet"):
    """Two convolutions 5 × 5 with 6 and 16 channels, each pooled by maxima, two hidden layers of 120 and 84, and a linear one.

    Images of 28 × 28 get a border of 2, which makes them 32 × 32; all others get none. The least size is 16 × 16. The features
    are the 84 of the last hidden layer.

    Parameters are named ``convL.weight``, ``convL.bias``, ``hiddenL.weight``, ``hiddenL.bias`` for L = 1, 2, and
    ``linear.weight``, ``linear.bias``; the layers are the two convolutions and the two hidden layers.

    References:
        Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998); rectifiers and maxima as in
        Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.LeNet()
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (1, 16, 16), 10)
        >>> outputs = network(parameters, torch.zeros((2, 1, 16, 16)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 84), 'logits': (2, 10)}
    """

    activation: Activation = "relu"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, get_args(Activation))

    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        steps = _steps(shape)
        check_fits(self.kind, steps, shape)
        parameters, size = chain_parameters(generator, shape, steps, "none", affine)
        for layer, width in enumerate(HIDDEN, 1):
            parameters[f"hidden{layer}.weight"] = uniform(generator, (width, size), size)
            parameters[f"hidden{layer}.bias"] = uniform(generator, (width,), size)
            size = width
        return parameters | read_out_parameters(generator, size, classes)

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Float[Tensor, "n channels height width"],
        take: Collection[str] = ("logits",),
        statistics: Statistics | None = None,
    ) -> dict[str, Tensor]:
        maps, outputs = chain(parameters, points, _steps(points.shape), "none", self.activation, take, None)
        x = maps.flatten(1)
        for layer in range(1, len(HIDDEN) + 1):
            x = functional.linear(x, parameters[f"hidden{layer}.weight"], parameters[f"hidden{layer}.bias"])
            x = ACTIVATIONS[self.activation](x)
            outputs |= layer_outputs(layer + 2, x, take)
        return outputs | read_out(parameters, x, take)


def _steps(shape: Sequence[int]) -> list[Step]:
    return [Step(6, 5, border(shape, 0), "max"), Step(16, 5, 0, "max")]
