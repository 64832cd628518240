"""Distances between mean embeddings in a Hilbert space: MMD, its joint form, energy distance, characteristic functions;
and with robust means of the real side."""

from discrepancy.mean_embeddings.characteristic import CharacteristicFunction
from discrepancy.mean_embeddings.energy import EnergyDistance
from discrepancy.mean_embeddings.joint_mmd import JointMMD
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.mean_embeddings.robust_means import MedianOfMeans, TrimmedMean

__all__ = ["CharacteristicFunction", "EnergyDistance", "JointMMD", "MMD", "MedianOfMeans", "TrimmedMean"]
