"""Distances between mean embeddings in a Hilbert space: MMD, its joint form, energy distance, characteristic functions."""

from discrepancy.mean_embeddings.characteristic import CharacteristicFunction
from discrepancy.mean_embeddings.energy import EnergyDistance
from discrepancy.mean_embeddings.joint_mmd import JointMMD
from discrepancy.mean_embeddings.mmd import MMD

__all__ = ["CharacteristicFunction", "EnergyDistance", "JointMMD", "MMD"]
