"""IDC: gradients of the convolutions on enlarged cells, and its loop over classes and networks, as its code has them."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conformance import PRECISE, Sight, Trial, agree, same_value_and_gradient, trial
from small import images
from torch import Tensor
from torch.nn import functional

from objectives.data.labelled import Normalisation
from objectives.rng import rng

DATA = images((8, 11, 13), channels=3)
SMALL = ("context.training.steps=2", "context.training.batch=6")
METRIC = pytest.mark.parametrize("metric", ["mse", "l1"])


def standardised(pixels: Tensor, units: Normalisation) -> Tensor:
    """Pixels in 0 .. 1 as the network sees them."""
    mean, std = (torch.tensor(value, dtype=pixels.dtype)[:, None, None] / 255 for value in (units.mean, units.std))
    return (pixels - mean) / std


def cells(pixels: Tensor) -> Tensor:
    """The four quarters of every image, each enlarged to its full size."""
    half = pixels.shape[-1] // 2
    quarters = [pixels[:, :, i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
    return torch.cat([functional.interpolate(x, scale_factor=2, mode="bilinear") for x in quarters])


def convolutions(sight: Sight, points: Tensor, label: int, graph: bool) -> list[Tensor]:
    """The gradients of the mean cross-entropy by the weights of the convolutions."""
    network: Any = sight.trial.problem.context.network
    weights = {name: value.detach().clone().requires_grad_(True) for name, value in sight.weights.items()}
    loss = functional.cross_entropy(network(weights, points)["logits"], torch.full((len(points),), label))
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=graph)
    return [gradient for gradient in gradients if gradient.ndim == 4]


def of_class(sight: Sight, parameters: Mapping[str, Tensor], label: int) -> Tensor:
    """Σ over convolutions of Σ (a - b)², or of Σ |a - b|."""
    problem = sight.trial.problem
    own = cells(standardised(parameters["images"][problem.slots == label], problem.data.normalisation))
    real, mine = sight.augmented(sight.real(label), label), sight.augmented(own, label)
    match: Any = problem.objective.terms[0][1]
    power = {"mse": 2, "l1": 1}[match.match.form]
    pairs = zip(convolutions(sight, real, label, False), convolutions(sight, mine, label, True), strict=True)
    return torch.stack([(a - b).abs().pow(power).sum() for a, b in pairs]).sum()


def of_all(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([of_class(sight, parameters, label) for label in sight.classes]).sum()


@pytest.mark.conformance("idc")
@METRIC
@pytest.mark.parametrize(
    ("dtype", "settings", "steps"),
    [(torch.float32, ("context.augment=null",), 0), (torch.float64, (), 1)],
    ids=["float32-plain-new", "float64-augmented-trained"],
)
def test_value_and_gradient(dtype: torch.dtype, metric: str, settings: tuple[str, ...], steps: int):
    form = f"objective.terms.gradients.match.form={metric}"
    some = trial("idc", (*SMALL, form, *settings), dtype=dtype, data=DATA)
    for _ in range(steps):
        some.run.advance()
    same_value_and_gradient(some, of_all)


def taught(some: Trial, weights: Mapping[str, Tensor], optimiser: Any, network: int, rounds: int) -> None:
    """One round on the real data: colours and shifts of each image, then CutMix with probability one half."""
    training: Any = some.problem.context.training  # pyright: ignore[reportAttributeAccessIssue]
    architecture: Any = some.problem.context.network
    generator, labels = rng(0, "train", network, rounds), DATA.train.labels.numbers
    order = torch.randperm(len(labels), generator=generator)
    for rows in (order[:6], order[6:12]):
        x = standardised(DATA.train.points[rows].to(some.dtype) / 255, DATA.normalisation)
        x = training.augment(x, training.augment.draw_batch(generator, 6, (3, 8, 8)), torch.arange(6))
        draws = training.mix.draw(generator, 6, (3, 8, 8))
        top, bottom, left, right = draws["box"].tolist()
        partner, ratio = draws["partner"], 1 - (bottom - top) * (right - left) / 64
        mixed = x.clone()
        mixed[:, :, top:bottom, left:right] = x[partner][:, :, top:bottom, left:right]
        logits = architecture(weights, mixed)["logits"]
        y, other = labels[rows], labels[rows[partner]]
        loss = ratio * functional.cross_entropy(logits, y) + (1 - ratio) * functional.cross_entropy(logits, other)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.conformance("idc")
@PRECISE
@METRIC
def test_the_loop(dtype: torch.dtype, metric: str):
    """Two steps a network; in each the classes take turns on one optimiser with momentum 0.5, whose speed stays when the
    network goes; then the network has its round. Pixels come back to 0 .. 1 only where a network ends."""
    settings = (f"objective.terms.gradients.match.form={metric}", "context.keep=2", "solver.project_every=2")
    some = trial("idc", (*SMALL, *settings, "solver.steps=4", "solver.lr=0.3"), dtype=dtype, data=DATA)
    pixels, speed, outside = some.leaves()["images"].detach(), torch.zeros(()), 0
    weights, optimiser = {}, None
    for step in range(4):
        if step % 2 == 0:
            start = some.engine.bound_context.initial(step // 2)
            weights = {name: value.clone().requires_grad_(True) for name, value in start.items()}
            optimiser = torch.optim.SGD(weights.values(), 0.01, momentum=0.9, weight_decay=5e-4)
        sight = some.sight()
        for name, value in weights.items():
            agree(sight.weights[name] + 1, value.detach() + 1, dtype)
        values = []
        for label in sight.classes:
            leaf = pixels.clone().requires_grad_(True)
            values.append(of_class(sight, {"images": leaf}, label))
            (slope,) = torch.autograd.grad(values[-1], leaf)
            speed = 0.5 * speed + slope
            pixels = pixels - 0.3 * speed
        outside += int(((pixels < 0) | (pixels > 1)).sum())
        if step % 2:
            pixels = pixels.clamp(0, 1)
        else:
            taught(some, weights, optimiser, step // 2, 0)
        record = some.run.advance()
        agree(record.loss, torch.stack(values).sum().detach(), dtype)
        agree(some.run.parameters["images"], pixels, dtype, looser=10)
    assert outside > 0


def test_the_settings_are_those_of_the_code():
    some = trial("idc", data=DATA)
    solver, context = some.solver, some.problem.context
    assert (solver.lr, solver.momentum, solver.batch) == (0.005, 0.5, 128)
    assert (context.keep, solver.project_every) == (100, 100)  # pyright: ignore[reportAttributeAccessIssue]
    assert [trial("idc", size=size, data=DATA).solver.lr for size in (1, 10, 50)] == [0.0005, 0.005, 0.025]
