"""Descent against loops written by hand: the three ways to update, and every form of the synthetic set."""

from dataclasses import replace

import pytest
import torch
from small import NETWORK, decoded, images, problem, start
from solving import DM, FEATURES, PIXELS, STORED, advanced, assert_equal
from torch import Tensor

from discrepancy import MMD
from discrepancy.embeddings import Identity
from discrepancy.errors import InvalidInput
from discrepancy.reductions import Mean, Proportional, Reduction, Sum
from objectives.contexts import Fresh, Pool
from objectives.solvers import Descent, Problem
from objectives.synthetic.bases import Bases
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.penalties import CrossEntropy, TotalVariation
from objectives.training.augmentation import Siamese


def by_hand(some: Problem, steps: int, lr: float, momentum: float, once_a_class: bool = False) -> dict[str, Tensor]:
    """v ← momentum v + g, θ ← θ - lr v, with the loss written out on the real batches of an engine's own draws."""
    data, engine = some.data, some.engine(steps)
    x = some.synthetic.initial(data, some.runtime.seed)
    v = {name: torch.zeros_like(value) for name, value in x.items()}
    for step in range(steps):
        view, augment = engine.real_side.at(step), engine.bound_context.augment
        rounds = range(3) if once_a_class else [None]
        for only in rounds:
            leaves = {name: value.clone().requires_grad_(True) for name, value in x.items()}
            here = some.synthetic.decode(leaves, some.layout)
            loss = torch.zeros(())
            for c in range(3) if only is None else [only]:
                own = here.points[here.slots == c]
                if augment is not None:
                    own = augment(own, view.augmentation, torch.full((len(own),), c))
                mean = NETWORK(view.parameters, own, ("features",))["features"].mean(0)
                loss = loss + (view.summaries["mmd"][""].mean[c].float() - mean).square().sum()
            for name, g in zip(x, torch.autograd.grad(loss, list(leaves.values())), strict=True):
                v[name] = momentum * v[name] + g
                x[name] = x[name] - lr * v[name]
    assert data.count == 3
    return x


@pytest.mark.parametrize("augment", [None, Siamese()], ids=["plain", "siamese"])
def test_three_steps_with_momentum(augment: Siamese | None) -> None:
    context = Fresh(network=NETWORK, batch=5, augment=augment)
    solving = advanced(start(images(), FEATURES, Descent(lr=0.5, momentum=0.5, steps=3), context=context), 3)
    expected = by_hand(problem(images(), FEATURES, context=context), 3, 0.5, 0.5)
    torch.testing.assert_close(solving.parameters, expected, rtol=1e-5, atol=1e-5)
    initial = problem(images()).synthetic.initial(images().train, 0)["points"]
    assert float((solving.parameters["points"] - initial).abs().max()) > 1e-2


def test_one_shared_optimiser_is_stepped_once_a_class() -> None:
    solver = Descent(lr=0.5, momentum=0.5, steps=3, update="per_class_shared_state")
    solving = advanced(start(images(), FEATURES, solver, context=DM), 3)
    expected = by_hand(problem(images(), FEATURES, context=DM), 3, 0.5, 0.5, once_a_class=True)
    torch.testing.assert_close(solving.parameters, expected, rtol=1e-5, atol=1e-5)
    joint = by_hand(problem(images(), FEATURES, context=DM), 3, 0.5, 0.5)
    assert float((joint["points"] - expected["points"]).abs().max()) > 1e-3  # it is another algorithm


@pytest.mark.parametrize("form", STORED)
def test_three_steps_through_decoding(form: str) -> None:
    synthetic, lr = STORED[form]
    before = synthetic.initial(images().train, 0)
    for update in ("joint", "per_class_shared_state"):
        solver = Descent(lr=lr, momentum=0.5, steps=3, update=update)
        solving = advanced(start(images(), FEATURES, solver, context=DM, synthetic=synthetic), 3)
        some = problem(images(), FEATURES, context=DM, synthetic=synthetic)
        expected = by_hand(some, 3, lr, 0.5, once_a_class=update != "joint")
        torch.testing.assert_close(solving.parameters, expected, rtol=1e-5, atol=1e-5)
        for name, value in solving.parameters.items():
            assert float((value - before[name]).abs().max()) > 1e-3, name


