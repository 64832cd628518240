"""Descent: against loops written by hand, the three ways to update, every form of the synthetic set, optimisers by name, and
resumption bit for bit."""

import io
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small import NETWORK, decoded, images, problem, start, table, unchecked
from torch import Tensor

from discrepancy import MMD
from discrepancy.embeddings import Features, Identity
from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from objectives.contexts import Context, Fresh, Pool
from objectives.solvers import Descent, Problem, Solving
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.penalties import CrossEntropy, TotalVariation
from objectives.terms.reductions import Max, Mean, Proportional, Reduction, Sum
from objectives.training.augmentation import Siamese

PIXELS = Match(MMD(), via=Identity())
FEATURES = Match(MMD(), via=Features())
DM = Fresh(network=NETWORK, batch=5, augment=Siamese())


def advanced(solving: Solving, steps: int) -> Solving:
    for _ in range(steps):
        solving.advance()
    return solving


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.equal(second[name]), name


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


# --- steps by hand ----------------------------------------------------------------------------------------------------


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


STORED: dict[str, tuple[Parameterisation, float]] = {
    "formation": (Formation(per_class=1), 0.5),
    "frequencies": (Frequencies(per_class=2, keep=4), 0.5),
    "bases": (Bases(per_class=2, number=5), 0.01),
}
"""Other forms than pixels, each with a learning rate."""


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


# --- optimisers and schedulers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "AdamW", "RMSprop", "adagrad", "NAdam"])
def test_optimisers_by_name_in_any_case(name: str) -> None:
    solving = advanced(start(images(), PIXELS, Descent(optimizer=name, lr=0.01, steps=2), context=Pool()), 2)
    some = problem(images(), PIXELS, context=Pool())
    engine = some.engine(2)
    x = torch.nn.Parameter(decoded(some).points.detach().clone())
    kind = next(value for key, value in vars(torch.optim).items() if key.lower() == name.lower())
    optimiser = kind([x], lr=0.01)
    for step in range(2):
        here = some.synthetic.decode({"points": x}, some.layout)
        x.grad = engine.evaluate(here, step).gradients["points"]
        optimiser.step()
    torch.testing.assert_close(solving.parameters["points"], x.detach(), rtol=1e-6, atol=1e-7)


def test_rates_of_single_parameters() -> None:
    solver = Descent(lr=0.1, rates=(("weights", 7.0),), scheduler="exponentiallr", scheduler_options=(("gamma", 0.5),))
    groups = solver.optimise({"points": torch.zeros(1), "weights": torch.zeros(1)}).param_groups
    assert [group["lr"] for group in groups] == [0.1, 7.0]


def test_rates_and_options_may_be_mappings() -> None:
    with unchecked():
        made = Descent(rates={"weights": 7.0}, options={"weight_decay": 0.1})  # pyright: ignore[reportArgumentType]
    assert made == Descent(rates=(("weights", 7.0),), options=(("weight_decay", 0.1),))


def test_scheduler_sets_the_rate_of_each_step() -> None:
    options = {"lr": 0.5, "steps": 3}
    scheduled = start(
        images(),
        PIXELS,
        Descent(**options, scheduler="StepLR", scheduler_options=(("step_size", 1), ("gamma", 0.1))),
        context=Pool(),
    )
    plain = start(images(), PIXELS, Descent(**options), context=Pool())
    moves = []
    for solving in (scheduled, plain):
        before = solving.parameters["points"]
        moves.append([])
        for _ in range(2):
            solving.advance()
            after = solving.parameters["points"]
            moves[-1].append(float((after - before).abs().max()))
            before = after
    assert moves[0][0] == moves[1][0]
    assert moves[0][1] == pytest.approx(0.1 * moves[1][1], rel=1e-3)


