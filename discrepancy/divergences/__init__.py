"""Divergences between samples: by nearest neighbours, by a classifier, by balls around points, by a smoothed density.

All but the smoothed total variation are for reports.
"""

from discrepancy.divergences.classifier import ClassifierDivergence
from discrepancy.divergences.manifold import Coverage, Density, Precision, Recall
from discrepancy.divergences.neighbours import NeighbourKL, nearest_distances
from discrepancy.divergences.smoothed import SmoothedTotalVariation

__all__ = [
    "ClassifierDivergence",
    "Coverage",
    "Density",
    "NeighbourKL",
    "Precision",
    "Recall",
    "SmoothedTotalVariation",
    "nearest_distances",
]
