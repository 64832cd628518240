"""The folder of a sweep: a run folder for every set that is condensed, with its evaluations.

    config.yaml   cells.json   table.md   table.html   table.csv   cross.csv   robust.csv   report.json
    cells/DATA/SIZE/NAME/NUMBER/   a run folder, and evaluation.json, evaluation-NETWORK.json, failure.json, log.txt

A cell that has its evaluation is done, and is not touched again.
"""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from discrepancy.errors import InvalidInput
from experiments.config import Tree, changed, completed
from experiments.evaluate import Protocol
from experiments.experiment import Experiment
from experiments.folder import RunFolder
from experiments.robust import RobustProtocol
from experiments.sweeps.cells import Cell, plain_cell
from objectives.storage import holds, read_json, write_text
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["CellFiles", "SweepFolder"]


CELLS = "cells"


class CellFiles:
    """The files of one cell; those of the cross-architecture table share the run folder of their set."""

    def __init__(self, path: Path, network: str = "") -> None:
        suffix = f"-{network}" if network else ""
        self.run = RunFolder(path)
        self.evaluation = path / f"evaluation{suffix}.json"
        self.failure = path / f"failure{suffix}.json"
        self.log = path / "log.txt"

    @property
    def evaluated(self) -> dict[str, Any] | None:
        """What the evaluation found; None where it is not done.

        Raises:
            InvalidInput: if the file is damaged.
        """
        return read_json(self.evaluation, _is_evaluation) if self.evaluation.exists() else None

    @property
    def failed(self) -> str | None:
        """Why the cell failed, if it did.

        Raises:
            InvalidInput: if the file is damaged.
        """
        return read_json(self.failure, _is_failure)["reason"] if self.failure.exists() else None

    def check(self) -> None:
        """Refuse damaged files.

        Raises:
            InvalidInput: naming one.
        """
        _ = self.evaluated, self.failed

    @property
    def state(self) -> Literal["done", "failed", "begun", "open"]:
        """How far the cell is: ``begun`` if there is a run folder."""
        if self.evaluated is not None:
            return "done"
        if self.failed is not None:
            return "failed"
        return "begun" if self.run.config.exists() else "open"

    def tidy(self) -> None:
        """Remove the lock of a process that was killed after its last write, unless one is still at work here."""
        if self.evaluation.exists() and (self.run.path / ".lock").exists():
            with contextlib.suppress(InvalidInput), self.run.locked():
                pass

    @property
    def record(self) -> dict[str, Any] | None:
        """What the run says of itself; None for a control, or where it is not done."""
        return dict(SyntheticSet.load(self.run.result).record) if self.run.result.exists() else None


class SweepFolder(RunFolder):
    """The files of one sweep."""

    command = "sweep"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.cells = path / "cells.json"
        self.report = path / "report.json"
        self.markdown = path / "table.md"
        self.page = path / "table.html"
        self.table = path / "table.csv"
        self.cross = path / "cross.csv"
        self.robust = path / "robust.csv"

    @property
    def states(self) -> tuple[Path, ...]:
        return (self.cells,)

    @property
    def written(self) -> tuple[Path, ...]:
        return self.config, self.report, self.markdown, self.page, self.table, self.cross, self.robust

    def files(self, cell: Cell) -> CellFiles:
        return CellFiles(self.path / CELLS / cell.base, cell.network)

    def check(self, cells: Sequence[Cell]) -> None:
        """Refuse cells that are not those of this folder; there may be more of them, and fields that have come since.

        Raises:
            InvalidInput: with every difference, or naming a file of the folder that is damaged.
        """
        if not self.cells.exists():
            if (self.path / CELLS).exists():
                raise InvalidInput(
                    f"'{self.path}' holds a sweep, but its {self.cells.name} is lost; restore it, or name another folder with "
                    "--out"
                )
            return
        for cell in cells:
            self.files(cell).check()
        before = read_json(self.cells, _are_cells, "restore it, or name another folder with --out")
        now = {"cells": _described(cells)}
        found = changed({"cells": before}, now, growing=("cells",))
        if found:
            found = changed({"cells": {key: _completed(cell) for key, cell in before.items()}}, now, growing=("cells",))
        if found:
            text = "; ".join(line.removeprefix("cells.") for line in found[:20])
            more = f"; and {len(found) - 20} more" if len(found) > 20 else ""
            raise InvalidInput(
                f"'{self.path}' holds a sweep with other cells: {text}{more}; run it as it was, add to it only, or name "
                "another folder with --out"
            )

    def adopt(self, tree: Tree, cells: Sequence[Cell]) -> None:
        """Write the configuration and all the cells, unless those that are here are others."""
        self.check(cells)
        self.check_own()
        self.write_config(tree)
        write_text(self.cells, json.dumps(_described(cells), indent=1))  # the last: with it the folder holds a sweep


EVALUATED = {"torch": str, "device": str, "rows": dict[str, dict[str, Any]]}
ROW = {
    "accuracies": tuple[float, ...],
    **dict.fromkeys(("examples", "stored_bytes", "epochs"), int),
    **dict.fromkeys(("protocol", "protocol_hash", "labels"), str),
}
"""Of what is read of an evaluation, and of each of its rows."""


def _is_evaluation(found: dict[str, Any]) -> bool:
    return holds(found, EVALUATED) and bool(found["rows"]) and all(holds(row, ROW) for row in found["rows"].values())


def _is_failure(found: dict[str, Any]) -> bool:
    return holds(found, {"reason": str})


def _are_cells(found: dict[str, Any]) -> bool:
    types = {"experiment": dict[str, Any] | None, "protocol": dict[str, Any]}
    return bool(found) and all(holds(cell, types) for cell in found.values())


def _described(cells: Sequence[Cell]) -> dict[str, Any]:
    return {cell.key: cell.describe() for cell in cells}


def _completed(cell: dict[str, Any]) -> dict[str, Any]:
    experiment = cell["experiment"] and completed(Experiment, cell["experiment"])
    robust = completed(RobustProtocol, cell["robust"]) if "robust" in cell else None
    return plain_cell(experiment, completed(Protocol, cell["protocol"]), robust)
