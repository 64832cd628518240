"""What an attacker may do: move a point within a ball of a norm, where pixels stay valid.

ε is stated for values in [0, 1], as is usual for images: a value of the source becomes (value - low) / (high - low), with its
limits (0 and 255 for images of bytes). Where the limits are not known, ε is in the units of the source, and nothing is clipped.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice
from discrepancy.scale import directions
from objectives.data.spec import Described
from objectives.data.units import Normalisation

__all__ = ["Ball", "Norm", "Threat", "UnitSpace"]

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Threat:
    """A norm and the radius ε, for values in [0, 1].

    Raises:
        InvalidInput: if the norm is unknown, or ε is negative or not finite.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, get_args(Norm))
        if not 0 <= self.eps < math.inf:
            raise InvalidInput(f"'eps' must be >= 0 and finite, got {self.eps}")

    @property
    def name(self) -> str:
        """``linf 8/255``."""
        return f"{self.norm} {written(self.eps)}"

    @classmethod
    def named(cls, name: str) -> "Threat":
        """The one of this :attr:`name`, with ε as far as it is written there: six digits."""
        norm, _, eps = name.partition(" ")
        return cls(cast(Norm, norm), float(Fraction(eps)))


def written(eps: float) -> str:
    """A radius as people write it: a multiple of 1/255 where it is one, unless it has one digit, such as 0.2."""
    steps = eps * 255
    whole = steps >= 0.5 and abs(steps - round(steps)) < 1e-6 and round(eps, 1) != eps
    return f"{round(steps)}/255" if whole else f"{eps:g}"


@dataclass(frozen=True, eq=False)
class UnitSpace:
    """The units of a threat beside those that networks see: normalised = offset + scale · u, by channel.

    Args:
        offset, scale: ``(channels, 1, ...)``, or one value for all channels.
        low, high: of valid values u; infinite where they are not known.
        width: of the range of valid values in the units of the source.
    """

    offset: Tensor
    scale: Tensor
    low: float
    high: float
    width: float = 1.0

    @classmethod
    def of(cls, data: Described, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> "UnitSpace":
        """That of a data set."""
        return cls.between(data.limits, data.normalisation, len(data.shape), device, dtype)

    @classmethod
    def between(
        cls,
        limits: tuple[float, float] | None,
        normalisation: Normalisation,
        axes: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "UnitSpace":
        """That of values between these limits, of examples with so many axes."""
        low, high = limits or (0.0, 1.0)
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (normalisation.mean, normalisation.std))
        column = (-1, *[1] * (axes - 1))
        offset, scale = ((low - mean) / std).reshape(column), ((high - low) / std).reshape(column)
        ends = (-math.inf, math.inf) if limits is None else (0.0, 1.0)
        return cls(offset.to(device, dtype), scale.to(device, dtype), *ends, width=high - low)

    def to_unit(self, points: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Normalised units -> those of the threat."""
        return (points - self.offset) / self.scale

    def to_normalised(self, points: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Units of the threat -> normalised units."""
        return self.offset + self.scale * points

    def ball(self, threat: Threat, centre: Float[Tensor, "n ..."]) -> "Ball":
        """The points that a threat allows around each of these.

        Raises:
            InvalidInput: if ε is larger than any difference of two examples, such as 8 where 8/255 is meant.
        """
        largest = self.high - self.low
        if threat.norm == "l2":
            largest *= math.sqrt(math.prod(centre.shape[1:]))
        if threat.eps > largest:
            shorter = threat.eps / self.width
            fits = self.width > 1 and shorter <= largest
            instead = f"; give {threat.eps:g}/{self.width:g} = {shorter:.4g}" if fits else ""
            raise InvalidInput(
                f"'eps' is {threat.eps:g}, but no two examples are further apart than {largest:g} in the norm "
                f"{threat.norm}, as it is stated for values in 0 .. 1{instead}"
            )
        return Ball(threat, centre, self.low, self.high)


@dataclass(frozen=True, eq=False)
class Ball:
    """{z : ‖z - centre‖ <= ε, low <= z <= high}, one for each row of ``centre``."""

    threat: Threat
    centre: Float[Tensor, "n ..."]
    low: float = -math.inf
    high: float = math.inf

    def rows(self, rows: Tensor) -> "Ball":
        """The balls with these numbers."""
        return Ball(self.threat, self.centre[rows], self.low, self.high)

    def projected(self, points: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The points moved into the ball: to the nearest of it for L∞, and for L2 along the radius and then into the limits,
        or between these and the centre where it lies outside of them."""
        eps, centre = self.threat.eps, self.centre
        if self.threat.norm == "linf":
            inside = points.clamp(self.low, self.high).clamp(centre - eps, centre + eps)
            outside = (inside - centre).abs() > eps
        else:
            moved = points - centre
            lengths, least = self._lengths(moved), torch.finfo(moved.dtype).tiny
            on_border = centre + moved * (eps * (1 - 1e-6) / lengths.clamp(min=least))
            low, high = centre.clamp(max=self.low), centre.clamp(min=self.high)
            inside = torch.where(lengths > eps, on_border, points).clamp(low, high)
            outside = self._lengths(inside - centre) > eps
        return torch.where(outside, torch.nextafter(inside, centre), inside)  # sums with the centre are rounded

    def random(self, generator: torch.Generator) -> Float[Tensor, "n ..."]:
        """A uniform random point of each ball, moved into the limits; drawn on the CPU."""
        centre, eps = self.centre, self.threat.eps
        shape, dtype = tuple(centre.shape), centre.dtype
        if self.threat.norm == "linf":
            moved = eps * (2 * torch.rand(shape, generator=generator, dtype=dtype) - 1)
        else:
            moved = torch.randn(shape, generator=generator, dtype=dtype)
            radius = torch.rand(len(moved), generator=generator, dtype=dtype) ** (1 / max(1, math.prod(shape[1:])))
            moved = moved * (eps * _column(radius, moved) / self._lengths(moved))
        return self.projected(centre + moved.to(centre.device))

    def uphill(self, gradient: Float[Tensor, "n ..."], size: Float[Tensor, " n"] | float) -> Float[Tensor, "n ..."]:
        """The step of this ``size`` in the norm along which a linear function rises most: its sign for L∞, itself for L2.
        A slope that is NaN counts as none."""
        known = torch.nan_to_num(gradient)
        direction = known.sign() if self.threat.norm == "linf" else directions(known)
        return direction * (_column(size, gradient) if isinstance(size, Tensor) else size)

    @staticmethod
    def _lengths(moved: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        lengths = torch.linalg.vector_norm(
            moved.flatten(1), dim=1, dtype=torch.float64
        )  # float32 loses 1e-5 at 1e5 pixels
        return _column(lengths.to(moved.dtype), moved)


def _column(values: Float[Tensor, " n"], like: Tensor) -> Tensor:
    """One value a row, against the rows of a tensor."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
