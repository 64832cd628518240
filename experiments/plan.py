"""What a run will cost, before anything starts: time, memory and stored bytes."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from experiments.experiment import Experiment
from experiments.peak import Peak
from experiments.releasing import with_ledger
from objectives.data.cache import Cache
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.data.real import RealData
from objectives.data.subset import Subset
from objectives.data.transform import left_of
from objectives.engine.bound_context import BoundContext
from objectives.engine.compile import eager_seconds
from objectives.privacy.budget import Privacy
from objectives.privacy.curator import Announced, announced
from objectives.solvers.base import Problem, Solver, Solving, decoded
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Teacher

__all__ = ["Plan", "planned"]

COMPILING_SECONDS = 25.0
COMPILED_SPEEDUP = 2.0
COMPILING_BYTES = 256 << 20
"""Measured on two cores. On other machines these numbers differ, so estimates of compiled runs are rougher there."""

TRYING_SECONDS = 0.3
TRIED_STEPS, TRIAL_SECONDS, TRIED_BATCHES = 20, 1.0, 4
SHORT_SECONDS, LONG_SECONDS, SMALL_SHARE = 5.0, 60.0, 0.05
"""The first steps are run if they will take at most SHORT_SECONDS, or at most LONG_SECONDS and this small share of the run.
Otherwise the passes through the network are counted, and one chunk is timed."""


@dataclass(frozen=True)
class KeptFiles:
    """Real examples, changed, that the run reads from a folder, or keeps there: all of them, and those that are there."""

    name: str
    folder: str
    examples: int
    all_bytes: int
    there_bytes: int


@dataclass(frozen=True)
class PlannedRelease:
    """What a private run would release."""

    privacy: Privacy
    announced: Announced


@dataclass(frozen=True)
class Plan:
    """An estimate; the time is good to a factor of about two. ``examples`` counts decoded examples, ``stored_bytes`` what is
    stored."""

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
    kept: tuple[KeptFiles, ...] = ()
    release: PlannedRelease | None = None


def planned(experiment: Experiment, data: LabelledData | None = None, cache: Cache | None = None) -> Plan:
    """Load the data, run the first steps without compilation, and estimate the cost of all the steps from them.

    Args:
        data: the data of the experiment, if they are loaded already.
        cache: where the run would keep attacked real examples; nothing is written. No budget is spent.

    Raises:
        InvalidInput: if the configuration cannot be run, or needs more memory than there is in any case.
    """
    available, solver = experiment.runtime.free_bytes, experiment.solver
    with Peak(experiment.runtime.device) as peak:
        problem = experiment.problem(data, cache and replace(cache, writes=False))
        release = None
        if experiment.privacy is not None:
            privacy = with_ledger(experiment)
            release = PlannedRelease(privacy, announced(problem, privacy, solver))
        real, device = problem.data, problem.runtime.device
        parameters = problem.initial()
        synthetic = SyntheticSet.of(decoded(problem, parameters), real, parameters, {}, problem.synthetic)
        steps, examples = solver.duration(problem), len(synthetic)
        solving = solver.start(problem)  # refuses what cannot be solved this way
        context = solving.bound_context
        if context is None:
            runtime = replace(problem.runtime, dtype=torch.float32, compile="never")
            context = BoundContext(
                real,
                problem.context,
                solver.takes | {"points"},
                runtime,
                examples=examples,
                steps=steps,
                sides=problem.objective.real_sides,
            )
        passes = solver.passes(problem, context)
        counted = eager_seconds(passes * context.multiplications + solving.multiplications, device)
        given = 0 if data is None else real.nbytes
        working = context.working_bytes + solving.working_bytes
        memory = max(real.nbytes + 4 * synthetic.points.nbytes + working, given + max(peak.bytes, peak.held + working))
        least = min(steps, 2 if solver.stepwise else 1)
        share = solver.with_steps(least).passes(problem, context) / passes if solver.stepwise else least / steps
        searching = solver.search_seconds(problem)
        if searching > SHORT_SECONDS:
            seconds = passes * _seconds_a_pass(context) + searching
        elif _is_tried(counted, share, stepwise=solver.stepwise):
            seconds, later = _tried(problem, solver, context, steps)
            memory = max(memory, given + peak.bytes) + later
        else:
            seconds = passes * _seconds_a_pass(context) + eager_seconds(solving.multiplications, device)
    if context.compiles:
        seconds = seconds / COMPILED_SPEEDUP + COMPILING_SECONDS
        memory += COMPILING_BYTES
    teacher = experiment.teacher
    if teacher is not None:
        teacher.check(real)
        seconds += _seconds_of(teacher, real, device)
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
        memory_bytes=memory,
        available_bytes=available,
        stored_bytes=synthetic.stored_bytes,
        kept=tuple(_kept(problem)),
        release=release,
    )


def _kept(problem: Problem) -> Iterator[KeptFiles]:
    """The changed real sides that are kept."""
    real, runtime = problem.data, problem.runtime
    for transform in filter(None, problem.objective.real_sides):
        kept = transform.kept(real, runtime.seed, runtime.device, runtime.cache)
        if kept is not None:
            each = math.prod(real.shape) * kept.dtype.itemsize
            there = len(real) - left_of(len(real), kept)
            yield KeptFiles(kept.name, str(kept.folder), len(real), each * len(real), each * there)


def _is_tried(seconds: float, share: float, *, stepwise: bool) -> bool:
    """Whether the first steps are run: the whole run is expected to take so many ``seconds``, and the first steps this
    ``share`` of it."""
    if share >= 1 and not stepwise:
        return False
    return seconds * share <= SHORT_SECONDS or (share <= SMALL_SHARE and seconds * share <= LONG_SECONDS)


def _tried(problem: Problem, solver: Solver, context: BoundContext, steps: int) -> tuple[float, int]:
    """The time of all the steps, and the memory that later steps need beyond the first ones. The first steps are timed; the
    time of the others is in proportion to their passes through the network."""

    def passes(count: int) -> float:
        return solver.with_steps(count).passes(problem, context) if solver.stepwise else count

    tried = replace(problem, runtime=replace(problem.runtime, compile="never"))
    device, started, times = problem.runtime.device, list[Solving](), list[float]()
    before = _took(lambda: started.append(solver.start(tried)), device)
    least = min(steps, 2 if solver.stepwise else 1)
    while len(times) < min(TRIED_STEPS, max(least, steps // 4)) and (len(times) < least or sum(times) < TRIAL_SECONDS):
        times.append(_took(started[0].advance, device))
    first, *others = times  # it sets up what the others use
    done, later = len(times), started[0].later_bytes
    if not others:
        return before + first * steps, later
    return before + first + sum(others) * (1 + (passes(steps) - passes(done)) / max(passes(done) - passes(1), 1)), later


def _seconds_of(teacher: Teacher, data: RealData, device: torch.device) -> float:
    """The time of training the teacher, from that of a few minibatches."""
    passes, one = teacher.passes(len(data)), Subset(data, torch.arange(1))
    tried, times = list[Teacher](), list[float]()
    for steps in (1, 1, 1 + TRIED_BATCHES) if passes else ():  # the first one sets up what the others use
        tried.append(replace(teacher, number=1, rounds=1, training=replace(teacher.training, steps=steps, epochs=None)))
        times.append(_took(partial(tried[-1].taught, data, one, device=device), device))
    if not passes:
        return 0.0
    return max(times[2] - times[1], 0.0) * passes / (tried[2].passes(len(data)) - tried[1].passes(len(data)))


def _took(action: Callable[[], object], device: torch.device) -> float:
    """The time of an action. On a CPU it is at most the processor time of this process, so that other processes on the machine
    have little influence."""
    start, own = time.perf_counter(), time.process_time()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter() - start
    return min(time.perf_counter() - start, time.process_time() - own)


def _seconds_a_pass(context: BoundContext) -> float:
    """The time of an eager forward pass of one example, up to the outputs that the terms use: the least of several chunks."""
    indices = torch.arange(min(context.extractor.chunk, len(context.data)))
    parameters, network, device = context.initial(0), context.context.network, context.runtime.device
    if not context.has_network or network is None:
        return _best(partial(context.taken, indices, parameters), device) / len(indices)
    with torch.no_grad():
        seconds = _best(partial(context.output, indices, parameters, "logits"), device) / len(indices)
    return seconds * context.multiplications / context.logits_extractor.multiplications


def _best(action: Callable[[], object], device: torch.device) -> float:
    """The least time of several repetitions; short actions are repeated more often."""
    times, began = list[float](), time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - began < TRYING_SECONDS and len(times) < 50):
        times.append(_took(action, device))
    return min(times)
