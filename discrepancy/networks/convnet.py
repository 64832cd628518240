"""The ConvNet on which data set condensation is measured: blocks of convolution, normalisation, activation, pooling."""

from collections.abc import Sequence
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Activation, NetworkParameters
from discrepancy.networks.chain import ChainNetwork, Pooling, Step, border, sides
from discrepancy.networks.invertible import InvertibleNetwork
from discrepancy.networks.norms import Norm, check_maps
from discrepancy.networks.preimages import Preimage, least_convolved, undone
from discrepancy.parts import check_choice

__all__ = ["ConvNet"]

Padding = Literal["published", "same"]


class ConvNet(ChainNetwork, InvertibleNetwork, kind="convnet"):
    """``depth`` × [convolution 3 × 3, normalisation, activation, pooling 2 × 2], then one linear layer.

    Every layer has as many channels as the one before times ``growth`` (FRePo's networks double them), the first ``width``.

    Images of 28 × 28 get a border of 3 in the first convolution, which makes them 32 × 32, as published; all others keep their
    size, and with padding ``same`` those too. ``group`` means four groups of channels, and ``layer`` normalises over channels
    and positions together. A 1 × 1 map has no spread, so instance normalisation makes it zero (plus the shift). A convolution
    has no bias where instance or batch normalisation follows, which would take it away again, exactly.

    Parameters are named ``convL.weight``, ``convL.bias``, ``normL.weight``, ``normL.bias`` for L = 1, ..., depth, and
    ``linear.weight``, ``linear.bias``.

    References:
        Dynamic Few-Shot Visual Learning without Forgetting (Gidaris & Komodakis, 2018);
        Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.ConvNet(width=8, depth=2)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (1, 8, 8), 10)
        >>> outputs = network(parameters, torch.zeros((2, 1, 8, 8)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 32), 'logits': (2, 10)}
    """

    width: int = 128
    depth: int = 3
    norm: Norm = "instance"
    activation: Activation = "relu"
    pooling: Pooling = "average"
    growth: int = 1
    padding: Padding = "published"

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("depth", self.depth), ("growth", self.growth)):
            if value < 1:
                raise InvalidInput(f"'{name}' must be >= 1, got {value}")
        check_maps(self.norm, self.activation, self.width)
        check_choice("pooling", self.pooling, get_args(Pooling))
        check_choice("padding", self.padding, get_args(Padding))

    def preimage(
        self,
        parameters: NetworkParameters,
        features: Float[Tensor, "n p"],
        shape: tuple[int, ...],
        nearest: bool = False,
        near: Float[Tensor, "n d"] | None = None,
    ) -> Preimage:
        if self.norm != "none" or self.pooling == "max":
            raise InvalidInput(
                f"a convnet is undone with norm 'none' and pooling 'none' or 'average' only, got '{self.norm}' and "
                f"'{self.pooling}'"
            )
        steps = self.steps(shape)
        maps = sides(steps, *shape[1:])
        before = [(shape[1], shape[2])]
        before += [(side[0] // 2, side[1] // 2) if self.pooling == "average" else side for side in maps[:-1]]
        parameters = {name: value.double() for name, value in parameters.items()}
        start: dict[str, Tensor] = {}
        if near is not None:
            points = near.double().reshape(-1, *shape)
            start = {"layer0": points, **self(parameters, points, ("layers", "activations"))}
        x, condition = features.double().reshape(-1, steps[-1].channels, *maps[-1]), 1.0
        for number in range(self.depth, 0, -1):
            if self.pooling == "average":
                x = _unpooled(x, maps[number - 1], start.get(f"activation{number}"))
            x, bent = undone(self.activation, 0.01, x)
            x = x - parameters[f"conv{number}.bias"][:, None, None]
            name, border_ = f"conv{number}.weight", steps[number - 1].border
            x, own = least_convolved(
                name, parameters[name], border_, x, before[number - 1], start.get(f"layer{number - 1}")
            )
            condition *= bent * own
        return Preimage(x.flatten(1), condition)

    def steps(self, shape: Sequence[int]) -> list[Step]:
        first = border(shape, 1) if self.padding == "published" else 1
        return [
            Step(self.width * self.growth**layer, 3, 1 if layer else first, self.pooling) for layer in range(self.depth)
        ]


def _unpooled(
    pooled: Float[Tensor, "n q h w"], sides: tuple[int, int], near: Float[Tensor, "n q height width"] | None
) -> Float[Tensor, "n q height width"]:
    """What is pooled to that, of these sides: the nearest to another, or the least."""
    x = near.clone() if near is not None else pooled.new_zeros(*pooled.shape[:2], *sides)
    missing = pooled - functional.avg_pool2d(x, 2)
    height, width = (2 * side for side in pooled.shape[2:])
    x[..., :height, :width] += missing.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return x
