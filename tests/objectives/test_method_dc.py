"""DC and DSA as their papers and their released loop write them: the loss, its second-order gradient, and three steps with
the training of the network in between."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conformance import PRECISE, Sight, Trial, agree, same_value_and_gradient, trial
from torch import Tensor
from torch.nn import functional

from objectives.contexts import Trained
from objectives.training.trainer import NetworkTrainer

LOOPS = ("context.keep=2", "context.training.epochs=2", "context.training.batch=4", "context.training.lr=0.1")
"""Two steps a network, and two epochs in between, whose six examples make a minibatch of four and one of two."""

METHODS = pytest.mark.parametrize("name", ["dc", "dsa"])


def gradient(sight: Sight, weights: Mapping[str, Tensor], points: Tensor, label: int, graph: bool) -> list[Tensor]:
    """∇_θ of the mean cross-entropy, of convolutions and the linear layer; no biases, nothing of normalisations."""
    network: Any = sight.trial.problem.context.network
    leaves = {name: value.clone().requires_grad_(True) for name, value in weights.items()}
    logits = network(leaves, points)["logits"]
    loss = functional.cross_entropy(logits, torch.full((len(points),), label))
    slopes = torch.autograd.grad(loss, list(leaves.values()), create_graph=graph)
    return [slope for slope in slopes if slope.ndim > 1]


def layer_distance(a: Tensor, b: Tensor, form: str) -> Tensor:
    """Equation 9 and the code: Σ over output rows of 1 - ⟨a, b⟩ / (‖a‖ ‖b‖ + 1e-6)."""
    if form == "mse":
        return (a - b).square().sum()
    if form == "l1":
        return (a - b).abs().sum()
    rows = zip(a.flatten(1), b.flatten(1), strict=True)
    return torch.stack([1 - (r * s).sum() / (r.norm() * s.norm() + 1e-6) for r, s in rows]).sum()


def gradient_matching(
    sight: Sight, parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor] | None = None, form: str = "cosine"
) -> Tensor:
    """Σ over classes and layers of the distance of the two gradients, both sides under one draw of the augmentation."""
    weights = sight.weights if weights is None else weights
    total = torch.zeros((), dtype=sight.trial.dtype)
    for label in sight.classes:
        real, mine = sight.sides(parameters["points"], label)
        a, b = gradient(sight, weights, real, label, False), gradient(sight, weights, mine, label, True)
        total = total + sum(layer_distance(x, y, form) for x, y in zip(a, b, strict=True))
    return total


def trained(some: Trial, weights: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """The weights after two epochs of plain gradient descent on the synthetic set as it is."""
    problem, points, context = some.problem, some.run.parameters["points"], some.problem.context
    assert isinstance(context, Trained)
    network, training = context.network, context.training
    assert training.epochs is not None
    for _ in range(training.epochs):
        for rows in torch.randperm(len(points), generator=generator).split(training.batch):
            batch = points[rows]
            if training.augment is not None:
                draws = training.augment.draw_batch(generator, len(batch), tuple(batch.shape[1:]))
                batch = training.augment(batch, draws, torch.arange(len(batch)))
            leaves = {name: value.clone().requires_grad_(True) for name, value in weights.items()}
            loss = functional.cross_entropy(network(leaves, batch)["logits"], problem.slots[rows])
            slopes = torch.autograd.grad(loss, list(leaves.values()))
            weights = {
                name: value.detach() - training.lr * slope
                for (name, value), slope in zip(leaves.items(), slopes, strict=True)
            }
    return dict(weights)


@pytest.mark.conformance("dc", "dsa")
@METHODS
@pytest.mark.parametrize(
    ("dtype", "form"),
    [(torch.float32, "cosine"), (torch.float64, "cosine"), (torch.float64, "mse"), (torch.float64, "l1")],
)
def test_value_and_gradient(dtype: torch.dtype, name: str, form: str):
    some = trial(name, (f"objective.terms.gradients.match.form={form}",), dtype=dtype)
    same_value_and_gradient(some, lambda sight, parameters: gradient_matching(sight, parameters, form=form))


@pytest.mark.filterwarnings("ignore:batch normalisation")  # of a set this small
@PRECISE
def test_batch_normalisation_sees_one_class_at_a_time(dtype: torch.dtype):
    same_value_and_gradient(trial("dc", ("context.network.norm=batch",), dtype=dtype), gradient_matching)


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> list[torch.Generator]:
    """Copies of the generators of all rounds of training, as they were before: they decide on the minibatches."""
    found: list[torch.Generator] = []
    whole = NetworkTrainer.round

    def spied(self: NetworkTrainer, gradient: Any, training_data: Any, generator: torch.Generator) -> Any:
        copy = torch.Generator()
        copy.set_state(generator.get_state())
        found.append(copy)
        return whole(self, gradient, training_data, generator)

    monkeypatch.setattr(NetworkTrainer, "round", spied)
    return found


@pytest.mark.conformance("dc", "dsa")
@PRECISE
@METHODS
def test_two_outer_and_two_inner_loops(dtype: torch.dtype, name: str, generators: list[torch.Generator]):
    """Match, train, match, new network, match: momentum of the images lasts, and the last match trains nothing."""
    some = trial(name, LOOPS, dtype=dtype)
    weights, speed = {}, 0.0
    for step in range(3):
        sight, leaves = some.sight(), some.leaves()
        if step in (0, 2):
            weights = dict(sight.weights)
        for key, value in sight.weights.items():
            torch.testing.assert_close(value, weights[key], rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
        loss = gradient_matching(sight, leaves, weights)
        (slope,) = torch.autograd.grad(loss, leaves["points"])
        record = some.run.advance()
        speed = 0.5 * speed + slope
        agree(record.loss, loss.detach(), dtype)
        agree(some.run.parameters["points"], leaves["points"].detach() - 0.1 * speed, dtype)
        if step == 0:
            before, weights = weights, trained(some, weights, generators[0])
            assert any(float((weights[key] - before[key]).abs().max()) > 1e-3 for key in weights)
        assert len(generators) == (1 if step < 2 else 2)


@METHODS
def test_the_gradient_is_the_slope_of_the_loss(name: str):
    """Central differences of the engine's own value, with the network of the first step and with a trained one."""
    some = trial(name, LOOPS)
    for _ in range(2):
        points, step = some.run.parameters["points"], 1e-5
        direction = torch.randn(points.shape, generator=torch.Generator().manual_seed(0), dtype=points.dtype)

        def evaluated(moved: Tensor) -> Any:
            decoded = some.problem.synthetic.decode({"points": moved.requires_grad_(True)}, some.problem.layout)
            return some.engine.evaluate(decoded, some.run.step)

        slope = (evaluated(points.clone()).gradients["points"] * direction).sum()
        there, back = (evaluated(points + sign * step * direction).total for sign in (1, -1))
        torch.testing.assert_close((there - back) / (2 * step), slope, rtol=1e-6, atol=1e-6)
        some.run.advance()


@METHODS
@pytest.mark.parametrize(
    ("size", "loops"), [(1, (1, 1)), (2, (5, 50)), (10, (10, 50)), (20, (20, 25)), (49, (40, 15)), (50, (50, 10))]
)
def test_loops_by_examples_a_class(name: str, size: int, loops: tuple[int, int]):
    context: Any = trial(name, size=size).problem.context
    assert (context.keep, context.training.epochs) == loops
    assert (context.training.augment is not None) == (name == "dsa")
    assert (context.training.momentum, context.training.weight_decay, context.training.batch) == (0, 0, 256)
