"""AlexNet for small images."""

from collections.abc import Sequence

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Activation
from discrepancy.networks.chain import ChainNetwork, Step, border
from discrepancy.networks.norms import Norm, check_maps

__all__ = ["AlexNet"]


class AlexNet(ChainNetwork, kind="alexnet"):
    """Five convolutions, two of 5 × 5 and three of 3 × 3, maxima after the first, second and fifth, then one linear layer.

    With the default ``width`` w they have 128, 192, 256, 192, 192 channels: w, 3w/2, 2w, 3w/2, 3w/2. Images of 28 × 28 get a
    border of 4, all others of 2, which keeps their size. The least size is 8 × 8. The published network has no normalisation;
    ``norm="batch"`` is its variant AlexNetBN.

    Parameters are named ``convL.weight``, ``convL.bias``, ``normL.weight``, ``normL.bias`` for L = 1, ..., 5, and
    ``linear.weight``, ``linear.bias``. A convolution has no bias where instance or batch normalisation follows.

    References:
        ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012); for small images as in
        Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929.

    Args:
        width: channels of the first convolution, an even number.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.AlexNet(width=8)
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3, 8, 8), 10)
        >>> outputs = network(parameters, torch.zeros((2, 3, 8, 8)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 12), 'logits': (2, 10)}
    """

    width: int = 128
    norm: Norm = "none"
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise InvalidInput(f"'width' must be even and >= 2, got {self.width}")
        check_maps(self.norm, self.activation, self.width, multiple=8)

    def steps(self, shape: Sequence[int]) -> list[Step]:
        w, half = self.width, 3 * self.width // 2
        return [
            Step(w, 5, border(shape, 2), "max"),
            Step(half, 5, 2, "max"),
            Step(2 * w, 3, 1),
            Step(half, 3, 1),
            Step(half, 3, 1, "max"),
        ]