@pytest.mark.parametrize("form", ["formation", "frequencies"])
def test_classes_in_turn_equal_the_joint_update_through_decoding(form: str) -> None:
    synthetic, lr = STORED[form]
    objective = FEATURES + 0.2 * TotalVariation() + CrossEntropy()
    made = [
        advanced(
            start(images(), objective, Descent(lr=lr, momentum=0.5, update=update), context=DM, synthetic=synthetic), 3
        )
        for update in ("joint", "per_class")
    ]
    torch.testing.assert_close(made[0].parameters, made[1].parameters, rtol=1e-4, atol=1e-5)


def test_an_optimiser_for_each_class_needs_parameters_that_no_two_share() -> None:
    message = (
        "'update' is per_class, an optimiser of its own for each class, but all classes share the parameter 'bases' of "
        "'bases'; use update: per_class_shared_state or joint"
    )
    with pytest.raises(InvalidInput, match=message):
        start(images(), FEATURES, Descent(update="per_class"), synthetic=Bases(per_class=2, number=5))


@pytest.mark.parametrize("form", STORED)
def test_the_loss_goes_down_to_what_the_form_can_reach(form: str) -> None:
    """That is what the means of the classes have outside the span of what decodes; bases that are learned leave nothing."""
    data, synthetic = images(), replace(STORED[form][0], start="noise")
    (name, stored), *_ = synthetic.initial(data.train, 0).items()
    unit = torch.eye(stored[0].numel()).reshape(-1, *stored[0].shape)
    means = data.train.class_means().flatten(1).T
    left = torch.zeros(())
    if form != "bases":
        span = synthetic.points({name: unit}, problem(data, synthetic=synthetic).layout).flatten(1).T
        if form == "formation":
            span = span.reshape(64, -1, 4).sum(2)  # the mean over cells
        left = (means - span @ torch.linalg.lstsq(span, means).solution).square().sum()
        assert float(left) > 5
    solving = start(data, PIXELS, Descent(optimizer="adam", lr=0.05, steps=300), context=Pool(), synthetic=synthetic)
    losses = [float(solving.advance().loss) for _ in range(300)]
    assert losses[0] > 40 + float(left)
    assert losses[-1] == pytest.approx(float(left), rel=1e-3, abs=1e-3 * losses[0])


@pytest.mark.parametrize("reduce", [Sum(), Mean(), Proportional()], ids=lambda item: item.kind)
def test_classes_in_turn_equal_the_joint_update_bit_for_bit(reduce: Reduction) -> None:
    objective = Match(MMD(), via=Identity(), reduce=reduce)
    made = [
        advanced(start(images(), objective, Descent(lr=3.0, momentum=0.5, steps=5, update=update), context=Pool()), 5)
        for update in ("joint", "per_class")
    ]
    assert_equal(made[0].parameters, made[1].parameters)


def test_classes_in_turn_equal_the_joint_update_with_a_network_and_penalties() -> None:
    objective = FEATURES + 0.2 * TotalVariation() + CrossEntropy()
    made = [
        advanced(start(images(), objective, Descent(lr=0.5, momentum=0.5, update=update), context=DM), 3)
        for update in ("joint", "per_class")
    ]
    torch.testing.assert_close(made[0].parameters, made[1].parameters, rtol=1e-4, atol=1e-5)


def test_the_record_is_the_loss_before_the_step() -> None:
    some = problem(images(), FEATURES + 0.5 * TotalVariation())
    values = some.engine(2).evaluate(decoded(some), 0)
    for update in ("joint", "per_class", "per_class_shared_state"):
        record = Descent(steps=2, lr=1e-6, update=update).start(some).advance()
        assert record.step == 0
        torch.testing.assert_close(record.loss, values.total, rtol=1e-4, atol=0)
        torch.testing.assert_close(dict(record.terms), dict(values.terms), rtol=1e-4, atol=0)


def test_the_loss_goes_down() -> None:
    solving = start(
        images(), PIXELS, Descent(lr=0.2, steps=60), context=Pool(), synthetic=Pixels(start="noise", per_class=2)
    )
    losses = [float(solving.advance().loss) for _ in range(60)]
    assert losses[-1] < 1e-3 * losses[0]


def test_points_stay_within_the_limits() -> None:
    data = images()
    solver, synthetic = Descent(lr=300.0, steps=3), Pixels(per_class=2, start="noise", clip=True)
    solving = advanced(start(data, PIXELS, solver, context=Pool(), synthetic=synthetic), 3)
    source = data.normalisation.invert(solving.parameters["points"].double())
    assert float(source.min()) > -1e-4
    assert float(source.max()) < 255 + 1e-4
