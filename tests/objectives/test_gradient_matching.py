"""Gradient matching through the executor: DC's loss written out by hand, value, gradient and three steps."""

from typing import Any

import pytest
import torch
from small import decoded, images, problem, start
from torch import Tensor
from torch.nn import functional

from discrepancy import MMD, Gaussian, InvalidInput
from discrepancy.embeddings import LossGradient
from discrepancy.gradients import MeanGradients
from discrepancy.networks import ConvNet
from objectives import Fresh, Match, Siamese, Trained, Training
from objectives.solvers import Descent, Herding
from objectives.synthetic import Pixels

NETWORK = ConvNet(width=4, depth=2)


def parameter_gradients(
    parameters: dict[str, Tensor], points: Tensor, labels: Tensor, graph: bool
) -> dict[str, Tensor]:
    leaves = {name: value.clone().requires_grad_(True) for name, value in parameters.items()}
    loss = functional.cross_entropy(NETWORK(leaves, points)["logits"], labels)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), create_graph=graph), strict=True))


def dissimilarity(real: dict[str, Tensor], synthetic: dict[str, Tensor], form: str) -> Tensor:
    """DC: Σ over layers, then over output rows, of 1 - cos; biases and normalisations do not count."""
    total = torch.zeros(())
    for name, a in real.items():
        if a.ndim == 1:
            continue
        for row_a, row_b in zip(a.flatten(1), synthetic[name].flatten(1), strict=True):
            if form == "cosine":
                total = total + 1 - (row_a * row_b).sum() / (row_a.norm() * row_b.norm() + 1e-6)
            elif form == "mse":
                total = total + (row_a - row_b).square().sum()
            else:
                total = total + (row_a - row_b).abs().sum()
    return total


def by_hand(run: Any, points: Tensor, step: int, form: str) -> Tensor:
    """Σ over classes of the dissimilarity of the mean gradients of the real batch and of the synthetic examples."""
    executor, data = run.executor, run.problem.data
    scene = executor.scene(step)
    rows = torch.cat([part for _, part in executor.stage.real_parts(scene.draw, scene.parameters, scene.augmentation)])
    total = torch.zeros(())
    for label in range(data.count):
        own = rows[data.train.labels[rows] == label]
        real = data.normalisation.apply(data.train.points[own])
        mine = points[run.slots == label]
        if executor.stage.augment is not None:
            real, mine = (
                executor.stage.augment(x, scene.augmentation, torch.full((len(x),), label)) for x in (real, mine)
            )
        a = parameter_gradients(scene.parameters, real, torch.full((len(real),), label), False)
        b = parameter_gradients(scene.parameters, mine, torch.full((len(mine),), label), True)
        total = total + dissimilarity(a, b, form)
    return total


@pytest.mark.parametrize("form", ["cosine", "mse", "l1"])
@pytest.mark.parametrize("augment", [None, Siamese()], ids=["plain", "augmented"])
def test_three_steps_are_those_written_out(form: str, augment: Siamese | None):
    context = Trained(
        network=NETWORK, training=Training(on="synthetic", steps=2, lr=0.1), keep=2, batch=9, augment=augment
    )
    objective = Match(MeanGradients(form=form), via=LossGradient())  # pyright: ignore[reportArgumentType]
    run: Any = start(images(), objective, Descent(lr=0.1, momentum=0.5, steps=3), context=context)
    points, speed = run.parameters["points"], 0.0
    for step in range(3):
        leaf = points.clone().requires_grad_(True)
        loss = by_hand(run, leaf, step, form)
        (slope,) = torch.autograd.grad(loss, leaf)
        record = run.advance()
        torch.testing.assert_close(record.loss, loss.detach(), rtol=1e-5, atol=1e-5)
        speed = 0.5 * speed + slope
        points = points - 0.1 * speed
        torch.testing.assert_close(run.parameters["points"], points, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("update", ["per_class", "per_class_shared_state"])
def test_classes_in_turn_see_their_own_gradient(update: str):
    objective, context = Match(MeanGradients(), via=LossGradient()), Fresh(network=NETWORK, batch=5)
    options: dict[str, Any] = {"context": context}
    first: Any = start(images(), objective, Descent(lr=0.1, steps=1, update=update), **options)  # pyright: ignore
    joint: Any = start(images(), objective, Descent(lr=0.1, steps=1), **options)
    torch.testing.assert_close(first.advance().loss, joint.advance().loss)
    torch.testing.assert_close(first.parameters["points"], joint.parameters["points"])


def test_soft_labels_and_weights_are_learned_through_the_gradient():
    form = Pixels(per_class=2, labels="soft", weights="learned")
    some = problem(
        images(), Match(MeanGradients(), via=LossGradient()), context=Fresh(network=NETWORK, batch=5), synthetic=form
    )
    values = some.executor(1).evaluate(decoded(some), 0)
    assert all(bool(values.gradients[name].abs().sum() > 0) for name in ("points", "labels", "weights"))


def test_blocks_are_the_matrices_of_the_network():
    everything = problem(
        images(), Match(MeanGradients(), via=LossGradient(vectors=True)), context=Fresh(network=NETWORK, batch=5)
    ).executor(1)
    some = problem(
        images(),
        Match(MeanGradients(), via=LossGradient(leave_out=("linear",))),
        context=Fresh(network=NETWORK, batch=5),
    ).executor(1)
    names = set(everything.stage.parameters(0))
    assert set(everything.matches["mean_gradients"].discrepancies) == names
    chosen = set(some.matches["mean_gradients"].discrepancies)
    assert chosen == {n for n in names if everything.stage.parameters(0)[n].ndim > 1 and not n.startswith("linear")}


def test_only_means_can_be_matched():
    with pytest.raises(InvalidInput, match="has only the means of 'loss_gradient', and 'mmd' needs single points"):
        start(images(), Match(MMD(kernel=Gaussian()), via=LossGradient()), context=Fresh(network=NETWORK, batch=5))


def test_herding_by_gradients_is_refused():
    with pytest.raises(InvalidInput, match="'loss_gradient' of term 'mean_gradients' gives means"):
        start(
            images(), Match(MeanGradients(), via=LossGradient()), Herding(), context=Fresh(network=NETWORK, batch="all")
        )


def test_a_network_is_needed():
    with pytest.raises(InvalidInput, match="a term takes 'gradient' of the context's network, but it has none"):
        start(images(), Match(MeanGradients(), via=LossGradient()), context=Fresh(batch=5))
