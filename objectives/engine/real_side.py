"""The real side of an objective: the draws of a context with the summaries of their real examples.

Summaries are kept where draws come back."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from discrepancy.measure import Measure
from discrepancy.networks.base import NetworkParameters
from objectives.contexts import Draw
from objectives.data.examples import Examples
from objectives.data.real import Accumulator, Query, RealData
from objectives.engine.batches import Batches
from objectives.engine.bound_context import BoundContext
from objectives.engine.network_states import NetworkStates
from objectives.rng import rng
from objectives.terms.bound import BoundTerm, Candidates, DrawView, Random
from objectives.terms.match import BoundMatch

__all__ = ["STREAMED_BYTES", "RealSide"]

CACHE_BYTES = 2 << 30
"""Memory for summaries that come back; beyond it the oldest are made again when needed."""

STREAMED_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
"""Of features that are looked at once. On a CPU they stay in its cache, and malloc keeps the memory for the next part; of what
is above 32 MiB every page is asked of the system anew."""


class RealSide:
    """The draws of a context on real data, as terms see them.

    Args:
        context: the context on these data.
        networks: the weights of its networks.
        batches: which real examples belong to a draw.
        terms: the bound terms, by name.
        changed: the real side of a term, by name, where it is a transform of the data.
    """

    def __init__(
        self,
        context: BoundContext,
        networks: NetworkStates,
        batches: Batches,
        terms: Mapping[str, BoundTerm],
        changed: Mapping[str, RealData] = MappingProxyType({}),
    ) -> None:
        self.context, self.networks, self.batches, self.terms = context, networks, batches, terms
        self.changed = changed
        self.n_draws = context.context.n_draws
        self.asks_accuracy = any(term.asks_accuracy for term in terms.values())
        self.kept: OrderedDict[Draw, DrawView] = OrderedDict()

    def at(self, step: int) -> DrawView:
        """The draw that is current at a step, with its summaries; made now, or kept from an earlier step."""
        draw = self.networks.draw(step)
        if draw not in self.kept:
            if self.n_draws is None:
                self.kept.clear()
            self.kept[draw] = self._viewed(draw)
            while len(self.kept) > 1 and sum(view.nbytes for view in self.kept.values()) > CACHE_BYTES:
                self.kept.popitem(last=False)
        self.kept.move_to_end(draw)
        return self.kept[draw]

    def later_bytes(self, steps: int) -> int:
        """What the summaries of draws that are not made yet will take, in so many steps in all; for an estimate."""
        draws, held = self.n_draws, sum(view.nbytes for view in self.kept.values())
        if draws is None or not self.kept:
            return 0
        return max(0, min(CACHE_BYTES, held * min(draws, steps) // len(self.kept)) - held)

    @torch.no_grad()
    def _viewed(self, draw: Draw) -> DrawView:
        context, networks = self.context, self.networks
        parameters, augmentation = networks.parameters(draw), context.augmentation(draw.augmentation)
        random = {name: self.random(name, draw) for name in self.terms}
        asked = self._accumulators(parameters, random)
        summaries = context.data.summaries(self._query(draw, parameters, augmentation, asked)) if asked else {}
        trained = networks.trained(draw) if context.trained_take else {}
        accuracy = networks.accuracy(draw) if self.asks_accuracy else None
        return DrawView(draw, parameters, trained, accuracy, augmentation, random, summaries)

    def _accumulators(self, parameters: NetworkParameters, random: Mapping[str, Random]) -> dict[str, Accumulator]:
        """Of the terms that ask for a summary, by name."""
        found = {name: term.accumulator(parameters, random[name]) for name, term in self.terms.items()}
        return {name: accumulator for name, accumulator in found.items() if accumulator is not None}

    @torch.no_grad()
    def query(self, draw: Draw) -> Query:
        """All that is asked of the real side at a draw."""
        parameters, augmentation = self.networks.parameters(draw), self.context.augmentation(draw.augmentation)
        random = {name: self.random(name, draw) for name in self.terms}
        return self._query(draw, parameters, augmentation, self._accumulators(parameters, random))

    def _query(
        self,
        draw: Draw,
        parameters: Mapping[str, Tensor],
        augmentation: Mapping[str, Tensor],
        accumulators: Mapping[str, Any],
        part: int | None = None,
    ) -> Query:
        """What is asked of the real data at a draw."""
        context = self.context

        def choose(data: RealData) -> Tensor:
            return self.batches.rows(data, draw, lambda members: context.features(members, parameters))

        def embed(examples: Examples, places: Tensor) -> dict[str, Tensor]:
            points = context.data.normalised(examples, context.runtime.device, context.runtime.dtype)
            augmented = context.augmented(points, augmentation, examples.numbers("class"), places)
            return {"points": augmented} | context.extractor(parameters, augmented, context.chunk)

        name = f"{draw.network}/{draw.augmentation}"
        return Query(name, choose, embed, part or context.part_examples, accumulators, self.changed)

    def random(self, name: str, draw: Draw) -> Random:
        """Frequencies and directions of a term in a draw.

        They are keyed by the whole draw and never by the step, so that a summary that comes back belongs to the same ones, and
        that they are new wherever anything of the draw is new."""
        return self.terms[name].random(rng(self.context.runtime.seed, "random", name, *map(str, astuple(draw))))

    def batch(self, draw: Draw, what: str) -> Examples:
        """The real examples of a draw, in the units of their source.

        Raises:
            InvalidInput: if the real side gives none away, naming ``what`` needs them.
        """
        data, context = self.context.data, self.context
        data.require_rows(what)
        with torch.no_grad():
            parameters = self.networks.parameters(draw)
            numbers = self.batches.rows(data, draw, lambda members: context.features(members, parameters))
        return data.rows(numbers)

    @torch.no_grad()
    def streamed(self, step: int, bound: BoundMatch) -> Iterator[Measure]:
        """The real batch that is current at a step, part by part, as one match sees it: features and labels, in one group."""
        context, draw = self.context, self.networks.draw(step)
        draws = self.random(bound.name, draw).embedding
        largest = context.runtime.dtype.itemsize * max(
            map(math.prod, (*context.shapes.values(), *bound.shapes.values()))
        )
        part = max(1, STREAMED_BYTES.get(context.runtime.device.type, STREAMED_BYTES["cuda"]) // largest)
        if context.take:
            part = max(1, part // context.chunk) * context.chunk
        parameters, augmentation = self.networks.parameters(draw), context.augmentation(draw.augmentation)
        query = self._query(draw, parameters, augmentation, {}, part)
        data = self.changed.get(bound.name, context.data)
        for examples, places in data.parts(query.choose(context.data), query.part):
            mass = examples.masses(context.runtime.device)
            vectors = examples.labels.vectors(data.count, context.runtime.dtype)
            labels = None if vectors is None else vectors.to(context.runtime.device, context.runtime.dtype)
            yield bound.embedded(Measure(query.embed(examples, places), mass, labels), draws).as_groups()

    @torch.no_grad()
    def candidates(self, numbers: Tensor, label: int, *, summaries: bool = True) -> list[Candidates]:
        """These real examples of one class, for every term and block, in the first draw; with the summary of that class, which
        is made of these same features where the context takes all the real examples, unless no ``summaries`` are asked for."""
        context, draw = self.context, self.networks.draw(0)
        examples, parameters = context.data.rows(numbers), self.networks.parameters(draw)
        taken = context.taken(numbers, parameters)
        view = self.at(0) if summaries and (context.context.batch != "all" or self.changed) else None
        found = []
        for name, term in self.terms.items():
            made = None if view is None else view.summaries[name]
            found += term.candidates(taken, examples, label, self.random(name, draw), made, summaries=summaries)
        return found
