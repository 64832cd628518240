"""Kernels made of kernels: sums, multiples and products, which are kernels again.

The parts of a sum or a product are all functions of the distance, or all functions of the inner product, so that the whole
is one as well and a pair of points is met once.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.kernels.base import Kernel, Profile
from discrepancy.kernels.lengths import check_positive

__all__ = ["Product", "Scaled", "Sum"]


class _Composed(Kernel):
    """Of kernels of one sort."""

    @property
    @abstractmethod
    def inner(self) -> tuple[Kernel, ...]:
        """What it is made of."""

    @property
    def radial(self) -> bool:
        return self.inner[0].radial

    @property
    def positive(self) -> bool:
        return all(part.positive for part in self.inner)


class Sum(_Composed, kind="sum"):
    """The sum of kernels, k(x, y) = Σ kᵢ(x, y) over the ``parts``; in Python ``k1 + k2``.

    Args:
        parts: the kernels, all radial or all of the inner product.

    Raises:
        InvalidInput: if there is no part, or radial kernels are mixed with others.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> (kernels.Gaussian() + kernels.Laplace())(x, y)
        tensor([[0.2707, 0.9744]])
    """

    parts: tuple[Kernel, ...]

    def __post_init__(self) -> None:
        _check_parts(self.parts, "give MMD two terms in place of one, since MMD² of a sum is the sum of the MMD²")

    @property
    def inner(self) -> tuple[Kernel, ...]:
        return self.parts

    @property
    def finite(self) -> bool:
        return all(part.finite for part in self.parts)

    @property
    def affine(self) -> bool:
        return all(part.affine for part in self.parts)

    @property
    def degree(self) -> float | None:
        degrees = {part.degree for part in self.parts}
        return degrees.pop() if len(degrees) == 1 else None

    def features(self, points: Tensor) -> Tensor:
        return torch.cat([part.features(points) for part in self.parts], -1)

    def profile(self, argument: Tensor, order: int) -> Profile:
        sums: list[Tensor] = []
        for part in self.parts[:-1]:
            _add(sums, part.profile(argument.clone(), order))
        _add(sums, self.parts[-1].profile(argument, order))
        return [(1.0, total) for total in sums]


class Scaled(_Composed, kind="scaled"):
    """A multiple of a kernel, k(x, y) = ``factor`` x the kernel ``of``; in Python ``0.5 * k``.

    Args:
        factor: > 0.
        of: the kernel.

    Raises:
        InvalidInput: if the factor is not finite and > 0.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> (0.5 * kernels.Gaussian())(x, y)
        tensor([[0.0677, 0.3033]])
    """

    factor: float
    of: Kernel

    def __post_init__(self) -> None:
        check_positive("factor", self.factor)
        _check_single((self.of,))

    @property
    def inner(self) -> tuple[Kernel, ...]:
        return (self.of,)

    @property
    def finite(self) -> bool:
        return self.of.finite

    @property
    def affine(self) -> bool:
        return self.of.affine

    @property
    def degree(self) -> float | None:
        return self.of.degree

    def features(self, points: Tensor) -> Tensor:
        return math.sqrt(self.factor) * self.of.features(points)

    def profile(self, argument: Tensor, order: int) -> Profile:
        return [(self.factor * factor, values) for factor, values in self.of.profile(argument, order)]


class Product(_Composed, kind="product"):
    """The product of kernels, k(x, y) = Π kᵢ(x, y) over the ``parts``, all positive definite; in Python ``k1 * k2``.

    Args:
        parts: the kernels, all radial or all of the inner product.

    Raises:
        InvalidInput: if there is no part, or radial kernels are mixed with others.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> (kernels.Gaussian() * kernels.Gaussian())(x, y)
        tensor([[0.0183, 0.3679]])
    """

    parts: tuple[Kernel, ...]

    def __post_init__(self) -> None:
        _check_parts(self.parts, "a product of theirs is none of one argument; choose parts of one sort")
        for part in self.parts:
            if not part.positive:
                raise InvalidInput(
                    f"'parts' of a product must be positive definite, got '{part.kind}', which is so for weights that sum "
                    f"to zero only; use 'laplace'"
                )

    @property
    def inner(self) -> tuple[Kernel, ...]:
        return self.parts

    @property
    def degree(self) -> float | None:
        degrees = [part.degree for part in self.parts]
        return None if None in degrees else sum(degrees)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def profile(self, argument: Tensor, order: int) -> Profile:
        found = _plain(self.parts[0].profile(argument.clone(), order))
        for part in self.parts[1:]:
            other = _plain(part.profile(argument.clone(), order))
            found = [_of_product(found, other, k) for k in range(order + 1)]
        return [(1.0, values) for values in found]


def _check_parts(parts: tuple[Kernel, ...], advice: str) -> None:
    if not parts:
        raise InvalidInput("'parts' must hold at least one kernel, got none")
    _check_single(parts)
    if len({part.radial for part in parts}) > 1:
        sorts = [", ".join(f"'{part.kind}'" for part in parts if part.radial == radial) for radial in (True, False)]
        raise InvalidInput(
            f"'parts' must be all functions of the distance or all of the inner product, got {sorts[0]} and {sorts[1]}; "
            f"{advice}"
        )


def _check_single(parts: tuple[Kernel, ...]) -> None:
    for part in parts:
        if not part.single:
            raise InvalidInput(
                f"'{part.kind}' is a function of no single inner product, which is what kernels are composed by; use it alone"
            )


def _add(sums: list[Tensor], profile: Profile) -> None:
    """Adds a profile to the sums, one an order."""
    if not sums:
        sums += _plain(profile)
        return
    for total, (factor, values) in zip(sums, profile, strict=True):
        total.add_(values, alpha=factor)


def _plain(profile: Profile) -> list[Tensor]:
    """The derivatives with their factors, each in memory of its own."""
    return [factor * values for factor, values in profile]


def _of_product(first: list[Tensor], second: list[Tensor], order: int) -> Tensor:
    """A derivative of a product by Leibniz's rule."""
    total = first[0] * second[order]
    for k in range(1, order + 1):
        total.addcmul_(first[k], second[order - k], value=math.comb(order, k))
    return total
