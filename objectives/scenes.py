"""The real side of an objective: one draw of a context made real, with the summaries of its batch, kept where it comes back."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.measure import Measure
from discrepancy.networks.base import Parameters
from discrepancy.sorts import Discrepancy, Draws
from objectives.bank import Bank
from objectives.binding import BoundMatch, grouped, moved
from objectives.contexts import Draw
from objectives.stage import Stage
from objectives.streams import stream

__all__ = ["Candidates", "Scene", "Scenes"]

CACHE_BYTES = 2 << 30
"""Memory for summaries that come back; beyond it the oldest are made again when needed."""

STREAMED_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
"""Of features that are looked at once. On a CPU they stay in its cache, and malloc keeps the memory for the next part; of what
is above 32 MiB every page is asked of the system anew."""

Summaries = Mapping[str, Mapping[str, Any]]
"""The summary of every block of every match."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One draw made real: the network's weights, those of the trained one beside it where a term asks for it, its accuracy in
    training where a term asks for that, the augmentation, the random parts of every match (of its embedding, and of the
    discrepancy of each block), and the summaries of the real side."""

    draw: Draw
    parameters: Parameters
    trained: Parameters
    accuracy: Tensor | None
    augmentation: Mapping[str, Tensor]
    random: Mapping[str, tuple[Draws, Mapping[str, Draws]]]
    summaries: Summaries

    @property
    def nbytes(self) -> int:
        held = [summary.nbytes for blocks in self.summaries.values() for summary in blocks.values()]
        return sum(held) + sum(value.nbytes for value in (*self.parameters.values(), *self.trained.values()))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Real examples of one class as one match sees them: what a selection needs to value a subset."""

    features: Measure
    discrepancy: Discrepancy
    summary: Any
    draws: Draws
    factor: float


