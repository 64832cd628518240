"""Kernels that are smooth functions of the squared distance s = ‖x - y‖², with k(x, x) = 1."""

from collections.abc import Sequence

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.kernels.base import Profile, Radial
from discrepancy.kernels.lengths import Length, check_length, check_positive, number

__all__ = ["Gaussian", "InverseMultiquadric", "Mixture", "RationalQuadratic"]


class Gaussian(Radial, kind="gaussian"):
    """The gaussian kernel k(x, y) = exp(-‖x - y‖² / (2 l²)), with l the ``lengthscale``, a number or a rule such as
    :class:`Median`.

    Args:
        lengthscale: l, in the units of the points: a number, or a rule such as :class:`Median`.

    Raises:
        InvalidInput: if ``lengthscale`` is not finite and > 0.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.Gaussian(lengthscale=1.0)(x, y)
        tensor([[0.1353, 0.6065]])
    """

    lengthscale: float | Length = 1.0

    def __post_init__(self) -> None:
        check_length("lengthscale", self.lengthscale)

    def profile(self, argument: Tensor, order: int) -> Profile:
        rate = -0.5 / number("lengthscale", self.lengthscale) ** 2
        values = argument.mul_(rate).exp_()
        return [(rate**k, values) for k in range(order + 1)]


class Mixture(Radial, kind="mixture"):
    """The mixture kernel k(x, y) = mean over a in ``multiples`` of exp(-‖x - y‖² / (2 a² l²)): gaussians of several
    lengthscales, at one rule.

    The *mean*, so that k(x, x) = 1; sources that add q gaussians up have q times this kernel. One exponential a multiple.

    Args:
        lengthscale: l, in the units of the points: a number, or a rule such as :class:`Median`.
        multiples: the numbers a, > 0.

    Raises:
        InvalidInput: if a length or a multiple is not finite and > 0, or there is no multiple.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.Mixture(multiples=(1.0, 2.0))(x, y)
        tensor([[0.3709, 0.7445]])
    """

    lengthscale: float | Length = 1.0
    multiples: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)

    def __post_init__(self) -> None:
        check_length("lengthscale", self.lengthscale)
        if not self.multiples:
            raise InvalidInput("'multiples' must hold at least one number, got none; give for instance (0.5, 1, 2)")
        for multiple in self.multiples:
            check_positive("multiples", multiple)

    def profile(self, argument: Tensor, order: int) -> Profile:
        length = number("lengthscale", self.lengthscale)
        rates = [-0.5 / (multiple * length) ** 2 for multiple in self.multiples]
        values = torch.mul(argument, rates[0]).exp_()
        sums = [values * rates[0] ** k for k in range(order + 1)]
        for rate in rates[1:]:
            torch.mul(argument, rate, out=values).exp_()
            for k, total in enumerate(sums):
                total.add_(values, alpha=rate**k)
        return [(1 / len(rates), total) for total in sums]


class RationalQuadratic(Radial, kind="rational_quadratic"):
    """The rational quadratic kernel k(x, y) = (1 + ‖x - y‖² / (2 α l²))^(-α), with α the ``shape``: a mixture of gaussians
    over all lengthscales, with heavy tails; the gaussian as α grows.

    References: Gaussian Processes for Machine Learning (Rasmussen & Williams, 2006), equation 4.19.

    Args:
        lengthscale: l, in the units of the points: a number, or a rule such as :class:`Median`.
        shape: α > 0.

    Raises:
        InvalidInput: if ``lengthscale`` or ``shape`` is not finite and > 0.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.RationalQuadratic()(x, y)
        tensor([[0.3333, 0.6667]])
    """

    lengthscale: float | Length = 1.0
    shape: float = 1.0

    def __post_init__(self) -> None:
        check_length("lengthscale", self.lengthscale)
        check_positive("shape", self.shape)

    def profile(self, argument: Tensor, order: int) -> Profile:
        rate = 0.5 / (self.shape * number("lengthscale", self.lengthscale) ** 2)
        argument = argument.mul_(rate)
        if self.shape == 1:
            return _falling(argument.add_(1).reciprocal_(), 1, self.shape, rate, order)
        values = argument.log1p().mul_(-self.shape).exp_()
        found, base = [(1.0, values)], argument.add_(1) if order else argument
        for k in range(order):
            found.append((-(self.shape + k) * rate * found[-1][0], found[-1][1] / base))
        return found


class InverseMultiquadric(Radial, kind="imq"):
    """The inverse multiquadric kernel k(x, y) = (1 + ‖x - y‖² / l²)^(-1/2), which is l (l² + ‖x - y‖²)^(-1/2): the usual form
    times l, so that k(x, x) = 1.

    The rational quadratic kernel of shape 1/2.

    Args:
        lengthscale: l, in the units of the points: a number, or a rule such as :class:`Median`.

    Raises:
        InvalidInput: if ``lengthscale`` is not finite and > 0.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernels.InverseMultiquadric()(x, y)
        tensor([[0.4472, 0.7071]])
    """

    lengthscale: float | Length = 1.0

    def __post_init__(self) -> None:
        check_length("lengthscale", self.lengthscale)

    def profile(self, argument: Tensor, order: int) -> Profile:
        rate = number("lengthscale", self.lengthscale) ** -2
        return _falling(argument.mul_(rate).add_(1).rsqrt_(), 2, 0.5, rate, order)


def _falling(values: Tensor, power: int, shape: float, rate: float, order: int) -> Sequence[tuple[float, Tensor]]:
    """(1 + rate s)^(-shape) and its derivatives, where ``values`` to this ``power`` is 1 / (1 + rate s)."""
    found = [(1.0, values)]
    ratio = values if power == 1 else values.square() if order else values
    for k in range(order):
        found.append((-(shape + k) * rate * found[-1][0], found[-1][1] * ratio))
    return found
