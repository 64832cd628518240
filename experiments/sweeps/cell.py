"""One cell of a sweep, in a process of its own: a run and its evaluation.

A new process takes some seconds to start; in return the peak of memory is that of the run alone, what a run holds is given
back, and one that dies takes nothing with it. ``python -m experiments.sweeps.cell`` reads what is to be done, a line of JSON,
from its standard input, and writes what happens, a line each, to its standard output. When that input ends, whoever asked is
gone, and the process stops as if it had been asked to.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from discrepancy.errors import DiscrepancyError
from experiments.config import build, load_parts, load_plugins
from experiments.data import Source
from experiments.evaluate import Comparison, Protocol, comparison, control
from experiments.experiment import Experiment, chosen_device
from experiments.run import Interrupted, run
from experiments.sweeps.folder import CellFiles
from objectives.condense import Progress
from objectives.engine.runtime import Runtime
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["Job", "Report", "perform"]

PATIENCE = 60.0
"""Seconds to wait for a run folder: the process of a sweep that was killed may still be writing its checkpoint there."""

SECONDS_BETWEEN_REPORTS = 0.5

Report = Callable[[str, float, str], None]
"""Called with the stage (condensing, teaching, judging), the share of it that is done, and a note."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done.

    Args:
        folder: of the cell.
        experiment: that makes the set; none for a control, or where the set is there.
        control: the name of the control that is judged in place of a set.
        network: of the cross-architecture table; else empty.
    """

    folder: str
    source: Source
    protocol: Protocol
    per_class: int
    seed: int
    device: str
    experiment: Experiment | None = None
    control: str | None = None
    network: str = ""


def perform(job: Job, report: Report) -> None:
    """Condense, unless that is done, and judge."""
    files = CellFiles(Path(job.folder), job.network)
    if job.experiment is not None and not files.run.result.exists():

        def on_progress(progress: Progress) -> None:
            if progress.record.step % 10 == 0 or progress.step == progress.steps:
                report("condensing", progress.step / progress.steps, f"loss {progress.loss:.4g}")

        resume = files.run.config.exists()
        run(
            job.experiment,
            files.run,
            resume=resume,
            on_progress=on_progress,
            on_round=lambda done, total: report("teaching", 0.999, f"{done}/{total}"),
            patience=PATIENCE,
        )
    found = _judged(job, files, lambda done, note: report("judging", done, ""))
    files.run.write_text(files.evaluation, json.dumps(found.as_dict(), indent=1))


def _judged(job: Job, files: CellFiles, on_progress: Callable[[float, str], None]) -> Comparison:
    data, runtime = job.source.load(), Runtime(job.seed, chosen_device(job.device))
    if job.control is None:
        synthetic = SyntheticSet.load(files.run.result)
        return comparison(synthetic, data, job.protocol, controls=(), runtime=runtime, on_progress=on_progress)
    found = control(
        job.control,
        [job.per_class] * data.count,
        job.per_class * data.count,
        data,
        job.protocol,
        runtime=runtime,
        progress=lambda done, total: on_progress(done / total, ""),
    )
    return Comparison(rows={job.control: found}, protocol=job.protocol, data=data.name, device=str(runtime.device))


def main() -> None:
    """The process."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever prints, prints into the log
    asked = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_stop_when_alone, daemon=True).start()
    last = 0.0

    def tell(**what: Any) -> None:
        out.write(json.dumps(what) + "\n")

    def report(stage: str, share: float, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_REPORTS or share == 1:
            last = time.monotonic()
            tell(stage=stage, share=share, note=note)

    try:
        if asked["threads"]:
            torch.set_num_threads(asked["threads"])
        load_plugins()
        for path in asked["imports"]:
            load_parts(path)
        perform(build(Job, asked["job"]), report)
    except Interrupted as stopped:
        tell(end="interrupted", reason=str(stopped))
    except DiscrepancyError as error:
        tell(end="failed", reason=str(error))
    except Exception as error:
        traceback.print_exc()
        tell(end="failed", reason=" ".join(f"{type(error).__name__}: {error}".split()))
    else:
        tell(end="done", reason="")
    finally:
        out.close()


def _stop_when_alone() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
