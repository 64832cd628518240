"""Divergences by way of a classifier that tells the real points from the synthetic ones.

With both sides made equally heavy, the logit of the best classifier is the log ratio of the densities, f = log p/q. Every other
f gives a bound from below, and how well it does on points that it was not fitted to is a measure of distance by itself.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.divergences.neighbours import Sample, samples
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.measure import Measure
from discrepancy.parts import check_choice

__all__ = ["ClassifierDivergence"]

ITERATIONS = 1000


class ClassifierDivergence(SampleDiscrepancy, kind="classifier"):
    """How well a logistic regression tells the two samples apart; each point is classified by a fit without it.

    With f the logit for "real", E over the normalised weights of a side, and log 2 in nats,

        ``"js"``        log 2 - ½ E_real log(1 + e⁻ᶠ) - ½ E_synthetic log(1 + eᶠ)   <= Jensen-Shannon divergence, at most log 2
        ``"kl"``        E_real f - log E_synthetic eᶠ                               <= KL(real‖synthetic)  (Donsker, Varadhan)
        ``"accuracy"``  ½ P_real(f > 0) + ½ P_synthetic(f < 0) - ½,  a tie counting half; 0 at equality, at most ½

    The bounds hold on average over fresh points; on a sample each value may be negative, which is left as it is. f is linear
    in the features, so it sees differences of means and little else: give features in which that is enough.

    Fit: features are standardised by the mean and standard deviation of both sides together, half the mass each; mean
    logistic loss (again half each) + ridge/2 ‖β‖², by scikit-learn's LogisticRegression. Nothing is random: the distinct
    points of a side, in lexicographic order, go to the folds in turn, those found on both sides first, so a point and its
    copies, on either side, are always classified together.

    A dissimilarity, for reports. Points (n, d) and (m, d), at least ``folds`` distinct ones a side, beyond which accuracy of
    the estimate is the limit: below some ten a side per feature it says little. The summary is the points.
    Time folds x iterations x (n + m) d, memory (n + m) d. Sensitivity: not bounded.

    Args:
        estimate: which of the three.
        folds: in how many parts the points are divided; each is classified by a fit to the others.
        ridge: the weight of ½‖β‖² against the mean loss.

    References: Revisiting Classifier Two-Sample Tests (Lopez-Paz, Oquab, 2017), for the accuracy.

    Raises:
        InvalidInput: if a field is out of its range; on use, for fewer than ``folds`` distinct points a side.

    Example:
        >>> import torch
        >>> from discrepancy import ClassifierDivergence, Measure
        >>> mu = Measure(torch.arange(20.0)[:, None])
        >>> nu = Measure(torch.arange(20.0)[:, None] + 100)
        >>> D = ClassifierDivergence(estimate="accuracy", folds=2)
        >>> round(float(D(mu, nu)), 4)
        0.5
    """

    estimate: Literal["js", "kl", "accuracy"] = "js"
    folds: int = 5
    ridge: float = 0.01

    def __post_init__(self) -> None:
        check_choice("estimate", self.estimate, ("js", "kl", "accuracy"))
        if self.folds < 2:
            raise InvalidInput(f"'folds' must be at least 2, got {self.folds}")
        if not (torch.inf > self.ridge > 0):
            raise InvalidInput(f"'ridge' must be finite and > 0, got {self.ridge}")

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {"zero-at-equality", "translation-invariant", "splits"}
        if self.estimate != "kl":
            claimed |= {"symmetric"}
        return frozenset(claimed)

    @property
    def degree(self) -> float:
        return 0.0

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        return {}

    @torch.no_grad()
    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """The estimate of each group.

        Raises:
            InvalidInput: if a group has fewer than ``folds`` distinct points on a side.
        """
        pairs = zip(samples(summary.real), samples(synthetic), strict=True)
        values = torch.stack([self._value(x, y) for x, y in pairs])
        return values.to(synthetic.rows)

    def _value(self, x: Sample, y: Sample) -> Float[Tensor, ""]:
        (real, w, _), (synthetic, v, _) = x.distinct(), y.distinct()
        for side, count in (("real", len(real)), ("synthetic", len(synthetic))):
            if count < self.folds:
                raise InvalidInput(
                    f"'classifier' with folds = {self.folds} needs at least {self.folds} distinct points in every group, got "
                    f"{count} on the {side} side; give fewer 'folds' (at least 2) or more points"
                )
        points, weights = torch.cat([real, synthetic]).double().cpu(), torch.cat([w, v]).cpu() / 2
        labels = torch.arange(len(points), device=points.device) < len(real)
        logits = self._classified(points, labels, weights, _folds(points, len(real), self.folds))
        f, g, w, v = logits[labels], logits[~labels], 2 * weights[labels], 2 * weights[~labels]
        if self.estimate == "js":
            return math.log(2) - (w @ softplus(-f) + v @ softplus(g)) / 2
        if self.estimate == "kl":
            return w @ f - torch.logsumexp(g + v.log(), 0)
        return (w @ f.sign() - v @ g.sign()) / 4

    def _classified(
        self, points: Float[Tensor, "n d"], labels: Tensor, weights: Float[Tensor, " n"], fold: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """The logit of each point, by the classifier that is fitted to the other folds."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        points = points - points[0]
        points = points - weights @ points
        spread = (weights @ points.square()).sqrt()
        points = points / torch.where(spread > 0, spread, 1.0)
        logits, short = torch.empty_like(weights), 0
        for part in range(self.folds):
            seen = fold != part
            balanced = weights[seen]
            for side in (labels[seen], ~labels[seen]):
                balanced[side] /= 2 * balanced[side].sum()
            model = LogisticRegression(C=1 / self.ridge, tol=1e-9, max_iter=ITERATIONS)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                model.fit(points[seen].numpy(), labels[seen].numpy(), balanced.numpy())
            short += any(issubclass(item.category, ConvergenceWarning) for item in caught)
            logits[~seen] = torch.from_numpy(model.decision_function(points[~seen].numpy()))
        if short:
            warnings.warn(
                f"{short} of {self.folds} classifiers stopped after {ITERATIONS} steps or sooner, short of their optimum; "
                f"a larger 'ridge' helps",
                NumericalWarning,
                stacklevel=2,
            )
        return logits


def _folds(points: Float[Tensor, "n d"], count: int, folds: int) -> Int[Tensor, " n"]:
    """The fold of each point, the first ``count`` of which are real, distinct within each side."""
    _, place, copies = torch.unique(points, dim=0, return_inverse=True, return_counts=True)
    shared = copies[place] > 1
    fold = torch.empty_like(place)
    for side in (slice(None, count), slice(count, None)):
        # False sorts before True, and places are lexicographic ranks.
        order = torch.argsort(place[side] + len(points) * ~shared[side])
        fold[side] = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device) % folds)
    return fold
