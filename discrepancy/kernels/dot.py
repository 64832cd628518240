"""Kernels of the inner product ⟨x, y⟩."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.kernels.base import Dot, Profile
from discrepancy.kernels.lengths import Length, check_length, number

__all__ = ["Linear", "Polynomial"]


class Linear(Dot, kind="linear"):
    """The linear kernel k(x, y) = ⟨x, y⟩, under which MMD compares means only.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.Linear()(x, y)
        tensor([[0., 2.]])
    """

    @property
    def finite(self) -> bool:
        return True

    @property
    def affine(self) -> bool:
        return True

    @property
    def degree(self) -> float:
        return 2.0

    def profile(self, argument: Tensor, order: int) -> Profile:
        ones = torch.ones_like(argument)
        return [(1.0, argument), (1.0, ones), (0.0, ones)][: order + 1]

    def features(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g n d"]:
        return points


class Polynomial(Dot, kind="polynomial"):
    """The polynomial kernel k(x, y) = (⟨x, y⟩ / l² + c)^p, under which MMD compares moments up to order p, or of order p only
    if c = 0. It depends on where the origin lies.

    Args:
        power: p, at least 1.
        offset: c >= 0.
        lengthscale: l, in the units of the points: a number, or a rule such as :class:`Median`.

    Raises:
        InvalidInput: if a field is out of its range.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.Polynomial(power=2)(x, y)
        tensor([[1., 9.]])
    """

    power: int = 2
    offset: float = 1.0
    lengthscale: float | Length = 1.0

    def __post_init__(self) -> None:
        if self.power < 1:
            raise InvalidInput(f"'power' must be >= 1, got {self.power}")
        if not (math.isfinite(self.offset) and self.offset >= 0):
            raise InvalidInput(f"'offset' must be finite and >= 0, got {self.offset}")
        check_length("lengthscale", self.lengthscale)

    @property
    def affine(self) -> bool:
        return self.power == 1

    @property
    def degree(self) -> float | None:
        return 2.0 * self.power if self.offset == 0 else None

    def profile(self, argument: Tensor, order: int) -> Profile:
        rate = number("lengthscale", self.lengthscale) ** -2
        base = argument.mul_(rate).add_(self.offset)
        return [(math.perm(self.power, k) * rate**k, base ** max(self.power - k, 0)) for k in range(order + 1)]
