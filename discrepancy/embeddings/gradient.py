"""The gradient of a network's loss as an embedding: what an example teaches."""

from collections.abc import Mapping

from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.learning.gradients import mean_loss_gradients
from discrepancy.measure import Measure
from discrepancy.networks.base import Forward, NetworkParameters

__all__ = ["LossGradient"]

PREFIX = "gradient."


class LossGradient(Embedding, kind="loss_gradient"):
    """The gradient of the loss of an example, φ(x, y) = ∇_θ cross-entropy(y, network_θ(x)), one block a parameter tensor of
    the context's network.

    Its mean over a measure is the gradient of the mean loss, at the price of one backward pass (:meth:`mean_of`); that is all
    that a discrepancy of means needs, and gradients of single examples are then never made.

    Args:
        vectors: whether biases and the factors of normalisations count; DC leaves them out.
        leave_out: parameters whose names start with one of these are left out too, for instance ``linear``.

    References: Dataset Condensation with Gradient Matching (Zhao, Mopuri and Bilen, 2021), equation 9.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, embeddings
        >>> from discrepancy.networks import MLP
        >>> network = MLP(width=4, depth=1)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3,), 2)
        >>> sample = Measure(torch.ones(2, 3), labels=torch.tensor([0, 1]))
        >>> means = embeddings.LossGradient().mean_of(network, parameters, sample)
        >>> {name: tuple(value.shape) for name, value in means.items()}
        {'hidden1.weight': (4, 3), 'linear.weight': (2, 4)}
    """

    vectors: bool = False
    leave_out: tuple[str, ...] = ()

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"gradient"})

    averages = True

    def __call__(self, taken: Taken, draws: Draws = None) -> Mapping[str, Tensor]:
        """The gradients of single examples, where they are offered as ``gradient.NAME``."""
        offered = {name.removeprefix(PREFIX): value for name, value in taken.items() if name.startswith(PREFIX)}
        return {name: value for name, value in offered.items() if self._counts(name, value.ndim - 1)}

    def mean_of(self, network: Forward, parameters: NetworkParameters, measure: Measure) -> Mapping[str, Tensor]:
        """The mean over a labelled measure: blocks ``(*parameter_shape)``, or ``(g, *parameter_shape)`` if it is grouped."""
        extra = int(measure.grouped)
        means = mean_loss_gradients(network, parameters, measure)
        return {name: value for name, value in means.items() if self._counts(name, value.ndim - extra)}

    def _counts(self, name: str, axes: int) -> bool:
        return (self.vectors or axes > 1) and not name.startswith(self.leave_out or ("\0",))
