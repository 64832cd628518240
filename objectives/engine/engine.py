"""Evaluates an objective: the weighted values of its terms, their sum, and one gradient at the decoded synthetic examples.

The real side runs without a graph, and is summarised; a summary that comes back is kept. The synthetic side gives the value of
every term and one gradient, at the decoded points, which the solver takes back through decoding.
"""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from discrepancy.discrepancy import Adversary
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.networks.base import NetworkParameters
from discrepancy.numerics.blocks import padded
from objectives.contexts import Context
from objectives.data.examples import Examples
from objectives.data.real import RealData
from objectives.engine.batches import Batches
from objectives.engine.bound_context import BoundContext
from objectives.engine.learned_draws import LearnedDraws
from objectives.engine.network_states import NetworkStates
from objectives.engine.real_side import RealSide
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.parameterisation import Decoded
from objectives.terms.bound import BoundTerm, DrawView, TermEngine, View
from objectives.terms.objective import TRAINED, Objective

__all__ = ["RESOLVE_SAMPLE", "Engine", "Values"]

RESOLVE_SAMPLE = 2048
"""Real examples from which data-dependent constants (the median lengthscale, a mean) are turned into numbers."""


@dataclass(frozen=True, eq=False)
class Values:
    """The weighted value of every term, their sum, the gradient of the sum at the decoded tensors, and that at the parameters
    of the adversaries; ``idle`` are the learned labels or weights that none of the terms depends on."""

    total: Tensor
    terms: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    ascent: Sequence[Tensor | None] = ()
    idle: frozenset[str] = frozenset()

    @staticmethod
    def added(parts: "Sequence[Values]") -> tuple[Tensor, Mapping[str, Tensor]]:
        """The total of these values, and that of each term."""
        if len(parts) == 1:
            return parts[0].total, parts[0].terms
        each: dict[str, list[Tensor]] = {}
        for part in parts:
            for name, value in part.terms.items():
                each.setdefault(name, []).append(value)
        terms = {name: torch.stack(values).sum() for name, values in each.items()}
        return torch.stack([part.total for part in parts]).sum(), terms

    @staticmethod
    def check(parts: "Sequence[Values]") -> None:
        """Refuses labels or weights that are learned although no part of the objective depends on them."""
        for name in sorted(frozenset.intersection(*(part.idle for part in parts))):
            raise InvalidInput(
                f"'{name}' are learned, but no term depends on them, so they would never move; add a term that does "
                f"(penalty: cross_entropy looks at labels and weights), or do not learn them"
            )


