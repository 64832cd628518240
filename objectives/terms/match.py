"""One discrepancy between the two sides, group by group."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.discrepancy import Adversary, Discrepancy, Draws
from discrepancy.embeddings.base import Embedding
from discrepancy.embeddings.points import Identity
from discrepancy.errors import InvalidInput
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.measure import Measure
from discrepancy.networks.base import NetworkParameters
from discrepancy.parts import check_choice, named
from discrepancy.reductions import Reduction, Sum
from objectives.contexts import Context
from objectives.data.examples import Examples, Grouped
from objectives.data.real import Accumulator
from objectives.data.spec import Described
from objectives.data.transform import RealTransform
from objectives.terms.accumulators import Collecting, Merging
from objectives.terms.bound import BoundTerm, Candidates, Random, TermEngine, View
from objectives.terms.features import averaged, grouped, moved, sample_features
from objectives.terms.masses import GroupMasses
from objectives.terms.objective import Term
from objectives.terms.weights import WeightSchedule

__all__ = ["BoundMatch", "Match"]


class Match(Term, kind="match"):
    """E_ξ Σ_g D(φ # P_g, φ # Q_g): one discrepancy between the two sides, group by group.

    Args:
        match: the discrepancy D.
        via: the embedding φ. With named blocks (layers), D is added up over the blocks.
        by: ``class`` compares the conditional measures given the class, ``group`` those given the data's own groups
            (a hospital, a writer), ``none`` the two sets as wholes.
        reduce: how the values of the groups become one.
        layer_weights: a factor for each named block; 1 where none is given.
        transform: changes the real side before it is embedded; None takes it as it is.
        weight: w in the sum above; a number, or a schedule over the steps.
    """

    match: Discrepancy = field(kw_only=False)
    via: Embedding = Identity()
    by: Grouped = "class"
    reduce: Reduction = Sum()
    layer_weights: tuple[tuple[str, float], ...] = ()
    transform: RealTransform | None = None
    weight: float | WeightSchedule = 1.0

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(Grouped))
        if "differentiable" not in self.match.tags:
            raise InvalidInput(
                f"'{self.match.kind}' is for reports: its value has no useful gradient, so it cannot be a term; use it in "
                "'condense compare', and match something differentiable (mmd, sinkhorn, ...)"
            )
        if self.by == "none" and not self.reduce.separable:
            raise InvalidInput(
                f"'reduce: {self.reduce.kind}' is over groups, and 'by: none' compares the sets as wholes; write by: class or "
                "by: group, or leave 'reduce' out"
            )
        object.__setattr__(self, "layer_weights", named(self.layer_weights))

    @property
    def takes(self) -> frozenset[str]:
        return self.via.takes

    @property
    def default_name(self) -> str:
        return self.match.kind

    @property
    def real_transform(self) -> RealTransform | None:
        return self.transform

    @property
    def settled(self) -> bool:
        return self.via.resolved and self.match.resolved

    @property
    def compares(self) -> Grouped:
        return self.by

    @property
    def separable(self) -> bool:
        return self.by == "class" and self.reduce.separable

    @property
    def grouping(self) -> str:
        return f"by: {self.by} and reduce: {self.reduce.kind}"

    @property
    def labelled(self) -> bool:
        return self.match.labelled

    @property
    def averages(self) -> bool:
        return self.via.averages

    @property
    def factors(self) -> tuple[float, ...]:
        return tuple(weight for _, weight in self.layer_weights)

    def as_mmd(self) -> MMD | None:
        return self.match.as_mmd()

    @property
    def learners(self) -> tuple[Any, Any] | None:
        return self.match.learners

    @property
    def compared_parameters(self) -> tuple[Any, Any] | None:
        return self.match.compared_parameters

    @property
    def has_best_labels(self) -> bool:
        return self.by == "none" and self.match.has_best_labels

    def needs_classes(self, name: str) -> tuple[str, str] | None:
        remedy = "a risk of ridge or kernel_ridge"
        if "gradient" in self.via.takes:
            return f"term '{name}' takes the gradient of a cross-entropy", remedy
        return (f"term '{name}' learns by classes", remedy) if self.match.needs_classes else None

    def block_weight(self, block: str) -> float:
        """The factor of a named block."""
        return dict(self.layer_weights).get(block, 1.0)

    def check(self, name: str, data: Described, context: Context) -> None:
        if self.by == "class":
            data.require_classes(f"term '{name}' is by: class, which", "compare the sets as wholes with by: none")
        if self.transform is not None:
            self.transform.check(data)
        if "gradient" in self.via.takes:
            data.require_classes(f"term '{name}' takes the gradient of a cross-entropy, which")
        if self.match.labelled and not data.classes and data.target_units is None:
            raise InvalidInput(
                f"term '{name}' matches '{self.match.kind}', which looks at labels, but '{data.name}' has none; match "
                "something that looks at points alone (mmd, sinkhorn, ...)"
            )

    def bind(self, name: str, engine: TermEngine) -> "BoundMatch":
        self.check(name, engine.data, engine.context)
        sample, parameters = engine.sample
        if self.by == "group":
            _check_groups(name, engine)
        embedding = self.via.resolve(sample)
        draws = moved(embedding.draw(engine.rng("resolve", name), engine.shapes), engine.device)
        features = sample_features(sample, embedding, draws, engine, parameters)
        unknown = sorted({block for block, _ in self.layer_weights} - set(features.tensors))
        if unknown:
            known = ", ".join(sorted(features.tensors)) or "one without a name"
            raise InvalidInput(f"'layer_weights' of term '{name}' name {unknown}, but the blocks are: {known}")
        discrepancies = {block: self.match.resolve(measure) for block, measure in features.blocks()}
        if embedding.averages and not all(found.of_means for found in discrepancies.values()):
            raise InvalidInput(
                f"term '{name}' has only the means of '{embedding.kind}', and '{self.match.kind}' needs single points; match "
                "mean_gradients"
            )
        shapes = {block: tuple(value.shape[1:]) for block, value in features.tensors.items()}
        share = engine.data.sizes(self.by).double() / len(engine.data)
        return BoundMatch(name, self, embedding, discrepancies, shapes, share.to(engine.device), engine)


@dataclass(frozen=True, eq=False)
class BoundMatch(BoundTerm):
    """A match with its numbers resolved: the embedding, a discrepancy and a shape for each block, the share of each group."""

    name: str
    match: Match
    embedding: Embedding
    discrepancies: Mapping[str, Discrepancy]
    shapes: Mapping[str, tuple[int, ...]]
    share: Float[Tensor, " g"]
    engine: TermEngine

    @functools.cached_property
    def mergeable(self) -> bool:
        return all(discrepancy.mergeable for discrepancy in self.discrepancies.values())

    @functools.cached_property
    def labelled(self) -> bool:
        return self.embedding.averages or any(discrepancy.labelled for discrepancy in self.discrepancies.values())

    @functools.cached_property
    def block_weights(self) -> Mapping[str, float]:
        return {block: self.match.block_weight(block) for block in self.discrepancies}

    @property
    def resolved(self) -> dict[str, Any]:
        return {"via": self.embedding, "match": dict(self.discrepancies)}

    # --- the synthetic side -------------------------------------------------------------------------------------------

    def value(self, view: View) -> Float[Tensor, " g"]:
        slots, groups, count = view.synthetic.slots, view.synthetic.groups, len(self.share)
        groups = {"class": slots, "group": groups, "none": torch.zeros_like(slots)}[self.match.by]
        if view.only is None:
            return self._compared(view, groups, count)
        chosen = torch.tensor([view.only], device=self.engine.device)
        one = self._compared(view, torch.zeros_like(groups), 1, chosen)
        return one.new_zeros(count).index_put((chosen,), one)

    def _compared(self, view: View, groups: Tensor, count: int, chosen: Tensor | None = None) -> Float[Tensor, " g"]:
        """D of each group, added up over the blocks; of the ``chosen`` groups of the real side alone, where they are given."""
        random, values = view.at.random[self.name], []
        for block, part in self._synthetic(view, groups, count).blocks():
            summary, learned = view.at.summaries[self.name][block], view.learned.get(block, {})
            if chosen is not None:
                summary, learned = summary.select(chosen), {key: value[chosen] for key, value in learned.items()}
            draws = {**(random.blocks[block] or {}), **learned} or None
            values.append(self.block_weights[block] * self.discrepancies[block].compare(summary, part, draws))
        return torch.stack(values).sum(0)

    def reduced(self, values: Float[Tensor, " g"]) -> Float[Tensor, ""]:
        return self.match.reduce(values, self.share)

    def _synthetic(self, view: View, groups: Tensor, count: int) -> Measure:
        labels = view.labels if self.labelled else None
        offered = Measure.unchecked(view.taken, view.synthetic.weights, labels)
        return self.features(offered, groups, count, view.at.random[self.name].embedding, view.at.parameters)

    @torch.no_grad()
    def best_labels(self, view: View) -> Float[Tensor, "m c"]:
        """The labels of the synthetic examples for which the value, a risk by: none on one block, is smallest."""
        ((block, part),) = self._synthetic(view, torch.zeros_like(view.synthetic.slots), 1).blocks()
        return self.discrepancies[block].best_labels(view.at.summaries[self.name][block], part)[0]

    # --- features -----------------------------------------------------------------------------------------------------

    def features(
        self, taken: Measure, groups: Tensor, count: int, draws: Draws, parameters: NetworkParameters
    ) -> Measure:
        """The conditional measures of the embedded examples, given what was taken of these and their groups; of an embedding
        that averages, one point for each group."""
        if self.embedding.averages:
            rows = [(groups == group).nonzero()[:, 0] for group in range(count)]
            return averaged(self.embedding, taken, rows, self.engine, parameters)
        return grouped(self.embedding(taken.tensors, draws), taken.weights, taken.labels, groups, count)

    def embedded(self, taken: Measure, draws: Draws) -> Measure:
        """The features of single examples."""
        return Measure(self.embedding(taken.tensors, draws), taken.weights, taken.labels)

    def offered(self, taken: Mapping[str, Tensor], examples: Examples) -> Measure:
        """What was taken of real examples, with their labels as rows if these are compared."""
        labels = None
        if self.labelled:
            vectors = examples.labels.vectors(self.engine.data.count, self.engine.dtype)
            labels = None if vectors is None else vectors.to(self.engine.device, self.engine.dtype)
        return Measure.unchecked(taken, examples.masses(self.engine.device), labels)

    # --- the real side ------------------------------------------------------------------------------------------------

    def random(self, generator: torch.Generator) -> Random:
        device = self.engine.device
        of_embedding = moved(self.embedding.draw(generator, self.engine.shapes), device)
        return Random(
            of_embedding,
            {
                block: moved(discrepancy.draw(generator, self.shapes[block]), device)
                for block, discrepancy in self.discrepancies.items()
            },
        )

    def accumulator(self, parameters: NetworkParameters, random: Random) -> Accumulator:
        masses = GroupMasses(len(self.share), self.match.by)
        return (Merging if self.mergeable else Collecting)(self, parameters, random, masses)

    def candidates(
        self,
        taken: Mapping[str, Tensor],
        examples: Examples,
        label: int,
        random: Random,
        made: Mapping[str, Any] | None,
        *,
        summaries: bool,
    ) -> list[Candidates]:
        device, offered = self.engine.device, self.offered(taken, examples)
        only = functional.one_hot(torch.tensor(label, device=device), len(self.share)).double()
        share, found = float(self.match.reduce(only, self.share)), []
        features = self.embedded(Measure(taken, labels=offered.labels), random.embedding)
        for block, part in features.blocks():
            discrepancy, summary, draws = self.discrepancies[block], None, random.blocks[block]
            if made is not None:
                summary = made[block].select(torch.tensor([label], device=device))
            elif summaries:
                summary = discrepancy.summarise(part.as_groups(), draws)
            factor = self.match.weight_at(0, 1) * self.block_weights[block] * share
            found.append(Candidates(part, discrepancy, summary, draws, factor))
        return found

    @property
    def adversaries(self) -> Mapping[str, tuple[Adversary, Mapping[str, Tensor]]]:
        found = {}
        for block, discrepancy in self.discrepancies.items():
            player, engine = discrepancy.adversary, self.engine
            if player is None:
                continue
            if engine.context.n_draws is not None:
                raise InvalidInput(
                    f"term '{self.name}' has an adversary, which moves at every step, so nothing can be kept for the context "
                    f"'{engine.context.kind}', whose draws come back; use the context 'fresh'"
                )
            drawn = discrepancy.draw(engine.rng("adversary", self.name, block), self.shapes[block]) or {}
            start = {
                key: drawn[key].to(engine.device, engine.dtype).expand(len(self.share), *drawn[key].shape)
                for key in sorted(player.names)
            }
            found[block] = (player, start)
        return found


def _check_groups(name: str, engine: TermEngine) -> None:
    """Refuse groups that may be missing from a real batch."""
    data, batch = engine.data, engine.context.batch
    if data.groups is None:
        raise InvalidInput(f"term '{name}' is by: group, but these data have no groups; use by: class or by: none")
    table = data.counts
    others = table.sum(1, keepdim=True) - table
    certain = (table > 0) if isinstance(batch, str) else (table > 0) & (others < batch)
    missing = (~certain.any(0)).nonzero()[:, 0].tolist()
    if missing:
        raise InvalidInput(
            f"term '{name}' is by: group, but group {missing[0]} can be missing from the real batch ({batch} a class); "
            "use the context 'pool' with batch: all, or leave out groups without examples"
        )
