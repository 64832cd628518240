"""Evaluates an objective on real and synthetic data: the embedding of both sides, the cache of summaries, and memory.

The real side runs without a graph, in chunks of one shape, and is summarised; a summary that comes back is kept. The
synthetic side gives the value of every term and one gradient, at the decoded points, which the solver takes back through
decoding. The network's outputs are computed once a step and shared by all the terms.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from discrepancy.embeddings.base import Embedding
from discrepancy.errors import InvalidInput
from discrepancy.measure import Grouping, Measure
from discrepancy.networks.base import Parameters
from discrepancy.sorts import Discrepancy, Draws
from objectives.compilation import Policy, compiled, eager_seconds, padded
from objectives.contexts import Context, Draw
from objectives.data import LabelledData
from objectives.memory import available_bytes, chunk_examples, graph_bytes
from objectives.objective import Match, Objective, Penalised
from objectives.streams import stream
from objectives.synthetic import Decoded

__all__ = ["Executor", "Scene", "Values"]

RESOLVE_SAMPLE = 2048
"""Real examples from which data-dependent constants (the median lengthscale, a mean) are turned into numbers."""

CACHE_BYTES = 2 << 30
"""Memory for summaries that come back; beyond it the oldest are made again when needed."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One draw made real: the network's weights, the augmentation, and the random parts of every match."""

    draw: Draw
    parameters: Parameters
    augmentation: Mapping[str, Tensor]
    random: Mapping[str, tuple[Draws, Mapping[str, Draws]]]


@dataclass(frozen=True, eq=False)
class Values:
    """The weighted value of every term, their sum, and the gradient of the sum at the decoded tensors."""

    total: Tensor
    terms: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class _BoundMatch:
    """A match with its numbers resolved: the embedding, a discrepancy for each block, the real groups and their shares."""

    match: Match
    embedding: Embedding
    discrepancies: Mapping[str, Discrepancy]
    groups: Tensor
    share: Tensor

    @property
    def streams(self) -> bool:
        return all(discrepancy.streams for discrepancy in self.discrepancies.values())