class Scenes:
    """The draws of a bank of networks, as matches see them.

    Args:
        asks_accuracy: whether a term asks for the accuracy of the network in training.
    """

    def __init__(self, stage: Stage, bank: Bank, matches: Mapping[str, BoundMatch], asks_accuracy: bool) -> None:
        self.stage, self.bank, self.matches, self.asks_accuracy = stage, bank, matches, asks_accuracy
        self.kept: OrderedDict[Draw, Scene] = OrderedDict()

    def at(self, step: int) -> Scene:
        """The draw that is current at a step, with its summaries; made now, or kept from an earlier step."""
        draw = self.bank.draw(step)
        if draw not in self.kept:
            if self.stage.context.draws is None:
                self.kept.clear()
            parameters, augmentation = self.bank.parameters(draw), self.stage.augmentation(draw.augmentation)
            random = {name: self._random_parts(name, draw) for name in self.matches}
            summaries = self._summaries(draw, parameters, augmentation, random)
            trained = self.bank.trained(draw) if self.stage.trained_take else {}
            accuracy = self.bank.accuracy(draw) if self.asks_accuracy else None
            self.kept[draw] = Scene(draw, parameters, trained, accuracy, augmentation, random, summaries)
            while len(self.kept) > 1 and sum(scene.nbytes for scene in self.kept.values()) > CACHE_BYTES:
                self.kept.popitem(last=False)
        self.kept.move_to_end(draw)
        return self.kept[draw]

    def random(self, draw: Draw, name: str) -> Draws:
        """The random parts of the embedding of a match, in a draw."""
        return self._random_parts(name, draw)[0]

    @torch.no_grad()
    def real(self, step: int, name: str) -> Iterator[Measure]:
        """The real batch that is current at a step, part by part, as one match sees it: features and labels, in one group."""
        draw, bound = self.bank.draw(step), self.matches[name]
        draws, augmentation = self.random(draw, name), self.stage.augmentation(draw.augmentation)
        largest = self.stage.dtype.itemsize * max(map(math.prod, (*self.stage.shapes.values(), *bound.shapes.values())))
        examples = max(1, STREAMED_BYTES.get(self.stage.device.type, STREAMED_BYTES["cuda"]) // largest)
        for taken, indices in self.stage.real_parts(draw, self.bank.parameters(draw), augmentation, examples):
            mass = torch.ones(len(indices), device=self.stage.device)
            yield bound.embedded(Measure(taken, mass, self.stage.label_vectors(indices)), draws).as_groups()

    def _random_parts(self, name: str, draw: Draw) -> tuple[Draws, dict[str, Draws]]:
        """Frequencies and directions: keyed by the whole draw and never by the step, so that a summary that comes back is
        of the same ones, and that they are new wherever anything of the draw is."""
        bound = self.matches[name]
        generator = stream(self.stage.seed, "random", name, *map(str, astuple(draw)))
        of_embedding = moved(bound.embedding.draw(generator, self.stage.shapes), self.stage.device)
        return of_embedding, {
            block: moved(discrepancy.draw(generator, bound.shapes[block]), self.stage.device)
            for block, discrepancy in bound.discrepancies.items()
        }

    @torch.no_grad()
    def _summaries(
        self,
        draw: Draw,
        parameters: Parameters,
        augmentation: Mapping[str, Tensor],
        random: Mapping[str, tuple[Draws, Mapping[str, Draws]]],
    ) -> Summaries:
        """The summaries of the real batch of a draw: merged chunk by chunk where they merge, else of all points at once."""
        made: dict[str, dict[str, Any]] = {name: {} for name in self.matches}
        kept: dict[str, list[tuple[Measure, Tensor]]] = {name: [] for name in self.matches}
        for taken, indices in self.stage.real_parts(draw, parameters, augmentation):
            for name, bound in self.matches.items():
                groups, draws = bound.groups[indices], random[name][0]
                labels = self.stage.label_vectors(indices) if bound.labelled else None
                offered = Measure(taken, torch.ones(len(indices), device=self.stage.device), labels)
                if not bound.streams:
                    kept[name].append((bound.embedded(offered, draws), groups))
                    continue
                features = bound.features(offered, groups, len(bound.share), draws, self.stage, parameters)
                for block, part in features.blocks():
                    discrepancy = bound.discrepancies[block]
                    summary = discrepancy.summarise(part, random[name][1][block])
                    made[name][block] = (
                        summary if block not in made[name] else discrepancy.merge(made[name][block], summary)
                    )
        for name, pieces in kept.items():
            bound = self.matches[name]
            if pieces:
                features, groups = (
                    Measure.merged([piece for piece, _ in pieces]),
                    torch.cat([rows for _, rows in pieces]),
                )
                for block, part in grouped(features, groups, len(bound.share)).blocks():
                    made[name][block] = bound.discrepancies[block].summarise(part, random[name][1][block])
        return made

    @torch.no_grad()
    def candidates(self, indices: Tensor, label: int, *, summaries: bool = True) -> list[Candidates]:
        """These real examples of one class, for every match and block, in the first draw; with the summary of that class, which
        is made of these same features where the context takes all the real examples, unless no ``summaries`` are asked for."""
        draw, whole = self.bank.draw(0), self.stage.context.batch == "all"
        parameters = self.bank.parameters(draw)
        taken = self.stage.real(indices, parameters)
        scene = self.at(0) if summaries and not whole else None
        only = functional.one_hot(torch.tensor(label, device=self.stage.device), self.stage.data.count).double()
        found = []
        for name, bound in self.matches.items():
            draws, of_blocks = self._random_parts(name, draw)
            labels = self.stage.label_vectors(indices) if bound.labelled else None
            share = float(bound.match.reduce(only, bound.share))
            for block, part in bound.embedded(Measure(taken, labels=labels), draws).blocks():
                discrepancy, summary = bound.discrepancies[block], None
                if scene is not None:
                    summary = scene.summaries[name][block].select(torch.tensor([label], device=self.stage.device))
                elif summaries:
                    summary = discrepancy.summarise(part.as_groups(), of_blocks[block])
                factor = bound.match.weight * bound.match.block_weight(block) * share
                found.append(Candidates(part, discrepancy, summary, of_blocks[block], factor))
        return found
