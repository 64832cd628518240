"""A new term in one file: the supremum of a discrepancy over a ball around every real example.

    sup over ‖δ_i‖∞ ≤ eps   D( φ # {x_i + δ_i},  φ # Q )

The gradient by the real side is that by the synthetic side with the sides exchanged, which is right where D is symmetric.
Nothing of the library is changed for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from gate import decoded, differences, problem
from torch import Tensor

from discrepancy import MMD, Gaussian, InvalidInput, Measure, Moments, Risk
from discrepancy.embeddings import Features, Identity
from discrepancy.networks.base import NetworkParameters
from objectives.data.real import Accumulator
from objectives.solvers import Descent
from objectives.terms.bound import BoundTerm, Random, TermEngine, View
from objectives.terms.match import BoundMatch, Match
from objectives.terms.objective import Term
from objectives.terms.weights import WeightSchedule


class Worst(Term, kind="worst_by_test"):
    """The supremum of a match over inputs within ``eps`` of the real ones, by ``steps`` of projected sign ascent."""

    worst: Match = field(kw_only=False)
    eps: float = 0.1
    steps: int = 3
    weight: float | WeightSchedule = 1.0

    def __post_init__(self) -> None:
        if "symmetric" not in self.worst.match.tags:
            raise InvalidInput(
                f"'worst' exchanges the two sides, but '{self.worst.match.kind}' is not symmetric; match mmd"
            )

    @property
    def takes(self) -> frozenset[str]:
        return self.worst.takes

    @property
    def default_name(self) -> str:
        return "worst"

    @property
    def settled(self) -> bool:
        return self.worst.settled

    def bind(self, name: str, engine: TermEngine) -> "BoundWorst":
        return BoundWorst(name, self, self.worst.bind(name, engine), engine)


@dataclass(frozen=True, eq=False)
class BoundWorst(BoundTerm):
    name: str
    term: Worst
    match: BoundMatch
    engine: TermEngine

    def random(self, generator: torch.Generator) -> Random:
        return self.match.random(generator)

    def accumulator(self, parameters: NetworkParameters, random: Random) -> Accumulator | None:
        return None

    def value(self, view: View) -> Tensor:
        examples = self.engine.real_batch(view.at)
        real = self.engine.data.normalised(examples, self.engine.device, self.engine.dtype)
        groups, delta = examples.numbers("class"), torch.zeros_like(real)
        fixed = {name: tensor.detach() for name, tensor in view.taken.items()}
        mine = self._summary(Measure(fixed, view.synthetic.weights.detach()), view.synthetic.slots, view)
        for _ in range(self.term.steps):
            moved = (real + delta).requires_grad_(True)
            taken = self.engine.extract(view.at, self.engine.augmented(view.at, moved, groups))
            apart = self._against(mine, Measure(taken, torch.ones(len(groups))), groups, view)
            (slope,) = torch.autograd.grad(apart.sum(), moved)
            delta = (delta + self.term.eps / self.term.steps * slope.sign()).clamp(-self.term.eps, self.term.eps)
        with torch.no_grad():
            taken = self.engine.extract(view.at, self.engine.augmented(view.at, real + delta, groups))
            worst = self._summary(Measure(taken, torch.ones(len(groups))), groups, view)
        return self._against(worst, Measure(view.taken, view.synthetic.weights), view.synthetic.slots, view)

    def _summary(self, offered: Measure, groups: Tensor, view: View) -> Mapping[str, Any]:
        features = self._features(offered, groups, view)
        return {block: self.match.discrepancies[block].summarise(part) for block, part in features.blocks()}

    def _against(self, summary: Mapping[str, Any], offered: Measure, groups: Tensor, view: View) -> Tensor:
        features = self._features(offered, groups, view)
        parts = [self.match.discrepancies[block].compare(summary[block], part) for block, part in features.blocks()]
        return torch.stack(parts).sum(0)

    def _features(self, offered: Measure, groups: Tensor, view: View) -> Measure:
        random = view.at.random[self.name].embedding
        return self.match.features(offered, groups, len(self.match.share), random, view.at.parameters)


@pytest.mark.parametrize("via", [Identity(), Features()], ids=["points", "features"])
def test_without_a_ball_it_is_the_match(via: Identity | Features) -> None:
    match = Match(MMD(kernel=Gaussian(lengthscale=20.0)), via=via)
    plain, worst = problem(match), problem(Worst(match, eps=0.0))
    expected, found = (some.engine(1).evaluate(decoded(some), 0) for some in (plain, worst))
    torch.testing.assert_close(found.total, expected.total, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.gradients["points"], expected.gradients["points"], rtol=1e-8, atol=1e-12)


def test_the_supremum_of_a_difference_of_means() -> None:
    """sup over ‖δ‖∞ ≤ eps of ‖x̄ + δ̄ - m‖² = Σ_j (|x̄_j - m_j| + eps)², in closed form."""
    some = problem(Worst(Match(MMD(), via=Identity()), eps=0.2, steps=4))
    here, engine = decoded(some), some.engine(1)
    batch = engine.real_batch(engine.real_side.at(0))
    points = some.data.normalised(batch, dtype=torch.float64).flatten(1)
    expected = torch.zeros((), dtype=torch.float64)
    for label in range(3):
        apart = points[batch.labels.numbers == label].mean(0) - here.points.flatten(1)[some.slots == label].mean(0)
        expected = expected + (apart.abs() + 0.2).square().sum()
    torch.testing.assert_close(engine.evaluate(here, 0).total, expected.detach(), rtol=1e-9, atol=0)
    (slope,) = torch.autograd.grad(expected, here.points)
    torch.testing.assert_close(engine.evaluate(here, 0).gradients["points"], slope, rtol=1e-8, atol=1e-12)


def test_larger_balls_are_worse_on_a_network() -> None:
    values = []
    for eps in (0.0, 0.05, 0.2):
        some = problem(Worst(Match(MMD(), via=Features()), eps=eps))
        values.append(float(some.engine(1).evaluate(decoded(some), 0).total))
    assert values[0] < values[1] < values[2]


def test_it_descends() -> None:
    solving = Descent(lr=0.05, steps=12).start(problem(0.5 * Worst(Match(MMD(), via=Identity()), eps=0.1)))
    losses = [float(solving.advance().loss) for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


def test_what_is_not_symmetric_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="'risk' is not symmetric"):
        Worst(Match(Risk(), by="none"))


def test_moments_with_a_graph_of_their_own() -> None:
    some = problem(Worst(Match(Moments(), via=Identity()), eps=0.0))
    along, expected = differences(some, decoded(some), "points")
    torch.testing.assert_close(along, expected, rtol=1e-6, atol=0)


def test_it_is_written_like_any_term() -> None:
    term = Worst(Match(MMD()), eps=0.3)
    assert (2 * term.named("w")).terms[0][1] == replace(term, weight=2.0)
