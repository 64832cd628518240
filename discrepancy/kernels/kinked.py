"""Kernels of the distance r = ‖x - y‖ itself, of finite smoothness where points coincide.

Their profiles are functions of s = r², of which some derivative is infinite at s = 0; there it is given as zero.
"""

import math

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.kernels.base import Profile, Radial
from discrepancy.kernels.lengths import Length, check_length, number

__all__ = ["Energy", "Laplace", "Matern"]


class Laplace(Radial, kind="laplace"):
    """The laplace kernel k(x, y) = exp(-‖x - y‖ / l), with the Euclidean norm; the Matérn kernel of smoothness 1/2.

    Args:
        lengthscale: l, in the units of the points: a number, or a rule such as :class:`Median`.

    Raises:
        InvalidInput: if ``lengthscale`` is not finite and > 0.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.Laplace()(x, y)
        tensor([[0.1353, 0.3679]])
    """

    lengthscale: float | Length = 1.0

    def __post_init__(self) -> None:
        check_length("lengthscale", self.lengthscale)

    def profile(self, argument: Tensor, order: int) -> Profile:
        return _exponential(argument, 1 / number("lengthscale", self.lengthscale), order)


class Matern(Radial, kind="matern"):
    """The Matérn kernel k(x, y) = q(u) exp(-u), with u = √(2ν) ‖x - y‖ / l, ν the ``smoothness`` and q = 1 for ν = 1/2, q = 1
    + u for ν = 3/2, q = 1 + u + u²/3 for ν = 5/2.

    References: Gaussian Processes for Machine Learning (Rasmussen & Williams, 2006), equation 4.17.

    Args:
        lengthscale: l, in the units of the points: a number, or a rule such as :class:`Median`.
        smoothness: ν, one of 0.5, 1.5, 2.5.

    Raises:
        InvalidInput: if ``lengthscale`` is not finite and > 0, or ``smoothness`` is another number.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.Matern(smoothness=1.5)(x, y)
        tensor([[0.1397, 0.4834]])
    """

    lengthscale: float | Length = 1.0
    smoothness: float = 1.5

    def __post_init__(self) -> None:
        check_length("lengthscale", self.lengthscale)
        if self.smoothness not in (0.5, 1.5, 2.5):
            raise InvalidInput(f"'smoothness' must be 0.5, 1.5 or 2.5, got {self.smoothness}; 'gaussian' is the limit")

    def profile(self, argument: Tensor, order: int) -> Profile:
        rate = math.sqrt(2 * self.smoothness) / number("lengthscale", self.lengthscale)
        if self.smoothness == 0.5:
            return _exponential(argument, rate, order)
        bent = order == 2 and self.smoothness == 1.5
        argument = argument.mul_(rate**2)
        root, inverse = _roots(argument) if bent else (argument.sqrt_(), None)
        decay = torch.neg(root).exp_()
        if self.smoothness == 1.5:
            found = [(1.0, torch.addcmul(decay, root, decay)), (-0.5 * rate**2, decay)]
            return [*found, (0.25 * rate**4, decay * inverse)] if inverse is not None else found[: order + 1]
        slope = torch.addcmul(decay, root, decay)
        value = torch.addcmul(slope, root.square_(), decay, value=1 / 3)
        return [(1.0, value), (-(rate**2) / 6, slope), (rate**4 / 12, decay)][: order + 1]


class Energy(Radial, kind="energy"):
    """The energy kernel k(x, y) = -‖x - y‖, under which MMD² is the energy distance.

    Positive definite for weights that sum to zero only. That is all MMD needs, since it normalises both masses; so the kernel
    may be added and scaled, but stands in no product.

    References: Equivalence of distance-based and RKHS-based statistics in hypothesis testing (Sejdinovic, Sriperumbudur,
    Gretton, Fukumizu, 2013, Annals of Statistics 41).

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.Energy()(x, y)
        tensor([[-2., -1.]])
    """

    @property
    def degree(self) -> float:
        return 1.0

    @property
    def positive(self) -> bool:
        return False

    def profile(self, argument: Tensor, order: int) -> Profile:
        if order == 0:
            return [(-1.0, argument.sqrt_())]
        root, inverse = _roots(argument)
        bent = [(0.25, inverse**3)] if order == 2 else []
        return [(-1.0, root), (-0.5, inverse), *bent]


def _exponential(argument: Tensor, rate: float, order: int) -> Profile:
    """exp(-rate √s): f' = -rate/2 f / r and f'' = rate/4 f (1 / r + rate) / r²."""
    if order == 0:
        return [(1.0, argument.sqrt_().mul_(-rate).exp_())]
    argument.clamp_(max=torch.finfo(argument.dtype).max)  # beyond, f and f' are zero all the same
    root, inverse = _roots(argument)
    values = root.mul_(-rate).exp_()
    if order == 1:
        return [(1.0, values), (-0.5 * rate, inverse.mul_(values))]
    slope = inverse * values
    return [(1.0, values), (-0.5 * rate, slope), (0.25 * rate, inverse.add(rate).mul_(inverse).mul_(slope))]


def _roots(argument: Tensor) -> tuple[Tensor, Tensor]:
    """√s, and √s / s = 1 / √s, which is zero where s = 0; the second overwrites s."""
    root = argument.sqrt()
    return root, torch.div(root, argument.clamp_(min=torch.finfo(argument.dtype).tiny), out=argument)
