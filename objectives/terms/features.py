"""Features of examples as measures: grouped, or as the mean of each group."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.discrepancy import Draws
from discrepancy.embeddings.base import Embedding
from discrepancy.measure import Grouping, Measure
from discrepancy.networks.base import NetworkParameters
from discrepancy.numerics.blocks import padded
from objectives.terms.bound import TermEngine

__all__ = ["averaged", "grouped", "moved", "sample_features"]


@torch.no_grad()
def sample_features(
    sample: Measure, embedding: Embedding, draws: Draws, engine: TermEngine, parameters: NetworkParameters
) -> Measure:
    """The features of a sample; of an embedding that averages, those of one example, for the shapes."""
    if not embedding.averages:
        return Measure(embedding(sample.tensors, draws), labels=sample.labels)
    network = engine.context.network
    assert network is not None
    assert sample.labels is not None
    one = Measure(sample.tensors["points"][:1], labels=sample.labels[:1])
    means = embedding.mean_of(network, parameters, one)
    return Measure({name: value[None] for name, value in means.items()})


def averaged(
    embedding: Embedding, taken: Measure, groups: Sequence[Tensor], engine: TermEngine, parameters: NetworkParameters
) -> Measure:
    """The mean of each group of rows as one point with all its mass; where no graph is kept, a chunk after the other, all of
    one size: what is missing in the last has no mass."""
    network, labels = engine.context.network, taken.labels
    assert network is not None
    assert labels is not None
    whole = torch.is_grad_enabled() or engine.whole_batches
    size = len(taken) if whole else engine.chunk(max(len(rows) for rows in groups))
    forward = network if whole else engine.logits
    masses, sums = [], []
    for rows in groups:
        mass, total = taken.weights.new_zeros(()), {}
        for part in rows.to(labels.device).split(size) if len(rows) else ():
            own = Measure(taken.tensors["points"][part], taken.weights[part], labels[part])
            weight = own.weights.sum()
            mass = mass + weight
            if not whole:
                shares = functional.pad(own.weights, (0, size - len(part)))
                own = Measure(padded(own.tensors[""], size), shares, padded(labels[part], size))
            for name, value in embedding.mean_of(forward, parameters, own).items():
                total[name] = total.get(name, 0) + weight * value
        masses.append(mass)
        sums.append(total)
    shown = next(total for total in sums if total)
    points = {
        name: torch.stack(
            [total[name] / mass if total else torch.zeros_like(like) for total, mass in zip(sums, masses, strict=True)]
        )
        for name, like in shown.items()
    }
    return Measure({name: value[:, None] for name, value in points.items()}, torch.stack(masses)[:, None])


def grouped(
    features: Tensor | Mapping[str, Tensor], weights: Tensor, labels: Tensor | None, groups: Tensor, count: int
) -> Measure:
    """The conditional measures given the group, 0 .. count - 1; groups on the CPU spare a GPU the wait for the sizes."""
    grouping, device = Grouping.unchecked(groups, count), weights.device
    there = Grouping(grouping.index.to(device), grouping.mask.to(device))
    return Measure.conditional(features, weights, labels, there)


def moved(draws: Draws, device: torch.device) -> Draws:
    """Random parts, which are drawn on the CPU, where they are used."""
    return None if draws is None else {name: value.to(device) for name, value in draws.items()}
