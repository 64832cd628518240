"""Sweeps on the command line: what ``condense sweep`` calls."""

import argparse
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from discrepancy.errors import InvalidInput
from experiments.config import Tree, build, dump, merge, override, read
from experiments.config.mistakes import suggestion
from experiments.report import sweep as report
from experiments.report.progress import shown
from experiments.report.tables import duration, table
from experiments.sweeps.cells import Cell, cells_of
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.planning import Estimate, estimated
from experiments.sweeps.published import packaged
from experiments.sweeps.rows import Row, rows_of
from experiments.sweeps.running import Child, Worker, run_cells
from experiments.sweeps.sweep import CROSS, Sweep

__all__ = ["available", "run_sweep"]


def available() -> dict[str, Traversable]:
    """The sweep files that come with the package, by name."""
    files = (item for item in resources.files("experiments.sweeps").iterdir() if item.name.endswith(".yaml"))
    named = {item.name.removesuffix(".yaml"): item for item in files if item.name != "published.yaml"}
    return dict(sorted(named.items()))


def run_sweep(options: argparse.Namespace, worker: Worker | None = None) -> int:
    """Do what is asked; the exit status is 1 where a cell has failed."""
    tree = _tree(options)
    sweep = build(Sweep, tree)
    cells = cells_of(sweep)
    chosen = _chosen(cells, options, sweep)
    folder = SweepFolder(options.out or Path("runs") / f"sweep-{Path(options.file or 'sweep').stem}")
    options.out = folder.path
    if options.dry_run:
        _show_plan(chosen, folder, _estimates(chosen, folder, options), options.json)
        return 0
    if options.report_only:
        if not folder.cells.exists():
            raise InvalidInput(f"'{folder.path}' holds no sweep; run it first")
        return _finished(sweep, cells, chosen, folder, options)
    if folder.cells.exists() and not options.resume:
        raise InvalidInput(
            f"'{folder.path}' holds a sweep already; continue it with --resume, or name another folder with --out"
        )
    with folder.locked():
        folder.check(cells)
        todo = [cell for cell in chosen if folder.files(cell).judged is None]
        estimates = _estimates(todo, folder, options)
        folder.adopt(dump(sweep, defaults=False), cells)
        worker = worker or Child(imports=tuple(options.imports or ()), threads=options.threads)
        total = max(1, int(sum(estimate.seconds for estimate in estimates.values())))
        with shown("sweep (estimated seconds)", total, options.quiet) as advance:
            run_cells(todo, folder, worker, estimates, advance, lambda: _write(sweep, cells, folder))
        return _finished(sweep, cells, chosen, folder, options)


