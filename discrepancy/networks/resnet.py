"""The residual network for small images."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

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
    layer_outputs,
    read_out,
    read_out_parameters,
    uniform,
)
from discrepancy.networks.chain import averaged, check_image
from discrepancy.networks.norms import check_maps, moments, norm_parameters, normalised
from discrepancy.parts import check_choice

__all__ = ["ResNet"]

Depth = Literal[10, 18, 34]
Norm = Literal["instance", "batch", "group", "none"]
Halving = Literal["stride", "average"]

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""In each of the four stages, by depth."""


@dataclass(frozen=True)
class Block:
    """Two convolutions 3 × 3 beside a shortcut, which has a convolution 1 × 1 of its own where the shape changes."""

    name: str
    inputs: int
    channels: int
    halves: bool

    @property
    def projects(self) -> bool:
        return self.halves or self.inputs != self.channels

    @property
    def kernels(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """The name of each convolution and of its normalisation, and the shape of its weight."""
        yield f"{self.name}.conv1", f"{self.name}.norm1", (self.channels, self.inputs, 3, 3)
        yield f"{self.name}.conv2", f"{self.name}.norm2", (self.channels, self.channels, 3, 3)
        if self.projects:
            yield f"{self.name}.shortcut", f"{self.name}.norm3", (self.channels, self.inputs, 1, 1)


class ResNet(Network, kind="resnet"):
    """A convolution 3 × 3, four stages of residual blocks, the mean over positions, and one linear layer.

    With the default ``width`` w the stages have 64, 128, 256, 512 channels: w, 2w, 4w, 8w. The first block of each stage but
    the first halves the maps: by convolutions of stride 2, or (``halving="average"``) by an average over 2 × 2 after them, the
    variant ResNetAP, whose features are all positions of the last maps in place of their mean. Convolutions have no bias.

    The least size is 1 × 1, or 8 × 8 with ``halving="average"``; with instance normalisation it is 9 × 9 or 16 × 16, because
    the last maps would be of 1 × 1, which have no spread. The published network takes the mean over 4 × 4 positions, which are
    all there are for images of 25 to 32 a side, and is not defined for others.

    The layers 1, ..., 5 are the first convolution and the four stages. Parameters are named ``layer1.conv1.weight`` and
    ``layer1.norm1.weight``, ``.bias`` in the first; then ``layerL.blockB.convI.weight``, ``layerL.blockB.normI.weight``
    and ``.bias`` for I = 1, 2, ``layerL.blockB.shortcut.weight`` and ``norm3`` where the shape changes, and ``linear.weight``,
    ``linear.bias``. Statistics of batch normalisation go by the names of the normalisations, ``layerL.blockB.normI``.

    References:
        Deep Residual Learning for Image Recognition (He et al., 2016), https://arxiv.org/abs/1512.03385; for small images as in
        Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929.

    Args:
        depth: 10, 18 or 34.
        width: channels of the first stage.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.ResNet(depth=10, width=4)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3, 16, 16), 10)
        >>> outputs = network(parameters, torch.zeros((2, 3, 16, 16)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 32), 'logits': (2, 10)}
    """

    depth: Depth = 18
    width: int = 64
    norm: Norm = "instance"
    activation: Activation = "relu"
    halving: Halving = "stride"

    def __post_init__(self) -> None:
        if self.depth not in BLOCKS:
            raise InvalidInput(f"'depth' must be one of {', '.join(map(str, BLOCKS))}; got {self.depth}")
        if self.width < 1:
            raise InvalidInput(f"'width' must be >= 1, got {self.width}")
        check_choice("norm", self.norm, get_args(Norm))
        check_maps(self.norm, self.activation, self.width)
        check_choice("halving", self.halving, get_args(Halving))

    @property
    def pointwise(self) -> bool:
        return self.norm != "batch"

    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        self._check_fits(shape)
        kernels = [("layer1.conv1", "layer1.norm1", (self.width, shape[0], 3, 3))]
        kernels += [kernel for stage in self._stages() for block in stage for kernel in block.kernels]
        parameters: dict[str, Tensor] = {}
        for convolution, norm, size in kernels:
            parameters[f"{convolution}.weight"] = uniform(generator, size, math.prod(size[1:]))
            if affine:
                parameters |= norm_parameters(norm, self.norm, size[0])
        positions = math.prod(self._last(shape[1:])) if self.halving == "average" else 1
        return parameters | read_out_parameters(generator, 8 * self.width * positions, classes)

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
        act = ACTIVATIONS[self.activation]

        def norm(x: Tensor, name: str) -> Tensor:
            if self.norm == "batch" and "statistics" in take:
                outputs.update(moments(name, x))
            return normalised(x, self.norm, parameters, name, statistics, name)

        x = act(norm(functional.conv2d(points, parameters["layer1.conv1.weight"], padding=1), "layer1.norm1"))
        outputs |= layer_outputs(1, x, take)
        for number, stage in enumerate(self._stages(), 2):
            for block in stage:
                x = act(self._block(block, parameters, x, norm))
            outputs |= layer_outputs(number, x, take)
        features = x.flatten(1) if self.halving == "average" else x.mean((2, 3))
        return outputs | read_out(parameters, features, take)

    def _block(
        self, block: Block, parameters: NetworkParameters, x: Tensor, norm: Callable[[Tensor, str], Tensor]
    ) -> Tensor:
        name, strided = block.name, block.halves and self.halving == "stride"
        halved = block.halves and self.halving == "average"
        stride = 2 if strided else 1
        y = functional.conv2d(x, parameters[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = ACTIVATIONS[self.activation](norm(y, f"{name}.norm1"))
        if halved:
            y = averaged(y)
        y = norm(functional.conv2d(y, parameters[f"{name}.conv2.weight"], padding=1), f"{name}.norm2")
        if block.projects:
            x = functional.conv2d(x, parameters[f"{name}.shortcut.weight"], stride=stride)
            x = norm(averaged(x) if halved else x, f"{name}.norm3")
        return x + y

    def _stages(self) -> list[list[Block]]:
        stages, inputs = [], self.width
        for number, count in enumerate(BLOCKS[self.depth]):
            channels, stage = self.width << number, []
            for block in range(1, count + 1):
                stage.append(Block(f"layer{number + 2}.block{block}", inputs, channels, number > 0 and block == 1))
                inputs = channels
            stages.append(stage)
        return stages

    def _last(self, sides: Sequence[int]) -> tuple[int, ...]:
        """Height and width of the last maps."""
        return tuple(side // 8 if self.halving == "average" else -(-side // 8) for side in sides)

    def _check_fits(self, shape: tuple[int, ...]) -> None:
        check_image(self.kind, shape)
        needed = 2 if self.norm == "instance" else 1
        if math.prod(self._last(shape[1:])) < needed:
            least = next(side for side in range(1, 17) if math.prod(self._last((side, side))) >= needed)
            why = " (instance normalisation makes maps of 1 x 1 constant), or another 'norm'" if needed == 2 else ""
            raise InvalidInput(
                f"images of {shape[1]} x {shape[2]} are too small for a resnet; use {least} x {least} or more{why}"
            )
