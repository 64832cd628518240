"""How far apart two samples are, differentiable in one of them.

A data set is a weighted empirical measure (:class:`Measure`). A :class:`Discrepancy` says how far apart two of them are, in
two steps, since its two sides are not alike: ``summarise`` the real side once, ``compare`` a synthetic one with the summary
as often as needed. Everything here is a frozen value made of numbers and other values, so it can be written in a
configuration file and used as a key.

    from discrepancy import MMD, Gaussian, Measure
    MMD(kernel=Gaussian(lengthscale=1.5))(Measure(points=x), Measure(points=z))
"""

from discrepancy import embeddings, kernels, networks, transport
from discrepancy.cover import CoveringRadius
from discrepancy.datasets import ClassesDistance, DataSetDistance, Joint
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
from discrepancy.kernels import Gaussian
from discrepancy.learning.gradients import MeanGradients
from discrepancy.learning.learned import Parameters, Risk
from discrepancy.learning.learners import ClassMeans, KernelRidge
from discrepancy.learning.ridge import Ridge, Validation
from discrepancy.mean_embeddings.characteristic import CharacteristicFunction
from discrepancy.mean_embeddings.energy import EnergyDistance
from discrepancy.mean_embeddings.joint_mmd import JointMMD
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.measure import Grouping, Measure
from discrepancy.moments.gaussians import Frechet, GaussianKL
from discrepancy.moments.hypothesis_classes import LinearHypotheses
from discrepancy.moments.moments import Coral, Moments
from discrepancy.moments.quantiles import Quantiles
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
    "embeddings",
    "kernels",
    "networks",
    "transport",
]
