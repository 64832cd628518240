"""Adversarial and sharpness-aware training: their gradients written out, and their place in contexts and protocols."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from experiments.evaluate.protocol import Protocol
from objectives.attacks import FGSM, PGD, UnitSpace, attacked
from objectives.contexts import Trained
from objectives.engine.extractor import Extractor
from objectives.engine.runtime import Runtime
from objectives.solvers import Descent
from objectives.terms.match import Match
from objectives.training.batch_gradient import PlainGradient
from objectives.training.robust_gradient import AdversarialGradient, SharpnessAwareGradient
from objectives.training.training import AdversarialTraining, SharpnessAwareTraining, Training
from tests.objectives.small import NETWORK, images, start

DATA = images()
SPACE = UnitSpace.of(DATA)
PLAIN = PlainGradient(NETWORK, "cross_entropy", 7)  # in several chunks


def batch() -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    parameters = {n: v.requires_grad_() for n, v in NETWORK.initial(generator, (1, 8, 8), 3).items()}
    points = DATA.train.normalised(torch.arange(20))
    targets = functional.one_hot(DATA.train.labels.numbers[:20], 3).float()
    return parameters, points, targets, torch.rand(20, generator=generator)


def loss(parameters: dict[str, Tensor], points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    logits = NETWORK(parameters, points)["logits"]
    return (weights * functional.cross_entropy(logits, targets, reduction="none")).sum()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def test_the_adversarial_gradient_is_that_at_the_points_of_the_attack() -> None:
    parameters, points, targets, weights = batch()
    attack = PGD(eps=0.1, steps=3)
    found = AdversarialGradient(PLAIN, attack, SPACE)(parameters, points, targets, weights, 7, generator())
    fixed = {name: value.detach() for name, value in parameters.items()}
    moved = attacked(
        attack,
        lambda unit: NETWORK(fixed, SPACE.to_normalised(unit))["logits"],
        SPACE.to_unit(points),
        targets,
        SPACE.ball,
        generator(),
    ).points
    there = loss(parameters, SPACE.to_normalised(moved), targets, weights)
    expected = torch.autograd.grad(there, list(parameters.values()))
    for value, gradient in zip(parameters.values(), expected, strict=True):
        torch.testing.assert_close(value.grad, gradient, atol=1e-5, rtol=1e-4)
    assert found["loss"] > loss(parameters, points, targets, weights)


def test_the_sharpness_aware_gradient_is_that_a_step_of_the_radius_uphill() -> None:
    parameters, points, targets, weights = batch()
    found = SharpnessAwareGradient(PLAIN, 0.3)(parameters, points, targets, weights, 7, generator())
    here = loss(parameters, points, targets, weights)
    slopes = torch.autograd.grad(here, list(parameters.values()))
    length = math.sqrt(sum(float(slope.square().sum()) for slope in slopes))
    above = {
        n: (v + 0.3 * s / length).detach().requires_grad_()
        for (n, v), s in zip(parameters.items(), slopes, strict=True)
    }
    expected = torch.autograd.grad(loss(above, points, targets, weights), list(above.values()))
    for value, gradient in zip(parameters.values(), expected, strict=True):
        torch.testing.assert_close(value.grad, gradient, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["loss"], here.detach())


def test_a_step_uphill_has_the_length_of_the_radius_where_the_loss_is_nearly_flat() -> None:
    """Weights of 1e-28 stand for a network that is as sure of its classes: squares of its slopes are zero in float32."""
    gradients = []
    for factor in (1.0, 1e-28):
        parameters, points, targets, weights = batch()
        SharpnessAwareGradient(PLAIN, 0.3)(parameters, points, targets, factor * weights, 7, generator())
        gradients.append(torch.cat([value.grad.flatten() for value in parameters.values() if value.grad is not None]))
    torch.testing.assert_close(1e28 * gradients[1], gradients[0], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "training",
    [
        AdversarialTraining(steps=2, batch=9, lr=0.05, attack=PGD(eps=0.05, steps=2)),
        SharpnessAwareTraining(steps=2, batch=9, lr=0.05, radius=0.1),
    ],
)
def test_a_context_trains_its_networks_so_and_continues_bit_for_bit(training: Training) -> None:
    def solving(kind: Training = training) -> Any:
        context = Trained(network=NETWORK, batch=5, training=kind, before=1)
        return start(DATA, Match(MMD(), via=Features()), Descent(lr=0.5, steps=4), context=context)

    whole, first, plain = solving(), solving(), solving(Training(steps=2, batch=9, lr=0.05))
    for _ in range(4):
        whole.advance()
        plain.advance()
    for _ in range(2):
        first.advance()
    second = solving()
    second.restore(first.state())
    for _ in range(2):
        second.advance()
    assert torch.equal(whole.parameters["points"], second.parameters["points"])
    assert not torch.equal(whole.parameters["points"], plain.parameters["points"])


def test_passes_are_counted_for_the_dry_run() -> None:
    assert Training().passes_each == 3
    assert SharpnessAwareTraining().passes_each == 6
    assert AdversarialTraining(attack=FGSM()).passes_each == 7
    assert AdversarialTraining(attack=PGD(steps=7, restarts=2)).passes_each == 3 + 1 + 2 * 22
    adversarial = Protocol(epochs=10, attack=FGSM())
    assert adversarial.passes(30, 100) == 7 * 10 * 30 + 100


def test_the_counted_passes_are_those_that_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"forward": 0, "backward": 0}
    parameters, points, targets, weights = batch()
    forward, backward = type(NETWORK).__call__, torch.autograd.grad

    def network(self: Any, parameters: Any, points: Tensor, *rest: Any) -> Any:
        counted["forward"] += len(points)
        return forward(self, parameters, points, *rest)

    def grad(*args: Any, **kwargs: Any) -> Any:
        counted["backward"] += len(points)
        return backward(*args, **kwargs)

    monkeypatch.setattr(type(NETWORK), "__call__", network)
    monkeypatch.setattr(torch.autograd, "grad", grad)
    attack = PGD(eps=0.1, steps=3, restarts=2)
    AdversarialGradient(PLAIN, attack, SPACE)(parameters, points, targets, weights, 7, generator())
    made = counted["forward"] + 2 * counted["backward"] - len(points)  # without the pass of the step itself
    assert made == attack.passes * len(points)


def test_a_protocol_with_an_attack_is_another_protocol() -> None:
    assert Protocol().hash == Protocol(attack=None).hash
    assert Protocol().hash != Protocol(attack=PGD()).hash
    assert Protocol(attack=PGD()).hash != Protocol(attack=PGD(steps=3)).hash


def test_a_radius_of_weights_must_be_positive() -> None:
    with pytest.raises(InvalidInput, match="'radius' must be > 0"):
        SharpnessAwareTraining(radius=0.0)


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # as in test_compile.py
def test_compiled_and_eager_adversarial_gradients_agree() -> None:
    from objectives.engine.batch_gradient import batch_gradient

    extractor = Extractor(NETWORK, ("logits",), (1, 8, 8), 3, Runtime())
    training = AdversarialTraining(attack=PGD(eps=0.05, steps=2))
    gradients = []
    for compiled in (False, True):
        parameters, points, targets, weights = batch()
        made = batch_gradient(extractor, training, DATA, "cross_entropy", compiled=compiled)
        made(parameters, points, targets, weights, made.size(20), generator())
        gradients.append([value.grad for value in parameters.values()])
    for eager, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(eager, fast, atol=1e-4, rtol=1e-3)
