"""One cell of a sweep: a run and its evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.caching import cache_of
from experiments.data import Source
from experiments.device import chosen_device
from experiments.evaluate import Comparison, NetworkEvaluator, Protocol, check_same, comparison, control
from experiments.experiment import Experiment
from experiments.robust import RobustEvaluator, RobustProtocol, failed_checks
from experiments.run import run
from experiments.sweeps.folder import CellFiles
from objectives.condensation import Progress
from objectives.engine.runtime import Runtime
from objectives.storage import json_text, write_text
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["Advancing", "Job", "perform"]

PATIENCE = 60.0
"""Seconds to wait for a run folder: the process of a sweep that was killed may still be writing its checkpoint there."""

Advancing = Callable[[str, float, str], None]
"""Called with the stage (condensing, teaching, evaluating), the share of it that is done, and a note."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done.

    Args:
        folder: of the cell.
        experiment: that makes the set; none for a control, or where the set is there.
        control: the name of the control that is evaluated in place of a set.
        network: of the cross-architecture table; else empty.
        robust: how the networks are attacked too; None if they are not.
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
    robust: RobustProtocol | None = None


def perform(job: Job, advancing: Advancing) -> None:
    """Condense, unless that is done, and evaluate."""
    files = CellFiles(Path(job.folder), job.network)
    if job.experiment is not None and not files.run.result.exists():

        def on_progress(progress: Progress) -> None:
            if progress.record.step % 10 == 0 or progress.step == progress.steps:
                advancing("condensing", progress.step / progress.steps, f"loss {progress.loss:.4g}")

        resume = files.run.config.exists()
        run(
            job.experiment,
            files.run,
            resume=resume,
            on_progress=on_progress,
            on_round=lambda done, total: advancing("teaching", 0.999, f"{done}/{total}"),
            patience=PATIENCE,
            cache=cache_of(job.experiment),
        )
    found = _evaluated(job, files, lambda done, note: advancing("evaluating", done, note))
    with files.run.locked(PATIENCE):
        write_text(files.evaluation, json_text(found.as_dict(), 1))


def _evaluated(job: Job, files: CellFiles, on_progress: Callable[[float, str], None]) -> Comparison:
    """One row; of networks that are attacked too, one for each way of training, by its name."""
    data, runtime = job.source.load(), Runtime(job.seed, chosen_device(job.device))
    if job.robust is None:
        return _row(job, files, NetworkEvaluator(data, job.protocol, runtime=runtime), on_progress)
    suite = job.robust.suite(data)
    protocols, rows, notes = job.robust.protocols(job.protocol, suite), {}, []
    for place, (way, protocol) in enumerate(protocols.items()):
        evaluator = RobustEvaluator(data, protocol, suite, runtime=runtime)

        def share(done: float, note: str, place: int = place, way: str = way) -> None:
            on_progress((place + done) / len(protocols), f"{way} training")

        (rows[way],) = _row(job, files, evaluator, share).rows.values()
        notes += [f"{way} training: {problem}" for problem in failed_checks(rows[way], suite)]
    return Comparison(rows=rows, protocol=job.protocol, data=data.name, device=str(runtime.device), notes=tuple(notes))


def _row(
    job: Job, files: CellFiles, evaluator: NetworkEvaluator, on_progress: Callable[[float, str], None]
) -> Comparison:
    data, runtime = evaluator.data, evaluator.runtime
    if job.control is None:
        synthetic = SyntheticSet.load(files.run.result)
        check_same(synthetic, data, str(files.run.result), "begin the sweep in another folder")
        return comparison(synthetic, evaluator, controls=(), on_progress=on_progress)
    counts = [job.per_class] * data.count
    found = control(job.control, evaluator, counts, sum(counts), progress=lambda share: on_progress(share, ""))
    return Comparison(rows={job.control: found}, protocol=job.protocol, data=data.name, device=str(runtime.device))
