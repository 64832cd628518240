"""``condense study`` and ``condense sweep``: many runs from one command."""

import functools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from discrepancy.parts import check_least
from experiments import studies, sweeps
from experiments.commands.interruption import continued_by, said_again
from experiments.config import build, write_yaml
from experiments.report import Report
from experiments.report.progress import shown
from experiments.report.summary import listing_report
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.sweep_report import sweep_plan_report

__all__ = ["study_exact", "study_predict", "sweep"]


def study_predict(
    file: str | None = None,
    *,
    data: str | None = None,
    root: str | None = None,
    per_class: Sequence[int] | None = None,
    target: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    changes: Sequence[str] = (),
    out: str | Path | None = None,
    rows: int = 20,
    show: bool = False,
    quiet: bool = False,
) -> Report:
    """Which discrepancy predicts accuracy; the values are those of ``condense study predict``. With ``show``, the configuration
    alone."""
    check_least("rows", rows, 0)
    tree = studies.prediction_tree(
        file, data=data, root=root, per_class=per_class, target=target, seed=seed, device=device, changes=changes
    )
    if show:
        return listing_report("Configuration of the study", write_yaml(tree), tree)
    study = build(studies.Prediction, tree)
    default = "predict" if isinstance(study.target, studies.CleanAccuracy) else f"predict-{study.target.kind}"
    folder = Path(out or f"runs/{default}-{study.data_name.lower()}")
    with continued_by(lambda: f"the same command continues in {folder}"):
        found = studies.run_prediction(study, folder, progress=functools.partial(shown, quiet=quiet))
    return found.report(rows).noted(_written_to(folder, found.files))


def study_exact(
    *,
    data: Sequence[str] = ("mnist", "cifar10"),
    root: str | None = None,
    features: Sequence[str] = ("linear", "fcnn", "rff"),
    per_class: Sequence[int] = (1, 10, 50),
    seeds: int = 1,
    precision: Literal["double", "mixed"] = "double",
    kip: float | None = None,
    noise: Sequence[float] | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    quiet: bool = False,
) -> Report:
    """How exact exact ridge regression is; the values are those of ``condense study exact``."""
    folder = Path(out or "runs/exact")
    with continued_by(lambda: f"the same command continues in {folder}"):
        found = studies.run_exact(
            data=data,
            features=features,
            per_class=per_class,
            seeds=seeds,
            precision=precision,
            kip=kip,
            noise=noise or (),
            root=root,
            device=device,
            out=folder,
            progress=functools.partial(shown, quiet=quiet),
        )
    return found.report().noted(_written_to(folder, found.files))


def sweep(
    file: str | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    optional: bool = False,
    portions: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    dry_run: bool = False,
    report_only: bool = False,
    changes: Sequence[str] = (),
    root: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    imports: Sequence[str] = (),
    threads: int | None = None,
    quiet: bool = False,
) -> Report:
    """Run a sweep, or what is missing of it in its folder; the values are those of ``condense sweep``."""
    asked = sweeps.read_sweep(file, out=out, root=root, seed=seed, device=device, changes=changes)
    folder = Path(out or f"runs/sweep-{Path(file or 'sweep').stem}")
    progress = functools.partial(shown, quiet=quiet)
    chosen = {"optional": optional, "portions": portions or (), "only": only or ()}
    if dry_run:
        return sweep_plan_report(sweeps.plan_sweep(asked, folder, **chosen, progress=progress), asked.title)
    if report_only:
        found = sweeps.read_results(asked, folder, **chosen)
    else:
        options = said_again(imports or (), threads) + _chosen(optional, portions or (), only or ())
        held = SweepFolder(folder)
        with continued_by(lambda: f"continue with: {held.continuation(options)}" if held.cells.exists() else ""):
            found = sweeps.run_sweep(
                asked, folder, resume=resume, imports=imports, threads=threads, progress=progress, **chosen
            )
    return found.report().noted(_written_to(folder, found.files))


def _chosen(optional: bool, portions: Sequence[str], only: Sequence[str]) -> str:
    """The options that choose cells of a sweep."""
    named = {"--portions": portions, "--only": only}
    chosen = "".join(f" {option} {shlex.quote(','.join(names))}" for option, names in named.items() if names)
    return " --all" * optional + chosen


def _written_to(folder: Path, files: Sequence[Path]) -> str:
    names = (f"{file.name}/" if file.is_dir() else file.name for file in files)
    return f"written to {folder}: {', '.join(names)}"
