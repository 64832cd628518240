"""Networks as pure functions of (parameters, points).

A fresh random network is then nothing but new inputs to the same, once compiled, function; and a network can be
evaluated at any parameters (interpolated, one step further) without touching an object.
"""

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from discrepancy.arrays import are_tensors
from discrepancy.errors import InvalidInput
from discrepancy.parts import Part, explain_failures, shown

__all__ = [
    "ACTIVATIONS",
    "OUTPUTS",
    "Activation",
    "Forward",
    "Network",
    "NetworkParameters",
    "Statistics",
    "hidden_parameters",
    "layer_outputs",
    "read_out",
    "read_out_parameters",
    "uniform",
]

MOST_WEIGHTS = 1 << 28
"""Of one layer: 1 GiB in float32."""

OUTPUTS = ("features", "logits", "layers", "activations", "statistics")
"""The names that ``take`` may hold."""

Activation = Literal["relu", "leaky_relu", "sigmoid", "swish", "identity"]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "sigmoid": torch.sigmoid,
    "swish": functional.silu,
    "identity": lambda x: x,
}

NetworkParameters = Mapping[str, Tensor]
"""The weights of a network by name."""

Forward = Callable[[NetworkParameters, Tensor], Mapping[str, Tensor]]
"""(parameters, points) -> outputs by name, ``logits`` among them: a network, or its compiled form."""

Statistics = Mapping[str, tuple[Tensor, Tensor]]
"""Batch-norm means and variances by layer."""


class Network(Part, family=True):
    """An architecture. Its weights are an argument, never a state.

    Example:
        >>> from discrepancy import networks
        >>> network: networks.Network = networks.MLP(width=8, depth=1)
        >>> network.shapes((6,), classes=10, take=("features", "logits")), network.multiplications((6,), classes=10)
        ({'features': (8,), 'logits': (10,)}, 128)
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        explain_failures(cls, _check)

    largest: ClassVar[Mapping[str, int]] = {"width": 1 << 16, "depth": 1000, "growth": 1 << 10, "side": 1 << 13}

    @property
    def pointwise(self) -> bool:
        """Whether the output for one example is free of the others in its batch (not so for batch normalisation)."""
        return True

    @abstractmethod
    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        """Random initial parameters, float32 on the CPU, for examples of ``shape`` and so many classes.

        ``affine=False`` leaves out what is the identity at initialisation (scale 1 and shift 0 of a normalisation):
        a random network computes the same with fewer operations.
        """

    @abstractmethod
    def __call__(
        self,
        parameters: NetworkParameters,
        points: Tensor,
        take: Collection[str] = ("logits",),
        statistics: Statistics | None = None,
    ) -> dict[str, Tensor]:
        """Outputs by name for points ``(n, *shape)``.

        ``take`` may name ``features`` (penultimate, flat), ``logits``, ``layers``, which gives ``layer1``, ``layer2``, ..., and
        ``activations``, which gives ``activation1``, ...: the same layers before they are pooled. With batch normalisation,
        ``statistics`` are used in place of those of the batch when given (mean and variance by layer name); a batch's own
        are returned as ``layerL.mean``, ``layerL.variance`` (divided by the count, as they are used) and ``layerL.count``
        when ``take`` names ``statistics``.
        """

    def shapes(self, shape: tuple[int, ...], classes: int, take: Collection[str]) -> dict[str, tuple[int, ...]]:
        """The shape, for one example, of each output."""
        return dict(_shapes(self, shape, classes, tuple(take)))

    def multiplications(self, shape: tuple[int, ...], classes: int, take: Collection[str] = ("logits",)) -> int:
        """Multiply-accumulates of one example's forward pass."""
        return _multiplications(self, shape, classes, tuple(take))


@lru_cache(maxsize=256)
def _shapes(
    network: Network, shape: tuple[int, ...], classes: int, take: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    outputs = _on_meta(network, shape, classes, take)
    return {name: tuple(value.shape[1:]) for name, value in outputs.items()}


@lru_cache(maxsize=256)
def _multiplications(network: Network, shape: tuple[int, ...], classes: int, take: tuple[str, ...]) -> int:
    with FlopCounterMode(display=False) as counter:
        _on_meta(network, shape, classes, take)
    return counter.get_total_flops() // 4


def _on_meta(network: Network, shape: tuple[int, ...], classes: int, take: tuple[str, ...]) -> dict[str, Tensor]:
    """The outputs for two examples, without values."""
    parameters = network.initial(torch.Generator(), shape, classes)
    return network(
        {name: value.to("meta") for name, value in parameters.items()}, torch.empty(2, *shape, device="meta"), take
    )


def _check(network: Network, parameters: Any = None, points: Any = None, *rest: Any, **named: Any) -> None:
    if not isinstance(points, Tensor) or not points.is_floating_point():
        raise InvalidInput(f"'points' of '{network.kind}' must be a tensor of floats (n, *shape), got {shown(points)}")
    if not are_tensors(parameters):
        raise InvalidInput(f"'parameters' of '{network.kind}' must be tensors by name, got {shown(parameters)}")


def uniform(generator: torch.Generator, shape: tuple[int, ...], fan_in: int) -> Tensor:
    """U(-1/√fan_in, 1/√fan_in), PyTorch's own initialisation of linear and convolutional layers, weights and biases.

    Raises:
        InvalidInput: for more than ``MOST_WEIGHTS`` of them.
    """
    if math.prod(shape) > MOST_WEIGHTS:
        raise InvalidInput(
            f"a layer of shape {shape} has {math.prod(shape):,} weights, and at most {MOST_WEIGHTS:,} are made; use a narrower "
            "network, or smaller examples"
        )
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(shape, device="cpu", dtype=torch.float32).uniform_(-bound, bound, generator=generator)


def layer_outputs(number: int, layer: Tensor, take: Collection[str]) -> dict[str, Tensor]:
    """A layer without pooling by its names among what is taken."""
    named = {"layers": f"layer{number}", "activations": f"activation{number}"}
    return {name: layer for kind, name in named.items() if kind in take}


def hidden_parameters(generator: torch.Generator, sizes: Sequence[int], bias: bool = True) -> dict[str, Tensor]:
    """Initial weights of linear layers from ``sizes[0]`` to ``sizes[1]`` units, to ``sizes[2]``, and so on."""
    parameters: dict[str, Tensor] = {}
    for layer, (before, after) in enumerate(itertools.pairwise(sizes), 1):
        parameters[f"hidden{layer}.weight"] = uniform(generator, (after, before), before)
        if bias:
            parameters[f"hidden{layer}.bias"] = uniform(generator, (after,), before)
    return parameters


def read_out_parameters(generator: torch.Generator, features: int, classes: int) -> dict[str, Tensor]:
    """Initial weights of the linear layer that follows the features."""
    return {
        "linear.weight": uniform(generator, (classes, features), features),
        "linear.bias": uniform(generator, (classes,), features),
    }


def read_out(parameters: NetworkParameters, features: Tensor, take: Collection[str]) -> dict[str, Tensor]:
    """The features and the logits, those that are taken."""
    outputs = {"features": features} if "features" in take else {}
    if "logits" in take:
        outputs["logits"] = functional.linear(features, parameters["linear.weight"], parameters["linear.bias"])
    return outputs
