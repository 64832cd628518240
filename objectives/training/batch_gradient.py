"""The loss of a minibatch and its gradient by the weights of a network, in chunks, compiled where that pays.

A fresh network is new inputs to one function: the loss of a chunk of examples. Chunks are small enough that their activations
stay in the cache of a processor, and their gradients are added up, which for pointwise networks is exact. Compiled code has one
shape: there, chunks are filled up with examples of weight zero. Batch normalisation sees its true batch instead.

Many networks at once (vmap, grouped convolutions) were measured to be slower than one after another on a CPU.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.networks.base import Network, NetworkParameters
from discrepancy.numerics.blocks import padded
from objectives.attacks.base import cross_entropies

__all__ = ["BatchGradient", "Criterion", "PlainGradient", "losses_of"]

Criterion = Literal["cross_entropy", "squared", "centred"]
"""The loss of an example with output f, of c numbers, and label y: - Σ_k y_k log softmax(f)_k, or Σ_k (f_k - y_k)², or
½ Σ_k (f_k - y_k + 1/c)², about the mean of classes (FRePo)."""


class BatchGradient(ABC):
    """Σ wᵢ · loss of example i, whose gradient is added to that of the weights of a network."""

    criterion: Criterion
    """The loss of an example."""

    @abstractmethod
    def size(self, largest: int) -> int:
        """The rows of each chunk of batches of at most so many examples."""

    @abstractmethod
    def __call__(
        self,
        parameters: NetworkParameters,
        points: Float[Tensor, "n ..."],
        targets: Float[Tensor, "n c"],
        weights: Float[Tensor, " n"],
        size: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Adds the gradient to the parameters' own; the ``loss``, the ``logits``, and the statistics that are taken, all
        without a graph.

        Args:
            size: of a chunk.
            generator: of what is random in it.
        """


class PlainGradient(BatchGradient):
    """The gradient at the points and weights as they are.

    Args:
        network: the architecture.
        criterion: the loss of an example.
        chunk: the most examples that go through a pointwise network at once.
        compiled: makes the compiled form of a function; None for eager code.
        statistics: whether to return the means and variances of batch normalisation too.
    """

    def __init__(
        self,
        network: Network,
        criterion: Criterion,
        chunk: int,
        compiled: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
        *,
        statistics: bool = False,
    ) -> None:
        self.network, self.chunk = network, chunk
        self.criterion: Criterion = criterion
        self.take = ("logits", "statistics") if statistics and not network.pointwise else ("logits",)
        self.fills = compiled is not None and network.pointwise
        self.loss, self.forward = (_loss, _logits) if compiled is None else (compiled(_loss), compiled(_logits))

    def size(self, largest: int) -> int:
        """Chunks of equal size waste least."""
        if not self.network.pointwise:
            return largest
        return math.ceil(largest / math.ceil(largest / self.chunk))

    def logits(self, parameters: NetworkParameters, points: Float[Tensor, "n ..."], size: int) -> Float[Tensor, "n c"]:
        """The logits, differentiable in the points, in the same chunks."""
        parts = [
            self.forward(self.network, parameters, padded(part, size) if self.fills else part)[: len(part)]
            for part in points.split(size)
        ]
        return torch.cat(parts)

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Float[Tensor, "n ..."],
        targets: Float[Tensor, "n c"],
        weights: Float[Tensor, " n"],
        size: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        found: list[dict[str, Tensor]] = []
        for part in zip(points.split(size), targets.split(size), weights.split(size), strict=True):
            filled = _filled(*part, size) if self.fills else part
            loss, outputs = self.loss(self.network, self.criterion, self.take, parameters, *filled)
            loss.backward()
            found.append(outputs | {"loss": loss.detach(), "logits": outputs["logits"][: len(part[0])]})
        if len(found) == 1:
            return found[0]
        total = found[0]["loss"].clone()
        for part in found[1:]:
            total += part["loss"]
        return found[-1] | {"loss": total, "logits": torch.cat([part["logits"] for part in found])}


def _loss(
    network: Network,
    criterion: Criterion,
    take: tuple[str, ...],
    parameters: NetworkParameters,
    points: Tensor,
    targets: Tensor,
    weights: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses, and the outputs of the network."""
    outputs = network(parameters, points, take)
    losses = losses_of(criterion, outputs["logits"], targets)
    return (weights * losses).sum(), {name: value.detach() for name, value in outputs.items()}


def losses_of(criterion: Criterion, logits: Float[Tensor, "n c"], targets: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """The loss of each example."""
    if criterion == "cross_entropy":
        return cross_entropies(logits, targets)
    if criterion == "squared":
        return (logits - targets).square().sum(1)
    return 0.5 * (logits - targets + 1 / logits.shape[1]).square().sum(1)


def _logits(network: Network, parameters: NetworkParameters, points: Tensor) -> Tensor:
    return network(parameters, points, ("logits",))["logits"]


def _filled(points: Tensor, targets: Tensor, weights: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A chunk of ``size`` rows; those beyond the given ones have weight zero."""
    missing = size - len(points)
    return padded(points, size), padded(targets, size), functional.pad(weights, (0, missing))
