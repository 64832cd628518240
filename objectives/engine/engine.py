"""Evaluates an objective on real and synthetic data: summaries of the real side, values and one gradient of the synthetic side.

The real side runs without a graph, in chunks, and is summarised; a summary that comes back is kept. The synthetic side gives
the value of every term and one gradient, at the decoded points, which the solver takes back through decoding.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from discrepancy.embeddings.base import Taken
from discrepancy.errors import InvalidInput
from discrepancy.learning.learned import Risk
from discrepancy.measure import Measure
from discrepancy.networks.base import NetworkParameters
from objectives.contexts import Context
from objectives.data.labelled import LabelledData
from objectives.engine.compile import Policy, padded
from objectives.engine.extractor import Extractor
from objectives.engine.learned_draws import LearnedDraws
from objectives.engine.network_states import NetworkStates
from objectives.engine.real_side import DrawView, RealSide
from objectives.rng import rng
from objectives.synthetic.parameterisation import Decoded
from objectives.terms.binding import bind
from objectives.terms.objective import TRAINED, Match, Objective, Penalised, Term

__all__ = ["Engine", "Values"]

RESOLVE_SAMPLE = 2048
"""Real examples from which data-dependent constants (the median lengthscale, a mean) are turned into numbers."""

Chosen = Sequence[tuple[str, Term]]
"""Some of the terms, by name."""


@dataclass(frozen=True, eq=False)
class Values:
    """The weighted value of every term, their sum, the gradient of the sum at the decoded tensors, and that at the parameters
    of the learned_draws; ``idle`` are the learned labels or weights that none of the terms depends on."""

    total: Tensor
    terms: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    uphill: Sequence[Tensor | None] = ()
    idle: frozenset[str] = frozenset()

    @staticmethod
    def check(parts: "Sequence[Values]") -> None:
        """Refuses labels or weights that are learned although no part of the objective depends on them."""
        for name in sorted(frozenset.intersection(*(part.idle for part in parts))):
            raise InvalidInput(
                f"'{name}' are learned, but no term depends on them, so they would never move; add a term that does "
                f"(penalty: cross_entropy looks at labels and weights), or do not learn them"
            )


class Engine:
    """An objective bound to data and a context.

    Args:
        data: the real data.
        objective: what is minimised.
        context: owner of the network and of the policy for the real side.
        seed: of every stream.
        examples: synthetic examples of a step.
        steps: steps that are planned.
        device: where it runs.
        policy: what is compiled; ``auto`` decides by the work that the steps mean.
        dtype: of everything that is computed: examples, networks, gradients.

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
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.data, self.objective, self.context, self.seed = data, objective, context, seed
        self.device, self.examples = torch.device(device), examples
        self.extractor = Extractor(
            data,
            context,
            objective.takes,
            seed=seed,
            examples=examples,
            steps=steps,
            device=self.device,
            policy=policy,
            dtype=dtype,
        )
        self.network_states = NetworkStates(self.extractor)
        asks_accuracy = self._check_accuracy()
        for name, term in objective.terms:
            if isinstance(term, Penalised) and term.penalty.needs_classes:
                data.require_classes(f"term '{name}' is a {term.penalty.kind}, which")
        matches = [(name, term) for name, term in objective.terms if isinstance(term, Match)]
        seen = self._sample() if matches else (Measure(torch.zeros(1)), {})
        self.matches = {
            name: bind(name, term, self.extractor, *seen, rng(seed, "resolve", name)) for name, term in matches
        }
        self.real_side = RealSide(self.extractor, self.network_states, self.matches, asks_accuracy)
        self.learned_draws = self._adversaries()

    def _check_accuracy(self) -> bool:
        """Whether a term asks for the accuracy of the network in training; refused where none is trained."""
        asking = [name for name, term in self.objective.terms if isinstance(term, Penalised) and term.times_accuracy]
        if asking and self.network_states.training_schedule is None:
            raise InvalidInput(
                f"'times_accuracy' of term '{asking[0]}' asks for the accuracy of a network in training, but "
                f"'{self.context.kind}' trains none; use the context 'queue', or leave it out"
            )
        return bool(asking)

    # --- set-up ---------------------------------------------------------------------------------------------------

    def _sample(self) -> tuple[Measure, NetworkParameters]:
        """A balanced sample of the real examples as the first network sees them, and its weights: a large one where something
        is to be resolved, else one of each class, for the shapes."""
        matches = [term for _, term in self.objective.terms if isinstance(term, Match)]
        settled = all(match.via.resolved and match.match.resolved for match in matches)
        size = 1 if settled else math.ceil(RESOLVE_SAMPLE / self.data.count)
        indices = self.data.class_batch(rng(self.seed, "resolve"), size)
        draw = self.network_states.draw(0)
        parameters = self.extractor.parameters(draw.network) if settled else self.network_states.parameters(draw)
        taken = self.extractor.real(indices, parameters)
        return Measure(taken, labels=self.extractor.label_vectors(indices)), parameters

    def _adversaries(self) -> LearnedDraws:
        players, starts = {}, {}
        for name, bound in self.matches.items():
            for block, discrepancy in bound.discrepancies.items():
                player = discrepancy.adversary
                if player is None:
                    continue
                if self.context.n_draws is not None:
                    raise InvalidInput(
                        f"term '{name}' has an adversary, which moves at every step, so nothing can be kept for the context "
                        f"'{self.context.kind}', whose draws come back; use the context 'fresh'"
                    )
                drawn = discrepancy.draw(rng(self.seed, "adversary", name, block), bound.shapes[block]) or {}
                players[name, block] = player
                starts[name, block] = {
                    key: drawn[key].to(self.device, self.extractor.dtype).expand(len(bound.share), *drawn[key].shape)
                    for key in sorted(player.names)
                }
        return LearnedDraws(players, starts)

    @property
    def resolved(self) -> dict[str, Any]:
        """The embedding and the discrepancy of every match and block, with numbers in place of rules."""
        return {
            name: {"via": bound.embedding, "match": dict(bound.discrepancies)} for name, bound in self.matches.items()
        }

    def after(self, step: int, synthetic: Callable[[], Decoded]) -> None:
        """What follows a step in the context: a round of training, on the synthetic set as it is then if it is on that."""
        if self.network_states.training_schedule is not None:
            with torch.no_grad():
                decoded = synthetic()
            self.network_states.after(step, self.network_states.draw(step), decoded)

    # --- the synthetic side -------------------------------------------------------------------------------------------

    def evaluate(
        self, decoded: Decoded, step: int, only: int | None = None, terms: Collection[str] | None = None
    ) -> Values:
        """The value of every term and the gradient of their sum at the decoded points, weights and labels.

        With ``only``, the objective of that class alone, to which all the decoded examples belong; with ``terms``, that of the
        terms with these names alone.
        """
        chosen = [(name, term) for name, term in self.objective.terms if terms is None or name in terms]
        view = self.real_side.at(step)
        learned = [name for name in ("points", "weights", "labels") if getattr(decoded, name).requires_grad]
        leaves = {name: getattr(decoded, name).detach().requires_grad_(True) for name in learned}
        here = replace(decoded, **leaves)
        found = (self._evaluate_in_chunks if self.extractor.recompute else self._evaluate_at_once)(
            here, leaves, view, only, chosen
        )
        if terms is None:
            Values.check([found])
        return found

    @torch.no_grad()
    def best_labels(self, decoded: Decoded, step: int, name: str) -> Tensor:
        """The labels of the decoded examples with which the term of this name, a risk by: none, is least in a step."""
        view, bound = self.real_side.at(step), self.matches[name]
        term = [(name, bound.match)]
        taken = self._taken(view, self._augmented(decoded.points, decoded.slots, view), term, plain=True)
        offered, (draws, _) = Measure(taken, decoded.weights, self._labels(decoded)), view.random[name]
        one = torch.zeros_like(decoded.slots)
        ((block, part),) = bound.features(offered, one, 1, draws, self.extractor, view.parameters).blocks()
        risk = bound.discrepancies[block]
        assert isinstance(risk, Risk)
        return risk.best_labels(view.summaries[name][block], part)[0]

    def _evaluate_at_once(
        self, here: Decoded, leaves: Mapping[str, Tensor], view: DrawView, only: int | None, chosen: Chosen
    ) -> Values:
        augmented = self._augmented(here.points, here.slots, view)
        taken = self._taken(view, augmented, chosen)
        terms = self._terms(taken, here, view, only, chosen)
        total = torch.stack(list(terms.values())).sum()
        wanted = [*leaves.values(), *self.learned_draws.leaves]
        return _values(total, terms, leaves, torch.autograd.grad(total, wanted, allow_unused=True))

    def _evaluate_in_chunks(
        self, here: Decoded, leaves: Mapping[str, Tensor], view: DrawView, only: int | None, chosen: Chosen
    ) -> Values:
        """The same in the memory of one chunk's graph: the features without a graph, the gradient at the features, and then
        each chunk once more with its graph (one extra forward pass)."""
        extractor = self.extractor
        with torch.no_grad():
            augmented = self._augmented(here.points, here.slots, view)
            features = self._taken(view, augmented, chosen, plain=True)
        inner = {name: value.detach().requires_grad_(True) for name, value in features.items()}
        terms = self._terms(inner, here, view, only, chosen)
        total = torch.stack(list(terms.values())).sum()
        wanted = [*inner.values(), *leaves.values(), *self.learned_draws.leaves]
        gradients = torch.autograd.grad(total, wanted, allow_unused=True)
        at_inner = {name: g for name, g in zip(inner, gradients, strict=False) if g is not None}
        values = _values(total, terms, leaves, gradients[len(inner) :])
        if "points" not in leaves or not at_inner:
            return values
        size, back = extractor.size(len(here.points)), []
        for first in range(0, len(here.points), size):
            rows = slice(first, first + size)
            part = here.points[rows].detach().requires_grad_(True)
            augmented = self._augmented(part, here.slots[rows], view, first)
            taken = self._taken(view, padded(augmented, size), chosen)
            outputs = [taken[name][: len(part)] for name in at_inner]
            back += torch.autograd.grad(outputs, [part], [g[rows] for g in at_inner.values()])
        return replace(values, gradients={**values.gradients, "points": values.gradients["points"] + torch.cat(back)})

    def _taken(self, view: DrawView, augmented: Tensor, chosen: Chosen, plain: bool = False) -> dict[str, Tensor]:
        """What the chosen terms take of synthetic examples, of the networks that they ask for; ``plain`` where no gradient is
        wanted."""
        extractor = self.extractor
        asked = {name.startswith(TRAINED) for _, term in chosen for name in term.takes - {"points"}}
        taken = {"points": augmented}
        if False in asked:
            taken = extractor.taken(
                view.parameters, augmented, extractor.real_forward if plain else extractor.synthetic_forward
            )
        return taken | extractor.taken_trained(view.trained, augmented, plain) if True in asked else taken

    def _augmented(self, points: Tensor, slots: Tensor, view: DrawView, first: int = 0) -> Tensor:
        """Synthetic examples, numbered from ``first`` on, under the augmentation of the draw."""
        return self.extractor.augmented(points, view.augmentation, slots, self.extractor.real_examples + first)

    def _terms(
        self, taken: Taken, here: Decoded, view: DrawView, only: int | None, chosen: Chosen
    ) -> dict[str, Tensor]:
        """The weighted values of terms. Penalties see the points themselves, where matches see the augmented ones; what is
        taken of the network is of the augmented points for both."""
        values = {}
        for name, term in chosen:
            if isinstance(term, Penalised):
                value = self._penalty(term, {**taken, "points": here.points}, here, only)
                if term.times_accuracy and view.accuracy is not None:
                    value = view.accuracy.to(value) * value
            else:
                value = self._match(name, taken, here, view, only)
            values[name] = term.weight * value
        return values

    def _penalty(self, term: Penalised, taken: Taken, here: Decoded, only: int | None) -> Tensor:
        if term.by == "none":
            share = 1.0 if only is None else len(here.points) / self.examples
            return share * term.penalty(taken, here.labels, here.weights)
        values = []
        for label in here.slots.unique():
            rows = (here.slots == label).nonzero()[:, 0].to(self.device)
            own = {name: value[rows] for name, value in taken.items()}
            values.append(term.penalty(own, here.labels[rows], here.weights[rows]))
        return torch.stack(values).sum()

    def _match(self, name: str, taken: Taken, here: Decoded, view: DrawView, only: int | None) -> Tensor:
        bound, (draws, of_blocks), summaries = self.matches[name], view.random[name], view.summaries[name]
        slots = {"class": here.slots, "group": here.groups, "none": torch.zeros_like(here.slots)}[bound.match.by]
        offered = Measure(taken, here.weights, self._labels(here) if bound.labelled else None)
        chosen = torch.tensor([] if only is None else [only], dtype=torch.long, device=self.device)
        count = len(bound.share)
        if only is not None:
            slots, count = torch.zeros_like(slots), 1
            summaries = {block: summary.select(chosen) for block, summary in summaries.items()}
        per_block = []
        features = bound.features(offered, slots, count, draws, self.extractor, view.parameters)
        for block, part in features.blocks():
            against = self.learned_draws.at(name, block)
            if only is not None:
                against = {key: value[chosen] for key, value in against.items()}
            random = {**(of_blocks[block] or {}), **against} or None
            value = bound.discrepancies[block].compare(summaries[block], part, random)
            per_block.append(bound.match.block_weight(block) * value)
        per_group = torch.stack(per_block).sum(0)
        if only is not None:
            per_group = per_group.new_zeros(len(bound.share)).index_put((chosen,), per_group)
        return bound.match.reduce(per_group, bound.share)

    def _labels(self, here: Decoded) -> Tensor:
        """The labels of synthetic examples as rows (c,)."""
        labels = here.labels
        return labels if labels.ndim == 2 else functional.one_hot(labels, self.data.count).to(here.points.dtype)


def _values(total: Tensor, terms: Mapping[str, Tensor], leaves: Mapping[str, Tensor], gradients: Any) -> Values:
    by_name = dict(zip(leaves, gradients, strict=False))
    idle = frozenset(name for name, gradient in by_name.items() if gradient is None)
    by_name |= {name: torch.zeros_like(leaves[name]) for name in idle}
    measured = {name: value.detach() for name, value in terms.items()}
    return Values(total.detach(), measured, by_name, gradients[len(leaves) :], idle - {"points"})
