"""A tiny artefact, and the rows of a comparison."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.cli import main
from experiments.data import Digits
from objectives.data.labelled import LabelledData
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["QUICK", "artefact", "digits", "folder", "printed", "row"]


QUICK = ["--quiet", "--resamples", "10", "--set", "permutations=19"]


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return Digits().load()


def artefact(data: LabelledData, per_class: int, train: bool = False) -> SyntheticSet:
    """So many random real examples of each class, of the test part, which is independent of the real side, or of it."""
    part = data.train if train else data.test
    assert part is not None
    rows = part.class_batch(rng(0, "test"), per_class)
    points, labels = part.points[rows].float(), part.labels.take(rows)
    weights = torch.ones(len(rows))
    return SyntheticSet(points, labels, weights, data.classes, data.normalisation, data.limits)


@pytest.fixture(scope="module")
def folder(digits: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sets")
    (path / "four").mkdir()
    artefact(digits, 4).save(path / "four" / "result.safetensors")
    artefact(digits, 1).save(path / "one.safetensors")
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["compare", *map(str, arguments), *QUICK, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def row(found: dict[str, Any], **wanted: str) -> dict[str, Any]:
    (one,) = [row for row in found["rows"] if all(row[key] == value for key, value in wanted.items())]
    return one
