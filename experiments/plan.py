"""What a run will cost, before anything starts: time, memory and stored bytes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from experiments.experiment import Experiment
from objectives.data.labelled import LabelledData
from objectives.engine.compile import eager_seconds
from objectives.engine.extractor import Extractor
from objectives.engine.memory import available_bytes
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
    problem = experiment.problem(data)
    data, solver = problem.data, experiment.solver
    parameters = problem.initial()
    synthetic = SyntheticSet.of(decoded(problem, parameters), data, parameters, {}, problem.synthetic)
    steps, examples = solver.duration(problem), len(synthetic)
    solving = solver.start(problem)  # refuses what cannot be solved this way
    extractor = solving.extractor
    if extractor is None:
        extractor = Extractor(
            data,
            problem.context,
            solver.takes | {"points"},
            seed=problem.seed,
            examples=examples,
            steps=steps,
            device=problem.device,
            policy="never",
        )
    passes = solver.passes(problem, extractor)
    seconds = passes * _seconds_a_pass(extractor)
    if extractor.compiles:
        seconds = seconds / COMPILED_SPEEDUP + COMPILING_SECONDS
    seconds += eager_seconds(solving.multiplications, problem.device)
    teacher = experiment.teacher
    if teacher is not None:
        teacher.check(data)
        work = teacher.passes(len(data.train)) * teacher.network.multiplications(data.shape, data.count)
        seconds += eager_seconds(work, problem.device)
        labels = torch.zeros(examples, data.count)
        synthetic = replace(synthetic, labels=labels, record={**synthetic.record, "teacher": {}})
    return Plan(
        device=str(problem.device),
        steps=steps,
        examples=examples,
        shape=data.shape,
        forward_passes=passes,
        multiplications=float(passes) * extractor.multiplications,
        compiled=extractor.compiles,
        seconds=seconds,
        memory_bytes=data.train.points.nbytes
        + 4 * synthetic.points.nbytes
        + extractor.working_bytes
        + solving.working_bytes,
        available_bytes=available_bytes(problem.device),
        stored_bytes=synthetic.stored_bytes,
    )


def _seconds_a_pass(extractor: Extractor) -> float:
    """The time of an eager forward pass of one example, whatever the terms take of it: the best of several chunks."""
    indices = torch.arange(min(extractor.chunk, len(extractor.data.train)))
    parameters, network = extractor.parameters(0), extractor.context.network
    if not extractor.has_network or network is None:
        return _best(partial(extractor.real, indices, parameters), extractor.device) / len(indices)
    seconds = _best(partial(extractor.logits, indices, parameters), extractor.device) / len(indices)
    return seconds * extractor.multiplications / network.multiplications(extractor.data.shape, extractor.data.count)


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
