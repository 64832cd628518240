"""Embeddings: what of an example is compared. φ maps each example to features, point by point.

An embedding of a network does not own it. It names what it *takes* from the context's network (``"features"``,
``"layers"``, ``"logits"``), which is computed once a step and shared by every term; ``"points"`` are the examples themselves.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.errors import Unsupported
from discrepancy.measure import Measure
from discrepancy.networks.base import Forward, Network, NetworkParameters
from discrepancy.networks.preimages import Preimage
from discrepancy.parts import Part

__all__ = ["Embedding", "Taken", "Within"]

Taken = Mapping[str, Tensor]
"""What a context offers for a batch of examples: ``"points"``, and what was taken from its network, each with n rows."""


@dataclass(frozen=True, eq=False)
class Within:
    """Where an embedding is undone: the shape of a point, the random parts, the network with its weights; whether to go on
    with what comes ``nearest`` where a network does not reach what it should; and flat points ``near`` which to stay where
    several have the features: else near zero."""

    shape: tuple[int, ...]
    draws: Draws = None
    network: Network | None = None
    parameters: NetworkParameters = field(default_factory=dict)
    nearest: bool = False
    near: Float[Tensor, "n d"] | None = None


class Embedding(Part, family=True):
    """An embedding φ: it maps what a context offers of n examples to features ``(n, *shape)``, or to named blocks of them.

    Example:
        >>> from discrepancy import embeddings
        >>> embedding: embeddings.Embedding = embeddings.Features()
        >>> sorted(embedding.takes), embedding.averages
        (['features'], False)
    """

    @property
    @abstractmethod
    def takes(self) -> frozenset[str]:
        """The names it needs among ``points``, ``features``, ``layers``, ``activations``, ``logits``, ``jacobian`` and
        ``gradient``."""

    @property
    def averages(self) -> bool:
        """Whether the mean over a measure is made at once, by ``mean_of``, and features of single examples never are."""
        return False

    def mean_of(self, network: Forward, parameters: NetworkParameters, measure: Measure) -> Mapping[str, Tensor]:
        """The mean of φ over a flat, labelled measure of examples, by block, where the embedding ``averages``."""
        raise Unsupported(f"'{self.kind}' embeds examples one by one; call it")

    @property
    def resolved(self) -> bool:
        """Whether every data-dependent constant is a number."""
        return True

    def resolve(self, sample: Measure) -> "Embedding":
        """This embedding with its data-dependent constants turned into numbers, from a flat sample of the real side.

        The sample's blocks are what was taken of it; a sample of one tensor is taken as ``points``.
        """
        return self

    def draw(self, generator: torch.Generator, shapes: Mapping[str, tuple[int, ...]]) -> Draws:
        """The random parts of one context, given the shape (of one example) of everything it takes."""
        return None

    @abstractmethod
    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor | Mapping[str, Tensor]:
        """The features of n examples."""

    def preimage(self, features: Float[Tensor, "n p"], within: Within) -> Preimage:
        """Points, flattened, with the given features, in float64.

        Raises:
            Unsupported: if that is not known of this embedding, or of the network.
            InvalidInput: if features are not reached.
        """
        raise Unsupported(
            f"which points have given features is not known of '{self.kind}'; use identity, features or random_cosine"
        )

    def excess(self, features: Float[Tensor, "n p"]) -> float:
        """By what the features must be divided to be reached, at least 1; 1 where their size does not matter."""
        return 1.0
