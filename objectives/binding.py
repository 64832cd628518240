"""A match bound to data: its rules turned into numbers, and the groups of the real examples."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from discrepancy.embeddings.base import Embedding
from discrepancy.errors import InvalidInput
from discrepancy.measure import Grouping, Measure
from discrepancy.sorts import Discrepancy, Draws
from objectives.data import LabelledData
from objectives.objective import Match
from objectives.stage import Stage

__all__ = ["BoundMatch", "bind", "moved"]


@dataclass(frozen=True, eq=False)
class BoundMatch:
    """A match with its numbers resolved: the embedding, a discrepancy and a shape for each block, the groups of the real
    examples (on the CPU) and their shares."""

    match: Match
    embedding: Embedding
    discrepancies: Mapping[str, Discrepancy]
    shapes: Mapping[str, tuple[int, ...]]
    groups: Tensor
    share: Tensor

    @property
    def streams(self) -> bool:
        return all(discrepancy.streams for discrepancy in self.discrepancies.values())

    @property
    def labelled(self) -> bool:
        return any(discrepancy.labelled for discrepancy in self.discrepancies.values())

    def grouped(self, features: Measure, groups: Tensor) -> Measure:
        """The conditional measures; grouping on the CPU spares a GPU the wait for the sizes."""
        grouping = Grouping.of(groups, len(self.share))
        device = features.mass_of.device
        return features.conditioned(Grouping(grouping.index.to(device), grouping.mask.to(device)))


def bind(name: str, match: Match, sample: Measure, stage: Stage, generator: torch.Generator) -> BoundMatch:
    """The match with its data-dependent constants turned into numbers, from a sample of what the stage offers.

    Raises:
        InvalidInput: if the match names blocks or groups that are not there.
    """
    data = stage.data
    groups = _groups(name, match.by, data, stage.context.batch)
    embedding = match.via.resolve(sample)
    draws = moved(embedding.draw(generator, stage.shapes), stage.device)
    with torch.no_grad():
        features = Measure(embedding(sample.tensors, draws), labels=sample.labels)
    unknown = sorted({block for block, _ in match.layer_weights} - set(features.tensors))
    if unknown:
        known = ", ".join(sorted(features.tensors)) or "one without a name"
        raise InvalidInput(f"'layer_weights' of term '{name}' name {unknown}, but the blocks are: {known}")
    count = data.count if match.by == "class" else int(groups.max()) + 1
    share = torch.bincount(groups, minlength=count).double() / len(groups)
    discrepancies = {block: match.match.resolve(measure) for block, measure in features.blocks()}
    shapes = {block: tuple(value.shape[1:]) for block, value in features.tensors.items()}
    return BoundMatch(match, embedding, discrepancies, shapes, groups, share.to(stage.device))


def moved(draws: Draws, device: torch.device) -> Draws:
    """Random parts, which are drawn on the CPU, where they are used."""
    return None if draws is None else {name: value.to(device) for name, value in draws.items()}


def _groups(name: str, by: str, data: LabelledData, batch: int | str) -> Tensor:
    """The group of every real example."""
    train = data.train
    if by == "class":
        return train.labels
    if by == "none":
        return torch.zeros_like(train.labels)
    if train.groups is None:
        raise InvalidInput(f"term '{name}' is by: group, but these data have no groups; use by: class or by: none")
    labels, groups = train.labels, train.groups
    table = torch.bincount(labels * (groups.max() + 1) + groups, minlength=data.count * (int(groups.max()) + 1))
    table = table.unflatten(0, (data.count, -1))
    others = table.sum(1, keepdim=True) - table
    certain = (table > 0) if isinstance(batch, str) else (table > 0) & (others < batch)
    missing = (~certain.any(0)).nonzero()[:, 0].tolist()
    if missing:
        raise InvalidInput(
            f"term '{name}' is by: group, but group {missing[0]} can be missing from the real batch ({batch} a class); "
            "use the context 'pool' with batch: all, or leave out groups without examples"
        )
    return groups
