"""Optimisers, their rates and schedulers, and what is refused."""

import math
from typing import Any

import pytest
import torch
from small import decoded, images, problem, start, unchecked
from solving import FEATURES, PIXELS, advanced

from discrepancy import MMD
from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from discrepancy.reductions import Max
from objectives.contexts import Context, Fresh, Pool
from objectives.solvers import Descent
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match


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
