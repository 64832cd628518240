"""Networks of which points with given features can be found. Exact solvers need this, and nothing else does."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import Unsupported
from discrepancy.networks.base import Network, NetworkParameters
from discrepancy.networks.preimages import Preimage

__all__ = ["InvertibleNetwork", "invertible_network"]


class InvertibleNetwork(ABC):
    """What an exact solver needs of a network: points that have given features.

    Example:
        >>> from discrepancy.networks import MLP, InvertibleNetwork
        >>> isinstance(MLP(), InvertibleNetwork)
        True
    """

    @abstractmethod
    def preimage(
        self,
        parameters: NetworkParameters,
        features: Float[Tensor, "n p"],
        shape: tuple[int, ...],
        nearest: bool = False,
        near: Float[Tensor, "n d"] | None = None,
    ) -> Preimage:
        """Points of this shape, flattened, with the given features, in float64.

        Args:
            near: points from which each layer goes no further than it must, where it loses something; without them, from zero.
            nearest: where a layer does not reach what it should, go on with what comes nearest, in a multilayer perceptron.

        Raises:
            InvalidInput: if a layer does not reach what it should.
        """


def invertible_network(network: Network | None) -> InvertibleNetwork:
    """The network as one of which points with given features can be found.

    Raises:
        Unsupported: if that is not known of its kind.
    """
    if not isinstance(network, InvertibleNetwork):
        kind = "none" if network is None else network.kind
        raise Unsupported(
            f"which points have given features is not known of '{kind}'; use an mlp, a convnet that does not widen, or a "
            "coupling"
        )
    return network
