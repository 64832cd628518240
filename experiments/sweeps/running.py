"""Running the cells of a sweep, one after another; what is done is left alone, what fails is noted, and the sweep goes on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.config import dump
from experiments.report.files import made
from experiments.report.progress import Advance
from experiments.sweeps.cell import Advancing, Job
from experiments.sweeps.cells import Cell
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.planning import Estimate
from objectives.storage import remove_leftovers, write_text

__all__ = ["Child", "Worker", "job_of", "run_cells"]

Worker = Callable[[Job, Advancing, Path], str | None]
"""``worker(job, advancing, log)`` does a job and returns why it failed, or None; what the job prints goes into ``log``."""


def job_of(cell: Cell, folder: SweepFolder) -> Job:
    """What a cell asks for."""
    return Job(
        folder=str(folder.files(cell).run.path),
        source=cell.source,
        protocol=cell.protocol,
        per_class=cell.per_class,
        seed=cell.seed,
        device=cell.device,
        experiment=cell.experiment,
        control=cell.name if cell.experiment is None else None,
        network=cell.network,
        robust=cell.robust,
    )


def run_cells(
    cells: Sequence[Cell],
    folder: SweepFolder,
    worker: Worker,
    estimates: Mapping[str, Estimate],
    advance: Advance,
    on_cell: Callable[[], object],
) -> None:
    """Do these cells, one after another; ``advance`` is called with the estimated seconds of what is done.

    Raises:
        KeyboardInterrupt: when the user stops; the run under way has written its checkpoint.
    """
    before, total = 0.0, int(sum(estimates[cell.key].seconds for cell in cells))
    unfinished = max(0, total - 1)
    for position, cell in enumerate(cells, 1):
        estimate, title = estimates[cell.key], f"{position}/{len(cells)} {cell.key}"

        def advancing(stage: str, share: float, note: str, before=before, estimate=estimate, title=title) -> None:
            part = share * estimate.condensing
            if stage == "evaluating":
                part = estimate.condensing + share * estimate.evaluating
            advance(min(int(before + part), unfinished), f"{title}: {stage}{f', {note}' if note else ''}")

        advance(min(int(before), unfinished), title)
        _do(cell, folder, worker, advancing)
        on_cell()
        before += estimate.seconds
    advance(max(1, total), "")


def _do(cell: Cell, folder: SweepFolder, worker: Worker, advancing: Advancing) -> None:
    files = folder.files(cell)
    made(files.run.path)
    remove_leftovers(files.run.path)
    files.failure.unlink(missing_ok=True)
    reason = worker(job_of(cell, folder), advancing, files.log)
    if reason is not None:
        write_text(files.failure, json.dumps({"reason": reason}))


@dataclass(frozen=True, kw_only=True)
class Child:
    """Does each job in a new process.

    Args:
        imports: files with parts of the user's own.
        threads: of torch; its own choice without.
    """

    imports: tuple[str, ...] = ()
    threads: int | None = None
    command: tuple[str, ...] = field(default=(sys.executable, "-P", "-m", "experiments.sweeps.process"))

    def __call__(self, job: Job, advancing: Advancing, log: Path) -> str | None:
        with log.open("a", encoding="utf-8") as errors:
            child = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # a Ctrl-C is for the sweep, which then asks the child to stop
            )
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                asked = {"imports": list(self.imports), "threads": self.threads, "job": dump(job)}
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.write(json.dumps(asked) + "\n")
                    child.stdin.flush()
                end = _listen(child.stdout, advancing)
                status = child.wait()
            except KeyboardInterrupt:
                child.send_signal(signal.SIGTERM)
                with contextlib.suppress(KeyboardInterrupt):  # a second one ends it at once
                    child.wait()
                raise
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.close()
                child.stdout.close()
        if end is None:
            return _died(status, log)
        return None if end["end"] == "done" else end["reason"]


def _listen(lines: Iterable[str], advancing: Advancing) -> dict[str, str] | None:
    """Pass on the progress of a child; return its last message."""
    for line in lines:
        message = json.loads(line)
        if "end" in message:
            return message
        advancing(message["stage"], message["share"], message["note"])
    return None


def _died(status: int, log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = f": {lines[-1].strip()}" if lines else ""
    if status < 0:
        name = signal.Signals(-status).name
        why = "; memory may have run out" if name == "SIGKILL" and os.name == "posix" else ""
        return f"its process was ended by {name}{why}"
    return f"its process ended with status {status}{last}"
