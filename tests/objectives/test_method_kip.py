"""KIP as its paper and its released code write it: the loss, its gradient, Adam's steps, and the label solve."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conformance import PRECISE, Sight, agree, same_value_and_gradient, trial
from small import images, problem, start, table
from torch import Tensor
from torch.nn import functional

from discrepancy import Gaussian, InvalidInput, Risk
from discrepancy.learning.learners import KernelRidge
from objectives import Fresh, Match, Pixels, Pool
from objectives.solvers import Descent
from objectives.solvers.labels import LabelSolve
from objectives.synthetic.formation import Formation

MEAN = "objective.terms.risk.weight=0.16666666666666666"
"""Half the mean over three classes."""
SIX = "objective.terms.risk.match.learner.penalty=1.6666666666666667e-7"
"""1e-6 over six examples."""
APART = (MEAN, SIX, "synthetic.start=noise")
"""Nowhere at a real example, where the kernel has a kink."""
LEARNED = ("synthetic.labels=learned",)
SOLVED = (*LEARNED, "solver.solve_labels=true")


def ntk(x: Tensor, y: Tensor) -> Tensor:
    """Of one hidden layer of ReLU, weights of variance 2 and biases of 0.01: the arc-cosine kernels of orders 1 and 0."""
    d = x.shape[1]
    first = 2 * x @ y.mT / d + 0.01
    lengths = [(2 * side.square().sum(1) / d + 0.01).sqrt() for side in (x, y)]
    size = lengths[0][:, None] * lengths[1]
    # The cosine of a point with itself is exactly one.
    angle = (first / size).clamp(-1 + 1e-15, 1 - 1e-15).acos()
    order1 = size * (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)
    order0 = (math.pi - angle) / (2 * math.pi)
    return 2 * order1 + 0.01 + 2 * first * order0


def own(x: Tensor) -> Tensor:
    """The same of points with themselves, with the diagonal where no angle is."""
    first = 2 * x.square().sum(1) / x.shape[1] + 0.01
    return ntk(x, x) * (1 - torch.eye(len(x)).double()) + torch.diag(first + 0.01 + first)


def sides(sight: Sight, parameters: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Points and centred labels, of the real examples and of the synthetic ones."""
    real = [sight.real(label).flatten(1).double() for label in sight.classes]
    told = [torch.full((len(part),), label) for label, part in zip(sight.classes, real, strict=True)]
    x, y = torch.cat(real), functional.one_hot(torch.cat(told), 3).double() - 1 / 3
    slots = sight.trial.problem.slots
    labels = parameters.get("labels", functional.one_hot(slots, 3)).double() - 1 / 3
    return x, y, parameters["points"].flatten(1).double(), labels


