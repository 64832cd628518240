"""What is damaged: small and whole examples of everything that the commands read, made once."""

import contextlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.cli import main
from experiments.config import dump, write_yaml
from experiments.sweeps import read_sweep
from experiments.sweeps.cells import cells_of
from experiments.sweeps.folder import SweepFolder

TINY_SWEEP: dict[str, Any] = {
    "data": ["digits"],
    "per_class": [1],
    "methods": {"random": {"shared": False}},
    "controls": ["whole"],
    "protocol": {"name": "quick", "set": ["network.width=4", "epochs=1"], "networks": 1},
    "device": "cpu",
}
TINY_STUDY: dict[str, Any] = {
    "data": "digits",
    "per_class": [1],
    "real": 9,
    "protocol": {"kind": "scratch", "network": {"kind": "convnet", "width": 4}, "networks": 1, "epochs": 1},
    "reference": {"view": "pixels", "discrepancy": "mean"},
    "resamples": 20,
    "sets": {"random": {"kind": "random", "count": 3}, "noise": {"kind": "noise", "count": 1}},
    "views": {"pixels": {"via": "identity"}},
    "by_class": {"mean": "mmd"},
    "whole": {"mean_of_all": "mmd"},
}
RUN = ["--data", "digits", "--per-class", "1", "--set", "context.network.width=4", "--set", "context.batch=4"]


@dataclass(frozen=True)
class Samples:
    """Files and folders that the commands take as they are."""

    artefact: Path
    labelled: Path
    teacher: Path
    run: Path
    begun: Path
    npz: Path
    images: Path
    sweep: Path
    study: Path
    named: Path
    """A folder that is never made: metadata name it."""

    @classmethod
    def at(cls, folder: Path) -> "Samples":
        """Those of a folder in which they are made, or are to be."""
        files = ("a.safetensors", "t.safetensors", "t.teacher.safetensors", "run", "begun", "d.npz", "images", "sweep")
        return cls(*(folder / name for name in (*files, "study", "named")))


def made(folder: Path) -> Samples:
    """All of them, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Samples.at(folder)
    _called("run", "dm", *RUN, "--steps", "3", "--checkpoint-every", "2", "--out", str(found.run))
    shutil.copytree(found.run, found.begun)
    (found.begun / "result.safetensors").unlink()
    shutil.copy(found.run / "result.safetensors", found.artefact)
    teacher = (
        "{network: {kind: mlp, width: 4, depth: 1}, rounds: 1, training: {kind: sgd, on: real, steps: 2, lr: 0.1}}"
    )
    _called("label", str(found.artefact), "--teacher", teacher, "--out", str(found.labelled))
    random = np.random.default_rng(0)
    np.savez(
        found.npz,
        x=random.integers(0, 255, (24, 4, 4), np.uint8),
        y=np.arange(24) % 3,
        classes=np.array(["a", "b", "c"]),
        groups=np.arange(24) % 2,
    )
    for label in ("cat", "dog"):
        for number, ending in enumerate(("png", "jpg", "bmp", "tif", "webp", "ppm")):
            place = found.images / label / f"{number}.{ending}"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (6, 5, 3), np.uint8)).save(place)
    _sweep(found)
    file = folder / "study.yaml"
    file.write_text(write_yaml(TINY_STUDY))
    _called("study", "predict", str(file), "--out", str(found.study))
    return found


def _sweep(found: Samples) -> None:
    """A sweep in which all is done, as its processes leave it."""
    file = found.sweep.parent / "sweep.yaml"
    file.write_text(write_yaml(TINY_SWEEP))
    asked = read_sweep(str(file))
    folder, cells = SweepFolder(found.sweep), cells_of(asked)
    found.sweep.mkdir()
    folder.adopt(dump(asked), cells)
    row = found.sweep.parent / "row.json"
    _called("evaluate", str(found.artefact), "--networks", "1", "--set", "network.width=4", "--set", "epochs=1",
            "--controls", "none", "--json", output=row)  # fmt: skip
    for cell in cells:
        files = folder.files(cell)
        files.evaluation.parent.mkdir(parents=True)
        if cell.experiment is not None:
            shutil.copytree(found.run, files.run.path, dirs_exist_ok=True)
        files.evaluation.write_text(row.read_text())
    assert json.loads(row.read_text())


def _called(*arguments: str, output: Path | None = None) -> None:
    out = io.StringIO()
    quiet = () if arguments[0] in ("show", "export") else ("--quiet",)
    with contextlib.redirect_stdout(out):
        status = main([*arguments, *quiet])
    assert status == 0, (arguments, out.getvalue())
    if output is not None:
        output.write_text(out.getvalue())
