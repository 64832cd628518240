"""Learners: maps from a labelled measure to a predictor, in closed form. The two ridge regressions are

    A(μ) = argmin_f  E_μ ‖f(x) - y‖² + λ ‖f‖²

:class:`Ridge` over linear functions, :class:`KernelRidge` over those of a kernel. :class:`ClassMeans` scores the classes by
their mean points.

The expectation is over *normalised* weights. Where a source sums over n points of weight one (Chen et al., 2024; Nguyen et
al., 2021), its penalty is n λ. Everything is solved in float64, and a solution is twice differentiable in the points, weights
and labels that it was learned from; with λ > 0 also at a weight of zero (with λ = 0 it jumps there, as a rank may).
"""

from discrepancy.learning.class_means import ClassMeans
from discrepancy.learning.kernel_ridge import KernelPredictor, KernelRidge
from discrepancy.learning.learner import Learner, LinearPredictor, Predictor, label_rows
from discrepancy.learning.ridge import Ridge, Validation

__all__ = [
    "ClassMeans",
    "KernelPredictor",
    "KernelRidge",
    "Learner",
    "LinearPredictor",
    "Predictor",
    "Ridge",
    "Validation",
    "label_rows",
]
