"""Kernels: similarities of points, k(x, y) = f(⟨M x̂, ŷ⟩).

Two sorts. A :class:`Dot` kernel is a function of the inner product ⟨x, y⟩. A :class:`Radial` kernel is a function of the
squared distance, which is an inner product too, after a lift to a paraboloid:

    ŷ = (y, ‖y‖², 1),    M ŷ = (-2y, 1, ‖y‖²),    ⟨M x̂, ŷ⟩ = ‖x - y‖².

So one routine for sums over pairs serves both, value, gradient and Hessian, and the lift is left to autograd. A new kernel
writes its *profile* and nothing else: f and its derivatives, each as (factor, values), so that an exponential, whose
derivatives are multiples of itself, is evaluated once.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.base import Part
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure

__all__ = ["Dot", "Gaussian", "Kernel", "Length", "Linear", "Median", "Radial", "squared_distances"]

Profile = Sequence[tuple[float, Tensor]]
"""f, f', f'' as pairs (factor, values); equal values are the same object."""


class Kernel(Part, family=True):
    """A positive definite similarity of two points. Subclass :class:`Radial` or :class:`Dot`."""

    radial: ClassVar[bool]
    """Whether k is a function of ‖x - y‖², and so free of where the origin lies."""
    finite: ClassVar[bool] = False
    """Whether :meth:`features` gives k(x, y) = ⟨φ(x), φ(y)⟩ in finitely many dimensions."""

    @abstractmethod
    def profile(self, argument: Tensor, order: int) -> Profile:
        """f and its derivatives up to ``order`` (at most 2), elementwise; ``argument`` may be overwritten."""

    @abstractmethod
    def lift(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g n D"]:
        """ŷ of each point."""

    @abstractmethod
    def dual(self, lifted: Float[Tensor, "*g n D"]) -> Float[Tensor, "*g n D"]:
        """M ŷ; M is linear and symmetric."""

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
        return True

    def resolve(self, sample: Measure) -> "Kernel":
        """This kernel with every rule on the data replaced by a number, from a sample of the real side."""
        return self

    def origin(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g #n d"]:
        """Where to put the origin before lifting, against cancellation: in the midst of some of the points if k allows."""
        some = points.detach()[..., :: max(1, points.shape[-2] // 256), :]
        centre = some.mean(-2, keepdim=True)
        return centre if self.radial else torch.zeros_like(centre)

    def diagonal(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g n"]:
        """k(x, x) of each point."""
        norms = points.square().sum(-1)
        factor, values = self.profile(torch.zeros_like(norms) if self.radial else norms, 0)[0]
        return factor * values

    def __call__(self, x: Float[Tensor, "*g n d"], y: Float[Tensor, "*g m d"]) -> Float[Tensor, "*g n m"]:
        """The dense matrix k(xᵢ, yⱼ), differentiable; for small samples (sums over pairs: :mod:`discrepancy.pairwise`)."""
        origin = self.origin(x)
        argument = self.dual(self.lift(x - origin)) @ self.lift(y - origin).mT
        factor, values = self.profile(argument.clamp(min=0) if self.radial else argument, 0)[0]
        return factor * values


class Radial(Kernel):
    """k(x, y) = f(‖x - y‖²)."""

    radial = True

    def lift(self, points: Tensor) -> Tensor:
        norms = points.square().sum(-1, keepdim=True)
        return torch.cat([points, norms, torch.ones_like(norms)], -1)

    def dual(self, lifted: Tensor) -> Tensor:
        return torch.cat([-2 * lifted[..., :-2], lifted[..., -1:], lifted[..., -2:-1]], -1)


class Dot(Kernel):
    """k(x, y) = f(⟨x, y⟩)."""

    radial = False

    def lift(self, points: Tensor) -> Tensor:
        return points

    def dual(self, lifted: Tensor) -> Tensor:
        return lifted


class Length(Part, family=True):
    """A rule that measures a length on real data."""

    @abstractmethod
    def measured(self, sample: Measure) -> float:
        """The length, in the units of the sample's points."""


class Median(Length, kind="median"):
    """``factor`` x the median distance ‖xᵢ - xⱼ‖ over the pairs i < j of real points (of any group).

    Points of weight zero (padding) are left out, other weights are not looked at. Above 2,000 points, 2,000 of them evenly
    spaced in the order given are used, the first and the last among them; in float64.

    References: Large sample analysis of the median heuristic (Garreau, Jitkrittum, Kanagawa, 2017).
    """

    shorthand: ClassVar[str] = "factor"
    factor: float = 1.0

    def __post_init__(self) -> None:
        _positive("factor", self.factor)

    @torch.no_grad()
    def measured(self, sample: Measure) -> float:
        if len(sample.tensors) > 1:
            raise InvalidInput(
                f"blocks {sorted(sample.tensors)} have no common median distance; give each its own term, or a number"
            )
        (points,) = sample.tensors.values()
        lead = sample.mass_of.ndim
        points = points.flatten(0, lead - 1)[sample.mass_of.flatten() > 0].flatten(1)
        n = len(points)
        if n < 2:
            raise InvalidInput(f"the median rule needs at least 2 real points, got {n}; give the length as a number")
        chosen = torch.linspace(0, n - 1, min(n, 2000), dtype=torch.float64).round().long()
        points = points[chosen.to(points.device)].double()
        pairs = torch.ones(len(points), len(points), dtype=torch.bool, device=points.device).triu(1)
        distances = squared_distances(points, points)[pairs].sqrt()
        median = float(distances.quantile(0.5)) if len(distances) < 1 << 24 else float(distances.median())
        if not (math.isfinite(median) and median > 0):
            raise InvalidInput(
                f"the median distance must be finite and > 0, got {median} (at least half of the pairs coincide, or a "
                f"point is not finite); give the length as a number"
            )
        return self.factor * median


class Linear(Dot, kind="linear"):
    """k(x, y) = ⟨x, y⟩: compares means only."""

    finite = True

    @property
    def degree(self) -> float:
        return 2.0

    def profile(self, argument: Tensor, order: int) -> Profile:
        ones = torch.ones_like(argument)
        return [(1.0, argument), (1.0, ones), (0.0, ones)][: order + 1]

    def features(self, points: Float[Tensor, "*g n d"]) -> Float[Tensor, "*g n d"]:
        return points


class Gaussian(Radial, kind="gaussian"):
    """k(x, y) = exp(-‖x - y‖² / (2 l²)), with l the ``lengthscale``, a number or a rule such as :class:`Median`."""

    lengthscale: float | Length = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.lengthscale, Length):
            _positive("lengthscale", self.lengthscale)

    @property
    def resolved(self) -> bool:
        return not isinstance(self.lengthscale, Length)

    def resolve(self, sample: Measure) -> "Kernel":
        return replace(self, lengthscale=_measured(self.lengthscale, sample))

    def profile(self, argument: Tensor, order: int) -> Profile:
        rate = -0.5 / _number("lengthscale", self.lengthscale) ** 2
        values = argument.mul_(rate).exp_()
        return [(rate**k, values) for k in range(order + 1)]


def squared_distances(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """‖xᵢ - yⱼ‖², centred before it is expanded, and clamped at zero."""
    centre = x.detach().mean(0)
    x, y = x - centre, y - centre
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.mT).clamp(min=0)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InvalidInput(f"'{name}' must be finite and > 0, got {value}")


def _measured(length: float | Length, sample: Measure) -> float:
    return length.measured(sample) if isinstance(length, Length) else length


def _number(name: str, length: float | Length) -> float:
    if isinstance(length, Length):
        raise InvalidInput(
            f"'{name}' is the rule '{length.kind}' and not yet a number; call resolve(sample) with real points first"
        )
    return length