class Engine(TermEngine):
    """An objective bound to real data and a context.

    Args:
        data: the real side.
        objective: what is minimised.
        context: owner of the network and of the policy for the real side.
        runtime: seed, device, precision, what is compiled.
        examples: synthetic examples of a step.
        steps: steps that are planned.
        held: synthetic examples whose graph is held at once; by default all of a step.

    Raises:
        InvalidInput: if the objective, the context and the data do not fit together.
    """

    def __init__(
        self,
        data: RealData,
        objective: Objective,
        context: Context,
        runtime: Runtime,
        *,
        examples: int,
        steps: int,
        held: int | None = None,
    ) -> None:
        if runtime.world > 1:
            raise InvalidInput(
                f"'world' is {runtime.world}, but these real data are not divided among processes; use a world of 1"
            )
        self.data, self.objective, self.context, self.runtime = data, objective, context, runtime
        self.device, self.dtype = runtime.device, runtime.dtype
        self.examples, self.steps = examples, steps
        self.bound_context = BoundContext(
            data,
            context,
            objective.takes,
            runtime,
            examples=examples,
            steps=steps,
            held=held,
            sides=objective.real_sides,
            real_passes=sum(term.real_passes for _, term in objective.terms),
        )
        extractor = self.bound_context.extractor
        self.shapes, self.whole_batches = extractor.shapes, extractor.whole_batches
        self.logits = self.bound_context.logits_extractor.once
        self.batches = Batches(context, runtime.seed)
        self.networks = NetworkStates(self.bound_context, self.batches)
        for name, term in objective.terms:
            term.check(name, data, context)
        self.terms: dict[str, BoundTerm] = {name: term.bind(name, self) for name, term in objective.terms}
        made = {
            transform: transform.applied(data, runtime.seed, runtime.device, runtime.cache)
            for transform in objective.real_sides
            if transform is not None
        }
        changed = {name: made[term.real_transform] for name, term in objective.terms if term.real_transform is not None}
        self.real_side = RealSide(self.bound_context, self.networks, self.batches, self.terms, changed)
        self.learned_draws = self._learned_draws()
        self._networks_of = {
            name: {taken.startswith(TRAINED) for taken in term.takes - {"points"}} for name, term in objective.terms
        }
        if self.bound_context.recompute and any(term.needs_graph for term in self.terms.values()):
            self.bound_context.recompute = False

    def _learned_draws(self) -> LearnedDraws:
        adversaries: dict[tuple[str, str], Adversary] = {}
        starts: dict[tuple[str, str], Mapping[str, Tensor]] = {}
        for name, term in self.terms.items():
            for block, (adversary, start) in term.adversaries.items():
                adversaries[name, block], starts[name, block] = adversary, start
        return LearnedDraws(adversaries, starts)

    # --- what terms may use -------------------------------------------------------------------------------------------

    @property
    def sample(self) -> tuple[Measure, NetworkParameters]:
        return self._sample

    @functools.cached_property
    def _sample(self) -> tuple[Measure, NetworkParameters]:
        """A balanced sample of the real examples as the first network sees them, and its weights: a large one where something
        is to be resolved, else one of each class, for the shapes."""
        context = self.bound_context
        settled = all(term.settled for _, term in self.objective.terms)
        if not settled:
            self.data.require_rows("a constant of a term that is measured on them (a median distance, a mean)")
        elif self.data.blank is not None:
            return self._blank_sample(self.data.blank)
        size = 1 if settled else math.ceil(RESOLVE_SAMPLE / self.data.count)
        numbers = self.data.class_batch(self.rng("resolve"), size)
        draw = self.networks.draw(0)
        parameters = context.initial(draw.network) if settled else self.networks.parameters(draw)
        return Measure(context.taken(numbers, parameters), labels=context.label_vectors(numbers)), parameters

    def _blank_sample(self, blank: Examples) -> tuple[Measure, NetworkParameters]:
        context = self.bound_context
        parameters = context.initial(self.networks.draw(0).network)
        points = self.data.normalised(blank, self.device, self.dtype)
        with torch.no_grad():
            taken = {"points": points} | context.extractor(parameters, points, eager=True)
        vectors = blank.labels.vectors(self.data.count, self.dtype)
        return Measure(taken, labels=None if vectors is None else vectors.to(self.device, self.dtype)), parameters

    def chunk(self, n: int) -> int:
        return self.bound_context.extractor.size(n)

    def rng(self, *names: str | int) -> torch.Generator:
        return rng(self.runtime.seed, *names)

    def extract(self, view: DrawView, points: Tensor) -> dict[str, Tensor]:
        context = self.bound_context
        return {"points": points} | context.extractor(view.parameters, points) | self._of_trained(view, points)

    def augmented(self, view: DrawView, points: Tensor, labels: Tensor, first: int = 0) -> Tensor:
        return self.bound_context.augmented(points, view.augmentation, labels, first)

    def real_batch(self, view: DrawView) -> Examples:
        return self.real_side.batch(view.draw, "a term that looks at real examples")

    def _of_trained(self, view: DrawView, points: Tensor) -> dict[str, Tensor]:
        """What is taken of the trained network beside the current one, under the names that terms have for it."""
        found = self.bound_context.trained_extractor(view.trained, points)
        return {f"{TRAINED}{name}": value for name, value in found.items()}

    # --- a step -------------------------------------------------------------------------------------------------------

    @property
    def resolved(self) -> dict[str, Any]:
        """The parts of every term with numbers in place of data-dependent rules."""
        return {name: term.resolved for name, term in self.terms.items() if term.resolved}

    def after(self, step: int, synthetic: Callable[[], Decoded]) -> None:
        """What follows a step in the context: a round of training, on the synthetic set as it is then if it is on that."""
        if self.networks.training_schedule is not None:
            with torch.no_grad():
                decoded = synthetic()
            self.networks.after(step, self.networks.draw(step), decoded)

    def evaluate(
        self, decoded: Decoded, step: int, only: int | None = None, terms: Collection[str] | None = None
    ) -> Values:
        """The value of every term and the gradient of their sum at the decoded points, weights, labels and extras.

        With ``only``, the objective of that class alone, to which all the decoded examples belong; with ``terms``, that of the
        terms with these names alone.
        """
        chosen = [*self.terms] if terms is None else [name for name in self.terms if name in terms]
        at = self.real_side.at(step)
        leaves = {
            name: value.detach().requires_grad_(True) for name, value in decoded.tensors.items() if value.requires_grad
        }
        here = decoded.with_tensors(leaves)
        evaluated = self._evaluate_in_chunks if self.bound_context.recompute else self._evaluate_at_once
        found = evaluated(here, leaves, at, step, only, chosen)
        if terms is None and found.idle:
            Values.check([found])
        return found

    def view(self, decoded: Decoded, step: int, name: str) -> View:
        """What the term of this name is evaluated on in a step."""
        at = self.real_side.at(step)
        taken = self._taken(at, decoded.points, decoded.slots, [name])
        return View(self, at, taken, decoded)

    def _evaluate_at_once(
        self,
        here: Decoded,
        leaves: Mapping[str, Tensor],
        at: DrawView,
        step: int,
        only: int | None,
        chosen: Sequence[str],
    ) -> Values:
        taken = self._taken(at, here.points, here.slots, chosen)
        terms = self._values(taken, here, at, step, only, chosen)
        total = torch.stack(list(terms.values())).sum()
        wanted = [*leaves.values(), *self.learned_draws.leaves]
        return _collected(total, terms, leaves, torch.autograd.grad(total, wanted, allow_unused=True))

    def _evaluate_in_chunks(
        self,
        here: Decoded,
        leaves: Mapping[str, Tensor],
        at: DrawView,
        step: int,
        only: int | None,
        chosen: Sequence[str],
    ) -> Values:
        """The same in the memory of one chunk's graph: the features without a graph, the gradient at the features, and then
        each chunk once more with its graph (one extra forward pass)."""
        with torch.no_grad():
            features = self._taken(at, here.points, here.slots, chosen)
        inner = {name: value.detach().requires_grad_(True) for name, value in features.items()}
        terms = self._values(inner, here, at, step, only, chosen)
        total = torch.stack(list(terms.values())).sum()
        wanted = [*inner.values(), *leaves.values(), *self.learned_draws.leaves]
        gradients = torch.autograd.grad(total, wanted, allow_unused=True)
        at_inner = {name: g for name, g in zip(inner, gradients, strict=False) if g is not None}
        values = _collected(total, terms, leaves, gradients[len(inner) :])
        if "points" not in leaves or not at_inner:
            return values
        size, back = self.chunk(len(here.points)), []
        for first in range(0, len(here.points), size):
            rows = slice(first, first + size)
            part = here.points[rows].detach().requires_grad_(True)
            taken = self._taken(at, part, here.slots[rows], chosen, first, size)
            outputs = [taken[name][: len(part)] for name in at_inner]
            back += torch.autograd.grad(outputs, [part], [g[rows] for g in at_inner.values()])
        return replace(values, gradients={**values.gradients, "points": values.gradients["points"] + torch.cat(back)})

    def _taken(
        self,
        at: DrawView,
        points: Tensor,
        slots: Tensor,
        chosen: Sequence[str],
        first: int = 0,
        size: int = 0,
    ) -> dict[str, Tensor]:
        """What the chosen terms take of synthetic examples, augmented, of the networks that they ask for. The examples are
        numbered from ``first`` on after the real ones, and filled up to ``size``."""
        context = self.bound_context
        augmented = context.augmented(points, at.augmentation, slots, context.real_examples + first)
        augmented = padded(augmented, size) if size else augmented
        asked = set[bool]().union(*map(self._networks_of.__getitem__, chosen))
        taken = {"points": augmented}
        if False in asked:
            taken |= context.extractor(at.parameters, augmented)
        return taken | self._of_trained(at, augmented) if True in asked else taken

    def _values(
        self,
        taken: Mapping[str, Tensor],
        here: Decoded,
        at: DrawView,
        step: int,
        only: int | None,
        chosen: Sequence[str],
    ) -> dict[str, Tensor]:
        """The weighted values of terms."""
        share = 1.0 if only is None else len(here.points) / self.examples
        view = View(self, at, taken, here, only, share)
        terms, values = dict(self.objective.terms), {}
        for name in chosen:
            bound = self.terms[name]
            learned = self.learned_draws.of_terms.get(name)
            value = bound.reduced(bound.value(replace(view, learned=learned) if learned else view))
            values[name] = terms[name].weight_at(step, self.steps) * value
        return values


def _collected(total: Tensor, terms: Mapping[str, Tensor], leaves: Mapping[str, Tensor], gradients: Any) -> Values:
    by_name, idle, measured = {}, set[str](), {}
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=False):
        by_name[name] = torch.zeros_like(leaf) if gradient is None else gradient
        if gradient is None and name != "points":
            idle.add(name)
    for name, value in terms.items():
        measured[name] = value.detach()
    return Values(total.detach(), measured, by_name, gradients[len(leaves) :], frozenset(idle))
