"""Embeddings that name what they take from the context's network."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.embeddings.invertible import Invertible, Within
from discrepancy.networks.invertible import invertible_network
from discrepancy.networks.preimages import Preimage
from discrepancy.networks.tangent import JACOBIAN

__all__ = ["Features", "Jacobian", "Layers", "Logits"]


class Features(Embedding, Invertible, kind="features"):
    """The penultimate features of the context's network, flat ``(n, p)``.

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> from discrepancy.networks import MLP
        >>> network = MLP(width=4, depth=1)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3,), 2)
        >>> phi = embeddings.Features()
        >>> phi(network(parameters, torch.ones(5, 3), phi.takes)).shape
        torch.Size([5, 4])
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"features"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor:
        return taken["features"]

    def preimage(self, features: Float[Tensor, "n p"], within: Within) -> Preimage:
        network = invertible_network(within.network)
        return network.preimage(within.parameters, features, within.shape, within.nearest, within.near)


class Logits(Embedding, kind="logits"):
    """The outputs of the context's network, ``(n, c)``.

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> embeddings.Logits()({"logits": torch.zeros(5, 10)}).shape
        torch.Size([5, 10])
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"logits"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor:
        return taken["logits"]


class Layers(Embedding, kind="layers"):
    """The output of every block, as named blocks ``layer1``, ``layer2``, ...

    Args:
        pooled: as it leaves the block, or (False) its last activation before the pooling, named ``activation1``, ...

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> from discrepancy.networks import ConvNet
        >>> network = ConvNet(width=4, depth=2)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (1, 8, 8), 10)
        >>> phi = embeddings.Layers()
        >>> layers = phi(network(parameters, torch.ones(5, 1, 8, 8), phi.takes))
        >>> {name: tuple(value.shape) for name, value in layers.items()}
        {'layer1': (5, 4, 4, 4), 'layer2': (5, 4, 2, 2)}
    """

    pooled: bool = True

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"layers" if self.pooled else "activations"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Mapping[str, Tensor]:
        start = "layer" if self.pooled else "activation"
        return {name: value for name, value in taken.items() if name.startswith(start) and "." not in name}


class Jacobian(Embedding, kind="jacobian"):
    """The gradient of the sum of the logits by all the weights, φ(x) = ∇_θ Σ_k f_k(x) / √c: ⟨φ(x), φ(y)⟩ is the neural
    tangent kernel of the context's network as it is, in its own parameterisation.

    The kernel of all the logits is a matrix (c, c) for each pair, of which this is the sum over c; at random weights the
    expectation of the matrix is a multiple of the identity, and that of this kernel the same multiple. For ``kernel_ridge``
    with the linear kernel p numbers of each example are kept, p the number of weights; products are made in blocks.

    References:
        Neural Tangent Kernel: Convergence and Generalization in Neural Networks (Jacot, Gabriel, Hongler, 2018, NeurIPS);
        A Fast, Well-Founded Approximation to the Empirical Neural Tangent Kernel (Mohamadi, Bae, Sutherland, 2023, ICML).

    Example:
        >>> import torch
        >>> from discrepancy import embeddings
        >>> phi = embeddings.Jacobian()
        >>> sorted(phi.takes), phi({"jacobian": torch.zeros(2, 30)}).shape
        (['jacobian'], torch.Size([2, 30]))
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({JACOBIAN})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor:
        return taken[JACOBIAN]
