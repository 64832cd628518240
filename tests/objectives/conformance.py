"""A packaged method's own file in small, and what a test needs to compare it with the paper.

A *conformance test* compares the packaged file with the paper's formula or rule, written out by hand. It says so by
``@pytest.mark.conformance("dm", ...)``, with the names of the methods. conftest.py fails a test that is marked and does not
run the file of the method, ``tests/test_documents.py`` fails where a packaged method has no such test, and docs/methods.md
names it.

A test states the paper's formula as ``loss(sight, parameters)``: a sight is one step as the method sees it (the weights of the
network, the real examples of each class, the augmentation), the parameters are those of the synthetic set. Everything that is
not shrunk here or in the ``settings`` is what the file says.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from small import images, numbers_of
from torch import Tensor

from experiments.config import build, override, read
from experiments.data import Digits
from experiments.experiment import Experiment, configured
from objectives.condensation import solve
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.methods import available
from objectives.solvers import Descent, Problem
from objectives.solvers.base import decoded

__all__ = [
    "AUGMENTED",
    "CASES",
    "PRECISE",
    "Sight",
    "Trial",
    "agree",
    "loaded",
    "same_steps",
    "same_turns",
    "same_value_and_gradient",
    "selected",
    "trial",
]

SMALL = ("context.network.width=4", "context.network.depth=2", "synthetic.per_class=2", "solver.steps=3")
SIZES = (9, 11, 13)
loaded: set[str] = set()
"""Methods whose packaged files were read since the test began."""

REAL = 10
"""Real examples a class, of which the smallest class has fewer."""

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

PRECISE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
PLAIN, SIAMESE = ("context.augment=null",), ("context.augment=siamese",)
AUGMENTED = pytest.mark.parametrize("settings", [PLAIN, SIAMESE], ids=["plain", "augmented"])
CASES = pytest.mark.parametrize(
    ("dtype", "settings"),
    [(torch.float32, PLAIN), (torch.float64, SIAMESE)],
    ids=["float32-plain", "float64-augmented"],
)

Loss = Callable[["Sight", Mapping[str, Tensor]], Tensor]
LossOfClass = Callable[["Sight", Mapping[str, Tensor], int], Tensor]


@dataclass(frozen=True, eq=False)
class Sight:
    """One step of a trial, taken apart. Points are in normalised units; ``random`` holds what each term's discrepancy drew."""

    trial: "Trial"
    step: int
    weights: Mapping[str, Tensor]
    rows: Tensor
    draws: Mapping[str, Tensor]
    random: Mapping[str, Any]

    @property
    def classes(self) -> range:
        return range(self.trial.problem.data.count)

    def outputs(self, points: Tensor, *take: str) -> dict[str, Tensor]:
        """What the network gives for points, by name: ``features``, ``logits``, ``layers``."""
        network = self.trial.problem.context.network
        assert network is not None
        return network(self.weights, points, take or ("logits",))

    def real(self, label: int) -> Tensor:
        """The real examples of a class in this step, not augmented."""
        data = self.trial.problem.data
        points = data.rows(self.rows[data.labels.numbers[self.rows] == label]).points.to(self.trial.dtype)
        mean, std = (
            torch.tensor(values, dtype=self.trial.dtype).reshape(-1, *[1] * (points.ndim - 2))
            for values in (data.normalisation.mean, data.normalisation.std)
        )
        return (points - mean) / std

    def own(self, points: Tensor, label: int) -> Tensor:
        """Those of the decoded synthetic points that belong to a class."""
        problem = self.trial.problem
        return points[problem.slots.repeat_interleave(problem.synthetic.copies) == label]

    def augmented(self, points: Tensor, label: int) -> Tensor:
        """Points under the augmentation that this step has for a class."""
        augment = self.trial.engine.bound_context.augment
        if augment is None:
            return points
        assert augment.per == "class"
        return augment(points, self.draws, torch.full((len(points),), label))

    def sides(self, points: Tensor, label: int) -> tuple[Tensor, Tensor]:
        """The real and the synthetic examples of a class, both augmented."""
        return self.augmented(self.real(label), label), self.augmented(self.own(points, label), label)