class Executor:
    """An objective bound to data and a context.

    Args:
        data: the real data.
        objective: what is minimised.
        context: owner of the network and of the policy for the real side.
        seed: of every stream.
        device: where it runs.
        policy: what is compiled; ``auto`` decides by the work that ``steps`` steps on ``examples`` synthetic examples mean.

    Raises:
        InvalidInput: if the objective, the context and the data do not fit together.
    """

    def __init__(
        self,
        data: LabelledData,
        objective: Objective,
        context: Context,
        *,
        seed: int,
        examples: int,
        steps: int,
        device: str | torch.device = "cpu",
        policy: Policy = "auto",
    ) -> None:
        self.data, self.objective, self.context, self.seed = data, objective, context, seed
        self.device = torch.device(device)
        self.take = tuple(sorted(objective.takes - {"points"}))
        self._validate()
        network = context.network
        if self.take and network is not None:
            self.multiplications = network.multiplications(data.shape, data.count, self.take)
            self.graph_bytes = graph_bytes(network, data.shape, data.count, self.take)
            self.chunk = chunk_examples(network, data.shape, data.count, self.device)
            pointwise = network.pointwise
        else:
            self.multiplications, self.graph_bytes, self.chunk, pointwise = 0, 0, 4096, True
        self.whole_batches = not pointwise
        self.recompute = examples * self.graph_bytes > available_bytes(self.device) // 2
        work = eager_seconds(self.multiplications * self.images(steps, examples), self.device)
        self._real_forward = compiled(self._forward, policy, work, self.device)
        self._synthetic_forward = compiled(self._forward, policy, work, self.device)
        self.compiles = self._real_forward is not self._forward
        self._cache: OrderedDict[Draw, dict[str, dict[str, Any]]] = OrderedDict()
        self._scenes: OrderedDict[Draw, Scene] = OrderedDict()
        self.matches = self._bind()

    def images(self, steps: int, examples: int) -> int:
        """Forward passes of one image that so many steps take, a backward counted as two."""
        real = len(self.data.train.labels)
        if self.context.batch != "all":
            real = min(real, self.context.batch * self.data.count)
        passes = steps if self.context.draws is None else min(steps, self.context.draws)
        return passes * real + steps * 3 * examples

    # --- set-up ---------------------------------------------------------------------------------------------------

    def _validate(self) -> None:
        context, network = self.context, self.context.network
        if self.take and network is None:
            names = " and ".join(f"'{name}'" for name in self.take)
            raise InvalidInput(f"a term takes {names} of the context's network, but the context has none; give it a 'network'")
        if network is not None and not network.pointwise and context.batch == "all":
            raise InvalidInput(
                f"'{network.kind}' with batch normalisation is not pointwise, so 'all' real data cannot be streamed through it; "
                "give 'batch' a number or choose another 'norm'"
            )
        if context.augment is not None and len(self.data.shape) != 3:
            raise InvalidInput(f"'augment' needs images (C, H, W); these examples have shape {self.data.shape}: remove it")
        for name, term in self.objective.terms:
            if isinstance(term, Match) and term.by == "group" and self.data.train.groups is None:
                raise InvalidInput(f"term '{name}' is by: group, but these data have no groups; use by: class or none")

    def _bind(self) -> dict[str, _BoundMatch]:
        bound = {}
        size = math.ceil(RESOLVE_SAMPLE / self.data.count)
        indices = self.data.class_batch(stream(self.seed, "resolve"), size)
        points = self.data.normalisation.apply(self.data.train.points[indices].to(self.device))
        parameters = self._network_parameters(self.context.at(0, self.seed).network)
        with torch.no_grad():
            taken = self._taken(parameters, points, self._forward)
        for name, term in self.objective.terms:
            if not isinstance(term, Match):
                continue
            embedding = term.via.resolve(Measure(points))
            random = embedding.draw(stream(self.seed, "resolve", name), _shapes(taken))
            with torch.no_grad():
                features = embedding(taken, _moved(random, self.device))
            blocks = Measure(features).blocks()
            groups, count = self._groups(term.by)
            unknown = {block for block, _ in term.layer_weights} - set(Measure(features).tensors)
            if unknown:
                known = ", ".join(sorted(Measure(features).tensors)) or "one unnamed block"
                raise InvalidInput(f"'layer_weights' of term '{name}' name {sorted(unknown)}; the blocks are {known}")
            share = torch.bincount(groups, minlength=count).double() / len(groups)
            bound[name] = _BoundMatch(
                term,
                embedding,
                {block: term.match.resolve(measure) for block, measure in blocks},
                groups.to(self.device),
                share.to(self.device),
            )
        return bound

    def _groups(self, by: str) -> tuple[Tensor, int]:
        """The group of every real example, and how many groups there are."""
        train = self.data.train
        if by == "class":
            return train.labels, self.data.count
        if by == "group" and train.groups is not None:
            return train.groups, int(train.groups.max()) + 1
        return torch.zeros_like(train.labels), 1

    # --- one draw ---------------------------------------------------------------------------------------------------

    def scene(self, step: int) -> Scene:
        """The draw that is current at a step."""
        draw = self.context.at(step, self.seed)
        if draw in self._scenes:
            self._scenes.move_to_end(draw)
            return self._scenes[draw]
        augment = self.context.augment
        augmentation: Mapping[str, Tensor] = {}
        if augment is not None:
            generator = stream(self.seed, "augment", draw.augmentation)
            augmentation = augment.draw(generator, self.data.count, self.data.shape)
        scene = Scene(draw, self._network_parameters(draw.network), augmentation, self._random_parts(draw))
        if draw.returns:
            self._scenes[draw] = scene
            if len(self._scenes) > 64:
                self._scenes.popitem(last=False)
        return scene

    def _network_parameters(self, number: int) -> Parameters:
        network = self.context.network
        if network is None or not self.take:
            return {}
        generator = stream(self.seed, "network", number)
        initial = network.initial(generator, self.data.shape, self.data.count, affine=False)
        return {name: value.to(self.device) for name, value in initial.items()}

    def _random_parts(self, draw: Draw) -> dict[str, tuple[Draws, dict[str, Draws]]]:
        """Frequencies and directions: keyed by the context's network, never by the step, so that summaries stay valid."""
        parts = {}
        network = self.context.network
        shapes: dict[str, tuple[int, ...]] = {"points": self.data.shape}
        if self.take and network is not None:
            shapes |= self._tap_shapes
        for name, bound in self.matches.items():
            generator = stream(self.seed, "random", name, draw.network)
            embedding = _moved(bound.embedding.draw(generator, shapes), self.device)
            with torch.no_grad():
                taken = {tap: torch.zeros(2, *shape, device=self.device) for tap, shape in shapes.items()}
                features = Measure(bound.embedding(taken, embedding))
            of_blocks = {
                block: _moved(discrepancy.draw(generator, tuple(features.tensors[block].shape[1:])), self.device)
                for block, discrepancy in bound.discrepancies.items()
            }
            parts[name] = (embedding, of_blocks)
        return parts

    @property
    def _tap_shapes(self) -> dict[str, tuple[int, ...]]:
        assert self.context.network is not None
        return self.context.network.shapes(self.data.shape, self.data.count, self.take)

    # --- embedding ---------------------------------------------------------------------------------------------------

    def _forward(self, parameters: Parameters, points: Tensor) -> dict[str, Tensor]:
        assert self.context.network is not None
        return self.context.network(parameters, points, self.take)

    def _taken(self, parameters: Parameters, points: Tensor, forward: Any) -> dict[str, Tensor]:
        """Everything that the terms take of these (augmented) points, in chunks of one shape."""
        if not self.take:
            return {"points": points}
        n = len(points)
        size = n if self.whole_batches else math.ceil(n / math.ceil(n / self.chunk))
        pieces = []
        for start in range(0, n, size):
            chunk = points[start : start + size]
            outputs = forward(parameters, padded(chunk, size) if forward is not self._forward else chunk)
            pieces.append({name: value[: len(chunk)] for name, value in outputs.items()})
        return {"points": points} | {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}

    def _augmented(self, points: Tensor, scene: Scene, slots: Tensor) -> Tensor:
        augment = self.context.augment
        return points if augment is None else augment(points, scene.augmentation, slots)

    # --- the real side ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def summaries(self, scene: Scene) -> dict[str, dict[str, Any]]:
        """The summary of every block of every match, made from the real batch of this draw or taken from the cache."""
        if scene.draw in self._cache:
            self._cache.move_to_end(scene.draw)
            return self._cache[scene.draw]
        made: dict[str, dict[str, Any]] = {name: {} for name in self.matches}
        kept: dict[str, list[tuple[Measure, Tensor]]] = {name: [] for name in self.matches}
        for taken, indices in self._real_chunks(scene):
            for name, bound in self.matches.items():
                embedding_draws, block_draws = scene.random[name]
                features = Measure(bound.embedding(taken, embedding_draws), torch.ones(len(indices), device=self.device))
                groups = bound.groups[indices]
                if not bound.streams:
                    kept[name].append((features, groups))
                    continue
                measure = features.conditioned(Grouping.of(groups, len(bound.share)))
                for block, part in measure.blocks():
                    discrepancy = bound.discrepancies[block]
                    summary = discrepancy.summarise(part, block_draws[block])
                    before = made[name].get(block)
                    made[name][block] = summary if before is None else discrepancy.merge(before, summary)
        for name, pieces in kept.items():
            if not pieces:
                continue
            bound, (_, block_draws) = self.matches[name], scene.random[name]
            groups = torch.cat([groups for _, groups in pieces])
            measure = Measure.merged([piece for piece, _ in pieces]).conditioned(Grouping.of(groups, len(bound.share)))
            for block, part in measure.blocks():
                made[name][block] = bound.discrepancies[block].summarise(part, block_draws[block])
        if scene.draw.returns:
            self._keep(scene.draw, made)
        return made

    def _keep(self, draw: Draw, made: dict[str, dict[str, Any]]) -> None:
        self._cache[draw] = made
        while len(self._cache) > 1 and sum(map(_summary_bytes, self._cache.values())) > CACHE_BYTES:
            self._cache.popitem(last=False)

    def _real_chunks(self, scene: Scene) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        train, batch = self.data.train, self.context.batch
        if batch == "all":
            indices = self.data.order
        else:
            indices = self.data.class_batch(stream(self.seed, "batch", scene.draw.batch), batch)
        size = len(indices) if self.whole_batches else self.chunk
        for chunk in indices.split(size):
            slots = train.labels[chunk].to(self.device)
            points = self.data.normalisation.apply(train.points[chunk].to(self.device))
            filled = padded(self._augmented(points, scene, slots), size if len(indices) > size else len(indices))
            taken = self._taken(scene.parameters, filled, self._real_forward)
            yield {name: value[: len(chunk)] for name, value in taken.items()}, chunk.to(self.device)

    # --- the synthetic side -------------------------------------------------------------------------------------------

    def evaluate(self, decoded: Decoded, step: int, only: int | None = None) -> Values:
        """The value of every term and the gradient of their sum at the decoded points, weights and labels.

        With ``only``, the objective of that class alone: its summaries, and its synthetic examples.
        """
        scene = self.scene(step)
        summaries = self.summaries(scene)
        if only is not None:
            decoded = decoded.rows((decoded.slots == only).nonzero()[:, 0])
        leaves = {"points": decoded.points.detach().requires_grad_(True)}
        for name in ("weights", "labels"):
            if getattr(decoded, name).requires_grad:
                leaves[name] = getattr(decoded, name).detach().requires_grad_(True)
        weights, labels = leaves.get("weights", decoded.weights), leaves.get("labels", decoded.labels)
        if self.recompute and self.take and not self.whole_batches:
            return self._evaluate_in_chunks(decoded, leaves, weights, labels, scene, summaries, only)
        augmented = self._augmented(leaves["points"], scene, decoded.slots)
        taken = self._taken(scene.parameters, augmented, self._synthetic_forward)
        terms = self._terms(taken, leaves["points"], weights, labels, decoded, scene, summaries, only)
        total = torch.stack(list(terms.values())).sum()
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        return _values(total, terms, leaves, gradients)

    def _evaluate_in_chunks(
        self,
        decoded: Decoded,
        leaves: dict[str, Tensor],
        weights: Tensor,
        labels: Tensor,
        scene: Scene,
        summaries: dict[str, dict[str, Any]],
        only: int | None,
    ) -> Values:
        """The same in the memory of one chunk's graph: the features without a graph, the gradient at the features, and then
        each chunk once more with its graph (one extra forward pass)."""
        with torch.no_grad():
            augmented = self._augmented(decoded.points, scene, decoded.slots)
            without_graph = self._taken(scene.parameters, augmented, self._forward)
        inner = {name: value.detach().requires_grad_(True) for name, value in without_graph.items()}
        terms = self._terms(inner, leaves["points"], weights, labels, decoded, scene, summaries, only)
        total = torch.stack(list(terms.values())).sum()
        sources = [*inner.values(), *leaves.values()]
        at_sources = torch.autograd.grad(total, sources, allow_unused=True)
        at_inner = dict(zip(inner, at_sources[: len(inner)], strict=True))
        gradients = [_or_zero(g, leaf) for g, leaf in zip(at_sources[len(inner) :], leaves.values(), strict=True)]
        for rows in torch.arange(len(decoded.points), device=self.device).split(self.chunk):
            part = decoded.points[rows].detach().requires_grad_(True)
            taken = self._taken(scene.parameters, self._augmented(part, scene, decoded.slots[rows]), self._synthetic_forward)
            pairs = [(taken[name], g[rows]) for name, g in at_inner.items() if g is not None and taken[name].requires_grad]
            (back,) = torch.autograd.grad([out for out, _ in pairs], [part], [g for _, g in pairs])
            gradients[0][rows] += back
        return _values(total, terms, leaves, tuple(gradients))

    def _terms(
        self,
        taken: Mapping[str, Tensor],
        points: Tensor,
        weights: Tensor,
        labels: Tensor,
        decoded: Decoded,
        scene: Scene,
        summaries: dict[str, dict[str, Any]],
        only: int | None,
    ) -> dict[str, Tensor]:
        values = {}
        for name, term in self.objective.terms:
            if isinstance(term, Penalised):
                value = term.penalty({**taken, "points": points}, labels, weights)
            else:
                value = self._match(self.matches[name], taken, weights, decoded, scene.random[name], summaries[name], only)
            values[name] = term.weight * value
        return values

    def _match(
        self,
        bound: _BoundMatch,
        taken: Mapping[str, Tensor],
        weights: Tensor,
        decoded: Decoded,
        random: tuple[Draws, Mapping[str, Draws]],
        summaries: dict[str, Any],
        only: int | None,
    ) -> Tensor:
        chosen = None if only is None else torch.tensor([only], device=self.device)
        slots = {"class": decoded.slots, "group": decoded.groups}.get(bound.match.by, torch.zeros_like(decoded.slots))
        grouping = Grouping.of(slots - only, 1) if only is not None else Grouping.of(slots, len(bound.share))
        measure = Measure(bound.embedding(taken, random[0]), weights).conditioned(grouping)
        per_group = torch.zeros(())
        for block, part in measure.blocks():
            summary = summaries[block] if chosen is None else summaries[block].select(chosen)
            value = bound.discrepancies[block].compare(summary, part, random[1][block])
            per_group = per_group.to(value) + bound.match.block_weight(block) * value
        share = bound.share if chosen is None else bound.share[chosen]
        return bound.match.reduce(per_group, share)


def _values(total: Tensor, terms: Mapping[str, Tensor], leaves: Mapping[str, Tensor], gradients: Any) -> Values:
    by_name = {name: _or_zero(g, leaf) for (name, leaf), g in zip(leaves.items(), gradients, strict=True)}
    return Values(total.detach(), {name: value.detach() for name, value in terms.items()}, by_name)


def _or_zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _shapes(taken: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape[1:]) for name, value in taken.items()}


def _moved(draws: Draws, device: torch.device) -> Draws:
    return None if draws is None else {name: value.to(device) for name, value in draws.items()}


def _summary_bytes(made: dict[str, dict[str, Any]]) -> int:
    return sum(summary.nbytes for blocks in made.values() for summary in blocks.values())
