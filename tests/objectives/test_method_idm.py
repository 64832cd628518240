"""IDM: matching, weighted cross-entropy and the queue of networks in training, as its code has them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from conformance import CASES, PRECISE, Sight, Trial, agree, same_turns, trial
from small import images
from torch import Tensor
from torch.nn import functional

from objectives.rng import rng

DATA = images((8, 11, 13), channels=3)
SMALL = ("context.training.steps=2", "context.training.batch=8")
KNOWN = ("context.size=1", "context.first=1", *SMALL)
"""One network, which is trained after every step."""

IN_PERCENT = 0.5


def cells(stored: Tensor) -> Tensor:
    """Partition and expansion: the four quarters of every image, each enlarged to its full size."""
    half = stored.shape[-1] // 2
    quarters = [
        stored[:, :, :half, :half],
        stored[:, :, half:, :half],
        stored[:, :, :half, half:],
        stored[:, :, half:, half:],
    ]
    return torch.cat([functional.interpolate(x, scale_factor=2, mode="bilinear") for x in quarters])


def of_class(sight: Sight, parameters: Mapping[str, Tensor], label: int, accuracy: Tensor | float) -> Tensor:
    """‖mean ψ(A(real)) - mean ψ(A(cells))‖² + 0.5 · accuracy in percent · mean cross-entropy of the cells."""
    own = cells(parameters["images"][sight.trial.problem.slots == label])
    real, mine = sight.augmented(sight.real(label), label), sight.augmented(own, label)
    a, b = (sight.outputs(x, "features")["features"].mean(0) for x in (real, mine))
    logits = sight.outputs(mine)["logits"]
    surprise = functional.cross_entropy(logits, torch.full((len(mine),), label))
    return (a - b).square().sum() + IN_PERCENT * (100 * accuracy) * surprise


def accuracy(some: Trial) -> Tensor:
    """That of the network of the step that comes next, in the examples that it was trained on so far."""
    saved = some.engine.networks.state()["trainers"].get(0, {"correct": 0, "shown": 0})
    return torch.tensor(saved["correct"], dtype=some.dtype) / max(saved["shown"], 1)


def at_once(sight: Sight, parameters: Mapping[str, Tensor], label: int) -> Tensor:
    return of_class(sight, parameters, label, accuracy(sight.trial))


@pytest.mark.conformance("idm")
@CASES
def test_classes_take_turns_on_one_optimiser(dtype: torch.dtype, settings: tuple[str, ...]):
    some = trial("idm", (*KNOWN, *settings), dtype=dtype, data=DATA)
    assert accuracy(some) == 0
    same_turns(some, at_once)
    assert accuracy(some) > 0


class Pupil:
    """A network of the code's list, with its optimiser and its meter, which are lists there."""

    def __init__(self, some: Trial, number: int) -> None:
        self.some, self.number, self.rounds, self.right, self.shown = some, number, 0, 0, 0
        self.weights = dict(some.engine.bound_context.initial(number))
        self.speeds: dict[str, Any] = dict.fromkeys(self.weights, 0.0)

    def learn(self) -> None:
        """A round by SGD with momentum and weight decay on random real minibatches, counting what is right before each step."""
        some, data = self.some, self.some.problem.data
        order = torch.randperm(len(data), generator=rng(0, "train", self.number, self.rounds))
        for rows in order[:16].split(8):
            x, y = data.normalisation.apply(data.rows(rows).points, some.dtype), data.labels.numbers[rows]
            leaves = {name: value.clone().requires_grad_(True) for name, value in self.weights.items()}
            network = some.problem.context.network
            assert network is not None
            logits = network(leaves, x, ("logits",))["logits"]
            slopes = torch.autograd.grad(functional.cross_entropy(logits, y), list(leaves.values()))
            for (name, leaf), slope in zip(leaves.items(), slopes, strict=True):
                self.speeds[name] = 0.9 * self.speeds[name] + slope + 0.0005 * leaf.detach()
                self.weights[name] = leaf.detach() - 0.01 * self.speeds[name]
            self.right += int((logits.argmax(1) == y).sum())
            self.shown += len(y)
        self.rounds += 1


@pytest.mark.conformance("idm")
@PRECISE
def test_the_loop_with_its_queue(dtype: torch.dtype):
    """The list of networks, their training and their meters, and a step for each class, all written out. What is random (the
    network of a step and those that learn after it) is taken as it was drawn."""
    settings = (
        *SMALL,
        "context.size=3",
        "context.first=2",
        "context.every=2",
        "context.trained_after=2",
        "context.recount=4",
    )
    some = trial("idm", (*settings, "solver.steps=6"), dtype=dtype, data=DATA)
    queue, solver, new = some.problem.context, some.solver, 1
    trained_after, speed, known = [Pupil(some, 0)], 0.0, []
    stored = some.run.parameters["images"].clone()
    for step in range(6):
        if step == 4:
            for pupil in trained_after:
                pupil.right = pupil.shown = 0
        if step % 2 == 0:
            trained_after = [*trained_after[len(trained_after) == 3 :], Pupil(some, new)]
            new += 1
        by_number = {pupil.number: pupil for pupil in trained_after}
        used = by_number[queue.at(step, 0).network]
        share = used.right / used.shown if used.shown else 0.0
        known.append(share)
        sight = replace(some.sight(), weights=used.weights)
        for label in sight.classes:
            leaf = stored.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(of_class(sight, {"images": leaf}, label, share), leaf)
            speed = solver.momentum * speed + slope
            stored = stored - solver.lr * speed
        some.run.advance()
        agree(some.run.parameters["images"], stored, dtype)
        for number in queue.training_schedule.trained_after(step, 0):
            by_number[number].learn()
    assert [pupil.number for pupil in trained_after] == [1, 2, 3]
    assert len({share for share in known if share > 0}) >= 2


def test_settings_are_those_of_the_code():
    found = trial("idm", data=DATA)
    solver, terms = found.solver, dict(found.problem.objective.terms)
    assert (solver.lr, solver.momentum, solver.update) == (0.2, 0.5, "per_class_shared_state")
    assert terms["classes"].weight == 100 * IN_PERCENT
    assert dict(trial("idm", data=DATA, size=50).problem.objective.terms)["classes"].weight == 100 * 0.1
