"""The supremum of a match over inputs within a ball around every real example."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from objectives.attacks.joint import JointAscent
from objectives.attacks.threat import Norm, UnitSpace
from objectives.contexts import Context
from objectives.data.examples import Examples, Grouped
from objectives.data.spec import Described
from objectives.terms.bound import BoundTerm, Random, TermEngine, View
from objectives.terms.match import BoundMatch, Match
from objectives.terms.objective import Term
from objectives.terms.weights import WeightSchedule

__all__ = ["BoundWorst", "Worst"]


class Worst(Term, kind="worst"):
    """sup over ‖δᵢ‖ <= ε of Σ_g D(φ # {xᵢ + δᵢ}_g, φ # Q_g): a match against the worst real side in a ball.

    The supremum is over all the examples of a real batch together, by projected steepest ascent from the examples themselves
    and from random starts. The largest value of all that was visited counts, for each group on its own unless the network looks
    at whole batches: it is no smaller than the plain match, and with a given ``step`` it never falls with more steps. The
    gradient by the synthetic side is that at the worst real side (Danskin's theorem).

    The derivative of D by the real side is that by the synthetic side with the sides exchanged, which is right where D is
    symmetric; others are refused. Every step takes 1 + restarts x (steps + 1) forward and restarts x steps backward passes of
    the real batch (for a kernel, the real side's own sum each time).

    Args:
        worst: the match. Its ``weight``, ``transform`` and ``reduce`` do not count: values of groups are added up.
        eps: ε, for values in [0, 1].
        norm: ``linf`` or ``l2``.
        steps: of each start.
        step: the length of a step; 2.5 ε / steps by default.
        restarts: starts; the first is at the examples, the others are random points of the ball.
        weight: a number, or a schedule over the steps.

    References: the distributionally robust sup over Q with W_∞(Q, P) <= ε; as an attack, Madry et al. (2018).
    """

    worst: Match = field(kw_only=False)
    eps: float = 8 / 255
    norm: Norm = "linf"
    steps: int = 5
    step: float | None = None
    restarts: int = 1
    weight: float | WeightSchedule = 1.0

    def __post_init__(self) -> None:
        _ = self.ascent
        match = self.worst
        if "symmetric" not in match.match.tags:
            raise InvalidInput(
                f"'worst' differentiates by the real side, for which '{match.match.kind}' must be symmetric, and it is not; "
                "match mmd, energy_distance or sinkhorn"
            )
        if match.via.averages:
            raise InvalidInput(
                f"'worst' cannot differentiate '{match.via.kind}' by single examples; use another embedding"
            )
        if match.transform is not None:
            raise InvalidInput("'worst' changes the real side itself; leave the 'transform' of its match out")

    @property
    def ascent(self) -> JointAscent:
        """How the supremum is sought; its construction refuses impossible settings."""
        return JointAscent(eps=self.eps, norm=self.norm, steps=self.steps, step=self.step, restarts=self.restarts)

    @property
    def takes(self) -> frozenset[str]:
        return self.worst.takes

    @property
    def default_name(self) -> str:
        return f"worst_{self.worst.default_name}"

    @property
    def settled(self) -> bool:
        return self.worst.settled

    @property
    def compares(self) -> Grouped:
        return self.worst.by

    @property
    def separable(self) -> bool:
        return False

    @property
    def grouping(self) -> str:
        return "a supremum over the whole real batch"

    @property
    def real_passes(self) -> int:
        return 1 + self.ascent.passes

    @property
    def labelled(self) -> bool:
        return self.worst.labelled

    def needs_classes(self, name: str) -> tuple[str, str] | None:
        return self.worst.needs_classes(name)

    def check(self, name: str, data: Described, context: Context) -> None:
        self.worst.check(name, data, context)
        UnitSpace.of(data).ball(self.ascent.threat, torch.zeros(1, *data.shape))

    def bind(self, name: str, engine: TermEngine) -> "BoundWorst":
        self.check(name, engine.data, engine.context)
        engine.data.require_rows(f"term '{name}', a supremum over real inputs,")
        return BoundWorst(name, self, self.worst.bind(name, engine), engine)


@dataclass(frozen=True, eq=False)
class BoundWorst(BoundTerm):
    """A supremum on data."""

    name: str
    term: Worst
    match: BoundMatch
    engine: TermEngine

    def random(self, generator: torch.Generator) -> Random:
        return self.match.random(generator)

    @property
    def resolved(self) -> dict[str, Any]:
        return self.match.resolved

    def value(self, view: View) -> Float[Tensor, " g"]:
        if view.only is not None:
            raise InvalidInput(f"term '{self.name}' is a supremum over the whole real batch; use update: joint")
        examples = self.engine.real_batch(view.at)
        worst = self.worst_points(view, examples)
        with torch.no_grad():
            summary = self._summaries(self._real(view, examples, worst), view)
        return self._against(summary, self._synthetic(view, view.taken, view.synthetic.weights), view)

    def worst_points(self, view: View, examples: Examples) -> Float[Tensor, "n ..."]:
        """The real examples in the ball that are worst together, in normalised units."""
        engine, term = self.engine, self.term
        space = UnitSpace.of(engine.data, engine.device, engine.dtype)
        units = space.to_unit(engine.data.normalised(examples, engine.device, engine.dtype))
        ball = space.ball(term.ascent.threat, units.clamp(space.low, space.high))
        fixed = {name: value.detach() for name, value in view.taken.items()}
        with torch.no_grad():
            mine = self._summaries(self._synthetic(view, fixed, view.synthetic.weights.detach()), view)
        generator = engine.rng("worst", self.name, view.at.draw.network, view.at.draw.augmentation, view.at.draw.batch)

        def apart(x: Tensor) -> Float[Tensor, " g"]:
            return self._against(mine, self._real(view, examples, space.to_normalised(x)), view)

        groups = None if engine.whole_batches else examples.numbers(term.worst.by).to(engine.device)
        return space.to_normalised(term.ascent.highest(apart, ball, generator, groups))

    def _real(self, view: View, examples: Examples, points: Tensor) -> Measure:
        """The features of these points in place of the real examples, by group."""
        engine, classes = self.engine, examples.numbers("class")
        taken = engine.extract(view.at, engine.augmented(view.at, points, classes))
        offered = self.match.offered(taken, examples)
        return self._features(offered, examples.numbers(self.term.worst.by), view)

    def _synthetic(self, view: View, taken: Mapping[str, Tensor], weights: Tensor) -> Measure:
        by = {"class": view.synthetic.slots, "group": view.synthetic.groups}
        groups = by.get(self.term.worst.by, torch.zeros_like(view.synthetic.slots))
        labels = view.labels.detach() if self.match.labelled else None
        return self._features(Measure(taken, weights, labels), groups, view)

    def _features(self, offered: Measure, groups: Tensor, view: View) -> Measure:
        draws = view.at.random[self.name].embedding
        return self.match.features(offered, groups, len(self.match.share), draws, view.at.parameters)

    def _summaries(self, features: Measure, view: View) -> dict[str, Any]:
        drawn = view.at.random[self.name].blocks
        return {
            block: self.match.discrepancies[block].summarise(part, drawn.get(block))
            for block, part in features.blocks()
        }

    def _against(self, summaries: Mapping[str, Any], features: Measure, view: View) -> Float[Tensor, " g"]:
        drawn, term = view.at.random[self.name].blocks, self.term.worst
        values = [
            term.block_weight(block) * self.match.discrepancies[block].compare(summaries[block], part, drawn.get(block))
            for block, part in features.blocks()
        ]
        return torch.stack(values).sum(0)
