"""How far apart two samples are, differentiable in one of them.

A data set is a weighted empirical measure (:class:`Measure`). A :class:`Discrepancy` says how far apart two of them are, in
two steps, since its two sides are not alike: ``summarise`` the real side once, ``compare`` a synthetic one with the summary
as often as needed. Everything here is a frozen value made of numbers and other values, so it can be written in a
configuration file and used as a key.

    >>> import torch
    >>> from discrepancy import MMD, Measure, kernels
    >>> mmd = MMD(kernel=kernels.Gaussian(lengthscale=1.5))
    >>> real, synthetic = Measure(points=torch.tensor([[0.0], [1.0], [2.0]])), Measure(points=torch.tensor([[0.5]]))
    >>> print(f"{mmd(real, synthetic):.4f}")
    0.1149
    >>> summary = mmd.summarise(real)
    >>> print(f"{mmd.compare(summary, synthetic):.4f}")
    0.1149

The parts that a discrepancy is made of have rooms of their own: ``kernels``, ``learners``, ``embeddings``, ``networks``, and
``recovery`` for the points from which ridge regression learns given weights.
"""

from discrepancy import divergences, embeddings, kernels, learning, mean_embeddings, moments, networks, transport
from discrepancy.cover import CoveringRadius
from discrepancy.datasets import ClassesDistance, DataSetDistance
from discrepancy.discrepancy import Discrepancy, MeanDiscrepancy, SampleDiscrepancy
from discrepancy.divergences import (
    ClassifierDivergence,
    Coverage,
    Density,
    NeighbourKL,
    Precision,
    Recall,
    SmoothedTotalVariation,
)
from discrepancy.errors import (
    DiscrepancyError,
    InvalidInput,
    NonFinite,
    NumericalWarning,
    PerformanceWarning,
    Unsupported,
)
from discrepancy.joint import Joint
from discrepancy.kernels import Gaussian
from discrepancy.learning import MeanGradients, Parameters, Risk, learners, recovery
from discrepancy.learning.learners import ClassMeans, KernelRidge, Ridge, Validation
from discrepancy.mean_embeddings import MMD, CharacteristicFunction, EnergyDistance, JointMMD
from discrepancy.measure import Grouping, Measure
from discrepancy.moments import Coral, Frechet, GaussianKL, LinearHypotheses, Moments, Quantiles
from discrepancy.transport import MaxSlicedWasserstein, Sinkhorn, SlicedWasserstein, Wasserstein

__all__ = [
    "CharacteristicFunction",
    "ClassMeans",
    "ClassesDistance",
    "ClassifierDivergence",
    "Coral",
    "Coverage",
    "CoveringRadius",
    "DataSetDistance",
    "Density",
    "Discrepancy",
    "DiscrepancyError",
    "EnergyDistance",
    "Frechet",
    "Gaussian",
    "GaussianKL",
    "Grouping",
    "InvalidInput",
    "Joint",
    "JointMMD",
    "KernelRidge",
    "LinearHypotheses",
    "MMD",
    "MaxSlicedWasserstein",
    "MeanDiscrepancy",
    "MeanGradients",
    "Measure",
    "Moments",
    "NeighbourKL",
    "NonFinite",
    "NumericalWarning",
    "Parameters",
    "PerformanceWarning",
    "Precision",
    "Quantiles",
    "Recall",
    "Ridge",
    "Risk",
    "SampleDiscrepancy",
    "Sinkhorn",
    "SlicedWasserstein",
    "SmoothedTotalVariation",
    "Unsupported",
    "Validation",
    "Wasserstein",
    "divergences",
    "embeddings",
    "kernels",
    "learners",
    "learning",
    "mean_embeddings",
    "moments",
    "networks",
    "recovery",
    "transport",
]
