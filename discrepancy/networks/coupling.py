"""A stack of affine couplings: a network that can be undone exactly, whatever its random weights are."""

import math
from collections.abc import Callable, Collection

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import (
    OUTPUTS,
    Network,
    NetworkParameters,
    Statistics,
    layer_outputs,
    read_out,
    read_out_parameters,
    uniform,
)
from discrepancy.networks.invertible import InvertibleNetwork
from discrepancy.networks.preimages import Preimage
from discrepancy.parts import check_choice, check_least

__all__ = ["Coupling"]


class Coupling(Network, InvertibleNetwork, kind="coupling"):
    """``depth`` affine couplings of the d numbers of an example, as many features, and one linear layer. Each leaves every
    other number a as it is, and changes the rest b in turn,

        b ↦ b ∘ exp(r tanh s(a)) + t(a),    (s, t)(a) = V relu(U a + u),

    with ``width`` hidden units and the reach r; so it is undone, exactly, by b ↦ (b - t(a)) ∘ exp(-r tanh s(a)).

    Parameters are named ``couplingL.inner.weight``, ``couplingL.inner.bias``, ``couplingL.outer.weight`` for L = 1, ..., depth,
    and ``linear.weight``, ``linear.bias``.

    Args:
        width: hidden units of each coupling.
        depth: couplings.
        reach: the largest logarithm of a factor.

    References: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2017), section 3.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.Coupling(width=8, depth=2)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (6,), 10)
        >>> outputs = network(parameters, torch.zeros((2, 6)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 6), 'logits': (2, 10)}
    """

    width: int = 128
    depth: int = 4
    reach: float = 0.5

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            check_least(name, getattr(self, name), 1)
        if not (math.isfinite(self.reach) and self.reach > 0):
            raise InvalidInput(f"'reach' must be finite and > 0, got {self.reach}")

    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        size, parameters = math.prod(shape), dict[str, Tensor]()
        if size < 2:
            raise InvalidInput(f"a {self.kind} needs examples of two numbers or more, got shape {tuple(shape)}")
        for layer in range(1, self.depth + 1):
            kept = len(range((layer + 1) % 2, size, 2))
            parameters[f"coupling{layer}.inner.weight"] = uniform(generator, (self.width, kept), kept)
            parameters[f"coupling{layer}.inner.bias"] = uniform(generator, (self.width,), kept)
            outer = 2 * (size - kept), self.width
            parameters[f"coupling{layer}.outer.weight"] = uniform(generator, outer, self.width)
        return parameters | read_out_parameters(generator, size, classes)

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
            kept, changed = x[:, (layer + 1) % 2 :: 2], x[:, layer % 2 :: 2]
            factor, shift = self._affine(parameters, layer, kept)
            x = _woven(layer, kept, changed * factor.exp() + shift)
            outputs |= layer_outputs(layer, x, take)
        return outputs | read_out(parameters, x, take)

    def preimage(
        self,
        parameters: NetworkParameters,
        features: Float[Tensor, "n p"],
        shape: tuple[int, ...],
        nearest: bool = False,
        near: Float[Tensor, "n d"] | None = None,
    ) -> Preimage:
        parameters = {name: value.double() for name, value in parameters.items()}

        def forward(points: Tensor) -> Tensor:
            return self(parameters, points, ("features",))["features"]

        def back(x: Tensor) -> Tensor:
            for layer in range(self.depth, 0, -1):
                kept, changed = x[:, (layer + 1) % 2 :: 2], x[:, layer % 2 :: 2]
                factor, shift = self._affine(parameters, layer, kept)
                x = _woven(layer, kept, (changed - shift) * (-factor).exp())
            return x

        points = back(features.double())
        return Preimage(points, _stretch(forward, points) * _stretch(back, features.double()))

    def _affine(self, parameters: NetworkParameters, layer: int, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of the factors, and the shifts."""
        name = f"coupling{layer}"
        inner = functional.linear(kept, parameters[f"{name}.inner.weight"], parameters[f"{name}.inner.bias"]).relu()
        factor, shift = functional.linear(inner, parameters[f"{name}.outer.weight"]).chunk(2, 1)
        return self.reach * factor.tanh(), shift


def _woven(layer: int, kept: Tensor, changed: Tensor) -> Tensor:
    """Every other number again, those that were kept first in the couplings of odd number."""
    both = torch.cat([kept, changed] if layer % 2 else [changed, kept], 1)
    place = torch.arange(both.shape[1], device=both.device)
    return both[:, torch.where(place % 2 == 0, place // 2, (both.shape[1] + 1) // 2 + place // 2)]


@torch.enable_grad()
def _stretch(function: Callable[[Tensor], Tensor], points: Tensor) -> float:
    """The largest singular value of the slope at any of the points, by the power method; from below."""
    points = points.detach().requires_grad_(True)
    values = function(points)
    turned = torch.ones_like(values, requires_grad=True)
    # linear in turned, so its slope is forward
    (back,) = torch.autograd.grad(values, points, turned, create_graph=True)
    direction = torch.ones_like(points)
    for _ in range(30):
        direction = direction / direction.norm(dim=1, keepdim=True)
        (moved,) = torch.autograd.grad(back, turned, direction, retain_graph=True)
        (direction,) = torch.autograd.grad(values, points, moved, retain_graph=True)
    return float(direction.norm(dim=1).max().sqrt())
