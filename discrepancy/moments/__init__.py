"""Discrepancies of moments and quantiles, and of the Gaussians with these moments."""

from discrepancy.moments.gaussians import Frechet, GaussianKL
from discrepancy.moments.hypothesis_classes import LinearHypotheses
from discrepancy.moments.moments import Coral, Moments
from discrepancy.moments.quantiles import Quantiles

__all__ = ["Coral", "Frechet", "GaussianKL", "LinearHypotheses", "Moments", "Quantiles"]
