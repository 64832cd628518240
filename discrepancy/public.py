"""The public names of ``discrepancy``, which loads them when one of them is first used."""

from discrepancy import (
    divergences,
    embeddings,
    kernels,
    learning,
    mean_embeddings,
    moments,
    networks,
    reductions,
    transport,
)
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
    DataWarning,
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
from discrepancy.mean_embeddings import (
    MMD,
    CharacteristicFunction,
    EnergyDistance,
    JointMMD,
    MedianOfMeans,
    TrimmedMean,
)
from discrepancy.measure import Grouping, Measure
from discrepancy.moments import Coral, Frechet, GaussianKL, LinearHypotheses, Moments, Quantiles
from discrepancy.smooth_cover import SmoothCover
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
    "DataWarning",
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
    "MedianOfMeans",
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
    "SmoothCover",
    "SmoothedTotalVariation",
    "TrimmedMean",
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
    "reductions",
    "transport",
]
