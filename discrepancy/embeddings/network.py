"""Embeddings that name what they take from the context's network."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.networks.base import Network, Parameters
from discrepancy.networks.preimages import Preimage
from discrepancy.sorts import Draws

__all__ = ["Features", "Layers", "Logits"]


class Features(Embedding, kind="features"):
    """The penultimate features, flat."""

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"features"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor:
        return taken["features"]

    def preimage(
        self,
        features: Float[Tensor, "n p"],
        shape: tuple[int, ...],
        *,
        draws: Draws = None,
        network: Network | None = None,
        parameters: Parameters | None = None,
        nearest: bool = False,
    ) -> Preimage:
        assert network is not None
        assert parameters is not None
        return network.preimage(parameters, features, shape, nearest)


class Logits(Embedding, kind="logits"):
    """The outputs of the classifier."""

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"logits"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor:
        return taken["logits"]


class Layers(Embedding, kind="layers"):
    """The output of every block, as named blocks ``layer1``, ``layer2``, ...

    Args:
        pooled: as it leaves the block, or (False) its last activation before the pooling, named ``activation1``, ...
    """

    pooled: bool = True

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"layers" if self.pooled else "activations"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Mapping[str, Tensor]:
        start = "layer" if self.pooled else "activation"
        return {name: value for name, value in taken.items() if name.startswith(start) and "." not in name}
