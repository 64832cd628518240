"""FRePo as its paper and its released code write it: the loss with the margin of the labels, the steps of the images, the
labels and the networks, and when these make way for new ones."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conformance import PRECISE, Sight, Trial, agree, same_value_and_gradient, trial
from test_method_kip import Adam
from torch import Tensor
from torch.nn import functional

SIX = "objective.terms.risk.match.learner.penalty=1.6666666666666667e-7"
"""1e-6 over six examples."""


def loss(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
    """½ mean ‖K_ts (K_ss + 1e-6 tr(K_ss)/m I)⁻¹ y_s - y_t‖² - mean min(y₁ - y₂, 1/c), features' inner products as kernel."""
    real = [sight.outputs(sight.real(label), "features")["features"].double() for label in sight.classes]
    told = [torch.full((len(part),), label) for label, part in zip(sight.classes, real, strict=True)]
    x, y = torch.cat(real), functional.one_hot(torch.cat(told), 3).double() - 1 / 3
    s, labels = sight.outputs(parameters["points"], "features")["features"].double(), parameters["labels"]
    gram = s @ s.mT
    gram = gram + 1e-6 * gram.trace() / len(s) * torch.eye(len(s)).double()
    predictions = x @ s.mT @ torch.linalg.solve(gram, labels.double() - 1 / 3)
    kernel = 0.5 * (predictions - y).square().sum(1).mean()
    ordered = labels.sort(1).values
    margin = (ordered[:, -1] - ordered[:, -2]).clamp(max=1 / 3).mean()
    return kernel.to(sight.trial.dtype) - margin


def near(some: Trial) -> Trial:
    """The same where the labels are no longer one-hot, so that some margins count and others have their most."""
    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).to(some.dtype)
    for leaves in some.run.leaves:
        with torch.no_grad():
            leaves["labels"] += 0.5 * noise
    return some


@pytest.mark.conformance("frepo")
@PRECISE
@pytest.mark.parametrize("norm", ["none", "instance"])
def test_value_and_gradient(dtype: torch.dtype, norm: str):
    some = near(trial("frepo", (SIX, f"context.network.norm={norm}"), dtype=dtype))
    labels = some.run.parameters["labels"].sort(1).values
    assert {bool(value) for value in labels[:, -1] - labels[:, -2] > 1 / 3} == {True, False}
    # Four channels and a depth of two leave 6 x 6 products of a large condition to single precision.
    same_value_and_gradient(some, loss, looser=20)


def taught(weights: Mapping[str, Tensor], rules: dict[str, Adam], some: Trial) -> dict[str, Tensor]:
    """One step of Adam on ½ mean ‖f(x) - y‖² over the synthetic examples as they are, with labels less 1/c."""
    network: Any = some.problem.context.network
    now = some.run.parameters
    leaves = {name: value.clone().requires_grad_(True) for name, value in weights.items()}
    logits = network(leaves, now["points"])["logits"]
    value = 0.5 * (logits - (now["labels"] - 1 / 3)).square().sum(1).mean()
    slopes = torch.autograd.grad(value, list(leaves.values()))
    return {
        name: rules.setdefault(name, Adam(3e-4)).step(leaf.detach(), slope)
        for (name, leaf), slope in zip(leaves.items(), slopes, strict=True)
    }


@pytest.mark.conformance("frepo")
def test_images_labels_and_networks_over_five_steps():
    """One network at a time that is old after one round: it has two rounds and a third step, and then comes another."""
    some = near(trial("frepo", (SIX, "context.size=1", "context.keep=1", "solver.steps=5")))
    assert (some.solver.optimizer, some.solver.lr, some.solver.update) == ("adam", 0.003, "joint")
    images: dict[str, Adam] = {name: Adam(0.003) for name in some.run.parameters}
    weights: Mapping[str, Tensor] = some.sight().weights
    rules: dict[str, Adam] = {}
    for age in (0, 1, 2, 0, 1):
        sight, leaves = some.sight(), some.leaves()
        if age == 0 and rules:
            assert not torch.equal(sight.weights["conv1.weight"], weights["conv1.weight"])
            weights, rules = sight.weights, {}
        for name, value in weights.items():
            agree(sight.weights[name], value, some.dtype, looser=1e5)
        value = loss(sight, leaves)
        slopes = torch.autograd.grad(value, list(leaves.values()))
        agree(some.run.advance().loss, value.detach(), some.dtype, looser=1e2)
        for (name, leaf), slope in zip(leaves.items(), slopes, strict=True):
            agree(some.run.parameters[name], images[name].step(leaf.detach(), slope), some.dtype, looser=1e5)
        if age < 2:
            weights = taught(sight.weights, rules, some)


def test_labels_start_one_hot_and_the_pool_is_that_of_the_code():
    some = trial("frepo")
    context: Any = some.problem.context
    assert torch.equal(some.run.parameters["labels"], functional.one_hot(some.problem.slots, 3).double())
    assert (context.size, context.keep, context.training.steps, context.training.batch) == (10, 100, 1, 1000)
    assert (context.network.growth, context.network.norm) == (2, "none")
    assert context.network.shapes((1, 32, 32), 10, ("features",)) == {"features": (8 * 8 * 8,)}
