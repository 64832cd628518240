"""Terms that take turns: each has a step of its own, together with any way in which the classes relate."""

from typing import Any

import pytest
import torch
from small import NETWORK, decoded, images, problem, start, unchecked
from torch import Tensor

from discrepancy import MMD, Gaussian, InvalidInput
from discrepancy.embeddings import Features, Identity
from objectives.contexts import Fresh, Interpolated
from objectives.solvers import Descent
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.objective import Objective
from objectives.terms.penalties import CrossEntropy, TotalVariation
from objectives.terms.penalty import Penalised
from objectives.training.training import Training

CONTEXT = Fresh(network=NETWORK, batch=5)
OBJECTIVE = (
    Match(MMD(), via=Features()) + Penalised(TotalVariation(), weight=0.1) + Penalised(CrossEntropy(), by="class")
)


def run(objective: Objective, **options: Any) -> Any:
    solver = Descent(**{"lr": 0.2, "momentum": 0.5, "steps": 3, "terms": "in_turn", **options})
    return start(images(), objective, solver, context=CONTEXT, dtype=torch.float64)


def slope(here: Any, points: Tensor, term: str, only: int | None = None) -> Tensor:
    """The gradient of one term alone, as the engine of an objective of that term would have it."""
    alone = problem(images(), dict(OBJECTIVE.terms)[term].named(term), context=CONTEXT, dtype=torch.float64).engine(3)
    now = here.problem.synthetic.decode({"points": points.clone().requires_grad_(True)}, here.problem.layout)
    rows = torch.arange(len(points)) if only is None else (here.slots == only).nonzero()[:, 0]
    found = torch.zeros_like(points)
    found[rows] = alone.evaluate(now.rows(rows), here.step, only).gradients["points"]
    return found


@pytest.mark.parametrize("update", ["joint", "per_class", "per_class_shared_state"])
def test_each_term_has_steps_of_its_own(update: str) -> None:
    here = run(OBJECTIVE, update=update)
    points, speed = here.parameters["points"], torch.zeros_like(here.parameters["points"])
    for _ in range(3):
        for term, _ in OBJECTIVE.terms:
            for only in [None] if update == "joint" else [0, 1, 2]:
                moved = here.slots == only if update == "per_class" else torch.ones_like(here.slots, dtype=torch.bool)
                change = slope(here, points, term, only)
                speed[moved] = 0.5 * speed[moved] + change[moved]
                points = points.clone()
                points[moved] -= 0.2 * speed[moved]
        record = here.advance()
        assert set(record.terms) == {name for name, _ in OBJECTIVE.terms}
        torch.testing.assert_close(record.loss, torch.stack(list(record.terms.values())).sum())
        torch.testing.assert_close(here.parameters["points"], points, rtol=1e-10, atol=1e-11)


def test_a_learned_label_moves_in_the_turns_that_depend_on_it() -> None:
    form = Pixels(per_class=2, labels="soft")
    matched = Match(MMD(kernel=Gaussian()), via=Identity())
    solver = Descent(lr=0.2, steps=2, terms="in_turn")
    here: Any = start(images(), matched + CrossEntropy(), solver, context=CONTEXT, synthetic=form)
    before = here.parameters["labels"]
    here.advance()
    assert not torch.equal(before, here.parameters["labels"])
    idle: Any = start(images(), matched + TotalVariation(), solver, context=Fresh(batch=5), synthetic=form)
    with pytest.raises(InvalidInput, match="'labels' are learned, but no term depends on them"):
        idle.advance()


def test_a_turn_passes_only_the_networks_that_its_terms_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(on="real", steps=1, batch=8)
    context = Interpolated(network=NETWORK, size=1, training=training, trained=1, batch=5)
    objective = Match(MMD(), via=Features()) + CrossEntropy(network="trained") + TotalVariation()
    some = problem(images(), objective, context=context)
    engine = some.engine(2)
    engine.real_side.at(0)
    bound, passed = engine.bound_context, []
    both = {"current": bound.extractor, "trained": bound.trained_extractor}
    for name, extractor in both.items():
        forward = extractor._differentiable
        monkeypatch.setattr(
            extractor, "_differentiable", lambda *a, name=name, forward=forward: [passed.append(name), forward(*a)][1]
        )
    for term, names in (
        (("mmd",), ["current"]),
        (("cross_entropy",), ["trained"]),
        (("total_variation",), []),
        (None, ["current", "trained"]),
    ):
        passed.clear()
        whole = engine.evaluate(decoded(some), 0, terms=term)
        assert passed == names
        chunk, bound.recompute = bound.extractor.chunk, True
        for extractor in both.values():
            extractor.chunk = 4
        chunked = engine.evaluate(decoded(some), 0, terms=term)
        bound.recompute = False
        for extractor in both.values():
            extractor.chunk = chunk
        torch.testing.assert_close(chunked.gradients["points"], whole.gradients["points"], rtol=1e-4, atol=1e-6)


def test_a_second_network_is_counted_on_the_synthetic_side() -> None:
    training = Training(on="real", steps=3, batch=8)
    context = Interpolated(network=NETWORK, size=1, training=training, trained=2, batch=5)
    both, one, other = (
        problem(images(), objective.as_objective(), context=context).engine(10).bound_context
        for objective in (
            Match(MMD(), via=Features()) + CrossEntropy(network="trained"),
            Match(MMD(), via=Features()),
            CrossEntropy(network="trained"),
        )
    )
    real, taught = 10 * 15, 3 * 2 * 3 * 8
    assert both.images(10, 6) == real + 10 * 3 * 2 * 6 + taught
    assert one.images(10, 6) == other.images(10, 6) == real + 10 * 3 * 6 + taught
    assert both.multiplications == one.multiplications
    assert both.graph_bytes == one.graph_bytes + other.graph_bytes


def test_turns_have_names() -> None:
    with unchecked(), pytest.raises(InvalidInput, match="'terms' must be one of together, in_turn; got 'alone'"):
        Descent(terms="alone")  # pyright: ignore[reportArgumentType]
