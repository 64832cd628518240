"""VGG for small images."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Activation, Network, NetworkParameters, Statistics, read_out, read_out_parameters
from discrepancy.networks.chain import Step, border, chain, chain_parameters, check_fits
from discrepancy.networks.norms import Norm, check_groups
from discrepancy.parts import check_choice

__all__ = ["VGG"]

Depth = Literal[11, 13, 16, 19]

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""In each of the five groups, by depth."""


class VGG(Network, kind="vgg"):
    """Five groups of [convolution 3 × 3, normalisation, activation] with maxima after each group, then one linear layer.

    With the default ``width`` w the groups have 64, 128, 256, 512, 512 channels: w, 2w, 4w, 8w, 8w. ``depth`` counts weights:
    the 8, 10, 13 or 16 convolutions, and the three linear layers of the original, of which the published network for small
    images keeps one. Images of 28 × 28 get a border of 3 in the first convolution. The least size is otherwise 32 × 32, of
    which one pixel is left.

    Parameters are named ``convL.weight``, ``convL.bias``, ``normL.weight``, ``normL.bias`` for the convolutions L = 1, 2, ...,
    and ``linear.weight``, ``linear.bias``. A convolution has no bias where instance or batch normalisation follows.

    References:
        Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan & Zisserman, 2015); for small images as in
        Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929.

    Args:
        depth: 11, 13, 16 or 19.
        width: channels of the first group.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.VGG(width=4)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3, 32, 32), 10)
        >>> outputs = network(parameters, torch.zeros((2, 3, 32, 32)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 32), 'logits': (2, 10)}
    """

    depth: Depth = 11
    width: int = 64
    norm: Norm = "instance"
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        if self.depth not in CONVOLUTIONS:
            raise InvalidInput(f"'depth' must be one of {', '.join(map(str, CONVOLUTIONS))}; got {self.depth}")
        if self.width < 1:
            raise InvalidInput(f"'width' must be >= 1, got {self.width}")
        check_choice("norm", self.norm, get_args(Norm))
        check_choice("activation", self.activation, get_args(Activation))
        check_groups(self.norm, self.width)

    @property
    def pointwise(self) -> bool:
        return self.norm != "batch"

    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        steps = self._steps(shape)
        check_fits(self.kind, steps, shape)
        parameters, features = chain_parameters(generator, shape, steps, self.norm, affine)
        return parameters | read_out_parameters(generator, features, classes)

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Float[Tensor, "n channels height width"],
        take: Collection[str] = ("logits",),
        statistics: Statistics | None = None,
    ) -> dict[str, Tensor]:
        steps = self._steps(points.shape)
        x, outputs = chain(parameters, points, steps, self.norm, self.activation, take, statistics)
        return outputs | read_out(parameters, x.flatten(1), take)

    def _steps(self, shape: Sequence[int]) -> list[Step]:
        steps = [
            Step(self.width * times, 3, 1, "max" if last else "none")
            for times, count in zip((1, 2, 4, 8, 8), CONVOLUTIONS[self.depth], strict=True)
            for last in [False] * (count - 1) + [True]
        ]
        return [replace(steps[0], border=border(shape, 1)), *steps[1:]]
