"""Embeddings that can be undone: from features back to points. Exact solvers need this, and nothing else does."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding
from discrepancy.errors import Unsupported
from discrepancy.networks.base import Network, NetworkParameters
from discrepancy.networks.preimages import Preimage

__all__ = ["Invertible", "Within", "invertible"]


@dataclass(frozen=True, eq=False)
class Within:
    """Where an embedding is undone.

    Args:
        shape: of a point.
        draws: the random parts of the embedding.
        network, parameters: the network with its weights.
        nearest: whether to go on with the nearest features that a layer of the network reaches, where it does not reach all.
        near: flat points; of several points with the features those nearest to these are taken, else those nearest to zero.

    Example:
        >>> from discrepancy.embeddings import Within
        >>> Within((1, 8, 8)).nearest
        False
    """

    shape: tuple[int, ...]
    draws: Draws = None
    network: Network | None = None
    parameters: NetworkParameters = field(default_factory=dict)
    nearest: bool = False
    near: Float[Tensor, "n d"] | None = None


class Invertible(ABC):
    """What an exact solver needs of an embedding: points that have given features.

    Example:
        >>> import torch
        >>> from discrepancy.embeddings import Identity, Invertible, Within
        >>> isinstance(Identity(), Invertible)
        True
        >>> Identity().preimage(torch.tensor([[1.0, 2.0]]), Within((2,))).points
        tensor([[1., 2.]], dtype=torch.float64)
    """

    @abstractmethod
    def preimage(self, features: Float[Tensor, "n p"], within: Within) -> Preimage:
        """Points, flattened, with the given features, in float64.

        Raises:
            Unsupported: if that is not known of the network.
            InvalidInput: if features are not reached.
        """

    def excess(self, features: Float[Tensor, "n p"]) -> float:
        """By what the features must be divided to be reached, at least 1; 1 where their size does not matter."""
        return 1.0


def invertible(embedding: Embedding) -> Invertible:
    """The embedding as one that can be undone.

    Raises:
        Unsupported: if it cannot.
    """
    if not isinstance(embedding, Invertible):
        raise Unsupported(
            f"which points have given features is not known of '{embedding.kind}'; use identity, features or random_cosine"
        )
    return embedding