def test_reduce_on_plateau_sees_the_loss() -> None:
    solver = Descent(
        lr=1e-9,
        scheduler="reducelronplateau",
        scheduler_options=(("patience", 1), ("factor", 0.5), ("cooldown", 0)),
        steps=4,
    )
    solving: Any = start(images(), PIXELS, solver, context=Pool())
    rates = []
    for _ in range(4):
        solving.advance()
        rates.append(solving.optimisers[0].param_groups[0]["lr"])
    assert rates == [1e-9, 1e-9, 1e-9, 1e-9]  # a change below eps = 1e-8 is none
    solver = Descent(
        lr=1e-4,
        scheduler="reducelronplateau",
        scheduler_options=(("patience", 1), ("factor", 0.5), ("threshold", 0.99)),
        steps=4,
    )
    solving = start(images(), PIXELS, solver, context=Pool())
    rates = []
    for _ in range(4):
        solving.advance()
        rates.append(solving.optimisers[0].param_groups[0]["lr"])
    assert rates == [1e-4, 1e-4, 5e-5, 5e-5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "'steps' must be at least 1, got 0"),
        ({"lr": -1.0}, "'lr' must be > 0 and finite, got -1.0"),
        ({"lr": math.nan}, "'lr' must be > 0 and finite, got nan"),
        ({"rates": (("labels", 0.0),)}, "'labels' must be > 0 and finite, got 0.0"),
        ({"optimizer": "adamm"}, r"'optimizer' is 'adamm', which is none of torch's; did you mean 'adam'\? \(known: "),
        ({"optimizer": "lbfgs"}, "'optimizer' is 'lbfgs', which is none of torch's"),
        ({"scheduler": "cosine"}, "'scheduler' is 'cosine', which is none of torch's"),
        ({"scheduler": "step_lr"}, "did you mean 'steplr'"),
        (
            {"options": (("wieght_decay", 0.1),)},
            "'options' has 'wieght_decay', which torch's SGD does not take; did you mean 'weight_decay'",
        ),
        ({"options": (("params", 0.1),)}, "'options' has 'params', which torch's SGD does not take"),
        ({"options": (("weight_decay", -1.0),)}, "'options' do not suit torch's SGD: Invalid weight_decay"),
        ({"momentum": 0.5, "optimizer": "adam"}, "'momentum' is 0.5, but torch's Adam has none; leave it out"),
        ({"scheduler": "steplr"}, "'scheduler_options' do not suit torch's StepLR: .*step_size"),
        (
            {"scheduler": "steplr", "scheduler_options": (("stepsize", 3),)},
            "'scheduler_options' has 'stepsize', which torch's StepLR does not take; did you mean 'step_size'",
        ),
        ({"update": "jointly"}, "'update' must be one of joint, per_class, per_class_shared_state; got 'jointly'"),
    ],
    ids=lambda item: next(iter(item.items()))[0] if isinstance(item, dict) else "",
)
def test_refused_when_made(options: dict[str, Any], message: str) -> None:
    with unchecked(), pytest.raises(InvalidInput, match=message):
        Descent(**options)


BATCH = Fresh(network=ConvNet(width=8, depth=2, norm="batch"), batch=4)


@pytest.mark.filterwarnings("ignore:batch normalisation of")
@pytest.mark.parametrize("update", ["per_class", "per_class_shared_state"])
@pytest.mark.parametrize(
    ("objective", "context", "message"),
    [
        (Match(MMD(), by="none"), Pool(), "needs a sum over classes, but term 'mmd' is by: none and reduce: sum"),
        (Match(MMD(), reduce=Max()), Pool(), "needs a sum over classes, but term 'mmd' is by: class and reduce: max"),
        (FEATURES, BATCH, "'convnet' with batch normalisation sees the classes of a batch together; use update: joint"),
    ],
    ids=["none", "max", "batch-norm"],
)
def test_updates_by_class_need_a_sum_over_classes(
    update: Any, objective: Match, context: Context, message: str
) -> None:
    with pytest.raises(InvalidInput, match=f"'update' is {update}, .*{message}"):
        start(images(), objective, Descent(update=update), context=context)
    start(images(), objective, Descent(), context=context)


def test_rates_name_learned_parameters() -> None:
    with pytest.raises(InvalidInput, match=r"'rates' name \['labels'\], but the learned parameters are \['points'\]"):
        start(images(), PIXELS, Descent(rates=(("labels", 1.0),)), context=Pool())


def test_every_group_needs_a_synthetic_example() -> None:
    data = images(groups=torch.arange(31) % 3)
    objective = Match(MMD(), by="group")
    with pytest.raises(InvalidInput, match=r"no synthetic example belongs to group \d; raise 'per_class', which is 1"):
        start(data, objective, context=Pool(), synthetic=Pixels(per_class=1))
    start(data, objective, context=Pool(), synthetic=Pixels(per_class=3))


# --- resume -----------------------------------------------------------------------------------------------------------

