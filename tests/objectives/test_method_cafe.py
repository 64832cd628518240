"""CAFE: its three terms, and its loops that end by accuracies, as its code has them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from conformance import CASES, PRECISE, Sight, Trial, agree, same_steps, trial
from torch import Tensor
from torch.nn import functional

from objectives.rng import rng

WATCH = ("context.watch.window=2", "context.watch.examples=6", "context.watch.settled=0.05", "context.watch.most=4")
ONE_NETWORK = ("context.watch=null", "context.keep=5")


def loss(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
    """0.1 ‖Δ₁‖² + 1 ‖Δ₂‖² of the maps before pooling (of three layers: 0.1, 0.1, 1) + ‖Δ‖² of the last ones after it, once as a
    layer and once as features, all summed over classes and entries, + 0.01 Σ cross-entropy(f(x) · class means of f(S), y) where
    there are 2,560 real x."""
    alike, means, real, labels = [], [], [], []
    weights = {"activation1": 0.1, "activation2": 1.0}
    for label in sight.classes:
        x, s = (sight.outputs(side, "activations", "features") for side in sight.sides(parameters["points"], label))
        for name, weight in weights.items():
            alike.append(weight * (x[name].mean(0) - s[name].mean(0)).square().sum())
        pooled = functional.avg_pool2d(x["activation2"], 2).flatten(1)
        torch.testing.assert_close(pooled, x["features"])
        alike += 2 * [(pooled.mean(0) - s["features"].mean(0)).square().sum()]
        means.append(s["features"].mean(0))
        real.append(x["features"])
        labels += len(pooled) * [label]
    scores = torch.cat(real) @ torch.stack(means).T
    surprise = functional.cross_entropy(scores, torch.tensor(labels), reduction="sum")
    return torch.stack(alike).sum() + 0.01 * 2560 / len(labels) * surprise


# The network of the trials has two layers, of which the last has weight 1, as the third of three has in the file.
LAYERS = ("objective.terms.layers.layer_weights={activation1: 0.1}",)


def small(*settings: str, dtype: torch.dtype) -> Trial:
    return trial("cafe", (*LAYERS, *settings), dtype=dtype)


@pytest.mark.conformance("cafe")
@CASES
def test_three_steps(dtype: torch.dtype, settings: tuple[str, ...]):
    same_steps(small(*ONE_NETWORK, *settings, dtype=dtype), loss)


def test_the_rate_is_halved_where_it_is_asked_for():
    scheduler = ("solver.scheduler=multisteplr", "solver.scheduler_options={gamma: 0.5, milestones: [1, 2]}")
    some = small(*ONE_NETWORK, *scheduler, dtype=torch.float64)
    points, speed = some.run.parameters["points"].clone(), 0.0
    for rate in (0.1, 0.05, 0.025):
        leaf = points.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(some.sight(), {"points": leaf}), leaf)
        speed = 0.5 * speed + slope
        points = points - rate * speed
        some.run.advance()
        agree(some.run.parameters["points"], points, torch.float64)


class Pupil:
    """A network, and what the code measures of it."""

    def __init__(self, some: Trial, number: int) -> None:
        self.some, self.weights = some, dict(some.engine.bound_context.initial(number))

    def logits(self, points: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        network = self.some.problem.context.network
        assert network is not None
        return network(weights or self.weights, points, ("logits",))["logits"]

    def epoch(self, points: Tensor) -> None:
        """One step of descent: the whole synthetic set is one minibatch."""
        leaves = {name: value.clone().requires_grad_(True) for name, value in self.weights.items()}
        surprise = functional.cross_entropy(self.logits(points, leaves), self.some.problem.slots)
        slopes = torch.autograd.grad(surprise, list(leaves.values()))
        self.weights = {
            name: leaf.detach() - 0.01 * slope for (name, leaf), slope in zip(leaves.items(), slopes, strict=True)
        }

    def accuracy(self, *names: Any) -> float:
        """The mean over the classes of that on six real examples of each, drawn anew."""
        data, found = self.some.problem.data, []
        rows = data.class_batch(rng(0, "watch", *names), 6)
        for label in range(data.count):
            own = rows[data.labels.numbers[rows] == label]
            assert len(own) == 6
            points = data.normalisation.apply(data.rows(own).points, self.some.dtype)
            found.append((self.logits(points).argmax(1) == label).double().mean().item())
        return sum(found) / len(found)


@pytest.mark.conformance("cafe")
@PRECISE
def test_the_loops(dtype: torch.dtype):
    """A network has steps until its accuracy settles (λ_1), each followed by epochs until it has moved (λ_2); the momentum of
    the synthetic points lasts over the networks."""
    steps = 8
    some = small(*WATCH, "context.keep=3", f"solver.steps={steps}", dtype=dtype)
    points, speed, number = some.run.parameters["points"].clone(), 0.0, 0
    pupil, outer, ends, lengths = Pupil(some, 0), [], set(), set()
    for step in range(steps):
        sight, leaf = replace(some.sight(), weights=pupil.weights), points.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(sight, {"points": leaf}), leaf)
        speed = 0.5 * speed + slope
        points = points - 0.1 * speed
        some.run.advance()
        agree(some.run.parameters["points"], points, dtype)
        outer.append(pupil.accuracy("step", step))
        if len(outer) == 3 or (len(outer) == 2 and max(outer) - min(outer) < 0.05):
            ends.add(len(outer))
            number, outer = number + 1, []
            pupil = Pupil(some, number)
            continue
        inner: list[float] = []
        while len(inner) < 4:
            pupil.epoch(points)
            inner.append(pupil.accuracy("round", step, len(inner)))
            if len(inner) >= 2 and abs(inner[-1] - inner[-2]) > 0.03:
                break
        lengths.add(len(inner))
    assert number >= 2
    assert len(ends) == len(lengths) == 2


def test_settings_are_those_of_the_code():
    found = trial("cafe")
    terms: dict[str, Any] = dict(found.problem.objective.terms)
    assert dict(terms["layers"].layer_weights) == {"activation1": 0.1, "activation2": 0.1}
    assert (terms["features"].weight, terms["discrimination"].weight) == (2, 25.6)
    watch = found.problem.context.watch  # pyright: ignore[reportAttributeAccessIssue]
    assert (watch.window, watch.settled, watch.moved) == (10, 0.04, 0.03)
    assert (found.solver.lr, found.solver.momentum) == (0.1, 0.5)
