"""What a run will cost, before anything starts: time, memory and stored bytes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from experiments.experiment import Experiment
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.engine.bound_context import BoundContext
from objectives.engine.compile import eager_seconds
from objectives.engine.runtime import Runtime
from objectives.solvers.base import decoded
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["Plan", "planned"]

COMPILING_SECONDS = 25.0
COMPILED_SPEEDUP = 2.0
TRYING_SECONDS = 0.3
"""Measured on two cores; on other machines they differ, and the estimate with them."""


@dataclass(frozen=True)
class Plan:
    """An estimate; the time is good to a factor of about two. ``examples`` are the decoded ones, ``stored_bytes`` what they are
    decoded from."""

    device: str
    steps: int
    examples: int
    shape: tuple[int, ...]
    forward_passes: int
    multiplications: float
    compiled: bool
    seconds: float
    memory_bytes: int
    available_bytes: int
    stored_bytes: int


def planned(experiment: Experiment, data: LabelledData | None = None) -> Plan:
    """Load the data, begin, time a forward pass of one chunk, and count.

    Args:
        data: the experiment's, where they are loaded already.

    Raises:
        InvalidInput: if the configuration cannot be run, or even the least memory that it needs is not there.
    """
    problem, solver = experiment.problem(data), experiment.solver
    real, device = problem.data, problem.runtime.device
    parameters = problem.initial()
    synthetic = SyntheticSet.of(decoded(problem, parameters), real, parameters, {}, problem.synthetic)
    steps, examples = solver.duration(problem), len(synthetic)
    solving = solver.start(problem)  # refuses what cannot be solved this way
    context = solving.bound_context
    if context is None:
        runtime = Runtime(problem.runtime.seed, device, compile="never")
        context = BoundContext(
            real, problem.context, solver.takes | {"points"}, runtime, examples=examples, steps=steps
        )
    passes = solver.passes(problem, context)
    seconds = passes * _seconds_a_pass(context)
    if context.compiles:
        seconds = seconds / COMPILED_SPEEDUP + COMPILING_SECONDS
    seconds += eager_seconds(solving.multiplications, device)
    teacher = experiment.teacher
    if teacher is not None:
        teacher.check(real)
        work = teacher.passes(len(real)) * teacher.network.multiplications(real.shape, real.count)
        seconds += eager_seconds(work, device)
        labels = Labels("teacher", torch.zeros(examples, real.count))
        synthetic = replace(synthetic, labelling=labels, record={**synthetic.record, "teacher": {}})
    return Plan(
        device=str(device),
        steps=steps,
        examples=examples,
        shape=real.shape,
        forward_passes=passes,
        multiplications=float(passes) * context.multiplications,
        compiled=context.compiles,
        seconds=seconds,
        memory_bytes=real.nbytes + 4 * synthetic.points.nbytes + context.working_bytes + solving.working_bytes,
        available_bytes=problem.runtime.free_bytes,
        stored_bytes=synthetic.stored_bytes,
    )


def _seconds_a_pass(context: BoundContext) -> float:
    """The time of an eager forward pass of one example, whatever the terms take of it: the best of several chunks."""
    indices = torch.arange(min(context.extractor.chunk, len(context.data)))
    parameters, network, device = context.initial(0), context.context.network, context.runtime.device
    if not context.has_network or network is None:
        return _best(partial(context.taken, indices, parameters), device) / len(indices)
    with torch.no_grad():
        seconds = _best(partial(context.output, indices, parameters, "logits"), device) / len(indices)
    return seconds * context.multiplications / context.logits_extractor.multiplications


def _best(action: Callable[[], object], device: torch.device) -> float:
    """The least time of several tries; more of them where they are short, since other work may be in the way."""
    best, began, tries = float("inf"), time.perf_counter(), 0
    while tries < 3 or (time.perf_counter() - began < TRYING_SECONDS and tries < 50):
        start = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best, tries = min(best, time.perf_counter() - start), tries + 1
    return best
