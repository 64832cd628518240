"""ROME: the means of attacked examples, and the cross-entropy of the networks, as its code weighs them."""

from collections.abc import Mapping

import pytest
import torch
from conformance import CASES, Sight, Trial, same_steps, trial
from small import images
from test_method_idm import cells
from torch import Tensor
from torch.nn import functional

from objectives.rng import rng

DATA = images((8, 11, 13), channels=3)
NETWORK = "{kind: convnet, width: 4, depth: 2}"
TEACHER = f"objective.terms.robust.transform.teacher={{network: {NETWORK}, rounds: 1, training: {{steps: 3}}}}"
SMALL = ("context.size=1", "context.first=1", "context.training.steps=2", "context.training.batch=8", TEACHER)
ALPHA, EPS, STEP = 0.2, 8 / 255, 2 / 255


def attacked(some: Trial) -> Tensor:
    """All the real images after ten steps of PGD on the adversary's network, the worst that was visited, in grey levels."""
    data, transform = some.problem.data, dict(some.problem.objective.terms)["robust"].real_transform
    taught = transform.teacher.taught(data, seed=0)
    images, labels = data.rows().points.float() / 255, data.labels.numbers
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) / 255 for v in (data.normalisation.mean, data.normalisation.std))

    def losses(x: Tensor) -> Tensor:
        logits = taught.logits(taught.members[0], (x - mean) / std)
        return functional.cross_entropy(logits, labels, reduction="none")

    start = EPS * (2 * torch.rand(images.shape, generator=rng(0, "transform", "adversarial", 0)) - 1)
    best, worst = images, losses(images).detach()
    x = (images + start).clamp(0, 1)
    for step in range(11):
        x = x.detach().requires_grad_()
        values = losses(x)
        higher = values.detach() > worst
        best = torch.where(higher[:, None, None, None], x.detach(), best)
        worst = torch.where(higher, values.detach(), worst)
        if step < 10:
            (slope,) = torch.autograd.grad(values.sum(), [x])
            x = (x.detach() + STEP * slope.sign()).clamp(0, 1)
            x = torch.minimum(torch.maximum(x, images - EPS), images + EPS)
    return data.rows().points + ((best - images) * 255 * (1 + 1e-4)).trunc()


@pytest.mark.conformance("rome")
@CASES
def test_steps_are_those_of_the_weighted_sum(dtype: torch.dtype, settings: tuple[str, ...]) -> None:
    """(1 - α) mean cross-entropy + α Σ_c ‖mean ψ(A(attacked real)) - mean ψ(A(cells))‖², α = 0.2."""
    some = trial("rome", (*SMALL, *settings), dtype=dtype, data=DATA)
    data, moved = some.problem.data, attacked(some)
    assert float((moved - data.rows().points).abs().max()) == 8
    points = data.normalisation.apply(moved, dtype)

    def loss(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
        total, surprises = torch.zeros((), dtype=dtype), []
        for label in sight.classes:
            real = points[sight.rows[data.labels.numbers[sight.rows] == label]]
            own = cells(parameters["images"][some.problem.slots == label])
            a, b = sight.augmented(real, label), sight.augmented(own, label)
            means = [sight.outputs(x, "features")["features"].mean(0) for x in (a, b)]
            total = total + (means[0] - means[1]).square().sum()
            logits = sight.outputs(b)["logits"]
            surprises.append(functional.cross_entropy(logits, torch.full((len(b),), label), reduction="none"))
        return (1 - ALPHA) * torch.cat(surprises).mean() + ALPHA * total

    same_steps(some, loss)
