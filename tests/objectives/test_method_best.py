"""The library's own hybrid: features of networks in training and what these know, on a part of the enlarged cells, by Adam."""

from collections.abc import Mapping

import pytest
import torch
from conformance import AUGMENTED, PRECISE, Sight, Trial, agree, same_value_and_gradient, trial
from small import images
from torch import Tensor
from torch.nn import functional

from objectives.streams import stream

DATA = images((8, 11, 13), channels=3)
KNOWN = ("context.size=1", "context.first=1", "context.training.steps=2", "context.training.batch=8")
"""One network, which is trained after every step."""

WEIGHT = 20.0


def four_of_one(sight: Sight, stored: Tensor, label: int) -> Tensor:
    """The four quarters of each image of a class, its pixels from 0 to 1, at the full size, one image after the other."""
    problem = sight.trial.problem
    own, half = stored[problem.slots == label], stored.shape[-1] // 2
    cells = [own[..., i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
    grown = torch.stack([functional.interpolate(cell, own.shape[2:], mode="bilinear") for cell in cells], 1)
    mean, std = (
        torch.tensor(values, dtype=stored.dtype).reshape(-1, 1, 1) / 255
        for values in (problem.data.normalisation.mean, problem.data.normalisation.std)
    )
    return (grown.flatten(0, 1) - mean) / std


def known(some: Trial) -> float:
    """The share of the examples of its training so far that the network of the step that comes next told rightly."""
    saved = some.executor.bank.state()["trainees"].get(0, {"right": 0, "shown": 0})
    return saved["right"] / max(saved["shown"], 1)


def of_class(sight: Sight, cells: Tensor, label: int) -> Tensor:
    """‖mean ψ(A(real)) - mean ψ(A(cells))‖² + 20 · accuracy · mean cross-entropy of the cells."""
    real, mine = sight.augmented(sight.real(label), label), sight.augmented(cells, label)
    a, b = (sight.outputs(x, "features")["features"].mean(0) for x in (real, mine))
    surprise = functional.cross_entropy(sight.outputs(mine)["logits"], torch.full((len(mine),), label))
    return (a - b).square().sum() + WEIGHT * known(sight.trial) * surprise


def of_all(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
    stored = parameters["images"]
    return torch.stack([of_class(sight, four_of_one(sight, stored, label), label) for label in sight.classes]).sum()


@PRECISE
@AUGMENTED
@pytest.mark.parametrize("rounds", [0, 2], ids=["new", "trained"])
def test_value_and_gradient(dtype: torch.dtype, settings: tuple[str, ...], rounds: int):
    some = trial("best", (*KNOWN, *settings), dtype=dtype, data=DATA)
    for _ in range(rounds):
        some.run.advance()
    assert (known(some) > 0) == (rounds > 0)
    same_value_and_gradient(some, of_all)


@AUGMENTED
def test_steps_of_adam_on_a_part_of_the_cells(settings: tuple[str, ...]):
    """m ← 0.9 m + 0.1 ∇, v ← 0.999 v + 0.001 ∇², x ← x - 0.01 m̂ / (√v̂ + 1e-8), held between 0 and 1; ∇ is of five of the eight
    cells of each class."""
    some = trial("best", (*KNOWN, *settings, "solver.batch=5"), data=DATA)
    first, second = 0.0, 0.0
    for step in range(3):
        sight, stored = some.sight(), some.leaves()["images"]
        losses = []
        for label in sight.classes:
            chosen = torch.randperm(8, generator=stream(0, "synthetic", step, label))[:5]
            losses.append(of_class(sight, four_of_one(sight, stored, label)[chosen], label))
        (slope,) = torch.autograd.grad(torch.stack(losses).sum(), stored)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope.square()
        speed = first / (1 - 0.9 ** (step + 1)) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        record = some.run.advance()
        agree(record.loss, torch.stack(losses).sum().detach(), some.dtype)
        agree(some.run.parameters["images"], (stored.detach() - some.solver.lr * speed).clamp(0, 1), some.dtype)
    assert known(some) > 0


def test_networks_of_mixed_ages_learn_from_the_real_examples():
    context = trial("best", data=DATA).problem.context
    ages = {context.at(step, 0).network for step in range(40)}
    assert ages == {0, 1, 2, 3}
    assert context.lessons is not None
    assert context.lessons.training.on == "real"
