"""Input gradients, Jacobians and curvature: by finite differences, as penalties of a run, and in training."""

import math
from typing import Any

import pytest
import torch
from small import NETWORK, decoded, images, problem, start
from torch import Tensor
from torch.nn import functional

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from discrepancy.networks import MLP
from objectives.contexts import Fresh, Trained
from objectives.solvers import Descent
from objectives.terms.match import Match
from objectives.terms.penalty import Penalised, Penalty
from objectives.terms.smoothness import Curvature, InputGradient, Jacobian
from objectives.training.batch_gradient import PlainGradient
from objectives.training.robust_gradient import FlatGradient
from objectives.training.smoothness import curvatures, input_gradients, squared_jacobians
from objectives.training.training import FlatTraining, Training

SMOOTH = MLP(width=6, depth=2, activation="sigmoid")
WEIGHTS = {
    name: value.double() * 5 for name, value in SMOOTH.initial(torch.Generator().manual_seed(3), (4,), 3).items()
}
POINTS = torch.randn(5, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
LABELS = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0.2, 0.3, 0.5]], dtype=torch.float64)
MASS = torch.tensor([1.0, 2.0, 0.5, 0.0, 3.0], dtype=torch.float64)


def classify(x: Tensor) -> Tensor:
    return SMOOTH(WEIGHTS, x, ("logits",))["logits"]


def losses(x: Tensor) -> Tensor:
    return functional.cross_entropy(classify(x), LABELS, reduction="none")


def differences(function: Any, x: Tensor, h: float = 1e-6) -> Tensor:
    """The derivative of (n,) values or (n, k) by the input of the same row, by central differences: (n, d) or (n, k, d)."""
    columns = [
        (function(x + h * unit) - function(x - h * unit)) / (2 * h) for unit in torch.eye(x.shape[1], dtype=x.dtype)
    ]
    return torch.stack(columns, -1)


@pytest.mark.parametrize("gap", [20.0, 60.0])
def test_a_network_that_is_sure_of_a_class_is_flat(gap: float) -> None:
    """f(x) = (gap, x₁²): with p = exp(x₁² - gap), the slope is 2 x₁ p, whose square is zero in float32 at the larger gap. From
    x₁ = 1 to 2 the curvature is (4 exp(4 - gap) - 2 exp(1 - gap))²."""
    x = torch.tensor([[1.0, 5.0]])

    def loss(x: Tensor) -> Tensor:
        return functional.cross_entropy(torch.stack([0 * x[:, 0] + gap, x[:, 0].square()], 1), torch.tensor([0]))[None]

    expected = (4 * math.exp(4 - gap) - 2 * math.exp(1 - gap)) ** 2
    assert curvatures(loss, x, 1.0, "second").item() == pytest.approx(expected, rel=1e-4)
    assert curvatures(loss, x, 1.0, "first").item() == pytest.approx(math.exp(4 - gap) - math.exp(1 - gap), abs=1e-6)


