"""Run an experiment in a folder: checkpoints, resume, interruption, result and pictures."""

import contextlib
import platform
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from types import FrameType
from typing import Any

import torch

from discrepancy.errors import InvalidInput
from experiments.config import completed, difference, dump, read, write_yaml
from experiments.experiment import Experiment, chosen_device
from experiments.folder import RunFolder
from experiments.peak import Peak
from experiments.report import curves, grid
from experiments.teaching import Rounds, labelled
from objectives.condensation import Progress, check_finite, result, solve
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
    on_progress: Callable[[Progress], None] | None = None,
    on_round: Rounds | None = None,
    patience: float = 0.0,
) -> Outcome:
    """Condense, and leave the artefact, its picture, the metrics and their curves in the folder.

    The artefact's record has the seconds of condensing (after the data are read, with compilation, up to the result; those of a
    resumed run added up), the steps, and the peak of memory as :class:`Peak` measures it, data included.

    Args:
        resume: continue from the folder's checkpoint; k + k steps equal 2k steps bit for bit on a CPU.
        checkpoint_every: steps between two checkpoints.
        log_every: steps between two lines of metrics.
        on_round: called with the rounds of training that a teacher has had, from none, and their total.
        patience: seconds to wait for a folder that is in use.

    Raises:
        InvalidInput: if the folder is in use, holds another run, or cannot be resumed under this configuration.
        Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
        NonFinite: if a term becomes NaN or infinite; the last good checkpoint stays.
    """
    with folder.locked(patience), Peak(chosen_device(experiment.device)) as peak:
        _check_folder(experiment, folder, resume)
        data = experiment.data.load()
        problem = experiment.problem(data)
        if experiment.teacher is not None:
            experiment.teacher.check(data)
        start, before = time.perf_counter(), 0.0
        solving = experiment.solver.start(problem)
        if resume and folder.checkpoint.exists():
            saved = folder.load(problem.runtime.device)
            solving.restore(saved["state"])
            before, peak.before = saved["seconds"], saved.get("peak_bytes", 0)
        else:
            folder.write_text(folder.config, write_yaml(dump(experiment)))
        folder.forget_after(solving.step)

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
                    folder.save(progress.state(), seconds(), peak.bytes)
                if asked() and not last:
                    raise Interrupted(f"stopped after step {progress.step} of {progress.steps}")

            solve(solving, after_step)
        about = _record(experiment, solving.resolved, seconds())
        about |= {"steps": solving.steps, "memory": {"peak_bytes": peak.bytes, "of": peak.measured}}
        synthetic = result(problem, solving, about)
        if experiment.teacher is None:
            synthetic.save(folder.result)
        else:
            synthetic = labelled(
                synthetic,
                experiment.teacher,
                data,
                folder.result,
                seed=problem.runtime.seed,
                device=problem.runtime.device,
                on_round=on_round,
            )
        grid.save(synthetic, folder.picture)
        curves.save(folder.metrics, folder.curves)
        return Outcome(folder, synthetic, about["seconds"], solving.steps, about["memory"]["peak_bytes"])


def _check_folder(experiment: Experiment, folder: RunFolder, resume: bool) -> None:
    if not resume:
        if folder.checkpoint.exists() or folder.result.exists():
            raise InvalidInput(
                f"'{folder.path}' holds a run already; continue it with --resume, or name another folder with --out"
            )
        return
    if not folder.config.exists():
        raise InvalidInput(f"'{folder.path}' holds no run to resume; run without --resume")
    changed = difference(completed(Experiment, read(folder.config)), dump(experiment))
    if changed:
        raise InvalidInput(
            f"'{folder.path}' was begun with another configuration: {'; '.join(changed)}; resume it as it was, or start "
            "anew with --out"
        )


def _record(experiment: Experiment, resolved: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "config": dump(experiment),
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
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with contextlib.suppress(ValueError):  # handlers belong to the main thread; elsewhere nobody sends signals
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handle)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