def risk(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
    """0.5 mean (K_ts (K_ss + 1e-6 tr(K_ss)/m I)⁻¹ y_s - y_t)² over examples and classes."""
    x, y, s, labels = sides(sight, parameters)
    gram = own(s)
    gram = gram + 1e-6 * gram.trace() / len(s) * torch.eye(len(s)).double()
    predictions = ntk(x, s) @ torch.linalg.solve(gram, labels)
    return (0.5 * (predictions - y).square().mean()).to(sight.trial.dtype)


def best(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
    """The labels of least risk, by least squares."""
    x, y, s, _ = sides(sight, parameters)
    gram = own(s)
    gram = gram + 1e-6 * gram.trace() / len(s) * torch.eye(len(s)).double()
    factors = torch.linalg.solve(gram, ntk(x, s).mT).mT
    return torch.linalg.lstsq(factors, y).solution + 1 / 3


class Adam:
    """v ← β₂ v + (1 - β₂) g², u ← β₁ u + (1 - β₁) g, S ← S - η û / (√v̂ + ε)."""

    def __init__(self, rate: float) -> None:
        self.rate, self.steps, self.mean, self.square = rate, 0, 0.0, 0.0

    def step(self, value: Tensor, slope: Tensor) -> Tensor:
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * slope
        self.square = 0.999 * self.square + 0.001 * slope**2
        mean, square = self.mean / (1 - 0.9**self.steps), self.square / (1 - 0.999**self.steps)
        return value - self.rate * mean / (square.sqrt() + 1e-8)


@pytest.mark.conformance("kip")
@PRECISE
@pytest.mark.parametrize("settings", [(), LEARNED], ids=["fixed", "learned"])
def test_value_and_gradient(dtype: torch.dtype, settings: tuple[str, ...]):
    same_value_and_gradient(trial("kip", (*APART, *settings), dtype=dtype), risk)


@pytest.mark.conformance("kip")
@pytest.mark.parametrize("settings", [(), LEARNED], ids=["fixed", "learned"])
def test_three_steps_of_adam(settings: tuple[str, ...]):
    """In float64: Adam divides by a gradient's own size, and so makes much of rounding."""
    some = trial("kip", (*APART, *settings))
    assert (some.solver.optimizer, some.solver.lr) == ("adam", 0.04)
    rules = {name: Adam(0.04) for name in some.run.parameters}
    for _ in range(3):
        leaves = some.leaves()
        value = risk(some.sight(), leaves)
        slopes = torch.autograd.grad(value, list(leaves.values()))
        agree(some.run.advance().loss, value.detach(), some.dtype)
        for (name, leaf), slope in zip(leaves.items(), slopes, strict=True):
            agree(some.run.parameters[name], rules[name].step(leaf.detach(), slope), some.dtype, looser=1e3)


def test_three_steps_with_labels_that_are_solved_for():
    """At every step before it, and once more after the last; the gradient is at the labels of least risk."""
    some, rule = trial("kip", (*APART, *SOLVED)), Adam(0.04)
    for step in range(3):
        sight, points = some.sight(), some.leaves()["points"]
        labels = best(sight, {"points": points.detach()})
        value = risk(sight, {"points": points, "labels": labels})
        (slope,) = torch.autograd.grad(value, points)
        record = some.run.advance()
        agree(record.loss, value.detach(), some.dtype, looser=10)
        moved = some.run.parameters
        agree(moved["points"], rule.step(points.detach(), slope), some.dtype, looser=1e4)
        if step == 2:
            labels = best(sight, {"points": moved["points"]})
        agree(moved["labels"], labels, some.dtype, looser=1e3)


@PRECISE
def test_labels_alone_of_all_the_real_examples(dtype: torch.dtype):
    pool = "context={kind: pool, size: 1, batch: all}"
    some = trial("kip", (*APART, *LEARNED, pool), dtype=dtype)
    some = type(some)(some.problem, LabelSolve(), LabelSolve().start(some.problem))
    sight, start = some.sight(), some.run.parameters
    labels = best(sight, start)
    record = some.run.advance()
    agree(some.run.parameters["labels"].double(), labels, dtype, looser=10)
    assert torch.equal(some.run.parameters["points"], start["points"])
    agree(record.loss, risk(sight, {**start, "labels": labels}), dtype, looser=10)
    assert some.run.steps == some.run.step == 1


def test_a_resumed_run_continues_bit_for_bit():
    learner = KernelRidge(kernel=Gaussian(lengthscale=3.0), penalty=1e-3)
    options: dict[str, Any] = {
        "objective": Match(Risk(learner=learner), by="none"),
        "solver": Descent(optimizer="adam", lr=0.1, steps=4, solve_labels=True),
        "context": Fresh(batch=5),
        "synthetic": Pixels(per_class=2, labels="learned"),
    }
    whole, half, rest = (start(table(), **options) for _ in range(3))
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        half.advance()
    rest.restore(half.state())
    for _ in range(2):
        rest.advance()
    for name, value in whole.parameters.items():
        assert torch.equal(value, rest.parameters[name])


RISK = Match(Risk(learner=KernelRidge(penalty=1e-3)), by="none")


@pytest.mark.parametrize("solver", [LabelSolve(), Descent(solve_labels=True)], ids=["alone", "descent"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthetic": Pixels(per_class=2)}, "needs labels: learned, got hard"),
        (
            {"synthetic": Formation(per_class=2, labels="learned")},
            "needs a label for each example, but 4 of 'formation' share one",
        ),
        (
            {"objective": Match(RISK.match, by="class")},
            "needs one term that looks at labels, a risk of squares by: none, got",
        ),
        ({"objective": RISK.named("a") + RISK.named("b")}, r"by: none, got \['a', 'b'\]"),
        (
            {"objective": Match(Risk(loss="cross_entropy"), by="none")},
            "a risk of squares by: none, got",
        ),
    ],
    ids=["hard", "shared", "by-class", "two", "cross-entropy"],
)
def test_refused(solver: Any, changes: dict[str, Any], message: str):
    options = {
        "objective": RISK,
        "synthetic": Pixels(per_class=2, labels="learned"),
        "context": Pool(size=1),
        **changes,
    }
    with pytest.raises(InvalidInput, match=message):
        solver.start(problem(images(), **options))


def test_classes_in_turn_are_refused():
    made = problem(images(), RISK, synthetic=Pixels(per_class=2, labels="learned"), context=Pool(size=1))
    with pytest.raises(InvalidInput, match="solves for all the labels at once; leave 'batch' at null"):
        Descent(solve_labels=True, batch=1).start(made)