def test_values_are_those_of_finite_differences() -> None:
    slopes = differences(losses, POINTS)
    torch.testing.assert_close(input_gradients(losses, POINTS), slopes, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(
        squared_jacobians(classify, POINTS), differences(classify, POINTS).square().sum((1, 2)), atol=1e-6, rtol=1e-5
    )
    moved = POINTS + 0.7 * slopes / slopes.norm(dim=1, keepdim=True)
    bent = (differences(losses, moved) - slopes).square().sum(1)
    torch.testing.assert_close(curvatures(losses, POINTS, 0.7, "second"), bent, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        curvatures(losses, POINTS, 0.7, "first"), (losses(moved) - losses(POINTS)).abs(), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("penalty", [InputGradient(), Jacobian()])
def test_the_gradient_by_the_points_is_that_of_finite_differences(penalty: Any) -> None:
    points = POINTS.clone().requires_grad_()
    value = penalty.of_network(classify, points, LABELS, MASS)
    (found,) = torch.autograd.grad(value, [points])
    each = differences(lambda x: penalty.values_of_network(classify, x, LABELS).detach(), POINTS, 1e-5)
    torch.testing.assert_close(found, MASS[:, None] * each / MASS.sum(), atol=1e-6, rtol=1e-4)
    assert float(found.abs().max()) > 1e-3


def test_the_gradient_of_curvature_holds_the_direction_fixed() -> None:
    slopes = input_gradients(losses, POINTS).detach()
    direction = slopes / slopes.norm(dim=1, keepdim=True)

    def bent(x: Tensor) -> Tensor:
        there, here = input_gradients(losses, x + 0.7 * direction), input_gradients(losses, x)
        return (there - here).detach().square().sum(1)

    points = POINTS.clone().requires_grad_()
    value = Curvature(step=0.7).of_network(classify, points, LABELS, MASS)
    (found,) = torch.autograd.grad(value, [points])
    expected = MASS[:, None] * differences(bent, POINTS, 1e-5) / MASS.sum()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_no_slope_is_no_curvature() -> None:
    for order in ("first", "second"):
        points = torch.zeros(3, 2, requires_grad=True)
        value = curvatures(lambda x: 0 * x.sum(1) + 1, points, 1.0, order).sum()
        assert value.item() == 0.0
        (slope,) = torch.autograd.grad(value, [points])
        assert torch.equal(slope, torch.zeros(3, 2))


@pytest.mark.parametrize("penalty", [InputGradient(), Jacobian(), Curvature(step=0.5), Curvature(order="first")])
def test_a_run_with_the_penalty(penalty: Penalty) -> None:
    """Its value and its gradient are those of the formula at the synthetic points as they are."""
    some = problem(images(), Penalised(penalty=penalty), context=Fresh(network=NETWORK))
    engine = some.engine(3, 6)
    now = decoded(some)
    found = engine.evaluate(now, 0)
    network, parameters = some.context.network, engine.real_side.at(0).parameters
    assert network is not None
    labels = functional.one_hot(some.slots, 3).float()
    points = now.points.detach().requires_grad_()
    value = penalty.of_network(
        lambda x: network(parameters, x, ("logits",))["logits"], points, labels, torch.ones(len(points))
    )
    torch.testing.assert_close(found.total, value.detach())
    torch.testing.assert_close(found.gradients["points"], torch.autograd.grad(value, [points])[0])
    by_class = problem(images(), Penalised(penalty=penalty, by="class"), context=Fresh(network=NETWORK))
    assert by_class.engine(3, 6).evaluate(decoded(by_class), 0).total == pytest.approx(3 * value.item(), rel=1e-5)


def test_it_adds_to_an_objective_and_continues_bit_for_bit() -> None:
    objective = Match(MMD(), via=Features()) + 0.3 * Curvature(step=0.5)

    def solving() -> Any:
        return start(images(), objective, Descent(lr=0.5, steps=4))

    whole, first, second = solving(), solving(), solving()
    records = [whole.advance() for _ in range(4)]
    assert set(records[0].terms) == {"mmd", "curvature"}
    for _ in range(2):
        first.advance()
    second.restore(first.state())
    for _ in range(2):
        second.advance()
    assert torch.equal(whole.parameters["points"], second.parameters["points"])


def test_the_gradient_of_flat_training_is_that_of_the_sum() -> None:
    weights = {name: value.clone().requires_grad_() for name, value in WEIGHTS.items()}
    gradient = FlatGradient(PlainGradient(SMOOTH, "cross_entropy", 2), 0.7, "second", 0.25)
    found = gradient(weights, POINTS, LABELS, MASS, 2, torch.Generator())
    leaves = {name: value.clone().requires_grad_() for name, value in WEIGHTS.items()}

    def own(x: Tensor) -> Tensor:
        return functional.cross_entropy(SMOOTH(leaves, x, ("logits",))["logits"], LABELS, reduction="none")

    x = POINTS.clone().requires_grad_()
    (here,) = torch.autograd.grad(own(x).sum(), [x], create_graph=True)
    moved = (POINTS + 0.7 * here / here.norm(dim=1, keepdim=True)).detach().requires_grad_()
    (there,) = torch.autograd.grad(own(moved).sum(), [moved], create_graph=True)
    total = (MASS * (own(POINTS) + 0.25 * (there - here).square().sum(1))).sum()
    torch.testing.assert_close(found["loss"], total.detach())
    for leaf, slope in zip(weights.values(), torch.autograd.grad(total, list(leaves.values())), strict=True):
        torch.testing.assert_close(leaf.grad, slope)


def test_flat_training_flattens() -> None:
    """Trained so, networks have less curvature at the real examples than those trained plainly, at the same steps."""
    data, found = images(), []
    for training in (
        Training(steps=30, batch=31, lr=0.1),
        FlatTraining(steps=30, batch=31, lr=0.1, step=1.0, factor=5.0),
    ):
        context = Trained(network=NETWORK, batch=5, training=training, before=1)
        solving = start(data, Match(MMD(), via=Features()), Descent(steps=1), context=context)
        parameters = solving.engine.real_side.at(0).parameters
        labels = functional.one_hot(data.train.labels.numbers, 3).float()

        def own(x: Tensor, parameters: Any = parameters, labels: Tensor = labels) -> Tensor:
            return functional.cross_entropy(NETWORK(parameters, x)["logits"], labels, reduction="none")

        found.append(curvatures(own, data.train.normalised(torch.arange(31)), 1.0, "second").mean().item())
    assert found[1] < 0.5 * found[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curvature(step=0.0), "'step' must be > 0"),
        (lambda: FlatTraining(factor=-1.0), "'factor' must be > 0"),
        (lambda: start(images(), Curvature().as_objective(), context=Fresh()), "needs|network"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()
