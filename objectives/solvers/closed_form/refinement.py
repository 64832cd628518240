"""Ridge regression in mixed precision: factorised roughly, then refined by residuals over the data in float64."""

import warnings
from collections.abc import Callable, Iterable

import torch

from discrepancy.errors import NumericalWarning
from discrepancy.learning.learned import FittedSummary
from discrepancy.learning.learners import LinearPredictor, label_rows
from discrepancy.measure import Measure
from discrepancy.numerics.systems import solver

__all__ = ["refined"]

ROUNDS = 6
ENOUGH = 1e-13
"""The relative error that is left, at most."""


def refined(summary: FittedSummary, real: Callable[[], Iterable[Measure]]) -> LinearPredictor:
    """The ridge regression of one group of examples whose moments are known roughly.

    Each round is a pass over the examples, with the residuals of the normal equations in float64,

        r = E (y - V x̃) - ...,    W ← W + G⁻¹ (E (y - W x - b) (x - x̄)ᵀ - λ W),    b ← b + E (y - W x - b),

    until what is left is below 1e-13 of W, or a correction is no smaller than the one before it, which gives a
    `NumericalWarning` where it is above 1e-9. Corrections shrink by one factor a round, so that after one of size s, a share q
    of that before, q s is left. What is found does not depend on the error of the moments, only how many rounds it takes.
    """
    learner, normal = summary.chosen, summary.learner.normal(summary.whole, summary.classes)
    rough = normal.gram.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None] if learner.relative else 1.0
    solved, scale = solver(normal.gram / rough, learner.number), rough
    table = normal.predictor(solved(normal.products / rough).mT).table.clone()
    d = normal.gram.shape[-1]
    centre = normal.centre[0] if normal.centre is not None else torch.zeros_like(table[:, :1, :d])
    before = 1.0  # the table itself corrects a zero
    for _ in range(ROUNDS):
        mass, slope, offset = 0.0, torch.zeros_like(table[..., :d]), torch.zeros_like(table[..., :1])
        moved, square = torch.zeros_like(centre), 0.0
        for part in real():
            x, weights = part.rows.double(), part.weights.double()[..., None]
            missing = weights * (label_rows(part, learner.centred) - LinearPredictor(table)(x))
            mass = mass + weights.sum(1, keepdim=True)
            if learner.intercept:
                x = x - centre
                offset += missing.sum(1)[..., None]
                moved += (weights * x).sum(1, keepdim=True)
            slope += missing.mT @ x
            if learner.relative:
                square = square + (weights * x.square()).sum((1, 2))[:, None, None]
        if learner.relative:
            about = (moved / mass).square().sum(-1, keepdim=True) if learner.intercept else 0.0
            scale = square / mass - about
        slope = slope / mass - learner.number * scale * table[..., :d]
        step = solved(slope.mT / rough).mT
        size = float(step.norm() / table[..., :d].norm().clamp(min=1e-300))
        if size >= before:
            break
        table[..., :d] += step
        if learner.intercept:
            table[..., d:] += offset / mass - step @ centre.mT
        left, before = size * size / before, size
        if left < ENOUGH:
            break
    if before > 1e-9:
        warnings.warn(
            f"weights of mixed precision are good to {before:.1e} of their norm; use precision: double, or a larger penalty",
            NumericalWarning,
            stacklevel=2,
        )
    return LinearPredictor(table)
