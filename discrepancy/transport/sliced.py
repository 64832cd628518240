"""Transport of projections: W_p^p along random directions on average, or along the worst one.

    SW_p^p(μ, ν) = E_θ W_p^p(θ#μ, θ#ν)                max-SW_p^p(μ, ν) = sup_θ W_p^p(θ#μ, θ#ν),       ‖θ‖ = 1

Each projection is a problem on the line (:mod:`discrepancy.transport.line`), which sorting solves for any weights and sizes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Adversary, Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import first_order_only
from discrepancy.numerics.distances import block_bytes
from discrepancy.precision import normals
from discrepancy.transport.line import QuantileTables, check_power, in_units, line_cost, rounding_of, shared_levels

__all__ = ["MaxSlicedWasserstein", "SlicedWasserstein"]


class SlicedWasserstein(SampleDiscrepancy, kind="sliced_wasserstein"):
    """Mean of W_p^p over random directions: the p-th power of a metric, once averaged over all directions.

    For the finitely many directions of one draw it is the p-th power of a pseudo-metric: it compares the measures in the span
    of these directions only. It is at most W_p^p; for p = 2 and Diracs it is ‖x - y‖² / d on average.

    Summary: the real points, and for each direction their sorted projections as tables, 8 bytes an entry: one table of
    (n, L) for p = 2, two for p = 1, and one more where the real weights differ. 50,000 points and 500 directions are
    200 MB for p = 2. Its sensitivity is not bounded.

    Cost of a comparison for m points in d dimensions: O(m L (d + log(n m))) time and O(m L) memory for p = 1 and p = 2,
    independent of n except for the search; other powers O((n + m) L log(n + m)) time and O((n + m) L) memory.

    The gradient is right almost everywhere, in points and weights, and so are second derivatives (order and levels are locally
    constant); for 1 < p < 2 these grow without limit where a projected point meets its target, and are taken as zero there.

    Args:
        p: the power of the cost, at least 1.
        directions: how many, L. They are drawn in orthogonal blocks of d, each uniform on the sphere: unbiased, and with less
            variance than independent ones.
        root: the p-th root of the value, with gradient zero where the value is zero.

    References: Wasserstein Barycenter and Its Application to Texture Mixing (Rabin et al., 2011); Sliced and Radon Wasserstein
    Barycenters of Measures (Bonneel et al., 2015); Orthogonal Estimation of Wasserstein Distances (Rowland et al., 2019).

    Raises:
        InvalidInput: if ``p`` or ``directions`` is below 1; on use, without draws.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, SlicedWasserstein
        >>> mu = Measure(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]))
        >>> nu = Measure(torch.tensor([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0]]))
        >>> D = SlicedWasserstein(directions=50)
        >>> draws = D.draw(torch.Generator().manual_seed(0), (2,))
        >>> round(float(D(mu, nu, draws)), 4)
        1.0
    """

    p: float = 2.0
    directions: int = 100
    root: bool = False

    def __post_init__(self) -> None:
        check_power(self.p)
        if self.directions < 1:
            raise InvalidInput(f"'directions' must be >= 1, got {self.directions}; 100 is a common choice")

    @property
    def tags(self) -> frozenset[Tag]:
        smooth = not self.root and (self.p == 1 or self.p >= 2)
        return _LAWS.union(("twice-differentiable",) if smooth else ())

    @property
    def degree(self) -> float:
        return 1.0 if self.root else self.p

    def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
        d = math.prod(shape)
        blocks = [
            torch.linalg.qr(normals(generator, d, min(d, self.directions - start))).Q.mT
            for start in range(0, self.directions, d)
        ]
        return {"direction": torch.cat(blocks)}

    def constants(self, real: Measure, draws: Draws) -> dict[str, Tensor]:
        points, weights = real.rows, real.shares
        origin, levels, directions = _origin(points, weights), shared_levels(weights), _directions(draws)
        p = self.p if QuantileTables.pays(points, directions.shape[-2]) else None
        shared = {"origin": origin} | ({} if levels is None else {"levels": levels})
        parts = [
            QuantileTables.of(_projected(points, origin, block), weights, levels, p).tables()
            for block in directions.split(_block(weights), -2)
        ]
        return shared | {name: torch.cat([part[name] for part in parts], 1) for name in parts[0] if name not in shared}

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        points, directions, real = synthetic.rows, _directions(draws), summary.real
        tables, origin = QuantileTables.from_tables(summary.constants), summary.constants["origin"]
        slices = _projected(points, origin, directions)

        def again() -> QuantileTables:
            levels = shared_levels(real.shares)
            return QuantileTables.of(_projected(real.rows.detach(), origin, directions), real.shares, levels, None)

        costs, unit = line_cost(tables, slices, synthetic.shares, self.p, again, rounding_of(points))
        return in_units(costs.mean(-1), unit, self.p, self.root).to(points.dtype)


class MaxSlicedWasserstein(SampleDiscrepancy, kind="max_sliced_wasserstein"):
    """W_p^p along the direction in which the two differ most: the p-th power of a metric, as far as the ascent finds it.

    Several directions start at random and climb; the value is the largest, so it is a lower bound of the supremum, and it
    is never less than at a start. SW_p^p <= max-SW_p^p <= W_p^p; for Diracs it is ‖x - y‖^p.

    The gradient holds the best direction fixed, which is right by the envelope theorem for the first derivative; a second one
    is refused. The real points are the summary; the sensitivity is not bounded. A comparison
    sorts both sides for every start, O((n + m) (d + log(n m))) each in time and O(n + m) in memory, and the ascent repeats it.

    Args:
        p: the power of the cost, at least 1.
        starts: how many directions climb.
        steps: steps of Adam where it is evaluated on its own; in a run the directions move once a step.
        rate: the rate of Adam, for directions drawn with entries of order one; only their direction counts.
        root: the p-th root of the value, with gradient zero where the value is zero.

    References: Max-Sliced Wasserstein Distance and its Use for GANs (Deshpande et al., 2019, CVPR).

    Raises:
        InvalidInput: if a field is out of its range; on use, without draws.

    Example:
        >>> import torch
        >>> from discrepancy import MaxSlicedWasserstein, Measure
        >>> mu = Measure(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]))
        >>> nu = Measure(torch.tensor([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0]]))
        >>> D = MaxSlicedWasserstein()
        >>> draws = D.draw(torch.Generator().manual_seed(0), (2,))
        >>> round(float(D(mu, nu, draws)), 4)
        2.0
    """

    p: float = 2.0
    starts: int = 8
    steps: int = 50
    rate: float = 0.1
    root: bool = False

    def __post_init__(self) -> None:
        check_power(self.p)
        for name, least in (("starts", 1), ("steps", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"'{name}' must be >= {least}, got {getattr(self, name)}")
        if not 0 < self.rate < math.inf:
            raise InvalidInput(f"'rate' must be > 0 and finite, got {self.rate}; 0.1 is a common choice")

    @property
    def tags(self) -> frozenset[Tag]:
        return _LAWS

    @property
    def degree(self) -> float:
        return 1.0 if self.root else self.p

    @property
    def adversary(self) -> Adversary:
        return Adversary(frozenset({"direction"}), self.steps, self.rate)

    def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
        return {"direction": normals(generator, self.starts, math.prod(shape))}

    def constants(self, real: Measure, draws: Draws) -> dict[str, Tensor]:
        levels = shared_levels(real.shares)
        return {"origin": _origin(real.rows, real.shares)} | ({} if levels is None else {"levels": levels})

    def slices(
        self, summary: SampleSummary, synthetic: Measure, draws: Draws
    ) -> tuple[Float[Tensor, "g starts"], Float[Tensor, " g"]]:
        """W_p^p along the direction of each start, differentiable in the directions, and the unit of each group."""
        origin, weights = summary.constants["origin"], summary.real.shares.detach()
        points, directions, levels = summary.real.rows.detach(), _directions(draws), summary.constants.get("levels")
        real, slices = (_projected(side, origin, directions) for side in (points, synthetic.rows))
        p = self.p if QuantileTables.pays(points, directions.shape[-2]) else None
        tables = QuantileTables.of(real, weights, levels, p)

        def again() -> QuantileTables:
            return QuantileTables.of(real, weights, levels, None)

        return line_cost(tables, slices, synthetic.shares, self.p, again, rounding_of(points))

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        fixed = Measure(*(first_order_only(side, self.kind) for side in (synthetic.rows, synthetic.weights)))
        costs, unit = self.slices(summary, fixed, draws)
        return in_units(costs.amax(-1), unit, self.p, self.root).to(synthetic.rows.dtype)

    def sharpen_groups(self, summary: SampleSummary, synthetic: Measure, draws: Mapping[str, Tensor]) -> Draws:
        """Every start climbs on its own, not only the highest; one that ends lower than it began stays where it was."""
        moved = _Climb(of=self).sharpen_groups(summary, synthetic, draws)
        with torch.no_grad():
            (before, unit), (after, other) = (self.slices(summary, synthetic, these) for these in (draws, moved))
            after = in_units(after, (other / unit)[:, None], self.p, root=False)
        first, last = _directions(draws), _directions(moved)
        return {**draws, "direction": torch.where((after > before)[..., None].to(last.device), last, first)}


@dataclass(frozen=True, kw_only=True)
class _Climb(SampleDiscrepancy):
    """The sum over the starts of their relative values. Its ascent is the ascent of each start, and does not depend on
    units."""

    of: MaxSlicedWasserstein

    @property
    def tags(self) -> frozenset[Tag]:
        return self.of.tags

    @property
    def adversary(self) -> Adversary:
        return self.of.adversary

    def constants(self, real: Measure, draws: Draws) -> dict[str, Tensor]:
        return self.of.constants(real, draws)

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        value = self.of.slices(summary, synthetic, draws)[0].sum(-1)
        return value / torch.where(value > 0, value, 1.0).detach()


_LAWS: frozenset[Tag] = frozenset(
    {"zero-at-equality", "nonnegative", "symmetric", "translation-invariant", "splits", "differentiable", "pulls"}
)


def _directions(draws: Draws) -> Float[Tensor, "*g l d"]:
    if draws is None or "direction" not in draws:
        raise InvalidInput(
            "projections need directions; draw them with draw(generator, shape) and give them as 'draws'"
        )
    return draws["direction"]


def _origin(points: Float[Tensor, "g n d"], weights: Float[Tensor, "g n"]) -> Float[Tensor, "g 1 d"]:
    """The mean, from which projections are measured."""
    return torch.einsum("gn,gnd->gd", weights, points.double())[:, None]


def _projected(
    points: Float[Tensor, "g n d"], origin: Float[Tensor, "g 1 d"], directions: Float[Tensor, "*g l d"]
) -> Float[Tensor, "g l n"]:
    """Projections on the normalised directions, in float64: small distances between points stay exact where other points are
    far away."""
    directions = directions.to(origin)
    directions = directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    return torch.cat(
        [directions @ (part.double() - origin).mT for part in points.split(_block(points[..., 0, :]), 1)], -1
    )


def _block(row: Tensor) -> int:
    """How many rows in float64 fit into a block."""
    return max(1, block_bytes(row.device) // (8 * row.numel()))