def _tree(options: argparse.Namespace) -> Tree:
    """The file, or that of the folder, then the options, then every --set."""
    if options.file is None:
        if options.out is None or not (options.resume or options.report_only):
            raise InvalidInput(f"name a sweep file, or one of: {', '.join(available())}")
        tree = read(SweepFolder(options.out).config)
    else:
        tree = _with_paths(*_found(options.file))
    changes: Tree = {}
    config = SweepFolder(options.out).config if options.out is not None else None
    if options.resume and config is not None and config.exists():
        changes |= {name: value for name, value in read(config).items() if name == "root"}
    for name in ("root", "seed", "device"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    return override(merge(tree, changes), options.set)


def _found(text: str) -> tuple[Tree, Path]:
    files = available()
    if text in files:
        return read(files[text]), Path()
    path = Path(text)
    if path.suffix in (".yaml", ".yml", ".toml") or path.exists():
        return read(path), path.parent
    known = ", ".join(files)
    raise InvalidInput(f"'{text}' is neither a sweep nor a file{suggestion(text, files)} (sweeps: {known})")


def _with_paths(tree: Tree, base: Path) -> Tree:
    """Files of methods and protocols are meant from where the sweep file lies; the folder keeps where that is."""

    def meant(text: Any) -> Any:
        there = isinstance(text, str) and Path(text).suffix in (".yaml", ".yml", ".toml") and (base / text).exists()
        return str((base / text).resolve()) if there else text

    tree = dict(tree)
    methods = tree.get("methods")
    if isinstance(methods, dict):
        tree["methods"] = {
            name: {**item, "method": meant(item["method"])} if isinstance(item, dict) and "method" in item else item
            for name, item in methods.items()
        }
    judging = tree.get("protocol")
    if isinstance(judging, dict) and "name" in judging:
        tree["protocol"] = {**judging, "name": meant(judging["name"])}
    elif judging is not None:
        tree["protocol"] = meant(judging)
    return tree


def _chosen(cells: Sequence[Cell], options: argparse.Namespace, sweep: Sweep) -> list[Cell]:
    """Those of the portions that are asked for, and of the names."""
    known = [*dict(sweep.portions), *([] if sweep.cross is None else [CROSS])]
    wanted = options.portions or []
    for name in wanted:
        if name not in known:
            raise InvalidInput(f"'--portions' names '{name}', which is none of {', '.join(known) or 'none'}")
    chosen = [cell for cell in cells if cell.portion in wanted] if wanted else list(cells)
    if not wanted and not options.all:
        chosen = [cell for cell in chosen if not cell.optional]
    for pattern in options.only or []:
        if not any(_is_meant(cell, pattern) for cell in cells):
            raise InvalidInput(
                f"'--only' has '{pattern}', which is no method, data or size of the sweep, and no pattern of DATA/SIZE/METHOD"
            )
    if options.only:
        chosen = [cell for cell in chosen if any(_is_meant(cell, pattern) for pattern in options.only)]
    if not chosen:
        raise InvalidInput("nothing of the sweep is left by '--only' and '--portions'; optional portions need --all")
    return chosen


def _is_meant(cell: Cell, pattern: str) -> bool:
    return pattern in cell.key.split("/") or fnmatchcase(cell.key, pattern) or fnmatchcase(cell.key, f"{pattern}/*")


def _estimates(cells: Sequence[Cell], folder: SweepFolder, options: argparse.Namespace) -> dict[str, Estimate]:
    made = {cell.base for cell in cells if folder.files(cell).run.result.exists()}
    with shown("checking", len(cells), options.quiet) as advance:
        return estimated(cells, made, lambda done: advance(done, ""))


def _show_plan(cells: Sequence[Cell], folder: SweepFolder, estimates: dict[str, Estimate], as_json: bool) -> None:
    states = {cell.key: _state(cell, folder) for cell in cells}
    left = sum(estimates[cell.key].seconds for cell in cells if states[cell.key] != "done")
    if as_json:
        rows = [
            {"cell": key, "state": states[key], **vars(estimate), "seconds": estimate.seconds}
            for key, estimate in estimates.items()
        ]
        print(json.dumps({"cells": rows, "seconds": left}))
        return
    columns = ("cell", "state", "condensing", "evaluating")
    lines = [
        (key, states[key], _lasting(estimate.condensing), _lasting(estimate.judging))
        for key, estimate in estimates.items()
    ]
    print(table(columns, lines, columns[2:]))
    print(f"\n{len(cells)} cells, about {duration(left)} for those that are not done")


def _lasting(seconds: float) -> str:
    return duration(seconds) if seconds else "-"


def _state(cell: Cell, folder: SweepFolder) -> str:
    files = folder.files(cell)
    if files.judged is not None:
        return "done"
    if files.failed is not None:
        return "failed"
    return "begun" if files.run.config.exists() else "open"


def _write(sweep: Sweep, cells: Sequence[Cell], folder: SweepFolder) -> list[Row]:
    """All the tables, of what there is."""
    rows = rows_of(cells, folder, packaged())
    shown_rows = [row for row in rows if row.done or row.failures]
    folder.write_text(
        folder.report, json.dumps({"title": sweep.title, "rows": [row.as_dict() for row in rows]}, indent=1)
    )
    folder.write_text(folder.markdown, report.markdown(shown_rows, sweep.title))
    folder.write_text(folder.table, report.as_csv(shown_rows))
    if any(row.network for row in shown_rows):
        folder.write_text(folder.cross, report.cross_csv(shown_rows))
    return rows


def _finished(
    sweep: Sweep, cells: Sequence[Cell], chosen: Sequence[Cell], folder: SweepFolder, options: argparse.Namespace
) -> int:
    wanted = {(cell.data, cell.per_class, cell.name, cell.network) for cell in chosen}
    rows = [row for row in _write(sweep, cells, folder) if (row.data, row.per_class, row.name, row.network) in wanted]
    if options.json:
        print(json.dumps({"title": sweep.title, "rows": [row.as_dict() for row in rows]}))
    else:
        print(report.text(rows))
        written = [file for file in (folder.markdown, folder.table, folder.cross, folder.report) if file.exists()]
        print(f"\nwritten to {folder.path}: {', '.join(file.name for file in written)}")
    return 1 if any(row.failures for row in rows) else 0
