"""A tiny sweep, and jobs that are done in the process of the test."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discrepancy.errors import DiscrepancyError
from experiments.cli import main
from experiments.config import build, dump, write_yaml
from experiments.sweeps import run
from experiments.sweeps.cell import Advancing, Job, perform

TINY: dict[str, Any] = {
    "title": "Tiny",
    "data": ["digits"],
    "per_class": [1, 2],
    "methods": {
        "dm": {"set": ["solver.steps=4", "context.batch=4"], "at": {"2": ["solver.steps=5"]}},
        "random": {"shared": False},
    },
    "set": ["context.network.width=4"],
    "controls": ["whole"],
    "protocol": {"name": "quick", "set": ["network.width=4", "epochs=2"], "networks": 2},
    "device": "cpu",
}


def here(imports: tuple[str, ...] = (), threads: int | None = None) -> Callable[[Job, Advancing, Path], str | None]:
    """Does a job in this process: the same code without the seconds that a process takes to start."""

    def work(job: Job, advancing: Advancing, log: Path) -> str | None:
        try:
            perform(build(Job, dump(job)), advancing)
        except DiscrepancyError as error:
            return str(error)
        return None

    return work


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "Child", here)
    monkeypatch.setattr("experiments.plan.TRYING_SECONDS", 0.0)


def written(path: Path, **changes: Any) -> str:
    path.write_text(write_yaml({**TINY, **changes}))
    return str(path)


def sweep(file: str, out: Path, *options: str) -> int:
    return main(["sweep", file, "--out", str(out), "--quiet", *options])


def rows_in(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of the report by DATA/SIZE/NAME[/NETWORK]."""
    rows = json.loads((out / "report.json").read_text())["rows"]
    return {"/".join(filter(None, (r["data"], str(r["per_class"]), r["name"], r["network"]))): r for r in rows}


def files_in(out: Path) -> dict[str, tuple[int, bytes]]:
    """When every file of the cells was written, and what it holds."""
    found = (path for path in (out / "cells").rglob("*") if path.is_file() and path.name not in (".lock", "log.txt"))
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Child", here)
        patch.setattr("experiments.plan.TRYING_SECONDS", 0.0)
        assert sweep(written(folder / "tiny.yaml"), folder / "out") == 0
    return folder


@pytest.fixture
def finished(template: Path, tmp_path: Path, in_process: None) -> Path:
    """A folder in which everything is done; its file lies beside it."""
    return Path(shutil.copytree(template, tmp_path / "finished")) / "out"


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))
