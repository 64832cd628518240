"""Gradient descent on the synthetic parameters, by any of torch's optimisers and schedulers.

How the steps of the classes relate is part of a method. Several published codes step one shared optimiser once per class, so
that momentum acts, and weights decay, c times a round even on images that have no gradient: another algorithm than the sum
over classes with one step, and so it has a name of its own.
"""

import copy
import inspect
import math
import warnings
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from discrepancy.errors import InvalidInput, suggestion
from discrepancy.parts import check_choice, named
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Values
from objectives.rng import rng
from objectives.solvers.base import Problem, Record, Solver, Solving, decoded
from objectives.solvers.labels import check_solvable, solve_labels
from objectives.synthetic.parameterisation import Decoded

__all__ = ["Descent"]

Update = Literal["joint", "per_class", "per_class_shared_state"]
Terms = Literal["together", "in_turn"]
Options = tuple[tuple[str, float | int | bool | str | tuple[int, ...]], ...]

_OPTIMISERS = {
    name.lower(): value
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, Optimizer) and name not in ("Optimizer", "LBFGS", "SparseAdam")
}
_SCHEDULERS = {
    name.lower(): value
    for name, value in vars(lr_scheduler).items()
    if inspect.isclass(value)
    and issubclass(value, lr_scheduler.LRScheduler)
    and name not in ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")
    and not name.startswith("_")
}


MOST_TRIED = 2000
"""Steps of a scheduler that are tried before a run."""


