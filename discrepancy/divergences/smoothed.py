"""Total variation of two samples after both have been blurred by the same gaussian."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.divergences.neighbours import blocks, check_count
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.kernels.lengths import Length, check_length, number
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import one_by_one
from discrepancy.numerics.distances import pull, squares, table
from discrepancy.precision import normals

__all__ = ["SmoothedTotalVariation"]


class SmoothedTotalVariation(SampleDiscrepancy, kind="smoothed_total_variation"):
    """The total variation of two samples after a gaussian blur: TV(P ∗ N(0, l²), Q ∗ N(0, l²)) = ½ ∫ |p - q|, with p, q the
    gaussian kernel densities of width l = ``lengthscale``.

    Without the blur two samples of distinct points are at distance 1 whatever they are. Since ½(p + q) is a density,

        ½ ∫ |p - q| = E |p - q|/(p + q)(z)  for z ~ ½(p + q),   |p - q|/(p + q) = |tanh(½ log p/q)|,

    and z = x + l ε with x from the points and ε a standard normal vector is a draw from p. The value is the weighted mean
    over *all* points of both sides and the drawn vectors ±ε. The points alone, without ε, would not do: they are draws from
    P and not from p, and their mean tends to another number. With it the value is unbiased for the samples' own smoothed
    total variation, and consistent as ``noises`` grows (error at most ½ ``noises``^-½, less where the points spread over many
    l). The vectors are shared by all points, so that order, splitting and grouping of points change nothing.

    As a function of the measures for given vectors: in [0, 1], zero at equality, symmetric; the triangle inequality holds in
    the limit only. Differentiable wherever p ≠ q at every z (a kink elsewhere, gradient zero there), in points and weights,
    once; the gradient fades where samples are many l apart. In high dimension kernel densities say little.

    Points (n, d) and (m, d). Sums run in the log domain, in tiles, in float64: time n² d noises once and (n + m) m d noises a
    comparison, memory n noises + m d noises. The summary holds the points and log p around them.
    Sensitivity: no statistic; TV itself moves by at most 1/n where one of n equal points is replaced, the estimate by about
    that.

    Args:
        lengthscale: the width l, a number or a rule such as ``Median(factor=0.1)``.
        noises: how many vectors ε are drawn, each used with both signs.

    Raises:
        InvalidInput: if a field is not > 0; on use, without draws.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, SmoothedTotalVariation
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = SmoothedTotalVariation(lengthscale=0.5)
        >>> draws = D.draw(torch.Generator().manual_seed(0), (1,))
        >>> round(float(D(mu, nu, draws)), 4)
        0.4109
    """

    lengthscale: float | Length = 1.0
    noises: int = 8

    def __post_init__(self) -> None:
        check_length("lengthscale", self.lengthscale)
        check_count("noises", self.noises)

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset(
            {"zero-at-equality", "nonnegative", "symmetric", "translation-invariant", "splits", "differentiable"}
        )

    @property
    def resolved(self) -> bool:
        return not isinstance(self.lengthscale, Length)

    def resolve(self, sample: Measure) -> "SmoothedTotalVariation":
        if not isinstance(self.lengthscale, Length):
            return self
        return replace(self, lengthscale=self.lengthscale.measured(sample))

    def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
        return {"noise": normals(generator, self.noises, math.prod(shape))}

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        x, w = self._scaled(real, real), real.shares
        known = [_log_density(x + shift, x, w, fixed=True) for shift in self._shifts(draws, x)]
        return {"own": torch.stack(known, -1)}

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """The estimate of each group, between 0 and 1.

        Raises:
            Unsupported: on a second derivative.
        """
        real, v = summary.real, synthetic.shares
        x, w, y = self._scaled(real, real).detach(), real.shares.detach(), self._scaled(synthetic, real)
        total, shifts = torch.zeros_like(v[:, 0]), self._shifts(draws, x)
        for shift, own in zip(shifts, summary.constants["own"].unbind(-1), strict=True):
            at_real = own - _log_density(x + shift, y, v)
            at_synthetic = _log_density(y + shift, x, w, fixed=True) - _log_density(y + shift, y, v)
            total = total + (w * _contrast(at_real)).sum(-1) + (v * _contrast(at_synthetic)).sum(-1)
        return (total / (2 * len(shifts))).to(synthetic.rows.dtype)

    def _scaled(self, side: Measure, real: Measure) -> Float[Tensor, "g n d"]:
        """The points in units of l, in float64, about the real mean."""
        x, w = real.rows.detach(), real.shares.detach()
        origin = torch.einsum("gn,gnd->gd", w, x.double())[:, None]
        return (side.rows.double() - origin) / number("lengthscale", self.lengthscale)

    def _shifts(self, draws: Draws, like: Tensor) -> Float[Tensor, "s d"]:
        if draws is None:
            raise InvalidInput(f"'{self.kind}' has random parts; give draws=D.draw(generator, shape of a point)")
        noise = draws["noise"].to(like)
        return torch.cat([noise, -noise])


def _contrast(gap: Tensor) -> Tensor:
    """|p - q|/(p + q) = |tanh(½ log p/q)|, with a slope that is right where it is tiny: mass at a place without any counts."""
    ratio = (-gap.abs()).exp()
    return (1 - ratio) / (1 + ratio)


def _log_density(
    z: Float[Tensor, "g b d"], y: Float[Tensor, "g m d"], v: Float[Tensor, "g m"], fixed: bool = False
) -> Float[Tensor, "g b"]:
    """log Σⱼ vⱼ exp(-½‖zᵢ - yⱼ‖²), differentiable once, in z alone where the rest is ``fixed``; nothing of size b m is kept."""
    return _LogDensity.apply(fixed, z, y, v)  # pyright: ignore[reportReturnType]


@one_by_one
class _LogDensity(Function):
    @staticmethod
    def forward(fixed: bool, z: Tensor, y: Tensor, v: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = torch.full(z.shape[:2], -math.inf, dtype=z.dtype, device=z.device)
        logs = v.log()
        for group in range(len(z)):
            for rows, columns in blocks(z.shape[1], y.shape[1], z.device):
                part = squares(z[group, rows], y[group, columns]).mul_(-0.5).add_(logs[group, columns]).logsumexp(1)
                total[group, rows] = torch.logaddexp(total[group, rows], part)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.fixed = inputs[0]
        ctx.save_for_backward(*inputs[1:], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        slopes = _Slopes.apply(ctx.fixed, *ctx.saved_tensors, grads[0])
        return (None, *slopes, *([None] * (3 - len(slopes))))  # pyright: ignore


@one_by_one
class _Slopes(Function):
    """The gradient of a weighted sum of log densities: of z, or of z, y and v."""

    @staticmethod
    def forward(fixed: bool, z: Tensor, y: Tensor, v: Tensor, value: Tensor, weight: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore
        by_z, by_y, by_v = torch.zeros_like(z), torch.zeros_like(y[:0] if fixed else y), torch.zeros_like(v)
        for group in range(len(z)):
            for rows, columns in blocks(z.shape[1], y.shape[1], z.device):
                here, there, scale = z[group, rows], y[group, columns], weight[group, rows, None]
                # The share of a point without weight has no upper bound where no other is near; what it meets there is tiny.
                found = table(here[None], there[None])
                shares = (-0.5 * found.squared[0] - value[group, rows, None]).clamp_(max=700.0).exp_().mul_(scale)
                if not fixed:
                    by_v[group, columns] += shares.sum(0)
                shares *= v[group, columns]
                by_z[group, rows] -= pull(found, shares[None], here[None], there[None])[0]
                if not fixed:
                    by_y[group, columns] -= pull(found.turned, shares.mT[None], there[None], here[None])[0]
        return (by_z,) if fixed else (by_z, by_y, by_v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        raise Unsupported("'smoothed_total_variation' has first derivatives only: a second one would see its kinks")
