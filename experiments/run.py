"""Run an experiment in a folder: checkpoints, resume, interruption, result and pictures."""

import contextlib
import platform
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from discrepancy.errors import InvalidInput
from experiments.checkpoint import Checkpoint
from experiments.config import completed, difference, dump, read
from experiments.device import chosen_device
from experiments.experiment import Experiment
from experiments.folder import RunFolder
from experiments.peak import Peak
from experiments.releasing import released
from experiments.report import curves, grid
from experiments.teaching import Rounds, labelled
from objectives.condensation import Progress, check_finite, restore, result, solve
from objectives.data.cache import Cache
from objectives.solvers import Problem, Solving
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["Interrupted", "Outcome", "run"]


class Interrupted(Exception):
    """The run was asked to stop, and has stopped after writing its checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run left behind."""

    folder: RunFolder
    synthetic: SyntheticSet
    seconds: float
    steps: int
    peak_bytes: int


def run(
    experiment: Experiment,
    folder: RunFolder,
    *,
    resume: bool = False,
    checkpoint_every: int = 100,
    log_every: int = 10,
    on_start: Callable[[Solving], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_round: Rounds | None = None,
    on_release: Callable[[int, int], None] | None = None,
    patience: float = 0.0,
    options: str = "",
    cache: Cache | None = None,
) -> Outcome:
    """Condense, and leave the artefact, its picture, the metrics and their curves in the folder.

    The artefact's record has the seconds of condensing (after the data are read, with compilation, up to the result; those of a
    resumed run added up), the steps, and the peak of memory as :class:`Peak` measures it, data included.

    Args:
        resume: continue from the folder's checkpoint; k + k steps equal 2k steps bit for bit on a CPU.
        checkpoint_every: steps between two checkpoints.
        log_every: steps between two lines of metrics.
        on_start: called before the first step.
        on_release: called with the private examples that are summed up, and all.
        on_round: called with the rounds of training that a teacher has had, from none, and their total.
        patience: seconds to wait for a folder that is in use.
        options: of the command line that must be said again to continue, for the advice to do so.
        cache: where attacked real examples are kept between runs; None for nowhere. The result is the same.

    Raises:
        InvalidInput: if the folder is in use, holds another run, or cannot be resumed under this configuration.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
        NonFinite: if a term becomes NaN or infinite; the last good checkpoint stays.
    """
    with folder.locked(patience), Peak(chosen_device(experiment.device)) as peak:
        _check_folder(experiment, folder, resume)
        data = experiment.data.load()
        problem = experiment.problem(data, cache)
        if experiment.teacher is not None:
            experiment.teacher.check(data)
        start, before = time.perf_counter(), 0.0
        if experiment.privacy is not None:
            configure = partial(folder.write_config, dump(experiment), options)
            problem = released(experiment, problem, folder.release, configure, on_release)
        fingerprint = problem.data.fingerprint()
        if resume and folder.checkpoint.exists():
            saved = folder.load(problem.runtime.device)
            problem, solving = _continued(experiment, problem, folder, saved, fingerprint)
            before, peak.before = saved.seconds, saved.peak_bytes
        else:
            solving = experiment.solver.start(problem)
            folder.write_config(dump(experiment), options)
        folder.forget_after(solving.step)
        if on_start is not None:
            on_start(solving)

        def seconds() -> float:
            return before + time.perf_counter() - start

        with _asked_to_stop() as asked:

            def after_step(progress: Progress) -> None:
                last = progress.step == progress.steps
                if progress.record.step % log_every == 0 or last:
                    folder.measured(progress.record.step, progress.loss, progress.terms, seconds())
                if on_progress is not None:
                    on_progress(progress)
                if progress.step % checkpoint_every == 0 or last or asked():
                    check_finite(progress.record)
                    folder.save(
                        Checkpoint(
                            state=progress.state(),
                            data=fingerprint,
                            compiled=solving.compiled,
                            seconds=seconds(),
                            peak_bytes=peak.bytes,
                            device=problem.runtime.device.type,
                        )
                    )
                if asked() and not last:
                    raise Interrupted(f"stopped after step {progress.step} of {progress.steps}")

            solve(solving, after_step)
        about = _record(experiment, solving.resolved, seconds())
        about |= {"steps": solving.steps, "memory": {"peak_bytes": peak.bytes, "of": peak.measured}}
        synthetic = result(problem, solving, about)
        if experiment.teacher is not None:
            synthetic, taught = labelled(
                synthetic,
                experiment.teacher,
                data,
                seed=problem.runtime.seed,
                device=problem.runtime.device,
                on_round=on_round,
            )
            taught.save(folder.teacher)
        folder.check_held()
        grid.save(synthetic, folder.picture)
        curves.save(folder.metrics, folder.curves)
        synthetic.save(folder.result)  # the last: with it the run is done
        return Outcome(folder, synthetic, about["seconds"], solving.steps, about["memory"]["peak_bytes"])


def _check_folder(experiment: Experiment, folder: RunFolder, resume: bool) -> None:
    folder.check_config()
    folder.check_own()
    if not resume:
        if any(path.exists() for path in folder.states):
            raise InvalidInput(
                f"'{folder.path}' holds a run already; continue it with --resume, or name another folder with --out"
            )
        return
    if experiment.privacy is not None and not folder.release.exists() and any(map(Path.exists, folder.states)):
        raise InvalidInput(
            f"'{folder.release}' is lost, and a new release would be charged again, and be of no use to what the folder holds; "
            "restore it, or start anew with --out"
        )
    if not folder.config.exists():
        raise InvalidInput(f"'{folder.path}' holds no run to resume; run without --resume")
    changed = difference(completed(Experiment, read(folder.config)), dump(experiment))
    if changed:
        raise InvalidInput(
            f"'{folder.path}' was begun with another configuration: {'; '.join(changed)}; continue it as it was with: "
            f"{folder.continuation()}, or name another folder with --out"
        )


def _continued(
    experiment: Experiment, problem: Problem, folder: RunFolder, saved: Checkpoint, fingerprint: str
) -> tuple[Problem, Solving]:
    """The problem as it was solved before, and the solution under way.

    Raises:
        InvalidInput: if the data are others, networks cannot be compiled where they were, or the state does not belong here.
    """
    if saved.data != fingerprint:
        raise InvalidInput(
            f"'{folder.path}' was begun with other data of the same name ({problem.data.name}): their fingerprint was "
            f"{saved.data[:12]} and is {fingerprint[:12]}; restore the data, or start anew with --out"
        )
    policy = "always" if saved.compiled else "never"  # compiled code differs in its last bits
    problem = replace(problem, runtime=replace(problem.runtime, compile=policy))
    solving = experiment.solver.start(problem)
    if saved.compiled and not solving.compiled:
        raise InvalidInput(
            f"'{folder.checkpoint}' was made with compiled networks, and there is no compiler now, so the result would differ "
            "in its last bits; install a C++ compiler (g++ or clang) or set CXX, or start anew with --out"
        )
    restore(solving, saved.state, f"'{folder.checkpoint}'")
    return problem, solving


def _record(experiment: Experiment, resolved: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "config": dump(experiment),
        **({} if experiment.data.location is None else {"data_path": experiment.data.location}),
        "resolved": {
            name: {"via": dump(found["via"]), "match": {block: dump(part) for block, part in found["match"].items()}}
            for name, found in resolved.items()
        },
        "seconds": round(seconds, 2),
        "threads": torch.get_num_threads(),
        "versions": {
            "discrepancy": metadata.version("discrepancy"),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
    }


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a question that the loop asks after each step; a second SIGINT acts at once."""
    asked: list[int] = []
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if signal.SIGINT in before:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    with contextlib.suppress(ValueError):  # handlers belong to the main thread; elsewhere nobody sends signals
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                before[number] = signal.signal(number, handle)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
