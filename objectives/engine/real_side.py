"""The real side of an objective: one draw of a context made real, with the summaries of its batch, kept where it comes back."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.discrepancy import Discrepancy, Draws
from discrepancy.measure import Measure
from discrepancy.networks.base import NetworkParameters
from objectives.contexts import Draw
from objectives.engine.extractor import Extractor
from objectives.engine.network_states import NetworkStates
from objectives.rng import rng
from objectives.terms.binding import BoundMatch, grouped, moved

__all__ = ["Candidates", "DrawView", "RealSide"]

CACHE_BYTES = 2 << 30
"""Memory for summaries that come back; beyond it the oldest are made again when needed."""

STREAMED_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
"""Of features that are looked at once. On a CPU they stay in its cache, and malloc keeps the memory for the next part; of what
is above 32 MiB every page is asked of the system anew."""

Summaries = Mapping[str, Mapping[str, Any]]
"""The summary of every block of every match."""


@dataclass(frozen=True, eq=False)
class DrawView:
    """One draw made real: the network's weights, those of the trained one beside it where a term asks for it, its accuracy in
    training where a term asks for that, the augmentation, the random parts of every match (of its embedding, and of the
    discrepancy of each block), and the summaries of the real side."""

    draw: Draw
    parameters: NetworkParameters
    trained: NetworkParameters
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


class RealSide:
    """The draws of a network_states of networks, as matches see them.

    Args:
        asks_accuracy: whether a term asks for the accuracy of the network in training.
    """

    def __init__(
        self,
        extractor: Extractor,
        network_states: NetworkStates,
        matches: Mapping[str, BoundMatch],
        asks_accuracy: bool,
    ) -> None:
        self.extractor, self.network_states, self.matches, self.asks_accuracy = (
            extractor,
            network_states,
            matches,
            asks_accuracy,
        )
        self.kept: OrderedDict[Draw, DrawView] = OrderedDict()

    def at(self, step: int) -> DrawView:
        """The draw that is current at a step, with its summaries; made now, or kept from an earlier step."""
        draw = self.network_states.draw(step)
        if draw not in self.kept:
            if self.extractor.context.n_draws is None:
                self.kept.clear()
            parameters, augmentation = (
                self.network_states.parameters(draw),
                self.extractor.augmentation(draw.augmentation),
            )
            random = {name: self._random_parts(name, draw) for name in self.matches}
            summaries = self._summaries(draw, parameters, augmentation, random)
            trained = self.network_states.trained(draw) if self.extractor.trained_take else {}
            accuracy = self.network_states.accuracy(draw) if self.asks_accuracy else None
            self.kept[draw] = DrawView(draw, parameters, trained, accuracy, augmentation, random, summaries)
            while len(self.kept) > 1 and sum(view.nbytes for view in self.kept.values()) > CACHE_BYTES:
                self.kept.popitem(last=False)
        self.kept.move_to_end(draw)
        return self.kept[draw]

    def random(self, draw: Draw, name: str) -> Draws:
        """The random parts of the embedding of a match, in a draw."""
        return self._random_parts(name, draw)[0]

    @torch.no_grad()
    def real(self, step: int, name: str) -> Iterator[Measure]:
        """The real batch that is current at a step, part by part, as one match sees it: features and labels, in one group."""
        draw, bound = self.network_states.draw(step), self.matches[name]
        draws, augmentation = self.random(draw, name), self.extractor.augmentation(draw.augmentation)
        largest = self.extractor.dtype.itemsize * max(
            map(math.prod, (*self.extractor.shapes.values(), *bound.shapes.values()))
        )
        examples = max(1, STREAMED_BYTES.get(self.extractor.device.type, STREAMED_BYTES["cuda"]) // largest)
        for taken, indices in self.extractor.real_parts(
            draw, self.network_states.parameters(draw), augmentation, examples
        ):
            mass = torch.ones(len(indices), device=self.extractor.device)
            yield bound.embedded(Measure(taken, mass, self.extractor.label_vectors(indices)), draws).as_groups()

    def _random_parts(self, name: str, draw: Draw) -> tuple[Draws, dict[str, Draws]]:
        """Frequencies and directions: keyed by the whole draw and never by the step, so that a summary that comes back is
        of the same ones, and that they are new wherever anything of the draw is."""
        bound = self.matches[name]
        generator = rng(self.extractor.seed, "random", name, *map(str, astuple(draw)))
        of_embedding = moved(bound.embedding.draw(generator, self.extractor.shapes), self.extractor.device)
        return of_embedding, {
            block: moved(discrepancy.draw(generator, bound.shapes[block]), self.extractor.device)
            for block, discrepancy in bound.discrepancies.items()
        }

    @torch.no_grad()
    def _summaries(
        self,
        draw: Draw,
        parameters: NetworkParameters,
        augmentation: Mapping[str, Tensor],
        random: Mapping[str, tuple[Draws, Mapping[str, Draws]]],
    ) -> Summaries:
        """The summaries of the real batch of a draw: merged chunk by chunk where they merge, else of all points at once."""
        made: dict[str, dict[str, Any]] = {name: {} for name in self.matches}
        kept: dict[str, list[tuple[Measure, Tensor]]] = {name: [] for name in self.matches}
        for taken, indices in self.extractor.real_parts(draw, parameters, augmentation):
            for name, bound in self.matches.items():
                groups, draws = bound.groups[indices], random[name][0]
                labels = self.extractor.label_vectors(indices) if bound.labelled else None
                offered = Measure(taken, torch.ones(len(indices), device=self.extractor.device), labels)
                if not bound.mergeable:
                    kept[name].append((bound.embedded(offered, draws), groups))
                    continue
                features = bound.features(offered, groups, len(bound.share), draws, self.extractor, parameters)
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
        draw, whole = self.network_states.draw(0), self.extractor.context.batch == "all"
        parameters = self.network_states.parameters(draw)
        taken = self.extractor.real(indices, parameters)
        view = self.at(0) if summaries and not whole else None
        only = functional.one_hot(torch.tensor(label, device=self.extractor.device), self.extractor.data.count).double()
        found = []
        for name, bound in self.matches.items():
            draws, of_blocks = self._random_parts(name, draw)
            labels = self.extractor.label_vectors(indices) if bound.labelled else None
            share = float(bound.match.reduce(only, bound.share))
            for block, part in bound.embedded(Measure(taken, labels=labels), draws).blocks():
                discrepancy, summary = bound.discrepancies[block], None
                if view is not None:
                    summary = view.summaries[name][block].select(torch.tensor([label], device=self.extractor.device))
                elif summaries:
                    summary = discrepancy.summarise(part.as_groups(), of_blocks[block])
                factor = bound.match.weight * bound.match.block_weight(block) * share
                found.append(Candidates(part, discrepancy, summary, of_blocks[block], factor))
        return found
