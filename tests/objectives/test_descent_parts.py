"""Synthetic minibatches, and projections that wait: against steps on the same rows that are written out."""

from typing import Any

import pytest
import torch
from small import images, start

from discrepancy import MMD
from discrepancy.embeddings import Identity
from objectives.contexts import Fresh, Pool
from objectives.rng import rng
from objectives.solvers import Descent
from objectives.synthetic.formation import Formation
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match

MEANS = Match(MMD(), via=Identity())
WHOLE: dict[str, Any] = {"context": Pool(size=1, batch="all")}


@pytest.mark.parametrize("update", ["joint", "per_class", "per_class_shared_state"])
def test_a_step_takes_a_random_part_of_each_class(update: str) -> None:
    """By hand: ∇ Σ_c ‖mean of the chosen of c - mean of the class‖² is 2 (mean - mean) / 3 at each of the three chosen, 0 at
    the others. Within a step one shared optimiser moves the rest by its momentum, which is none here."""
    data, solver = images(), Descent(lr=0.1, steps=2, batch=3, update=update)  # pyright: ignore[reportArgumentType]
    run = start(data, MEANS, solver, synthetic=Pixels(per_class=5), **WHOLE)
    for step in range(2):
        points = run.parameters["points"]
        expected = points.clone()
        for label, mean in enumerate(data.train.class_means()):
            order = torch.randperm(5, generator=rng(0, "synthetic", step, label))
            rows = 5 * label + order[:3]
            expected[rows] -= 0.1 * 2 / 3 * (points[rows].mean(0) - mean)
        run.advance()
        torch.testing.assert_close(run.parameters["points"], expected)


def test_no_more_are_taken_than_there_are() -> None:
    many, every = (
        start(images(), MEANS, Descent(lr=0.1, steps=1, batch=batch), synthetic=Formation(per_class=1), **WHOLE)
        for batch in (99, None)
    )
    assert many.advance().loss == every.advance().loss
    assert torch.equal(many.parameters["images"], every.parameters["images"])


def test_the_plan_counts_the_examples_of_a_step() -> None:
    def run(batch: int | None) -> Any:
        context, form = Fresh(batch=5), Formation(per_class=2, start="noise")
        return start(images(), MEANS, Descent(steps=4, batch=batch), synthetic=form, context=context)

    few, every = run(3), run(None)
    assert (few.engine.examples, every.engine.examples) == (9, 24)
    work = [one.solver.passes(one.problem, one.engine.bound_context) for one in (few, every)]
    assert work[1] - work[0] == 4 * 3 * (24 - 9)


def test_a_projection_may_wait_and_comes_at_the_end() -> None:
    data = images()
    solver = Descent(lr=30.0, steps=5, project_every=2)
    run = start(data, MEANS, solver, synthetic=Pixels(per_class=2, clip=True, units="range"), context=Fresh(batch=5))
    within = []
    for _ in range(5):
        run.advance()
        points = run.parameters["points"]
        within.append(bool(points.min() >= 0) and bool(points.max() <= 1))
    assert within == [False, True, False, True, True]
