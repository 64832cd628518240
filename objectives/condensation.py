"""The one call: minimise an objective over synthetic sets.

synthetic = condense((x, y), Match(MMD(), via=Features(), by="class"), context=Fresh(network=ConvNet()), per_class=10)
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from discrepancy.arguments import checked_arguments
from discrepancy.arrays import exactly
from discrepancy.errors import InvalidInput, NonFinite
from discrepancy.parts import plain
from discrepancy.precision import as_usual
from objectives.contexts import Context, Fresh
from objectives.data.cache import Cache
from objectives.data.labelled import LabelledData, as_real_data
from objectives.engine.compile import Policy
from objectives.engine.runtime import Runtime, as_device
from objectives.privacy.budget import Privacy
from objectives.privacy.curator import private
from objectives.solvers.base import Problem, Record, Solver, Solving, decoded
from objectives.solvers.descent import Descent
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.teacher import Teacher
from objectives.terms.objective import Summand

__all__ = ["Progress", "condense", "restore", "solve"]


@dataclass(frozen=True, eq=False)
class Progress:
    """What a callback sees after each step: the measured loss and terms, and the solution under way.

    Reading ``loss`` or ``terms`` waits for the device; a callback that looks at every hundredth step costs nothing.
    """

    record: Record
    steps: int
    solving: Solving

    @property
    def step(self) -> int:
        """Steps done."""
        return self.record.step + 1

    @property
    def loss(self) -> float:
        return self.record.loss.item()

    @property
    def terms(self) -> dict[str, float]:
        return {name: value.item() for name, value in self.record.terms.items()}

    def state(self) -> dict[str, Any]:
        """All that :func:`condense` needs to continue from here, bit for bit on a CPU."""
        return self.solving.state()


@checked_arguments
@as_usual()
def condense(
    data: LabelledData | Any,
    objective: Summand | Any,
    *,
    context: Context | None = None,
    synthetic: Parameterisation | None = None,
    solver: Solver | None = None,
    per_class: int | None = None,
    examples: int | None = None,
    steps: int | None = None,
    teacher: Teacher | None = None,
    privacy: Privacy | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    compile: Policy = "auto",  # noqa: A002  (torch's own word)
    dtype: torch.dtype = torch.float32,
    cache: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> SyntheticSet:
    """The synthetic set that minimises the objective. What is set for the process does not matter: ``torch.autocast``,
    ``torch.no_grad``, inference mode, default device and default type.

    Args:
        data: a pair (points, labels), a torch Dataset, :class:`LabelledData`, whose training part is condensed, or a
            :class:`RealData`.
        objective: a match, a penalty, or a sum of them.
        context: owner of the network; fresh draws without a network by default.
        synthetic: form and start of the synthetic set; ``Pixels()`` by default.
        solver: ``Descent()`` by default.
        per_class: shorthand for the same field of ``synthetic``.
        examples: the same for that field, in place of ``per_class``; data without classes need it.
        steps: shorthand for the same field of ``solver``.
        teacher: learns the data, and labels what was found.
        privacy: the real data are then seen once, by the curator (:mod:`objectives.privacy.curator`), who releases noisy sums.
            Without it nothing is private.
        seed: of all the random streams; the same seed gives the same set on a CPU.
        device: ``cpu``, ``cuda``, ...
        compile: ``auto`` compiles the networks where that pays, ``always``, or ``never``.
        dtype: in which everything is computed and stored; ``torch.float64`` where exactness is the point.
        cache: a folder in which attacked real examples (:class:`~objectives.transforms.Adversarial`) are kept, and read from by
            later calls; without it nothing is written to a disk.
        state: from ``Progress.state()``, to continue.
        on_step: called after every step.

    Raises:
        InvalidInput: if the parts do not fit each other or the data.
        NonFinite: if a term becomes NaN or infinite; the message names it.
    """
    if not isinstance(objective, Summand):
        raise InvalidInput(
            f"'objective' must be a match, a penalty or a sum of them, such as Match(MMD(Gaussian())), got a "
            f"{type(objective).__name__}"
        )
    synthetic = synthetic or Pixels()
    solver = solver or Descent()
    if per_class is not None and examples is not None:
        raise InvalidInput("give 'per_class' or 'examples', one of them")
    if per_class is not None:
        synthetic = replace(synthetic, per_class=per_class)
    if examples is not None:
        synthetic = replace(synthetic, examples=examples)
    if steps is not None:
        solver = solver.with_steps(steps)
    problem = Problem(
        as_real_data(data),
        objective.as_objective(),
        context or Fresh(),
        synthetic,
        Runtime(seed, as_device(device), dtype, compile, cache=Cache.at(cache)),
    )
    if teacher is not None:
        teacher.check(problem.data)
    if privacy is not None:
        if teacher is not None:
            raise InvalidInput("a 'teacher' learns from the private data themselves; leave it out, or 'privacy'")
        if state is not None:
            raise InvalidInput(
                "a state belongs to a release that is gone, and a new one would be charged again; continue private runs with "
                "'condense run --resume', which keeps the release"
            )
        problem = private(problem, privacy, solver)
    solving = solver.start(problem)
    if state is not None:
        restore(solving, state)
    solve(solving, on_step)
    config = {
        "objective": {"terms": {name: term.describe() for name, term in problem.objective.terms}},
        "context": problem.context.describe(),
        "synthetic": synthetic.describe(),
        "solver": solver.describe(),
        **({} if privacy is None else {"privacy": asdict(privacy)}),
    }
    made = result(problem, solving, {"config": config})
    if teacher is None:
        return made
    test = data.test if isinstance(data, LabelledData) else None
    return teacher.label(made, problem.data, test, seed=seed, device=device)


def restore(solving: Solving, state: Mapping[str, Any], what: str = "'state'") -> None:
    """Continue from a state.

    Args:
        what: its name in the error.

    Raises:
        InvalidInput: if it is not one of this solver and problem, or its step lies outside of the run.
    """
    step = state.get("step")
    if type(step) is not int or not 0 <= step <= solving.steps:
        raise InvalidInput(f"{what} is of step {step}, but this run has steps 0 to {solving.steps}; start anew")
    try:
        solving.restore(dict(state))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidInput(f"{what} is not a state of this solver and problem ({why}); start anew") from error


def solve(solving: Solving, on_step: Callable[[Progress], None] | None = None) -> None:
    """Advance to the end, watching that every term stays finite."""
    watch = 1 if solving_device(solving).type == "cpu" else 20
    while solving.step < solving.steps:
        record = solving.advance()
        if solving.step % watch == 0 or solving.step == solving.steps:
            check_finite(record)
        if on_step is not None:
            on_step(Progress(record, solving.steps, solving))
    for name, value in solving.parameters.items():
        if not torch.isfinite(value).all():
            raise NonFinite(f"the parameter '{name}' became NaN or infinite in the last step; lower the learning rate")


def solving_device(solving: Solving) -> torch.device:
    return next(iter(solving.parameters.values())).device


def check_finite(record: Record) -> None:
    """Raise :class:`NonFinite`, naming the term, if a value of this step is NaN or infinite."""
    for name, value in {**record.terms, "loss": record.loss}.items():
        if not torch.isfinite(value).all():
            raise NonFinite(
                f"term '{name}' became {value.item()} at step {record.step}; lower the learning rate, or its weight, "
                "and start again (or resume from the last checkpoint)"
            )


def result(problem: Problem, solving: Solving, record: Mapping[str, Any] | None = None) -> SyntheticSet:
    """The artefact of a solution as it is now."""
    parameters, data = solving.parameters, problem.data
    about = {
        "resolved": plain(solving.resolved),
        "seed": problem.runtime.seed,
        "data": data.name,
        **data.provenance(),
        **({"findings": solving.findings} if solving.findings else {}),
        **(record or {}),
    }
    made = SyntheticSet.of(decoded(problem, parameters), data, parameters, about, problem.synthetic)
    if solving.chosen is None:
        return made
    # Exact: through the normalisation and back they would be rounded.
    examples = data.rows(solving.chosen)
    exact: dict[str, Any] = {
        "points": exactly(examples.points, problem.runtime.dtype),
        "record": {**about, "chosen": solving.chosen.tolist()},
    }
    if examples.labels.kind == "targets":
        values = exactly(examples.labels.rows.cpu(), problem.runtime.dtype)
        exact["labelling"] = replace(made.labelling, values=values)
    return replace(made, **exact)