@dataclass(frozen=True, eq=False)
class Trial:
    """A method under way on small data."""

    problem: Problem
    solver: Any
    run: Any

    @property
    def engine(self) -> Any:
        return self.run.engine

    @property
    def dtype(self) -> torch.dtype:
        return self.problem.runtime.dtype

    def sight(self) -> Sight:
        """What the step that comes next sees."""
        step = self.run.step
        view = self.engine.real_side.at(step)
        rows = numbers_of(self.engine, view)
        random = {name: found.blocks.get("", found.blocks) for name, found in view.random.items()}
        return Sight(self, step, view.parameters, rows, view.augmentation, random)

    def points(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The decoded points, in normalised units."""
        return decoded(self.problem, parameters).points

    def features(self) -> Tensor:
        """Features of all the real examples in the first network of the context, (n, d) in float64."""
        network, data = self.problem.context.network, self.problem.data
        assert network is not None
        points = data.normalised(torch.arange(len(data)), dtype=self.dtype)
        return network(self.engine.bound_context.initial(0), points, ("features",))["features"].double()

    def leaves(self) -> dict[str, Tensor]:
        """A copy of the synthetic parameters as they are now, with a gradient wanted."""
        return {name: value.clone().requires_grad_(True) for name, value in self.run.parameters.items()}


def trial(
    name: str,
    settings: Iterable[str] = (),
    *,
    dtype: torch.dtype = torch.float64,
    data: LabelledData | None = None,
    seed: int = 0,
    size: int = 10,
) -> Trial:
    """The method of this name in small, with further ``settings`` as of ``--set``, on data with unequal classes.

    ``size`` is the number of examples a class whose settings are taken, where the file has several.
    """
    loaded.add(name)
    tree: Any = configured(read(available()[name]), {}, [f"synthetic.per_class={size}"])
    small = [setting for setting in SMALL if "network" in tree["context"] or "network" not in setting]
    small = [setting for setting in small if "steps" in tree["solver"] or "steps" not in setting]
    smaller = [*small, *([f"context.batch={REAL}"] if tree["context"].get("batch") != "all" else [])]
    made = build(Experiment, override({**tree, "data": {"kind": Digits.kind}}, [*smaller, *settings]))
    data = images(SIZES, channels=3) if data is None else data
    runtime = Runtime(seed, dtype=dtype, compile="never")
    problem = Problem(data.train, made.objective, made.context, made.synthetic, runtime)
    return Trial(problem, made.solver, made.solver.start(problem))


def selected(name: str, settings: Iterable[str] = ("synthetic.per_class=4",), **options: Any) -> Trial:
    """The selection of this name in small, carried out."""
    some = trial(name, settings, **options)
    solve(some.run)
    return some


def agree(found: Tensor, expected: Tensor, dtype: torch.dtype, looser: float = 1.0) -> None:
    """Equal to 1e-5 or 1e-10 of the largest entry, by the precision."""
    tolerance = looser * TOLERANCE[dtype]
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * scale)


def same_value_and_gradient(some: Trial, loss: Loss, looser: float = 1.0) -> None:
    """The value of the step that comes next, and its gradient by every synthetic parameter, are those of the loss."""
    sight, leaves = some.sight(), some.leaves()
    expected = loss(sight, leaves)
    slopes = torch.autograd.grad(expected, list(leaves.values()))
    mine = some.leaves()
    now = decoded(some.problem, mine)
    values = some.engine.evaluate(now, some.run.step)
    torch.autograd.backward([now.tensors[name] for name in values.gradients], list(values.gradients.values()))
    agree(values.total, expected.detach(), some.dtype, looser)
    for name, slope in zip(leaves, slopes, strict=True):
        found = mine[name].grad
        assert found is not None, f"no gradient at '{name}'"
        agree(found, slope, some.dtype, looser)


def same_steps(some: Trial, loss: Loss, steps: int = 3, looser: float = 1.0) -> None:
    """The steps are those of gradient descent with momentum on the sum over classes: v ← μ v + ∇, S ← S - η v."""
    solver: Descent = some.solver
    assert (solver.optimizer, solver.update, solver.options, solver.scheduler) == ("sgd", "joint", (), None)
    assert not solver.rates
    speeds: dict[str, Any] = dict.fromkeys(some.run.parameters, 0.0)
    for _ in range(steps):
        leaves = some.leaves()
        value = loss(some.sight(), leaves)
        slopes = torch.autograd.grad(value, list(leaves.values()))
        record = some.run.advance()
        agree(record.loss, value.detach(), some.dtype, looser)
        for name, slope in zip(leaves, slopes, strict=True):
            speeds[name] = solver.momentum * speeds[name] + slope
            agree(some.run.parameters[name], leaves[name].detach() - solver.lr * speeds[name], some.dtype, looser)


def same_turns(some: Trial, loss: LossOfClass, steps: int = 3, looser: float = 1.0) -> None:
    """The steps are those of one descent with momentum that all the classes share and that moves once after each of them; a
    range of allowed values is enforced once all had their turn."""
    solver: Descent = some.solver
    assert (solver.optimizer, solver.update, solver.options) == ("sgd", "per_class_shared_state", ())
    assert (solver.scheduler, solver.rates) == (None, ())
    speeds: dict[str, Any] = dict.fromkeys(some.run.parameters, 0.0)
    for _ in range(steps):
        sight, leaves, values = some.sight(), some.leaves(), []
        for label in sight.classes:
            values.append(loss(sight, leaves, label))
            slopes = torch.autograd.grad(values[-1], list(leaves.values()))
            for (name, leaf), slope in zip(list(leaves.items()), slopes, strict=True):
                speeds[name] = solver.momentum * speeds[name] + slope
                leaves[name] = (leaf.detach() - solver.lr * speeds[name]).requires_grad_(True)
        moved = {name: leaf.detach() for name, leaf in leaves.items()}
        some.problem.synthetic.project(moved, some.problem.data)
        record = some.run.advance()
        agree(record.loss, torch.stack(values).sum().detach(), some.dtype, looser)
        for name, found in some.run.parameters.items():
            agree(found, moved[name], some.dtype, looser)