RESUMED: dict[str, tuple[Descent, Context, Parameterisation]] = {
    "sgd": (Descent(lr=0.5, momentum=0.5, steps=6), DM, Pixels(per_class=2)),
    "adam": (Descent(optimizer="adam", lr=0.05, steps=6), DM, Pixels(per_class=2)),
    "cosine": (
        Descent(lr=0.5, momentum=0.9, scheduler="cosineannealinglr", scheduler_options=(("T_max", 6),), steps=6),
        DM,
        Pixels(per_class=2),
    ),
    "cycle": (
        Descent(
            lr=0.1,
            momentum=0.9,
            scheduler="onecyclelr",
            scheduler_options=(("max_lr", 0.5), ("total_steps", 6)),
            steps=6,
        ),
        DM,
        Pixels(per_class=2),
    ),
    "plateau": (
        Descent(lr=0.5, scheduler="reducelronplateau", scheduler_options=(("patience", 0),), steps=6),
        DM,
        Pixels(per_class=2),
    ),
    "per-class": (Descent(lr=0.5, momentum=0.5, steps=6, update="per_class"), DM, Pixels(per_class=2)),
    "shared-state": (
        Descent(optimizer="adamw", lr=0.05, steps=6, update="per_class_shared_state"),
        DM,
        Pixels(per_class=2),
    ),
    "labels-and-weights": (
        Descent(lr=0.2, momentum=0.5, rates=(("labels", 0.1), ("weights", 0.3)), steps=6),
        DM,
        Pixels(per_class=2, labels="soft", weights="learned", clip=True),
    ),
    "pool": (
        Descent(lr=0.5, momentum=0.5, steps=6),
        Pool(network=NETWORK, size=2, augment=Siamese(), augmentations=2),
        Pixels(per_class=2, start="class-mean"),
    ),
} | {
    f"{form}-{update}": (
        Descent(lr=lr, momentum=0.5, rates=(("labels", 0.1), ("weights", 0.3)), steps=6, update=update),
        DM,
        replace(synthetic, labels="soft", weights="learned"),
    )
    for form, (synthetic, lr) in STORED.items()
    for update in ("joint", "per_class", "per_class_shared_state")
    if not (synthetic.shared and update == "per_class")
}


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("case", RESUMED)
def test_three_and_three_steps_equal_six_bit_for_bit(case: str) -> None:
    solver, context, synthetic = RESUMED[case]
    objective = FEATURES + 0.1 * TotalVariation() + 0.1 * CrossEntropy()

    def begin() -> Solving:
        return start(images(), objective, solver, context=context, synthetic=synthetic)

    whole, first = advanced(begin(), 6), advanced(begin(), 3)
    saved = through_a_file(first.state())
    second = begin()
    second.restore(saved)
    assert second.step == 3
    advanced(second, 3)
    assert_equal(second.parameters, whole.parameters)
    for name, value in begin().parameters.items():
        assert not value.equal(whole.parameters[name]), f"'{name}' did not move"


def test_a_state_does_not_change_when_the_run_goes_on() -> None:
    solver = Descent(optimizer="adam", lr=0.05, steps=6)
    first = advanced(start(images(), FEATURES, solver), 2)
    state = first.state()
    advanced(first, 4)
    for _ in range(2):  # nor when another run goes on from it
        second = start(images(), FEATURES, solver)
        second.restore(state)
        assert_equal(advanced(second, 4).parameters, first.parameters)


def test_a_state_of_other_shapes_is_refused() -> None:
    state = start(images(), FEATURES).state()
    other = start(images(), FEATURES, synthetic=Pixels(per_class=3))
    with pytest.raises(
        InvalidInput, match=r"'state' has parameters of shapes \{'points': \(6, 1, 8, 8\)\}, but this run has"
    ):
        other.restore(state)


def test_the_same_seed_gives_the_same_set_and_another_gives_another() -> None:
    made = [advanced(start(images(), FEATURES, context=DM, seed=seed), 3).parameters for seed in (0, 0, 5)]
    assert_equal(made[0], made[1])
    assert not made[0]["points"].equal(made[2]["points"])


def test_no_global_generator_is_touched() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with unchecked():  # the checks themselves draw from Python's generator
        advanced(start(images(), FEATURES, context=DM), 2)
        advanced(start(table(), PIXELS, context=Fresh(batch=4), synthetic=Pixels(start="noise")), 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
