"""``condense run``: condense a data set, or plan it."""

from collections.abc import Sequence
from pathlib import Path

from discrepancy.errors import InvalidInput
from experiments.caching import cache_of
from experiments.commands.interruption import continued_by, said_again
from experiments.config import Tree, build, dump, read
from experiments.data import HeldOut, source_named
from experiments.experiment import Experiment, configured
from experiments.folder import RunFolder
from experiments.method import method_tree
from experiments.plan import planned
from experiments.releasing import with_ledger
from experiments.report import Report
from experiments.report.evaluation import teacher_in_words
from experiments.report.progress import COMPILING, said, staged
from experiments.report.summary import facts_report, plan_report, privacy_in_words
from experiments.run import run as run_experiment
from experiments.teaching import teacher_tree
from objectives.condensation import Progress
from objectives.solvers import Solving

__all__ = ["run"]


def run(
    what: str | None = None,
    *,
    data: str | None = None,
    root: str | None = None,
    validation: bool = False,
    per_class: int | None = None,
    examples: int | None = None,
    features: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    changes: Sequence[str] = (),
    teacher: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 100,
    dry_run: bool = False,
    imports: Sequence[str] = (),
    threads: int | None = None,
    quiet: bool = False,
) -> Report:
    """Condense a data set with a method or a configuration file, or plan it; the values are those of ``condense run``.

    ``imports`` are files with parts of the user's own, read before, and ``threads`` is the number of torch's threads that was
    asked for; the advice to continue names them.

    Raises:
        KeyboardInterrupt: on SIGINT or SIGTERM, after the checkpoint is written.
    """
    if checkpoint_every < 1:
        raise InvalidInput(f"'--checkpoint-every' must be at least 1 step, got {checkpoint_every}")
    if per_class is not None and examples is not None:
        raise InvalidInput("give --per-class or --examples, one of them")
    tree = _named(what, Path(out) if resume and out is not None else None)
    if data is not None:
        tree = tree | {"data": dump(source_named(data, root))}
    elif "data" not in tree and not any(change.startswith("data") for change in changes):
        raise InvalidInput("name the data with --data, such as --data digits, or as 'data' in a configuration file")
    given = _given(None if data is not None else root, per_class, examples, steps, teacher)
    given |= {name: value for name, value in (("seed", seed), ("device", device)) if value is not None}
    tree = configured(tree, given, changes, features)
    if validation:
        tree = tree | {"data": {"kind": HeldOut.kind, "of": tree.get("data")}}
    experiment = build(Experiment, tree)
    if dry_run:
        return plan_report(f"Plan of {experiment.title}", planned(experiment, cache=cache_of(experiment)))
    folder = RunFolder(_default_folder(str(what), features, experiment) if out is None else Path(out))
    options = said_again(imports, threads)
    with continued_by(lambda: f"continue with: {folder.continuation(options)}" if folder.config.exists() else ""):
        return _run(experiment, folder, resume, checkpoint_every, quiet, options)


def _run(
    experiment: Experiment, folder: RunFolder, resume: bool, checkpoint_every: int, quiet: bool, options: str
) -> Report:
    steps = getattr(experiment.solver, "steps", 1)
    with staged(quiet) as stage:
        advance = stage(f"condensing with {experiment.title}", steps) if experiment.privacy is None else silent

        def on_release(done: int, total: int) -> None:
            nonlocal advance
            if advance is silent:
                advance = stage("summing up private examples", total)
            advance(done, "")

        def on_start(solving: Solving) -> None:
            nonlocal advance
            if experiment.privacy is not None:
                advance = stage(f"condensing with {experiment.title}", steps)
            if solving.step < steps and solving.bound_context is not None and solving.bound_context.compiles:
                advance(solving.step, COMPILING)

        def on_progress(progress: Progress) -> None:
            if progress.record.step % 10 == 0 or progress.step == progress.steps:
                advance(progress.step, f"loss {progress.loss:.4g}")

        def on_round(done: int, total: int) -> None:
            nonlocal advance
            if done == 0:
                advance(steps, "condensed")
                advance = stage("teaching", total)
            advance(done, "")

        outcome = run_experiment(
            experiment,
            folder,
            resume=resume,
            checkpoint_every=checkpoint_every,
            on_start=on_start,
            on_progress=on_progress,
            on_round=on_round,
            on_release=on_release,
            options=options,
            cache=cache_of(experiment, None if quiet else said),
        )
    summary = {
        "artefact": str(folder.result),
        **({"picture": str(folder.picture)} if folder.picture.exists() else {}),
        "examples": len(outcome.synthetic),
        "stored_bytes": outcome.synthetic.stored_bytes,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "peak_bytes": outcome.peak_bytes,
    }
    if experiment.privacy is not None:
        summary["privacy"] = privacy_in_words(outcome.synthetic.record["privacy"])
        summary["ledger"] = with_ledger(experiment).ledger
    if experiment.teacher is not None:
        summary["teacher"] = teacher_in_words(outcome.synthetic.record["teacher"])
    return facts_report(f"Run of {experiment.title}", summary)


def silent(done: int, note: str = "") -> None:
    """No progress yet."""


def _named(what: str | None, resumed: Path | None) -> Tree:
    if what is not None:
        return method_tree(what)
    if resumed is not None:
        folder = RunFolder(resumed)
        folder.check_config()
        if not folder.config.exists():
            raise InvalidInput(f"'{resumed}' holds no run to resume; name the folder of one with --out")
        return read(folder.config)
    raise InvalidInput("name a method or a configuration file; 'condense methods' lists the methods")


def _given(
    root: str | None, per_class: int | None, examples: int | None, steps: int | None, teacher: str | None
) -> Tree:
    """The options as changes of the configuration."""
    given: Tree = {} if root is None else {"data": {"root": root}}
    if per_class is not None:
        given["synthetic"] = {"per_class": per_class, "examples": None}
    if examples is not None:
        given["synthetic"] = {"examples": examples}
    if steps is not None:
        given["solver"] = {"steps": steps}
    if teacher is not None:
        given["teacher"] = teacher_tree(teacher)
    return given


def _default_folder(what: str, features: str | None, experiment: Experiment) -> Path:
    """Of a name that differs where the method or the file, the features, the data, the size or the seed differ."""
    size = experiment.synthetic.examples or experiment.synthetic.per_class
    seed = f"seed{experiment.seed}" if experiment.seed else None
    parts = (Path(what).stem, features, experiment.data.title.lower(), str(size), seed)
    return Path("runs") / "-".join(part for part in parts if part)
