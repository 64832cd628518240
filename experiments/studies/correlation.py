"""Rank correlations of sets that come in families, with intervals by resampling, and the most that noise lets one reach.

A resample is a vector of counts c: how often each set was drawn. Spearman's ρ and Kendall's τ-b of a resample are functions
of c and of the matrices of all pairs, made once, so that thousands of resamples are a few products of matrices:

    rank of i  =  Σⱼ cⱼ ([xⱼ < xᵢ] + ½ [xⱼ = xᵢ]),          ρ = Pearson's correlation of the ranks under the weights c
    τ  =  Σᵢⱼ cᵢ cⱼ sᵢⱼ tᵢⱼ / √(Σᵢⱼ cᵢ cⱼ sᵢⱼ² · Σᵢⱼ cᵢ cⱼ tᵢⱼ²),     s = sign(xᵢ - xⱼ), t = sign(yᵢ - yⱼ)

With all counts one these are the usual coefficients. Tied values share their mean rank, and where one side has a single value
there is no correlation: NaN. Restricted to pairs i, j of one family, τ says whether a value orders the sets that one method
made, which a correlation over all the sets does not tell.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["ceiling", "interval", "kendall", "left_out", "resamples", "same_family", "spearman"]

Values = Float[np.ndarray, " n"]
Counts = Float[np.ndarray, "b n"]

TINY = 1e-12
"""Below this share of the scale a spread is a rounding error, and so a single value."""


def spearman(x: Values, y: Values, counts: Counts | None = None) -> Float[np.ndarray, " b"]:
    """ρ of each resample; of the sets themselves, as the only one, without counts."""
    counts = np.ones((1, len(x))) if counts is None else counts
    first, second = _ranks(x, counts), _ranks(y, counts)
    total = counts.sum(1, keepdims=True)
    first = first - (counts * first).sum(1, keepdims=True) / total
    second = second - (counts * second).sum(1, keepdims=True) / total
    products = (counts * first * second).sum(1)
    squares = (counts * first**2).sum(1) * (counts * second**2).sum(1)
    return _quotient(products, squares, total[:, 0] ** 6)


def kendall(
    x: Values, y: Values, counts: Counts | None = None, pairs: Bool[np.ndarray, "n n"] | None = None
) -> Float[np.ndarray, " b"]:
    """τ-b of each resample, over all pairs of sets or over those that ``pairs`` names."""
    counts = np.ones((1, len(x))) if counts is None else counts
    first, second = np.sign(x[:, None] - x), np.sign(y[:, None] - y)
    allowed = np.ones_like(first) if pairs is None else pairs.astype(float)

    def weighed(values: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " b"]:
        return ((counts @ (allowed * values)) * counts).sum(1)

    products = weighed(first * second)
    squares = weighed(first**2) * weighed(second**2)
    return _quotient(products, squares, counts.sum(1) ** 4)


def _ranks(values: Values, counts: Counts) -> Counts:
    below = (values < values[:, None]) + 0.5 * (values == values[:, None])
    return counts @ below.T


def _quotient(
    products: Float[np.ndarray, " b"], squares: Float[np.ndarray, " b"], scale: Float[np.ndarray, " b"]
) -> Float[np.ndarray, " b"]:
    """products / √squares; NaN where the squares are zero up to rounding."""
    known = squares > TINY * scale
    return np.where(known, products / np.sqrt(np.where(known, squares, 1.0)), np.nan)


def same_family(families: Sequence[str]) -> Bool[np.ndarray, "n n"]:
    """Which pairs of sets are of one family."""
    names = np.asarray(families)
    return names[:, None] == names


def left_out(x: Values, y: Values, families: Sequence[str]) -> dict[str, float]:
    """ρ of the sets that remain when one family is left out, for each family; empty where there is only one."""
    names = np.asarray(families)
    distinct = list(dict.fromkeys(families))
    if len(distinct) < 2:
        return {}
    return {name: float(spearman(x[names != name], y[names != name])[0]) for name in distinct}


def resamples(families: Sequence[str], count: int, generator: np.random.Generator) -> Float[np.ndarray, "b n"]:
    """Counts of ``count`` resamples: as many families as there are, drawn with replacement, and within each that is drawn as
    many sets as it has, with replacement. Sets of one method are alike, so drawing sets alone would claim too much."""
    names = np.asarray(families)
    members = [np.flatnonzero(names == name) for name in dict.fromkeys(families)]
    counts = np.zeros((count, len(names)))
    for row in counts:
        for family in generator.integers(len(members), size=len(members)):
            chosen = members[family]
            np.add.at(row, chosen[generator.integers(len(chosen), size=len(chosen))], 1.0)
    return counts


def interval(values: Float[np.ndarray, " b"], confidence: float) -> tuple[float, float] | None:
    """The middle ``confidence`` of the resamples; None if in more than a tenth of them there is no correlation."""
    known = values[np.isfinite(values)]
    if len(known) == 0 or len(known) < 0.9 * len(values):
        return None
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def ceiling(accuracies: Float[np.ndarray, "n k"]) -> float | None:
    """The ρ that a perfect predictor of the true accuracy would reach on average, since that is measured with few networks.

    With r the mean ρ between the accuracies by two of the networks, Spearman and Brown's formula gives the reliability of the
    mean over k of them, R = k r / (1 + (k - 1) r), and the correlation of the truth with it is √R. The formula is for
    Pearson's correlation, and so approximate for ranks. None with fewer than two networks, or where they do not agree at all.
    """
    k = accuracies.shape[1]
    pairs = [(i, j) for i in range(k) for j in range(i)]
    found = np.array([spearman(accuracies[:, i], accuracies[:, j])[0] for i, j in pairs])
    known = found[np.isfinite(found)]
    agreement = float(known.mean()) if len(known) else 0.0
    return math.sqrt(k * agreement / (1 + (k - 1) * agreement)) if agreement > 0 else None
