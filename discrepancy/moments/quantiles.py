"""Quantiles: the order of the values of each feature, where means and moments look at sums of them."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import safe_root
from discrepancy.numerics.distances import block_bytes

__all__ = ["Quantiles"]


class Quantiles(SampleDiscrepancy, kind="quantiles"):
    """The squared difference of the quantiles of each feature: the mean over L levels of Σ_features (q_P - q_Q)², with q(τ) =
    inf {x: F(x) >= τ} the quantile function of a feature.

    A number of levels compares the means of q over L slices of equal mass, q_l = L ∫ q over ((l-1)/L, l/L): every point and
    every weight has a gradient. It lies between ‖E_P x - E_Q x‖² (L = 1) and the sum over features of W_2² of the marginals,
    which it tends to as L grows and equals where both sides have L points of equal weight. A tuple of levels in (0, 1)
    compares q itself there, as quantile matching does: a step function of the levels, so only the points that are the
    quantiles have a gradient, and weights have none. Splitting a point's weight changes nothing in either form.

    A squared pseudo-metric, with ``root`` a pseudo-metric: it sees marginals only. It is of the type of Cramér and von Mises,
    with quantile functions in place of distribution functions. O(n d (L + log n)) once, O(m d (L + log m)) a step. The
    summary holds the quantiles (L, d) beside the points; its sensitivity has no bound. In float64.

    Args:
        levels: how many slices, or the levels.
        root: the square root, with gradient zero where the value is zero.

    References: Dataset Condensation with Latent Quantile Matching (Wei, De Schepper, Mets, 2024), arXiv:2406.09860.

    Raises:
        InvalidInput: if there is no level, or one outside of (0, 1).

    Example:
        >>> import torch
        >>> from discrepancy import Measure, Quantiles
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = Quantiles(levels=2)
        >>> round(float(D(mu, nu)), 4)
        1.1111
    """

    levels: int | tuple[float, ...] = 10
    root: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.levels, tuple):
            if not self.levels or not all(0 < level < 1 for level in self.levels):
                raise InvalidInput(
                    f"'levels' must lie in (0, 1), at least one, got {self.levels}; or give their number"
                )
        elif self.levels < 1:
            raise InvalidInput(f"'levels' must be >= 1, got {self.levels}")

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {
            "zero-at-equality",
            "nonnegative",
            "symmetric",
            "splits",
            "differentiable",
            "translation-invariant",
            "pulls",
        }
        if not self.root:
            claimed |= {"twice-differentiable"}
        return frozenset(claimed)

    @property
    def degree(self) -> float:
        return 1.0 if self.root else 2.0

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        """The quantiles (g, L, d), made some features at a time."""
        budget = block_bytes(real.rows.device)
        width = max(1, budget // (8 * real.weights.numel()))
        parts = (self._quantiles(columns, real.shares) for columns in real.rows.split(width, -1))
        return {"quantiles": torch.cat([*parts], -1)}

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        points = synthetic.rows
        gap = summary.constants["quantiles"] - self._quantiles(points, synthetic.shares)
        value = gap.square().sum(-1).mean(-1)
        return (safe_root(value) if self.root else value).to(points.dtype)

    def _quantiles(self, points: Float[Tensor, "g n d"], shares: Float[Tensor, "g n"]) -> Float[Tensor, "g L d"]:
        values, order = points.double().sort(1)
        mass = shares[..., None].expand_as(values).gather(1, order)
        below = mass.cumsum(1)
        if isinstance(self.levels, tuple):
            # All points and weights take part with derivative zero: whoever asks for it is not told that they are unused, and a
            # point that is not finite is seen even where it is not a quantile.
            return values.gather(1, _holders(below, self.levels)) + 0 * (mass + values).sum(1, keepdim=True)
        # ∫ q over (0, u) is Σ w x up to the point that holds u, less the part of that point beyond u.
        integral = (mass * values).cumsum(1)
        edges = [index / self.levels for index in range(1, self.levels)]
        ends = [torch.zeros_like(integral[:, :1]), integral[:, -1:]]
        if edges:
            at = _holders(below, edges)
            beyond = below.gather(1, at) - torch.tensor(edges, dtype=torch.float64, device=at.device)[:, None]
            ends.insert(1, integral.gather(1, at) - beyond * values.gather(1, at))
        return self.levels * torch.cat(ends, 1).diff(dim=1)


def _holders(below: Float[Tensor, "g n d"], levels: Sequence[float]) -> Int[Tensor, "g L d"]:
    """Which of the sorted points is the quantile at each level, from the mass up to each of them: the first that reaches the
    level, but for the rounding of a sum of so many."""
    rounding = below.shape[1] * torch.finfo(below.dtype).eps
    found = torch.stack([(below < level - rounding).sum(1) for level in levels], 1)
    return found.clamp(max=below.shape[1] - 1)
