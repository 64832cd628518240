"""How far apart two samples are, differentiable in one of them.

A data set is a weighted empirical measure (:class:`Measure`). A :class:`Discrepancy` says how far apart two of them are, in
two steps, since its two sides are not alike: ``summarise`` the real side once, ``compare`` a synthetic one with the summary
as often as needed. Everything here is a frozen value made of numbers and other values, so it can be written in a
configuration file and used as a key.

    from discrepancy import MMD, Gaussian, Measure
    MMD(kernel=Gaussian(lengthscale=1.5))(Measure(points=x), Measure(points=z))
"""

from discrepancy import embeddings, kernels, networks
from discrepancy.errors import (
    DiscrepancyError,
    InvalidInput,
    NonFinite,
    NumericalWarning,
    PerformanceWarning,
    Unsupported,
)
from discrepancy.kernels import Gaussian
from discrepancy.measure import Grouping, Measure
from discrepancy.mmd import MMD
from discrepancy.sorts import Discrepancy, MeanDiscrepancy, SampleDiscrepancy

__all__ = [
    "Discrepancy",
    "DiscrepancyError",
    "Gaussian",
    "Grouping",
    "InvalidInput",
    "MMD",
    "MeanDiscrepancy",
    "Measure",
    "NonFinite",
    "NumericalWarning",
    "PerformanceWarning",
    "SampleDiscrepancy",
    "Unsupported",
    "embeddings",
    "kernels",
    "networks",
]
