"""VGG for small images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Activation
from discrepancy.networks.chain import ChainNetwork, Step, border
from discrepancy.networks.norms import Norm, check_maps

__all__ = ["VGG"]

Depth = Literal[11, 13, 16, 19]

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""In each of the five groups, by depth."""


class VGG(ChainNetwork, kind="vgg"):
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
        check_maps(self.norm, self.activation, self.width)

    def steps(self, shape: Sequence[int]) -> list[Step]:
        steps = [
            Step(self.width * times, 3, 1, "max" if last else "none")
            for times, count in zip((1, 2, 4, 8, 8), CONVOLUTIONS[self.depth], strict=True)
            for last in [False] * (count - 1) + [True]
        ]
        return [replace(steps[0], border=border(shape, 1)), *steps[1:]]
