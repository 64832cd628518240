"""Every command that the short documents show works as it stands: those of a document one after the other in a folder
with nothing but the user's own files, on small data and with small settings behind them."""

import shlex
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_documents import WRITTEN, commands

from discrepancy.parts import FAMILIES
from experiments import parser
from experiments.cli import main
from experiments.config import read, write_yaml
from experiments.sweeps import files as sweep_files
from experiments.sweeps import run as sweep_run

sys.path.insert(0, str(Path(__file__).parent / "experiments"))
from sweeping import here as worker_here

OWN: dict[str, Any] = {
    "data": "digits",
    "synthetic": {"kind": "pixels", "per_class": 2},
    "objective": {"terms": {"features": {"match": "mmd", "via": "identity", "by": "none"}}},
    "context": "fresh",
    "solver": {"descent": {"steps": 2}},
}
PARTS = """
from discrepancy import MeanDiscrepancy

class Own(MeanDiscrepancy, kind="own_by_test"):
    tags = frozenset()

    def statistic(self, points, draws):
        return points

    def distance(self, real, synthetic):
        return (real - synthetic).square().sum(-1)
"""
HELP = {name: getattr(parser, name) for name in ("EPILOG", "COMPARED", "SWEPT")}
SHOWN = {document: commands(document) for document in WRITTEN if commands(document)} | {
    name: [line.strip().partition("  ")[0] for line in text.splitlines() if line.strip().startswith("condense ")]
    for name, text in HELP.items()
}
CHECKED = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/command-line.md",
    "docs/configuration.md",
    "docs/exact.md",
    "docs/objectives.md",
)
"""Those whose commands take seconds; the long ones, and the help, are parsed by ``test_documents.py`` alone."""
TEXTS = {document: lines for document, lines in SHOWN.items() if document in CHECKED}
BEFORE = {"COMPARED": ["condense run dm --data digits", "condense run dm --data mnist"]}
"""What the examples of the help of 'compare' take from those of the command."""


def images(number: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(number).integers(0, 256, (number, 8, 8, channels), np.uint8)
    return drawn, np.arange(number) % 10


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


class Colours:
    """In place of torchvision's CIFAR10, whose files are checked."""

    classes = tuple("abcdefghij")

    def __init__(self, root: str, train: bool, download: bool) -> None:
        self.data, labels = images(300 if train else 100, 3)
        self.targets = labels.tolist()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the user's files, where the known data sets are small, and the packaged sweep has two methods."""
    for name in ("MNIST", "FashionMNIST"):
        for part, number in (("train", 300), ("t10k", 100)):
            points, labels = images(number, 1)
            raw = tmp_path / "data" / name / "raw"
            raw.mkdir(parents=True, exist_ok=True)
            (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(points[..., 0]))
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    monkeypatch.setenv("DISCREPANCY_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Colours)
    for family in FAMILIES.values():
        monkeypatch.setattr(family, "members", dict(family.members))
    small = read(sweep_files.available()["matching"])
    small["methods"] = {name: small["methods"][name] for name in ("random", "herding")}
    small["protocol"] = {"name": "vico", "set": ["network.width=4", "epochs=2"], "networks": 1}
    (tmp_path / "matching.yaml").write_text(write_yaml(small))
    monkeypatch.setattr(sweep_files, "available", lambda: {"matching": tmp_path / "matching.yaml"})
    monkeypatch.setattr(sweep_run, "Child", worker_here)
    here = tmp_path / "here"
    here.mkdir()
    (here / "my.yaml").write_text(write_yaml(OWN))
    (here / "my_parts.py").write_text(PARTS)
    monkeypatch.chdir(here)
    return here


def smaller(words: list[str]) -> list[str]:
    """Options that make a command quick, where they do not change what it says."""
    match words[1:]:
        case ["run", "dm", *rest]:
            small = ["--steps=2", "--set=context.network.width=4", "--set=context.batch=4"]
            teacher = ["network.width=4", "rounds=1", "training.steps=2"] if "--teacher" in rest else []
            return [*small, *(f"--set=teacher.{change}" for change in teacher)]
        case ["run", "ridge", *rest] if "fcnn" in rest:
            return ["--set=context.network.width=8"]
        case ["evaluate", *rest] if "ridge" not in rest:
            width = [] if "table" in rest else ["--set=network.width=4"]
            return ["--networks=1", "--set=epochs=2", *width]
        case ["label", *_]:
            return ["--set=rounds=1", "--set=training.steps=2"]
        case ["compare", *_]:
            return ["--resamples=10", "--discrepancies=mean", *([] if "--by" in words else ["--by=none"])]
        case ["study", "predict", *_]:
            return ["--show"]
        case ["study", "exact", *_]:
            return ["--features=linear", "--per-class=1", *(["--kip=0.001"] if "--kip" in words else [])]
        case ["sweep", *rest]:
            if "cross" in rest or "best_ablation" in rest:
                return ["--dry-run"]
            return ["--only=digits/10/random" if "label_noise" in rest else "--only=mnist/10/random"]
    return []


@pytest.mark.slow
@pytest.mark.parametrize("document", TEXTS)
def test_the_commands_that_are_shown_run(document: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    threads = torch.get_num_threads()
    for line in [*BEFORE.get(document, []), *TEXTS[document]]:
        words = shlex.split(line)
        status = main([*words[1:], *smaller(words)])
        assert status == 0, f"{line!r}: {capsys.readouterr().err}"
    torch.set_num_threads(threads)
