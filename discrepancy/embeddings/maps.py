"""Embeddings that reduce the feature maps of every layer to vectors."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.embeddings.network import Features, Layers
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure

__all__ = ["Attention", "ChannelMeans", "Normalised"]

SMALLEST = 1e-12
"""Below this length a vector is left as it is, in place of a division by zero."""


class Attention(Embedding, kind="attention"):
    """The attention map of every layer l: a_l(x) = s / ‖s‖₂ with s = Σ over channels of |f_l(x)|ᵖ, one number a
    position.

    Args:
        power: p; the paper takes 4, its released code 1.
        pooled: whether f_l is what leaves the layer, or what its activation gives, before the pooling, as in the released code.
        last: whether the last layer counts; DataDAM leaves it to a term on the features.

    References: DataDAM: Efficient Dataset Distillation with Attention Matching (Sajedi et al., 2023), section 3.2.

    Raises:
        InvalidInput: if ``power`` is not > 0; on use, if ``last`` is false and there is only one layer, or if a layer has no
            positions.

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> phi = embeddings.Attention(power=2.0)
        >>> phi({"layer1": torch.ones(1, 3, 2, 2)})["layer1"].tolist()
        [[0.5, 0.5, 0.5, 0.5]]
    """

    power: float = 4.0
    pooled: bool = True
    last: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.power) and self.power > 0):
            raise InvalidInput(f"'power' must be finite and > 0, got {self.power}")

    @property
    def takes(self) -> frozenset[str]:
        return Layers(pooled=self.pooled).takes

    def __call__(self, taken: Taken, draws: Draws = None) -> Mapping[str, Tensor]:
        maps = Layers(pooled=self.pooled)(taken)
        names = sorted(maps, key=lambda name: int("".join(filter(str.isdigit, name))))
        if not self.last and len(names) < 2:
            raise InvalidInput("'last' is false, but the network has one layer only; take a deeper one")
        kept = names if self.last else names[:-1]
        for name in kept:
            if maps[name].ndim < 3:
                raise InvalidInput(
                    f"'attention' is a map over positions, but {name} of the network has shape {tuple(maps[name].shape[1:])} "
                    "for an example; take a network of maps, such as convnet, or via: features"
                )
        looks = {name: maps[name].abs().pow(self.power).sum(1).flatten(1) for name in kept}
        return {name: functional.normalize(value, dim=1, eps=SMALLEST) for name, value in looks.items()}


class ChannelMeans(Embedding, kind="channel_means"):
    """The mean of every channel over its positions, for every layer.

    IDM's code has an embedding by this name that averages nothing: it gives the penultimate features.

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> embeddings.ChannelMeans()({"layer1": torch.ones(1, 3, 2, 2)})["layer1"].tolist()
        [[1.0, 1.0, 1.0]]
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"layers"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Mapping[str, Tensor]:
        return {name: value.flatten(2).mean(2) if value.ndim > 2 else value for name, value in Layers()(taken).items()}


class Normalised(Embedding, kind="normalised"):
    """Features of length one, φ(x) = f(x) / ‖f(x)‖₂, with f the embedding ``of``; block by block, and zero stays zero.

    Every feature vector has length one, so the mean of them has a sensitivity of one.

    Args:
        of: the embedding f.

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> phi = embeddings.Normalised(of=embeddings.Identity())
        >>> phi({"points": torch.tensor([[3.0, 4.0], [0.0, 0.0]])})
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """

    of: Embedding = Features()

    @property
    def takes(self) -> frozenset[str]:
        return self.of.takes

    @property
    def resolved(self) -> bool:
        return self.of.resolved

    def resolve(self, sample: Measure) -> "Normalised":
        return replace(self, of=self.of.resolve(sample))

    def draw(self, generator: torch.Generator, shapes: Mapping[str, tuple[int, ...]]) -> Draws:
        return self.of.draw(generator, shapes)

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor | Mapping[str, Tensor]:
        values = self.of(taken, draws)
        if isinstance(values, Mapping):
            return {name: _unit(value) for name, value in values.items()}
        return _unit(values)


def _unit(values: Tensor) -> Tensor:
    return functional.normalize(values.flatten(1), dim=1, eps=SMALLEST).view_as(values)
