"""Linear ridge regression, from points or from their second moments, which merge; and penalties chosen on held-out examples."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from discrepancy.discrepancy import Draws, MeanSummary
from discrepancy.errors import InvalidInput
from discrepancy.learning.learner import (
    Learner,
    LinearPredictor,
    check_penalty,
    label_rows,
    least_squares,
    or_one,
    with_own_labels,
)
from discrepancy.measure import Measure
from discrepancy.networks.base import Network, NetworkParameters
from discrepancy.numerics.derivatives import safe_root
from discrepancy.numerics.symmetric import OuterProducts, Penalised
from discrepancy.numerics.systems import RANK, pseudo_inverse, solve
from discrepancy.parts import Part

__all__ = ["Moments", "Ridge", "Validation", "second_moments"]


GOLDEN = (5**0.5 - 1) / 2
EPS = torch.finfo(torch.float64).eps


class Validation(Part, family=True, kind="validation"):
    """A penalty λ that is chosen on held-out real examples: the candidate with which ridge regression on the rest has the
    least squared error on them. Candidates are spaced evenly in log λ. Example number n is held out where the fractional part
    of n (√5 - 1)/2 is below ``share``, which spreads the held-out examples evenly over the data, and over classes that take
    turns.

    All the numbers are tried by one factorisation, and the examples are not looked at again.

    Args:
        lowest: the least number that is tried, > 0.
        highest: the largest.
        per_decade: how many are tried for each factor of 10.
        share: of the real examples that are held out, at most 0.5.

    Raises:
        InvalidInput: if a field is out of its range.

    Example:
        >>> from discrepancy import Validation
        >>> [f"{number:g}" for number in Validation(lowest=0.01, highest=1.0, per_decade=1).candidates]
        ['0.01', '0.1', '1']
    """

    lowest: float = 1e-10
    highest: float = 10.0
    per_decade: int = 2
    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest < float("inf"):
            raise InvalidInput(f"'lowest' must be > 0 and at most 'highest', got {self.lowest} and {self.highest}")
        if self.per_decade < 1:
            raise InvalidInput(f"'per_decade' must be at least 1, got {self.per_decade}")
        if not 0 < self.share <= 0.5:
            raise InvalidInput(f"'share' must be > 0 and at most 0.5, got {self.share}")

    @property
    def candidates(self) -> list[float]:
        """The numbers, in increasing order."""
        powers = torch.tensor([self.lowest, self.highest], dtype=torch.float64, device="cpu").log10()
        count = round(float(powers[1] - powers[0]) * self.per_decade) + 1
        return torch.logspace(float(powers[0]), float(powers[1]), count, dtype=torch.float64, device="cpu").tolist()

    def held(self, count: int, before: int = 0) -> Bool[Tensor, " count"]:
        """Which of so many examples, in the order in which they come after others, are held out."""
        numbers = torch.arange(before + 1, before + count + 1, dtype=torch.float64, device="cpu")
        return (numbers * GOLDEN) % 1 < self.share


@dataclass(frozen=True, eq=False)
class Normal:
    """The normal equations of each group: E x xᵀ and E x yᵀ, about the means where there is an intercept, and these."""

    gram: Float[Tensor, "g d d"]
    products: Float[Tensor, "g d c"]
    centre: tuple[Float[Tensor, "g 1 d"], Float[Tensor, "g 1 c"]] | None

    @property
    def spread(self) -> Float[Tensor, " g"]:
        """E ‖x‖², about the mean where there is an intercept."""
        return self.gram.diagonal(dim1=1, dim2=2).sum(-1)

    @property
    def rounding(self) -> Float[Tensor, " g"]:
        """What may be left of the spread where all points coincide."""
        if self.centre is None:
            return torch.zeros_like(self.spread)
        return 8 * EPS * (self.spread + self.centre[0].square().sum((1, 2)))

    def predictor(self, weights: Float[Tensor, "g c d"]) -> LinearPredictor:
        return _predictor(weights, self.centre)


class Moments:
    """Σ w z zᵀ of examples that come in parts, for one ridge regression; see there."""

    def __init__(self, learner: "Ridge", products: torch.dtype = torch.float64) -> None:
        self.learner, self._sums = learner, OuterProducts(products)
        self._mass: Float[Tensor, " g"] | float = 0.0

    def add(self, examples: Measure) -> None:
        x, weights = examples.rows, examples.weights
        ones = [torch.ones_like(x[..., :1])] if self.learner.intercept else []
        self._sums.add([x, *ones, label_rows(examples, self.learner.centred)], weights)
        self._mass = self._mass + weights.double().sum(-1)

    @property
    def summary(self) -> MeanSummary:
        total = self._sums.total
        assert isinstance(self._mass, Tensor)
        return MeanSummary(total.flatten(1), self._mass)


class Ridge(Learner, kind="ridge"):
    """Linear ridge regression: min over W of Σᵢ wᵢ ‖W xᵢ - yᵢ‖² + λ ‖W‖² with Σᵢ wᵢ = 1.

    Solved by Cholesky from E x xᵀ and E x yᵀ, or from the m x m products of the points where m < d: the same solution, O(m d²
    + d³) or O(m² d + m³). Without penalty it is the least-norm solution of least squares, by a pseudo-inverse that takes
    eigenvalues below 1e-12 of the largest for zero; its derivatives are right as long as the rank stays.

    Args:
        penalty: λ >= 0, or how it is chosen; the penalty of a sum over n points of weight one is n λ.
        intercept: adds an intercept b, without penalty.
        relative: multiplies the penalty by E ‖x‖² (about the mean, with an intercept) of what is learned from.
        centred: takes 1/c off the labels of both sides, so that those of classes sum to zero.

    The real side is summarised by Σ w z zᵀ with z = (x, 1, y), the 1 with an intercept only: it merges, takes (d + c)² numbers
    and is exact, up to a rounding error of 1e-16 times the largest second moment: points far from the origin, compared with
    their spread, lose digits in the square.

    References: Provable and Efficient Dataset Distillation for Kernel Ridge Regression (Chen, Huang, Weng, 2024, NeurIPS).

    Raises:
        InvalidInput: if ``penalty`` is negative or not finite.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, learners
        >>> side = Measure(torch.tensor([[1.0], [2.0]]), labels=torch.tensor([[1.0], [3.0]])).as_groups()
        >>> predictor = learners.Ridge(penalty=0.0, intercept=True).fit(side)
        >>> predictor(torch.tensor([[[3.0]]])).round(decimals=4)
        tensor([[[5.]]], dtype=torch.float64)
    """

    mergeable: ClassVar[bool] = True
    penalty: float | Validation = 1e-6
    intercept: bool = False
    relative: bool = False
    centred: bool = False

    @property
    def predicts_centred(self) -> bool:
        return self.centred

    @property
    def undecided(self) -> bool:
        return isinstance(self.penalty, Validation)

    def with_penalty(self, penalty: float) -> "Ridge":
        return replace(self, penalty=penalty)

    def __post_init__(self) -> None:
        if not isinstance(self.penalty, Validation):
            check_penalty(self.penalty)

    @property
    def number(self) -> float:
        """λ.

        Raises:
            InvalidInput: if it is yet to be chosen.
        """
        if isinstance(self.penalty, Validation):
            raise InvalidInput(
                "'penalty' is to be chosen by validation, which only what is learned from the real side knows; give a number "
                "where ridge regression learns from the synthetic side"
            )
        return self.penalty

    @property
    def scale_free(self) -> bool:
        return self.relative or self.penalty == 0

    @property
    def translation_free(self) -> bool:
        return self.intercept

    def fit(
        self,
        measure: Measure,
        network: Network | None = None,
        parameters: NetworkParameters | None = None,
        draws: Draws = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> LinearPredictor:
        y = label_rows(measure, self.centred)  # refuses what is no measure
        x, shares = measure.rows.double(), measure.shares[..., None]
        centre, rounding = None, torch.zeros_like(x[:, 0, 0])
        if self.intercept:
            rounding = ((8 + x.shape[1]) * EPS) ** 2 * (shares * x.detach().square()).sum((1, 2))
            centre = (shares * x).sum(1, keepdim=True), (shares * y).sum(1, keepdim=True)
            x, y = x - centre[0], y - centre[1]
        if self.number == 0:
            weights = self._least_norm(shares, x, y)
        elif x.shape[1] >= x.shape[2]:
            weights = self._primal((shares * x).mT @ x, (shares * x).mT @ y, rounding)
        else:
            scale = self._scale((shares * x.square()).sum((1, 2)), rounding)
            weights = (solve(x @ x.mT / scale, shares[..., 0], y, self.number).mT @ x) / scale
        return _predictor(weights, centre)

    @staticmethod
    def _least_norm(
        shares: Float[Tensor, "g m 1"], x: Float[Tensor, "g m d"], y: Float[Tensor, "g m c"]
    ) -> Float[Tensor, "g c d"]:
        """(Xᵀ D X)⁺ Xᵀ D Y from the roots of the weights, which have no derivative at zero: there it is added."""
        root = safe_root(shares)
        inverse = pseudo_inverse(root * x, RANK**0.5)
        table = inverse @ (root * y)
        joining = torch.where(shares == 0, shares - shares.detach(), torch.zeros_like(shares))
        return (table + inverse @ (inverse.mT @ (x.mT @ (joining * (y - x @ table))))).mT

    def summarise(self, real: Measure) -> MeanSummary:
        moments = Moments(self)
        moments.add(real)
        return moments.summary

    def risk(self, summary: MeanSummary, predictor: LinearPredictor) -> Float[Tensor, " g"]:
        return _risk(predictor.table, second_moments(summary))

    @torch.no_grad()
    def best_labels(self, summary: MeanSummary, measure: Measure) -> Float[Tensor, "g m c"]:
        table = replace(self, centred=False).fit(with_own_labels(measure)).table
        p, moments = table.shape[-1], second_moments(summary)
        return least_squares(table @ moments[:, :p, :p] @ table.mT, table @ moments[:, :p, p:], centred=self.centred)

    def chosen(self, rest: MeanSummary, held: MeanSummary, classes: int) -> "Ridge":
        """This learner with its penalty chosen: learned from the rest, tested on what was held out.

        Raises:
            InvalidInput: if nothing was held out, or the system of the rest is singular with every number.
        """
        if not isinstance(self.penalty, Validation):
            return self
        if not bool((held.mass > 0).all()):
            raise InvalidInput(
                f"'share' {self.penalty.share} of the real examples holds none out; raise it, or give 'penalty' a number"
            )
        normal = self.normal(rest, classes)
        scale = self._scale(normal.spread, normal.rounding)
        groups = zip(normal.gram / scale, normal.products / scale, strict=True)
        found = [Penalised(gram).solutions(products, self.penalty.candidates) for gram, products in groups]
        tables = {
            number: normal.predictor(torch.stack([each[number].mT for each in found])).table
            for number in self.penalty.candidates
            if all(number in each for each in found)
        }
        if not tables:
            raise InvalidInput(
                f"'highest' {self.penalty.highest:.1e} leaves the Gram matrix singular to working precision; raise it"
            )
        moments = second_moments(held)
        risks = {number: float(_risk(table, moments).sum()) for number, table in tables.items()}
        return replace(self, penalty=min(risks, key=risks.__getitem__))

    def of_summary(self, summary: MeanSummary, classes: int) -> LinearPredictor:
        """What is learned from a measure that was summarised."""
        normal = self.normal(summary, classes)
        return normal.predictor(self._primal(normal.gram, normal.products, normal.rounding))

    def normal(self, summary: MeanSummary, classes: int) -> Normal:
        """The normal equations of a measure that was summarised."""
        moments = second_moments(summary)
        p = moments.shape[-1] - classes
        if not self.intercept:
            return Normal(moments[:, :p, :p], moments[:, :p, p:], None)
        d = p - 1
        x, y = moments[:, d : d + 1, :d], moments[:, d : d + 1, p:]
        return Normal(moments[:, :d, :d] - x.mT @ x, moments[:, :d, p:] - x.mT @ y, (x, y))

    def distance(self, summary: MeanSummary, first: LinearPredictor, second: LinearPredictor) -> Float[Tensor, " g"]:
        """E ‖f(x) - g(x)‖² over the measure that was summarised."""
        p = first.table.shape[-1]
        return _weighted_square(first.table - second.table, second_moments(summary)[:, :p, :p])

    def _primal(
        self, gram: Float[Tensor, "g d d"], products: Float[Tensor, "g d c"], rounding: Float[Tensor, " g"]
    ) -> Float[Tensor, "g c d"]:
        scale = self._scale(gram.diagonal(dim1=1, dim2=2).sum(-1), rounding)
        ones = torch.ones_like(gram[..., 0])
        return solve(gram / scale, ones, products / scale, self.number).mT

    def _scale(self, spread: Float[Tensor, " g"], rounding: Float[Tensor, " g"]) -> Float[Tensor, "g 1 1"]:
        return (or_one(spread, rounding) if self.relative else torch.ones_like(spread))[:, None, None]


def _predictor(
    weights: Float[Tensor, "g c d"], centre: tuple[Float[Tensor, "g 1 d"], Float[Tensor, "g 1 c"]] | None
) -> LinearPredictor:
    if centre is None:
        return LinearPredictor(weights)
    x, y = centre
    return LinearPredictor(torch.cat([weights, y.mT - weights @ x.mT], -1))


def second_moments(summary: MeanSummary) -> Float[Tensor, "g z z"]:
    """E z zᵀ from the flat sums of a summary."""
    size = round(summary.total.shape[-1] ** 0.5)
    return summary.mean.unflatten(-1, (size, size))


def _risk(table: Float[Tensor, "g c p"], moments: Float[Tensor, "g z z"]) -> Float[Tensor, " g"]:
    """E ‖V x - y‖², of the second moments of (x, y)."""
    negative = -torch.eye(table.shape[1], dtype=table.dtype, device=table.device)
    return _weighted_square(torch.cat([table, negative.expand(len(table), -1, -1)], -1), moments)


def _weighted_square(table: Float[Tensor, "g c p"], moments: Float[Tensor, "g p p"]) -> Float[Tensor, " g"]:
    """tr(V M Vᵀ)."""
    return ((table @ moments) * table).sum((1, 2))