class Descent(Solver, kind="descent"):
    """S ← S - η ∇ objective(S), or what the optimiser makes of it.

    Args:
        optimizer: the name of a class in ``torch.optim``, in any case (``sgd``, ``adamw``); those that need a closure or a
            sparse gradient are left out.
        lr: learning rate, in normalised units.
        momentum: for optimisers that have it.
        options: further arguments of the optimiser, by name.
        rates: learning rates of single parameters (``labels``, ``weights``, ``codes``) in place of ``lr``.
        scheduler: the name of a class in ``torch.optim.lr_scheduler``, or None.
        scheduler_options: its arguments.
        steps: number of steps.
        update: ``joint``: one step on the sum over classes. ``per_class``: classes in turn, each with an optimiser of its
            own, which needs parameters that no two classes share. ``per_class_shared_state``: classes in turn on one
            optimiser, as IDC, IDM and NCFM do.
        terms: ``together``: a step is one on their sum. ``in_turn``: the terms one after the other in their order, each with
            a step of its own (or, by ``update``, one of every class) on the same optimiser, as NCFM alternates matching and
            calibration; all are of one draw of the context.
        batch: synthetic examples of each class in a step: a random part where more are decoded (IDC, DREAM); None for all.
        project_every: steps from one projection of what is clipped to the next (IDC, DREAM: those of a network); the last step
            has one too.
        solve_labels: learned labels are not moved, but are those of least risk at every step, and once more after the last one
            (KIP's label solve). They are found in closed form, and the gradient of the least risk is that at them.
    """

    optimizer: str = "sgd"
    lr: float = 1.0
    momentum: float = 0.0
    options: Options = ()
    rates: tuple[tuple[str, float], ...] = ()
    scheduler: str | None = None
    scheduler_options: Options = ()
    steps: int = 1000
    update: Update = "joint"
    terms: Terms = "together"
    batch: int | None = None
    project_every: int = 1
    solve_labels: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "project_every", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput(f"'{name}' must be at least 1, got {value}")
        check_choice("update", self.update, get_args(Update))
        check_choice("terms", self.terms, get_args(Terms))
        for name in ("options", "rates", "scheduler_options"):
            object.__setattr__(self, name, named(getattr(self, name)))
        for name, rate in (("lr", self.lr), *self.rates):
            if not 0 < rate < math.inf:
                raise InvalidInput(f"'{name}' must be > 0 and finite, got {rate}")
        self._try()

    def _try(self) -> None:
        """A step on a single number, and all of the scheduler's, or the first thousands: some options fail only then.

        Raises:
            InvalidInput: naming the options that fail.
        """
        leaf = torch.zeros(1, requires_grad=True)
        leaf.grad = torch.ones(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimiser = self.optimise({"points": leaf})
            scheduler = self.schedule(optimiser)
            try:
                optimiser.step()
            except Exception as error:  # whatever torch's optimisers raise
                raise _unsuitable("options", type(optimiser), error) from error
            if not bool(torch.isfinite(leaf).all()):
                raise InvalidInput(f"'options' make steps of torch's {type(optimiser).__name__} that are not finite")
            try:
                if scheduler is not None:
                    for _ in range(min(self.steps, MOST_TRIED)):
                        _scheduled(scheduler, 1.0)
            except Exception as error:
                raise _unsuitable("scheduler_options", type(scheduler), error) from error

    def optimise(self, leaves: dict[str, Tensor]) -> Optimizer:
        """A new optimiser, with one parameter group for every named parameter."""
        kind = _known("optimizer", self.optimizer, _OPTIMISERS)
        options = dict(self.options)
        if self.momentum:
            if "momentum" not in inspect.signature(kind).parameters:
                raise InvalidInput(f"'momentum' is {self.momentum}, but torch's {kind.__name__} has none; leave it out")
            options["momentum"] = self.momentum
        rates = dict(self.rates)
        groups = [{"params": [leaf], "lr": rates.get(name, self.lr)} for name, leaf in leaves.items()]
        return _called("options", kind, options, groups, lr=self.lr)

    def schedule(self, optimiser: Optimizer) -> lr_scheduler.LRScheduler | None:
        """A new scheduler for the optimiser; None without one."""
        if self.scheduler is None:
            return None
        kind = _known("scheduler", self.scheduler, _SCHEDULERS)
        return _called("scheduler_options", kind, dict(self.scheduler_options), optimiser)

    def duration(self, problem: Problem) -> int:
        return self.steps

    @property
    def planned(self) -> int:
        return self.steps

    @property
    def stepwise(self) -> bool:
        return True

    def with_steps(self, steps: int) -> "Descent":
        return replace(self, steps=steps)

    def examples(self, problem: Problem) -> int:
        return sum(self._of_classes(problem))

    def _of_classes(self, problem: Problem) -> list[int]:
        """The synthetic examples of each class in a step."""
        each = torch.bincount(problem.slots) * problem.synthetic.copies
        return (each if self.batch is None else each.clamp(max=self.batch)).tolist()

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return context.images(self.steps, self.examples(problem))

    def start(self, problem: Problem) -> "_Descending":
        if self.update != "joint":
            for name, term in problem.objective.terms:
                if not term.separable:
                    raise InvalidInput(
                        f"'update' is {self.update}, which needs a sum over classes, but term '{name}' is {term.grouping}; use "
                        "update: joint"
                    )
            network = problem.context.network
            if network is not None and not network.pointwise:
                raise InvalidInput(
                    f"'update' is {self.update}, but '{network.kind}' with batch normalisation sees the classes of a batch "
                    "together; use update: joint or another 'norm'"
                )
        self._check_shared(problem)
        self._check_groups(problem)
        if self.solve_labels:
            self._check_labels(problem)
        return _Descending(self, problem)

    def _check_shared(self, problem: Problem) -> None:
        shared = sorted(problem.shared)
        if self.update == "per_class" and shared:
            raise InvalidInput(
                f"'update' is per_class, an optimiser of its own for each class, but all classes share the parameter "
                f"'{shared[0]}' of '{problem.synthetic.kind}'; use update: per_class_shared_state or joint"
            )

    def _check_labels(self, problem: Problem) -> None:
        check_solvable(problem, "solve_labels")
        settings = ("update", self.update, "joint"), ("terms", self.terms, "together"), ("batch", self.batch, None)
        for name, value, plain in settings:
            if value != plain:
                raise InvalidInput(
                    f"'solve_labels' solves for all the labels at once; leave '{name}' at {plain or 'null'}"
                )

    def _check_groups(self, problem: Problem) -> None:
        terms = [name for name, term in problem.objective.terms if term.compares == "group"]
        if problem.data.groups is None or not terms:
            return
        present = problem.data.sizes("group").nonzero()[:, 0].tolist()
        missing = set(present) - set(problem.groups.tolist())
        if missing:
            how = "per_class" if problem.synthetic.examples is None else "examples"
            raise InvalidInput(
                f"term '{terms[0]}' is by: group, but no synthetic example belongs to group {min(missing)}; "
                f"raise '{how}', which is {getattr(problem.synthetic, how)}"
            )


def _known(field: str, name: str, known: dict[str, Any]) -> Any:
    if name.lower() in known:
        return known[name.lower()]
    hint = suggestion(name, known)
    raise InvalidInput(f"'{field}' is '{name}', which is none of torch's{hint} (known: {', '.join(sorted(known))})")


def _called(field: str, kind: Any, options: dict[str, Any], *positional: Any, **named: Any) -> Any:
    known = inspect.signature(kind).parameters
    for name in options:
        if name not in known or name == "params":
            hint = suggestion(name, known)
            raise InvalidInput(f"'{field}' has '{name}', which torch's {kind.__name__} does not take{hint}")
    try:
        return kind(*positional, **named, **options)
    except Exception as error:  # whatever torch raises
        raise _unsuitable(field, kind, error) from error


def _unsuitable(field: str, kind: type, error: Exception) -> InvalidInput:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InvalidInput(f"'{field}' do not suit torch's {kind.__name__}: {reason}")


def _scheduled(scheduler: lr_scheduler.LRScheduler, loss: Tensor | float) -> None:
    """A step of the scheduler; one that looks at the loss is told it."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(float(loss))
    else:
        scheduler.step()


class _Descending(Solving):
    """One optimiser over all the leaves, or one for each class over that class's rows."""

    def __init__(self, solver: Descent, problem: Problem) -> None:
        self.solver, self.problem, self.steps = solver, problem, solver.steps
        self.slots = problem.slots
        initial = problem.initial()
        sizes = solver._of_classes(problem)
        self.engine = problem.engine(solver.steps, sum(sizes), sum(sizes) if solver.update == "joint" else max(sizes))
        self._fixed = problem.synthetic.fixed | ({"labels"} if solver.solve_labels else set())
        learned = set(initial) - self._fixed
        unknown = {name for name, _ in solver.rates} - learned
        if unknown:
            raise InvalidInput(f"'rates' name {sorted(unknown)}, but the learned parameters are {sorted(learned)}")
        self._own_state = solver.update == "per_class"
        self._set_leaves(initial)
        self.optimisers = self._optimisers()
        self.schedulers = [solver.schedule(optimiser) for optimiser in self.optimisers]

    def _set_leaves(self, parameters: dict[str, Tensor]) -> None:
        parts = [self.slots == c for c in range(self.problem.data.count)] if self._own_state else [slice(None)]
        self.leaves = [
            {name: value[part].clone().requires_grad_(name not in self._fixed) for name, value in parameters.items()}
            for part in parts
        ]

    def _optimisers(self) -> list[Optimizer]:
        """A new one for each set of leaves, over those that move."""
        moving = [{name: leaf for name, leaf in leaves.items() if leaf.requires_grad} for leaves in self.leaves]
        return [self.solver.optimise(leaves) for leaves in moving]

    @property
    def bound_context(self) -> BoundContext:
        return self.engine.bound_context

    @property
    def later_bytes(self) -> int:
        return self.engine.real_side.later_bytes(self.steps) + self.engine.networks.later_bytes(self.steps)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {name: torch.cat([leaves[name].detach() for leaves in self.leaves]) for name in self.leaves[0]}

    @property
    def chosen(self) -> None:
        return None

    @property
    def resolved(self) -> dict[str, Any]:
        return self.engine.resolved

    def advance(self) -> Record:
        classes = [None] if self.solver.update == "joint" else list(range(self.problem.data.count))
        turns = [None] if self.solver.terms == "together" else [(name,) for name, _ in self.problem.objective.terms]
        if self.solver.solve_labels:
            solve_labels(self.problem, self.engine, self.leaves[0], self.step)
        values = [self._step(label, turn) for turn in turns for label in classes]
        if self.step == 0:
            Values.check(values)
        if (self.step + 1) % self.solver.project_every == 0 or self.step + 1 == self.steps:
            with torch.no_grad():  # once all the classes had their turn, as published
                for leaves in self.leaves:
                    self.problem.synthetic.project(leaves, self.problem.data)
        if self.solver.solve_labels and self.step + 1 == self.steps:
            solve_labels(self.problem, self.engine, self.leaves[0], self.step)
        if self.engine.learned_draws.leaves:
            self.engine.learned_draws.ascend([value.ascent for value in values])
        loss, terms = Values.added(values)
        for scheduler in self.schedulers:
            if scheduler is not None:
                _scheduled(scheduler, loss)
        record = Record(self.step, loss, terms)
        self.engine.after(self.step, lambda: decoded(self.problem, self.parameters))
        self.step += 1
        return record

    def _step(self, only: int | None, terms: tuple[str, ...] | None) -> Values:
        own = only if self._own_state and only is not None else 0
        optimiser, leaves = self.optimisers[own], self.leaves[own]
        optimiser.zero_grad(set_to_none=False)
        now = self._decoded(leaves, only)
        values = self.engine.evaluate(now, self.step, only, terms)
        outputs = map(now.tensors.__getitem__, values.gradients)
        torch.autograd.backward(list(outputs), list(values.gradients.values()))
        optimiser.step()
        return values

    def _decoded(self, leaves: dict[str, Tensor], only: int | None) -> Decoded:
        layout = self.problem.layout
        if only is not None:
            rows = (self.slots == only).nonzero()[:, 0]
            layout = layout.rows(rows)
            if not self._own_state:
                own, shared = rows.to(self.problem.runtime.device), self.problem.shared
                leaves = {name: value if name in shared else value[own] for name, value in leaves.items()}
        everything = self.problem.synthetic.decode(leaves, layout)
        if self.solver.batch is None:
            return everything
        classes = range(self.problem.data.count) if only is None else [only]
        return everything.rows(torch.cat([self._some(everything.slots == label, label) for label in classes]))

    def _some(self, own: Tensor, label: int) -> Tensor:
        """The numbers of the examples of a class that a step takes, of those for which ``own`` is true."""
        rows = own.nonzero()[:, 0]
        if self.solver.batch is None or len(rows) <= self.solver.batch:
            return rows
        generator = rng(self.problem.runtime.seed, "synthetic", self.step, label)
        return rows[torch.randperm(len(rows), generator=generator)[: self.solver.batch]]

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "parameters": self.parameters,
            # The dictionaries of torch share their tensors with the optimiser, which goes on.
            "optimisers": [copy.deepcopy(optimiser.state_dict()) for optimiser in self.optimisers],
            "schedulers": [scheduler and copy.deepcopy(scheduler.state_dict()) for scheduler in self.schedulers],
            "learned_draws": self.engine.learned_draws.state(),
            "networks": self.engine.networks.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        saved, here = (
            {name: tuple(value.shape) for name, value in parameters.items()}
            for parameters in (state["parameters"], self.parameters)
        )
        if saved != here:
            raise InvalidInput(f"'state' has parameters of shapes {saved}, but this run has {here}; start anew")
        state = copy.deepcopy(state)
        self.step = state["step"]
        self._set_leaves({name: value.to(self.problem.runtime.device) for name, value in state["parameters"].items()})
        self.optimisers = self._optimisers()
        self.schedulers = [self.solver.schedule(optimiser) for optimiser in self.optimisers]
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.engine.learned_draws.restore(state["learned_draws"])
        self.engine.networks.restore(state["networks"])
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            if scheduler is not None:
                scheduler.load_state_dict(saved)
