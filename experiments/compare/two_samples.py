"""The two samples of a permutation test, in units of both together.

A permutation test is valid only if every assignment of the points to the two sides is treated like the real one. So units, and
all constants that an embedding takes from data, are measured on the points of both samples together. Measured on the real side
alone they would fit that side better, and small samples with many features would seem to differ.
"""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from discrepancy.embeddings import Embedding
from discrepancy.measure import Measure
from discrepancy.networks.base import Network
from experiments.compare.embedding import Embedded
from experiments.compare.sides import Side
from objectives.data.labels import Labels
from objectives.data.units import Normalisation
from objectives.engine.runtime import Runtime

__all__ = ["SAMPLE_CAP", "two_samples"]

SAMPLE_CAP = 500
"""Points a side above which a random part of them is tested."""


def two_samples(
    sides: tuple[Side, Side],
    rows: tuple[Int[Tensor, " n"], Int[Tensor, " m"]],
    via: Embedding,
    network: Network | None,
    runtime: Runtime,
) -> tuple[Measure, Measure]:
    """Some rows of two sides as flat measures of equal weights: features, and label vectors where both sides have labels."""
    points = torch.cat([side.points[chosen] for side, chosen in zip(sides, rows, strict=True)])
    classes = tuple(dict.fromkeys(name for side in sides for name in side.classes))
    units = Normalisation.measured(points)
    both = replace(
        sides[0], points=points, labels=Labels(), weights=None, classes=classes, normalisation=units, limits=None
    )
    features = Embedded(both, via, network, 0, runtime).features(both)
    labels = _label_vectors(sides, rows, classes)
    parts = torch.arange(len(points), device=runtime.device).split([len(chosen) for chosen in rows])
    first, second = (
        Measure(
            {name: block[part] for name, block in features.items()},
            torch.ones(len(part), device=runtime.device),
            None if labels is None else labels.to(runtime.device)[part],
        )
        for part in parts
    )
    return first, second


def _label_vectors(sides: tuple[Side, Side], rows: tuple[Tensor, Tensor], classes: tuple[str, ...]) -> Tensor | None:
    """Distributions over the classes of both sides, or targets in units of both."""
    if not all(side.labels.given for side in sides):
        return None
    if sides[0].target_units is not None:
        targets = torch.cat([side.labels.rows[chosen] for side, chosen in zip(sides, rows, strict=True)])
        return Normalisation.measured(targets).apply(targets)
    return torch.cat([side.label_vectors(classes)[chosen] for side, chosen in zip(sides, rows, strict=True)])
