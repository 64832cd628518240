"""Sweeps from Python: run one in a folder, plan it, or read what its folder holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from discrepancy.errors import InvalidInput
from experiments.config import dump
from experiments.report import Report, save
from experiments.report.progress import Shown, silent
from experiments.sweeps.cells import Cell, cells_of
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.planning import CellPlan, Estimate, estimated
from experiments.sweeps.published import packaged
from experiments.sweeps.rows import Row, rows_of
from experiments.sweeps.running import Child, Worker, run_cells
from experiments.sweeps.sweep import CROSS, Sweep
from experiments.sweeps.sweep_report import CROSS_TABLE, ROBUST_TABLE, TABLE, sweep_report

__all__ = ["SweepResult", "plan_sweep", "read_results", "run_sweep"]


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep has found.

    Args:
        rows: those that were asked for; one for each method, data set, size and network.
        folder: where everything lies.
    """

    title: str
    rows: tuple[Row, ...]
    folder: SweepFolder

    @property
    def failures(self) -> tuple[str, ...]:
        """Why cells of these rows have failed."""
        return tuple(reason for row in self.rows for reason in row.failures)

    @property
    def files(self) -> tuple[Path, ...]:
        """The reports that were written."""
        folder = self.folder
        tables = (folder.table, folder.cross, folder.robust)
        return tuple(file for file in (folder.markdown, folder.page, *tables, folder.report) if file.exists())

    def report(self) -> Report:
        """The tables, to be shown or saved."""
        return sweep_report(self.rows, self.title)


def run_sweep(
    sweep: Sweep,
    out: str | Path,
    *,
    resume: bool = False,
    optional: bool = False,
    portions: Sequence[str] = (),
    only: Sequence[str] = (),
    imports: Sequence[str] = (),
    threads: int | None = None,
    worker: Worker | None = None,
    progress: Shown = silent,
) -> SweepResult:
    """Condense and evaluate every cell of a sweep that is not done in its folder, and write the tables.

    A cell that fails is noted with its reason, and the others go on. After an interruption the same call with ``resume``
    continues.

    Args:
        sweep: what is to be done; see :func:`experiments.sweeps.read_sweep` for sweep files.
        out: the folder; it is made if it is not there.
        resume: do what is missing in a folder that holds this sweep already.
        optional: optional portions too.
        portions: the names of the portions that are done, instead of all; ``cross`` is the cross-architecture table.
        only: methods, data, sizes, or patterns such as ``mnist/10/d*``, that are done instead of all.
        imports: files with parts of your own, for the processes of the cells.
        threads: of torch in these processes.
        worker: does one cell; by default each is a new process, so that its peak of memory is its own.
        progress: how progress is shown, such as :func:`experiments.report.progress.shown`; not at all by default.

    Raises:
        InvalidInput: if the folder holds a sweep and ``resume`` is false, or holds other cells, or is in use.
        ConfigError: with everything that is wrong with any cell, before anything is computed.
        KeyboardInterrupt: when the user stops; the run under way has written its checkpoint.
    """
    folder, cells = SweepFolder(Path(out)), cells_of(sweep)
    chosen = _chosen(cells, sweep, optional, portions, only)
    if folder.cells.exists() and not resume:
        raise InvalidInput(
            f"'{folder.path}' holds a sweep already; continue it with --resume, or name another folder with --out"
        )
    with folder.locked():
        folder.check(cells)
        todo = [cell for cell in chosen if folder.files(cell).evaluated is None]
        for cell in chosen:
            folder.files(cell).tidy()
        estimates = _estimates(todo, folder, progress)
        folder.adopt(dump(sweep, defaults=False), cells)
        worker = worker or Child(imports=tuple(imports), threads=threads)
        total = max(1, int(sum(estimate.seconds for estimate in estimates.values())))
        with progress("sweep (estimated seconds)", total) as advance:
            run_cells(todo, folder, worker, estimates, advance, lambda: _write(sweep, cells, folder))
        return _result(sweep, cells, chosen, folder)


