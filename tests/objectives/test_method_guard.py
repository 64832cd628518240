"""GUARD: gradient matching, on networks trained on the real data with a penalty on the curvature of the loss."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conformance import PRECISE, Trial, agree, trial
from small import images
from test_method_dc import gradient_matching
from torch import Tensor
from torch.nn import functional

from objectives.contexts import Trained
from objectives.rng import rng
from objectives.training.training import FlatTraining

DATA = images((8, 11, 13), channels=3)
SMALL = ("context.before=2", "context.keep=2", "context.training.steps=2", "context.training.batch=6")
H, BETA = 3.0, 1.0


def flat_losses(network: Any, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, order: str) -> Tensor:
    """loss(x) + β |loss(x + h z) - loss(x)|, the form of the code, or + β ‖∇loss(x + h z) - ∇loss(x)‖², that of the paper, of
    each example on its own; z is the gradient of the loss by the example, of length one, and constant."""
    values = []
    for example, label in zip(x, y, strict=True):

        def loss(point: Tensor, label: Tensor = label) -> Tensor:
            return functional.cross_entropy(network(weights, point[None])["logits"], label[None])

        here = example.clone().requires_grad_(True)
        at_here = loss(here)
        (slope,) = torch.autograd.grad(at_here, here, create_graph=True)
        z = slope.detach() / slope.detach().square().sum().sqrt()
        there = (example + H * z).requires_grad_(True)
        at_there = loss(there)
        if order == "first":
            bend = (at_there - at_here).abs()
        else:
            (other,) = torch.autograd.grad(at_there, there, create_graph=True)
            bend = (other - slope).square().sum()
        values.append(at_here + BETA * bend)
    return torch.stack(values)


class ByHand:
    """A network in training on minibatches of six real examples, with rate 0.01, momentum 0.9 and weight decay 0.0005."""

    def __init__(self, some: Trial, network: int) -> None:
        self.some, self.number, self.rounds = some, network, 0
        context = some.problem.context
        assert isinstance(context, Trained)
        assert isinstance(context.training, FlatTraining)
        self.network: Any = context.network
        self.order = context.training.order
        start = some.engine.bound_context.initial(network)
        self.weights = {name: value.clone().requires_grad_(True) for name, value in start.items()}
        self.optimiser = torch.optim.SGD(self.weights.values(), 0.01, momentum=0.9, weight_decay=5e-4)

    def round(self) -> None:
        labels, dtype = DATA.train.labels.numbers, self.some.dtype
        order = torch.randperm(len(labels), generator=rng(0, "train", self.number, self.rounds))
        for rows in (order[:6], order[6:12]):
            x = DATA.train.normalised(rows, dtype=dtype)
            losses = flat_losses(self.network, self.weights, x, labels[rows], self.order)
            self.optimiser.zero_grad()
            losses.mean().backward()
            self.optimiser.step()
        self.rounds += 1


@pytest.mark.conformance("guard")
@PRECISE
@pytest.mark.parametrize("order", ["first", "second"])
def test_flat_networks_and_the_matching_on_them(dtype: torch.dtype, order: str) -> None:
    """Two rounds, match, one round, match; then a new network, and the momentum of the images lasts."""
    some = trial("guard", (*SMALL, f"context.training.order={order}"), dtype=dtype, data=DATA)
    speed, hand = torch.zeros(()), None
    for step in range(3):
        if step in (0, 2):
            hand = ByHand(some, step // 2)
            before = {name: value.detach().clone() for name, value in hand.weights.items()}
            hand.round()
            hand.round()
            assert (
                max(float((hand.weights[name].detach() - value).abs().max()) for name, value in before.items()) > 1e-3
            )
        assert hand is not None
        sight, leaves = some.sight(), some.leaves()
        for name, value in hand.weights.items():
            agree(sight.weights[name] + 1, value.detach() + 1, dtype)
        loss = gradient_matching(sight, leaves, sight.weights)
        (slope,) = torch.autograd.grad(loss, leaves["points"])
        record = some.run.advance()
        speed = 0.5 * speed + slope
        agree(record.loss, loss.detach(), dtype)
        agree(some.run.parameters["points"], leaves["points"].detach() - 0.1 * speed, dtype)
        hand.round()


def test_the_networks_are_less_curved_than_those_of_the_same_training_without_it() -> None:
    """The mean of |loss(x + h z) - loss(x)| over the real examples, after as many minibatches."""
    settings = ("context.before=10", "context.training.steps=5", "context.training.batch=16")
    bends = []
    for factor in ("1.0", "1e-9"):
        some = trial("guard", (*settings, f"context.training.factor={factor}"), data=DATA)
        x, y = DATA.train.normalised(torch.arange(len(DATA.train)), dtype=torch.float64), DATA.train.labels.numbers
        weights, network = some.sight().weights, some.problem.context.network
        plain = functional.cross_entropy(some.sight().outputs(x)["logits"], y, reduction="none")
        bends.append(float((flat_losses(network, weights, x, y, "first") - plain).mean().detach()))
    assert 0 < bends[0] < 0.9 * bends[1]
