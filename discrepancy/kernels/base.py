"""What a kernel is: k(x, y) = f(t), a function of one number of a pair of points.

Two sorts. A :class:`Dot` kernel is a function of the inner product t = ⟨x, y⟩, a :class:`Radial` kernel of the squared distance
t = ‖x - y‖². One routine for sums over pairs serves both, value, gradient and Hessian. A new kernel writes its *profile* and
nothing else: f and its derivatives, each as (factor, values), so that an exponential, whose derivatives are multiples of
itself, is evaluated once.

A function of the distance r = √t itself has infinite derivatives with respect to t at t = 0. There a profile gives zero: the
gradient of k at coincident points is then zero, the mean of the directional ones. Distances of points that coincide are
exactly zero (:mod:`discrepancy.numerics.distances`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.arrays import as_tensor
from discrepancy.errors import Unsupported
from discrepancy.kernels.lengths import Length
from discrepancy.measure import Measure
from discrepancy.numerics.squared_distances import squared_distances
from discrepancy.parts import Part
from discrepancy.precision import autocasts, shielded

__all__ = ["Dot", "Kernel", "Profile", "Radial"]

Profile = Sequence[tuple[float, Tensor]]
"""f, f', f'' as pairs (factor, values); equal values are the same object."""


class Kernel(Part, family=True):
    """A positive definite similarity of two points. Subclass :class:`Radial` or :class:`Dot`, or state it whole.

    Calling it with points ``(*g, n, d)`` and ``(*g, m, d)`` gives the matrix ``(*g, n, m)``.

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> kernel = kernels.Gaussian() + 0.5 * kernels.Laplace()
        >>> kernel(torch.zeros(3, 2), torch.ones(4, 2)).shape, kernel.radial
        (torch.Size([3, 4]), True)
    """

    @property
    @abstractmethod
    def radial(self) -> bool:
        """Whether k is a function of ‖x - y‖², and so free of where the origin lies."""

    @property
    def single(self) -> bool:
        """Whether it is a function of one inner product, with a :meth:`profile`; else it is evaluated whole."""
        return True

    @property
    def finite(self) -> bool:
        """Whether :meth:`features` gives k(x, y) = ⟨φ(x), φ(y)⟩ in finitely many dimensions."""
        return False

    @property
    def affine(self) -> bool:
        """Whether k(x, y) = a ⟨x, y⟩ + b, so that it sees nothing but means."""
        return False

    @property
    def positive(self) -> bool:
        """Whether it is positive definite; if not, it is so for weights that sum to zero only, which is all MMD needs."""
        return True

    @abstractmethod
    def profile(self, argument: Tensor, order: int) -> Profile:
        """f and its derivatives up to ``order`` (at most 2), elementwise; ``argument`` may be overwritten."""

    def features(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g n p"]:
        """φ of each point, where the kernel is finite."""
        raise Unsupported(f"the kernel '{self.kind}' has no finite features; ask 'finite' first")

    @property
    def degree(self) -> float | None:
        """p where k(ax, ay) = aᵖ k(x, y) for all a > 0; None where it has a length of its own."""
        return None

    @property
    def resolved(self) -> bool:
        """Whether every data-dependent constant is a number."""
        return all(_resolved(getattr(self, item.name)) for item in fields(self))  # pyright: ignore[reportArgumentType]

    def resolve(self, sample: Measure) -> "Kernel":
        """This kernel with every rule on the data replaced by a number, from a sample of the real side."""
        if self.resolved:
            return self
        values = {item.name: getattr(self, item.name) for item in fields(self)}  # pyright: ignore[reportArgumentType]
        return replace(self, **{name: _resolve(value, sample) for name, value in values.items()})  # pyright: ignore

    def origin(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g #n d"]:
        """Where to put the origin against cancellation: in the midst of some of the points if k allows."""
        some = points.detach()[..., :: max(1, points.shape[-2] // 256), :]
        centre = some.mean(-2, keepdim=True)
        return centre if self.radial else torch.zeros_like(centre)

    def precise(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g n d"]:
        """The points, in float64 where k sees the origin, so that no centre can be chosen against cancellation."""
        return points if self.radial else points.double()

    def diagonal(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g n"]:
        """k(x, x) of each point."""
        norms = points.square().sum(-1)
        return _entries(self, torch.zeros_like(norms) if self.radial else norms)

    def __call__(self, x: Float[Tensor, "*g n d"], y: Float[Tensor, "*g m d"]) -> Float[Tensor, "*g n m"]:
        """The dense matrix k(xᵢ, yⱼ), differentiable, for small samples. For sums see :mod:`discrepancy.numerics.pairwise`."""
        x, y = as_tensor(x, "x"), as_tensor(y, "y")
        if autocasts(kind := x.device.type):
            return shielded(kind, lambda both: self(both, both), [x]) if x is y else shielded(kind, self, [x, y])
        argument = squared_distances(x, y) if self.radial else x @ y.mT
        return _entries(self, argument)

    def __add__(self, other: object) -> "Kernel":
        from discrepancy.kernels.composed import Sum

        return Sum(parts=(*_parts(self, Sum), *_parts(other, Sum))) if isinstance(other, Kernel) else NotImplemented

    def __mul__(self, other: object) -> "Kernel":
        from discrepancy.kernels.composed import Product, Scaled

        if isinstance(other, Kernel):
            return Product(parts=(*_parts(self, Product), *_parts(other, Product)))
        return Scaled(factor=float(other), of=self) if isinstance(other, int | float) else NotImplemented

    def __rmul__(self, other: object) -> "Kernel":
        return self * other


class Radial(Kernel):
    """A kernel of the squared distance, k(x, y) = f(‖x - y‖²).

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernel: kernels.Radial = kernels.Laplace()
        >>> torch.allclose(kernel(x, y), kernel(x + 5, y + 5))
        True
    """

    @property
    def radial(self) -> bool:
        return True


class Dot(Kernel):
    """A kernel of the inner product, k(x, y) = f(⟨x, y⟩).

    Example:
        >>> import torch
        >>> from discrepancy import kernels
        >>> x, y = torch.tensor([[2.0]]), torch.tensor([[0.0], [1.0]])
        >>> kernel: kernels.Dot = kernels.Polynomial()
        >>> torch.allclose(kernel(x, y), kernel(x + 5, y + 5))
        False
    """

    @property
    def radial(self) -> bool:
        return False


def _parts(kernel: Any, sort: type[Kernel]) -> tuple[Kernel, ...]:
    """The parts of a sum or a product of this sort, or the kernel as the only one."""
    return kernel.parts if isinstance(kernel, sort) else (kernel,)  # pyright: ignore[reportAttributeAccessIssue]


def _resolved(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_resolved, value))
    return value.resolved if isinstance(value, Kernel) else not isinstance(value, Length)


def _resolve(value: Any, sample: Measure) -> Any:
    if isinstance(value, tuple):
        return tuple(_resolve(item, sample) for item in value)
    if isinstance(value, Length):
        return value.measured(sample)
    return value.resolve(sample) if isinstance(value, Kernel) else value


def _entries(kernel: Kernel, argument: Tensor) -> Tensor:
    """f of every entry, with the derivatives that the profile states."""
    return _Entries.apply(kernel, argument, 0)  # pyright: ignore[reportReturnType]


class _Entries(Function):
    """f, f' or f'' of every entry; the derivative of one is the next."""

    generate_vmap_rule = True

    @staticmethod
    def forward(kernel: Kernel, argument: Tensor, order: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        factor, values = kernel.profile(argument.clone(), order)[order]
        return factor * values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.kernel, argument, ctx.order = inputs
        ctx.save_for_backward(argument)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        if ctx.order == 2:
            raise Unsupported("kernels have no third derivative; write the formula out where one is needed")
        return None, grads[0] * _Entries.apply(ctx.kernel, ctx.saved_tensors[0], ctx.order + 1), None