def read_results(
    sweep: Sweep, out: str | Path, *, optional: bool = False, portions: Sequence[str] = (), only: Sequence[str] = ()
) -> SweepResult:
    """What the folder of a sweep holds, with its tables written anew; nothing is computed. The arguments are those of
    :func:`run_sweep`.

    Raises:
        InvalidInput: if the folder holds no sweep.
    """
    folder, cells = SweepFolder(Path(out)), cells_of(sweep)
    chosen = _chosen(cells, sweep, optional, portions, only)
    if not folder.cells.exists():
        raise InvalidInput(f"'{folder.path}' holds no sweep; run it first")
    return _result(sweep, cells, chosen, folder)


def plan_sweep(
    sweep: Sweep,
    out: str | Path,
    *,
    optional: bool = False,
    portions: Sequence[str] = (),
    only: Sequence[str] = (),
    progress: Shown = silent,
) -> tuple[CellPlan, ...]:
    """The state of every cell and how long it will take; nothing is computed or written. The arguments are those of
    :func:`run_sweep`.

    Raises:
        ConfigError: with everything that is wrong with any cell.
    """
    folder, cells = SweepFolder(Path(out)), cells_of(sweep)
    chosen = _chosen(cells, sweep, optional, portions, only)
    estimates, by_key = _estimates(chosen, folder, progress), {cell.key: cell for cell in chosen}
    return tuple(
        CellPlan(cell=key, state=folder.files(by_key[key]).state, estimate=found) for key, found in estimates.items()
    )


def _chosen(
    cells: Sequence[Cell], sweep: Sweep, optional: bool, portions: Sequence[str], only: Sequence[str]
) -> list[Cell]:
    """The cells of the portions and of the names that are asked for."""
    known = [*dict(sweep.portions), *([] if sweep.cross is None else [CROSS])]
    for name in portions:
        if name not in known:
            raise InvalidInput(f"'--portions' names '{name}', which is none of {', '.join(known) or 'none'}")
    chosen = [cell for cell in cells if cell.portion in portions] if portions else list(cells)
    if not portions and not optional:
        chosen = [cell for cell in chosen if not cell.optional]
    for pattern in only:
        if not any(_matches(cell, pattern) for cell in cells):
            raise InvalidInput(
                f"'--only' has '{pattern}', which is not a method, data or size of the sweep, nor a pattern of DATA/SIZE/METHOD"
            )
    if only:
        chosen = [cell for cell in chosen if any(_matches(cell, pattern) for pattern in only)]
    if not chosen:
        raise InvalidInput("nothing of the sweep is left by '--only' and '--portions'; optional portions need --all")
    return chosen


def _matches(cell: Cell, pattern: str) -> bool:
    return pattern in cell.key.split("/") or fnmatchcase(cell.key, pattern) or fnmatchcase(cell.key, f"{pattern}/*")


def _estimates(cells: Sequence[Cell], folder: SweepFolder, progress: Shown) -> dict[str, Estimate]:
    made = {cell.base for cell in cells if folder.files(cell).run.result.exists()}
    with progress("checking", len(cells)) as advance:
        return estimated(cells, made, lambda done: advance(done, ""))


def _write(sweep: Sweep, cells: Sequence[Cell], folder: SweepFolder) -> list[Row]:
    """All the tables, of what there is."""
    rows = rows_of(cells, folder, packaged())
    save(sweep_report(rows, sweep.title), folder.report)
    report = sweep_report([row for row in rows if row.done or row.failures], sweep.title)
    save(report, folder.markdown)
    save(report, folder.page)
    save(report, folder.table, TABLE)
    for name, path in ((CROSS_TABLE, folder.cross), (ROBUST_TABLE, folder.robust)):
        if any(table.name == name for table in report.tables):
            save(report, path, name)
    return rows


def _result(sweep: Sweep, cells: Sequence[Cell], chosen: Sequence[Cell], folder: SweepFolder) -> SweepResult:
    wanted = {(cell.data, cell.per_class, cell.name, cell.network) for cell in chosen}
    rows = _write(sweep, cells, folder)
    found = [row for row in rows if (row.data, row.per_class, row.name, row.network) in wanted]
    return SweepResult(title=sweep.title, rows=tuple(found), folder=folder)
