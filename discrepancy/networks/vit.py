"""A small vision transformer."""

import math
from collections.abc import Collection
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import OUTPUTS, Network, NetworkParameters, Statistics, layer_outputs, read_out, uniform
from discrepancy.networks.chain import check_image
from discrepancy.parts import check_choice
from discrepancy.precision import filled

__all__ = ["ViT"]

Pooling = Literal["mean", "token"]

EPSILON = 1e-6
STD = 0.02


class ViT(Network, kind="vit"):
    """Patches as tokens, a learned position added to each; ``depth`` × [x + attention(norm(x)), then x + mlp(norm(x))]; a layer
    normalisation, pooling, and one linear layer. The mlp has 4 ``width`` hidden units and GELU.

    ``pooling="mean"`` averages the tokens of the patches, so that there is no class token; ``"token"`` adds a class token in
    front and takes it, as in the original. Images must divide into patches. Layers are the tokens after each block as maps
    ``(width, height / patch, width / patch)``, without the class token. Attention is written out, so that there are derivatives
    of any order: O(t²) memory for t tokens.

    Parameters are named ``patch.weight``, ``patch.bias``, ``position``, ``token``, ``blockL.norm1``, ``blockL.qkv``,
    ``blockL.out``, ``blockL.norm2``, ``blockL.up``, ``blockL.down`` for L = 1, ..., depth, and ``norm`` and ``linear``, each
    with ``.weight`` and ``.bias``. Initial weights, positions and tokens are N(0, 0.02²) and biases zero, as in DeiT; those of
    the patches are PyTorch's own.

    References:
        An Image is Worth 16x16 Words (Dosovitskiy et al., 2021), https://arxiv.org/abs/2010.11929;
        Training data-efficient image transformers (Touvron et al., 2021), https://arxiv.org/abs/2012.12877.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.ViT(patch=4, width=12, depth=1)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3, 8, 8), 10)
        >>> outputs = network(parameters, torch.zeros((2, 3, 8, 8)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 12), 'logits': (2, 10)}
    """

    patch: int = 4
    width: int = 192
    depth: int = 6
    heads: int = 3
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        for name in ("patch", "width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"'{name}' must be >= 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise InvalidInput(f"'width' must be a multiple of 'heads', got {self.width} and {self.heads}")
        check_choice("pooling", self.pooling, get_args(Pooling))

    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        check_image(self.kind, shape)
        if shape[1] % self.patch or shape[2] % self.patch:
            raise InvalidInput(
                f"images of {shape[1]} x {shape[2]} do not divide into patches of {self.patch} x {self.patch}; use another "
                f"'patch'"
            )
        w, fan_in = self.width, shape[0] * self.patch**2
        tokens = math.prod(side // self.patch for side in shape[1:]) + (self.pooling == "token")
        parameters = {
            "patch.weight": uniform(generator, (w, shape[0], self.patch, self.patch), fan_in),
            "patch.bias": uniform(generator, (w,), fan_in),
            "position": _normal(generator, (tokens, w)),
        }
        if self.pooling == "token":
            parameters["token"] = _normal(generator, (w,))
        for block in (f"block{number}" for number in range(1, self.depth + 1)):
            parameters |= _norm(f"{block}.norm1", w, affine)
            parameters |= _linear(generator, f"{block}.qkv", 3 * w, w) | _linear(generator, f"{block}.out", w, w)
            parameters |= _norm(f"{block}.norm2", w, affine)
            parameters |= _linear(generator, f"{block}.up", 4 * w, w) | _linear(generator, f"{block}.down", w, 4 * w)
        return parameters | _norm("norm", w, affine) | _linear(generator, "linear", classes, w)

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Float[Tensor, "n channels height width"],
        take: Collection[str] = ("logits",),
        statistics: Statistics | None = None,
    ) -> dict[str, Tensor]:
        for name in take:
            check_choice("take", name, OUTPUTS)

        def norm(x: Tensor, name: str) -> Tensor:
            scale, shift = parameters.get(f"{name}.weight"), parameters.get(f"{name}.bias")
            return functional.layer_norm(x, (self.width,), scale, shift, EPSILON)

        def linear(x: Tensor, name: str) -> Tensor:
            return functional.linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])

        patches = functional.conv2d(points, parameters["patch.weight"], parameters["patch.bias"], stride=self.patch)
        x = patches.flatten(2).transpose(1, 2)
        first = int(self.pooling == "token")
        if first:
            x = torch.cat([parameters["token"].expand(len(x), 1, self.width), x], 1)
        x = x + parameters["position"]
        outputs: dict[str, Tensor] = {}
        for number in range(1, self.depth + 1):
            block = f"block{number}"
            queries, keys, values = self._heads(linear(norm(x, f"{block}.norm1"), f"{block}.qkv"))
            scores = queries @ keys.transpose(-1, -2) / math.sqrt(self.width // self.heads)
            attended = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
            x = x + linear(attended, f"{block}.out")
            hidden = functional.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.up"))
            x = x + linear(hidden, f"{block}.down")
            outputs |= layer_outputs(number, x[:, first:].transpose(1, 2).unflatten(2, patches.shape[2:]), take)
        x = norm(x, "norm")
        return outputs | read_out(parameters, x[:, 0] if first else x.mean(1), take)

    def _heads(self, x: Float[Tensor, "n tokens channels"]) -> tuple[Tensor, ...]:
        """Queries, keys and values, each ``(n, heads, tokens, width / heads)``."""
        return x.unflatten(2, (3, self.heads, self.width // self.heads)).permute(2, 0, 3, 1, 4).unbind(0)


def _normal(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, device="cpu", dtype=torch.float32).normal_(0, STD, generator=generator)


def _linear(generator: torch.Generator, name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
    return {f"{name}.weight": _normal(generator, (outputs, inputs)), f"{name}.bias": filled(0, outputs)}


def _norm(name: str, width: int, affine: bool) -> dict[str, Tensor]:
    return {f"{name}.weight": filled(1, width), f"{name}.bias": filled(0, width)} if affine else {}
