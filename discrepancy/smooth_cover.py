"""The covering radius with soft extremes: a slope for every point in place of the two that decide."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.cover import ORDERS, Norm
from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.errors import Unsupported
from discrepancy.kernels.lengths import Length, check_length, number
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import one_by_one
from discrepancy.numerics.distances import Table, block_bytes, pull, table
from discrepancy.parts import check_choice

__all__ = ["SmoothCover"]


class SmoothCover(SampleDiscrepancy, kind="smooth_cover"):
    """The radius at which balls around the synthetic points cover the real ones, as a soft maximum of soft minima:

        s(x) = -t log Σⱼ vⱼ exp(-‖x - yⱼ‖ / t),        D = T log Σᵢ wᵢ exp(s(xᵢ) / T),

    with the temperatures t = ``min_temperature`` and T = ``max_temperature``, in the units of the points, and with weights w, v
    that sum to one. For m and n points of equal weight

        η - T log n  ≤  D  ≤  η + t log m,        η the ``covering_radius`` with ``side: cover``,

    so D tends to η as t and T tend to zero. A weight vⱼ lengthens the distances to yⱼ by t log(1/vⱼ), and a weight wᵢ shortens
    s(xᵢ) by T log(1/wᵢ): a rare real point counts less. A synthetic point of weight zero covers nothing. With weights that sum
    to one D is never negative, and a point that is split in two changes nothing; the sum over j without weights would lie below
    the minimum by up to t log m. D is not zero at equality, and no divergence: as t, T → ∞ it is the mean distance of x and y.

    The real points are kept. A step costs O(n m d) in float64, in tiles: memory O(n + m d) beyond the points. Differentiable
    once, in points and weights; the gradient of a distance is taken as zero where points coincide. Exponents are taken from
    their largest, so that temperatures may be small; then the gradient is that of few points. One example may change the value
    by any amount: sensitivity is not bounded.

    Args:
        norm: ``l1``, ``l2`` or ``linf``.
        min_temperature: t > 0, a number, or a rule such as ``Median(factor=0.01)`` (a multiple of the median Euclidean distance
            of real points, whatever the norm).
        max_temperature: T > 0, the same.

    References: the radius is that of Is Adversarial Training with Compressed Datasets Effective? (Chen, Selvan, 2024),
    https://arxiv.org/abs/2402.05675; soft extremes are not in the paper.

    Raises:
        InvalidInput: if ``norm`` is unknown, or a temperature is not > 0; on a comparison, if one is still a rule.

    Example:
        >>> import torch
        >>> from discrepancy import CoveringRadius, Measure, SmoothCover
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> [round(float(SmoothCover(min_temperature=t, max_temperature=t)(mu, nu)), 4) for t in (1, 0.1, 0.001)]
        [1.128, 1.0, 1.0]
        >>> float(CoveringRadius()(mu, nu))
        1.0
    """

    norm: Norm = "l2"
    min_temperature: float | Length = 0.05
    max_temperature: float | Length = 0.05

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, get_args(Norm))
        check_length("min_temperature", self.min_temperature)
        check_length("max_temperature", self.max_temperature)

    @property
    def order(self) -> float:
        return ORDERS[self.norm]

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {"nonnegative", "splits", "translation-invariant", "differentiable"}
        if self.norm == "l2":  # the gradients of the others do not point at the target
            claimed |= {"pulls"}
        return frozenset(claimed)

    @property
    def resolved(self) -> bool:
        return not any(isinstance(item, Length) for item in (self.min_temperature, self.max_temperature))

    def resolve(self, sample: Measure) -> "SmoothCover":
        lengths = {"min_temperature": self.min_temperature, "max_temperature": self.max_temperature}
        rules = {name: length for name, length in lengths.items() if isinstance(length, Length)}
        return replace(self, **{name: rule.measured(sample) for name, rule in rules.items()}) if rules else self

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        return {}

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """The value of each group.

        Raises:
            Unsupported: on a second derivative.
        """
        low, high = number("min_temperature", self.min_temperature), number("max_temperature", self.max_temperature)
        real, points = summary.real, synthetic.rows
        rates = real.shares.detach().log()
        minima = _SoftMinimum.apply(self.order, low, real.rows.detach(), points.double(), synthetic.shares)
        held = torch.where(rates > -math.inf, minima, torch.zeros_like(minima))  # pyright: ignore
        # A point that is infinitely far covers nothing, and yet must be seen.
        unseen = 0 * points.detach().double().sum((1, 2))
        return (high * torch.logsumexp(rates + held / high, -1) + unseen).to(points.dtype)


def _tables(order: float, x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor, Table | None]]:
    """Blocks of rows, their distances from all y, and for l2 the squares of these."""
    g, m, d = y.shape
    high = max(1, block_bytes(y.device) // (8 * g * max(m, d)))
    for first in range(0, x.shape[1], high):
        rows = slice(first, first + high)
        here = x[:, rows].double()
        if order == 2:
            found = table(here, y)
            yield rows, found.squared.sqrt(), found
        else:
            yield rows, torch.cdist(here, y, order), None


@one_by_one
class _SoftMinimum(Function):
    """-t log Σⱼ vⱼ exp(-‖xᵢ - yⱼ‖ / t) of each x, differentiable once in y and v; nothing of size n m is kept."""

    @staticmethod
    def forward(order: float, temperature: float, x: Tensor, y: Tensor, v: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        logs = v.log()[:, None]
        parts = [
            -temperature * (logs - distances / temperature).logsumexp(-1) for _, distances, _ in _tables(order, x, y)
        ]
        return torch.cat(parts, -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.order, ctx.temperature, x, y, v = inputs
        ctx.x = x  # belongs to the summary, and is not memory of the step
        ctx.save_for_backward(y, v, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        slopes = _Slopes.apply(ctx.order, ctx.temperature, ctx.x, *ctx.saved_tensors, *grads)
        return None, None, None, *slopes  # pyright: ignore[reportGeneralTypeIssues]


@one_by_one
class _Slopes(Function):
    """The gradient of a weighted sum of soft minima, by y and v."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        order: float, temperature: float, x: Tensor, y: Tensor, v: Tensor, value: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        by_y, by_v = torch.zeros_like(y), torch.zeros_like(v)
        for rows, distances, found in _tables(order, x, y):
            # The share of a point without weight has no upper bound where no other is near.
            shares = ((value[:, rows, None] - distances) / temperature).clamp_(max=700.0).exp_()
            shares *= weight[:, rows, None]
            by_v -= temperature * shares.sum(1)
            shares *= v[:, None]
            if found is None:
                near, far = y.contiguous(), x[:, rows].double().contiguous()
                by_y += torch.ops.aten._cdist_backward(  # pyright: ignore
                    shares.mT.contiguous(), near, far, order, distances.mT.contiguous()
                )
            else:
                factors = torch.where(distances > 0, shares / distances, torch.zeros_like(shares))
                by_y += pull(found.turned, factors.mT, y, x[:, rows].double())
        return by_y, by_v

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        raise Unsupported("'smooth_cover' has first derivatives only")
