"""The summary of the real side of a match, part by part; and the statistics of single examples that it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.networks.base import NetworkParameters
from discrepancy.summaries import MeanSummary
from objectives.data.examples import Examples
from objectives.data.real import Accumulator
from objectives.terms.bound import Random
from objectives.terms.features import grouped
from objectives.terms.masses import GroupMasses

__all__ = ["Collecting", "Merging"]


@dataclass(eq=False)
class OfMatch(Accumulator):
    """What the two ways of summarising have in common.

    Args:
        bound: the match (:class:`~objectives.terms.match.BoundMatch`).
        parameters: of the network.
        drawn: the random parts of the match.
        masses: of the groups, where examples have weights.
    """

    bound: Any
    parameters: NetworkParameters
    drawn: Random
    masses: GroupMasses

    @property
    def groups(self) -> int:
        return len(self.bound.share)

    def statistics(self, taken: Mapping[str, Tensor], examples: Examples) -> Mapping[str, tuple[Tensor, Tensor]]:
        bound = self.bound
        if bound.embedding.averages or not all(found.has_statistic for found in bound.discrepancies.values()):
            why = f"via: {bound.embedding.kind}" if bound.embedding.averages else f"match: {bound.match.match.kind}"
            raise InvalidInput(
                f"term '{bound.name}' ({why}) does not compare means of a statistic of single examples, so no noisy sums of "
                "the real side will do for it; match mmd with kernel: linear, or a characteristic_function"
            )
        features = bound.embedded(bound.offered(taken, examples), self.drawn.embedding)
        groups = examples.numbers(bound.match.by).to(features.weights.device)
        return {
            block: (bound.discrepancies[block].statistics(part.as_groups(), self.drawn.blocks[block])[0], groups)
            for block, part in features.blocks()
        }

    def of_sums(self, sums: Mapping[str, tuple[Tensor, Tensor]]) -> Mapping[str, Any]:
        device = self.bound.engine.device
        return {block: MeanSummary(total.to(device), mass.to(device)) for block, (total, mass) in sums.items()}


@dataclass(eq=False)
class Merging(OfMatch):
    """Summaries that merge: each part is summarised and added."""

    made: dict[str, Any] = field(default_factory=dict)

    def add(self, taken: Mapping[str, Tensor], examples: Examples) -> None:
        bound, groups = self.bound, examples.numbers(self.bound.match.by)
        self.masses.add(examples)
        offered, draws = bound.offered(taken, examples), self.drawn.embedding
        features = bound.features(offered, groups, self.groups, draws, self.parameters)
        for block, part in features.blocks():
            discrepancy, own = bound.discrepancies[block], self.drawn.blocks[block]
            before, summary = self.made.get(block), discrepancy.summarise(part, own)
            self.made[block] = summary if before is None else discrepancy.merge(before, summary, own)

    def summaries(self) -> Mapping[str, Any]:
        self.masses.check(self.bound.name, self.bound.engine.data.classes)
        return self.made


@dataclass(eq=False)
class Collecting(OfMatch):
    """Summaries of points: all the parts are kept, and summarised together."""

    parts: list[Measure] = field(default_factory=list)
    numbers: list[Tensor] = field(default_factory=list)

    def add(self, taken: Mapping[str, Tensor], examples: Examples) -> None:
        bound = self.bound
        self.masses.add(examples)
        self.parts.append(bound.embedded(bound.offered(taken, examples), self.drawn.embedding))
        self.numbers.append(examples.numbers(bound.match.by))

    def summaries(self) -> Mapping[str, Any]:
        self.masses.check(self.bound.name, self.bound.engine.data.classes)
        whole = Measure.merged(self.parts)
        features = grouped(whole.points, whole.weights, whole.labels, torch.cat(self.numbers), self.groups)
        return {
            block: self.bound.discrepancies[block].summarise(part, self.drawn.blocks[block])
            for block, part in features.blocks()
        }
