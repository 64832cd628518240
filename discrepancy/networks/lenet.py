"""LeNet-5 as it is used today: rectified, with max pooling."""

from collections.abc import Sequence
from typing import ClassVar, get_args

from discrepancy.networks.base import Activation
from discrepancy.networks.chain import ChainNetwork, Step, border
from discrepancy.networks.norms import Norm
from discrepancy.parts import check_choice

__all__ = ["LeNet"]


class LeNet(ChainNetwork, kind="lenet"):
    """Two convolutions 5 × 5 with 6 and 16 channels, each pooled by maxima, two hidden layers of 120 and 84, and a linear one.

    Images of 28 × 28 get a border of 2, which makes them 32 × 32; all others get none. The least size is 16 × 16. The features
    are the 84 of the last hidden layer.

    Parameters are named ``convL.weight``, ``convL.bias``, ``hiddenL.weight``, ``hiddenL.bias`` for L = 1, 2, and
    ``linear.weight``, ``linear.bias``; the layers are the two convolutions and the two hidden layers.

    References:
        Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998); rectifiers and maxima as in
        Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929.

    Raises:
        InvalidInput: if a field is out of its range; on use, for examples below the least size.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.LeNet()
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (1, 16, 16), 10)
        >>> outputs = network(parameters, torch.zeros((2, 1, 16, 16)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 84), 'logits': (2, 10)}
    """

    hidden: ClassVar[tuple[int, ...]] = (120, 84)
    norm: ClassVar[Norm] = "none"  # pyright: ignore[reportIncompatibleVariableOverride]  (a field of the other kinds)

    activation: Activation = "relu"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, get_args(Activation))

    def steps(self, shape: Sequence[int]) -> list[Step]:
        return [Step(6, 5, border(shape, 0), "max"), Step(16, 5, 0, "max")]
