"""What is taken elsewhere says all that the set says, and comes back."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from discrepancy.errors import InvalidInput
from experiments.compare.sides import side_of
from experiments.data import Images, Npz
from experiments.export import export
from objectives.data.labels import Labels
from objectives.data.units import Normalisation
from objectives.storage import StorageError, json_text
from objectives.synthetic.artefact import SyntheticSet

CLASSES = ("!", "(", ")", "+", "=", "1", "A", "a", "Test", "train", "CON", "..", 'x, "y"', "é", "e\u0301", "n" * 300)


def made(classes: tuple[str, ...] = CLASSES, **changes: Any) -> SyntheticSet:
    """Two images of every class."""
    m = 2 * len(classes)
    points = torch.arange(m, dtype=torch.float32)[:, None, None, None].expand(m, 1, 2, 2).contiguous()
    labels = Labels("hard", torch.arange(m) % len(classes))
    plain = SyntheticSet(points, labels, torch.ones(m), classes, Normalisation((0.0,), (1.0,)), (0.0, 255.0))
    return replace(plain, **changes)


def rows_of(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=12, unique=True))
def test_classes_never_share_a_folder(tmp_path_factory: pytest.TempPathFactory, classes: list[str]) -> None:
    to = tmp_path_factory.mktemp("named") / "out"
    export(made((*CLASSES, *(name for name in classes if name not in CLASSES))), to)
    folders = [entry.name for entry in to.iterdir() if entry.is_dir()]
    expected = len(CLASSES) + sum(name not in CLASSES for name in classes)
    assert len({name.casefold() for name in folders}) == len(folders) == expected
    assert all(len(list((to / name).iterdir())) == 2 for name in folders)
    assert sorted(row[0] for row in rows_of(to / "classes.csv")[1:]) == sorted(folders)


def test_a_folder_comes_back_with_its_classes_and_tables(tmp_path: Path) -> None:
    m = 2 * len(CLASSES)
    soft = torch.rand(m, len(CLASSES), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.linspace(0, 1, m) ** 3
    found = made(labelling=Labels("soft", soft), weights=weights)
    said = export(found, tmp_path / "out")
    assert said.endswith("labels in labels.csv, weights in weights.csv, classes in classes.csv")
    names = dict(rows_of(tmp_path / "out" / "classes.csv")[1:])
    assert sorted(names.values()) == sorted(CLASSES)
    data = Images(path=str(tmp_path / "out")).whole()
    assert data.test is None
    assert len(data.train) == m
    for point, number in zip(data.train.points, data.train.labels.numbers.tolist(), strict=True):
        assert names[data.classes[number]] == CLASSES[int(found.numbers[int(point[0, 0, 0])])]
    heading, *rows = rows_of(tmp_path / "out" / "labels.csv")
    assert heading == ["file", *CLASSES]
    assert [[float(value) for value in row[1:]] for row in rows] == soft.tolist()
    heading, *rows = rows_of(tmp_path / "out" / "weights.csv")
    assert torch.tensor([float(row[1]) for row in rows]).tolist() == weights.tolist()
    plain = made(("a", "b"))
    export(plain, tmp_path / "plain")
    assert sorted(entry.name for entry in (tmp_path / "plain").iterdir()) == ["a", "b"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While images are written there is nothing at the destination; what a killed process left is removed."""
    to, left = tmp_path / "out", tmp_path / ".out.999999999.tmp"
    (left / "a").mkdir(parents=True)
    save, seen = Image.Image.save, list[bool]()

    def saved(image: Image.Image, path: Path) -> None:
        seen.append(to.exists())
        if len(seen) == 3:
            raise OSError("no space left")
        save(image, path)

    monkeypatch.setattr(Image.Image, "save", saved)
    with pytest.raises(StorageError, match=r"'.*out' could not be written .no space left.; free space"):
        export(made(("a", "b")), to)
    assert seen == [False] * 3
    assert not list(tmp_path.iterdir())
    to.mkdir(mode=0o700)
    export(made(("a", "b")), to)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert to.stat().st_mode & 0o777 == 0o700
    assert len(list(to.glob("*/*.png"))) == 4
    monkeypatch.chdir(tmp_path)
    for taken in ("out", "."):
        with pytest.raises(InvalidInput, match="is not an empty folder"):
            export(made(("a", "b")), Path(taken))
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="'file' is a file; name a new folder"):
        export(made(("a", "b")), Path("file"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InvalidInput, match="is the folder that you work in"):
        export(made(("a", "b")), Path())


def test_the_name_of_another_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has the name of a \.png file; name a folder"):
        export(made(), tmp_path / "set.png")
    export(made(), tmp_path / "set_0.5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["set_0.5"]


def test_weights_come_back(tmp_path: Path) -> None:
    weights = torch.linspace(0, 1, 8)
    found = made(("a", "b", "c", "d"), weights=weights)
    found.save(tmp_path / "set.safetensors")
    export(found, tmp_path / "set.npz")
    first, second = (side_of("set", str(tmp_path / f"set.{ending}")) for ending in ("safetensors", "npz"))
    assert first.weights is not None
    assert second.weights is not None
    assert second.weights.tolist() == first.weights.tolist() == weights.tolist()
    assert not second.sampled
    with pytest.raises(InvalidInput, match=r"set.npz has 'weights' that differ, and real examples count alike"):
        Npz(path=str(tmp_path / "set.npz")).load()
    export(made(("a", "b", "c", "d")), tmp_path / "equal.npz")
    assert side_of("set", str(tmp_path / "equal.npz")).weights is None
    assert len(Npz(path=str(tmp_path / "equal.npz")).load().train) == 4


@pytest.mark.parametrize("weights", [[1.0, -1.0], [1.0, math.nan], [[1.0, 2.0]], [1.0, 2.0, 3.0]])
def test_weights_that_are_none_are_refused(tmp_path: Path, weights: list[float]) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(2.0)[:, None], y=[0, 1], weights=weights)
    with pytest.raises(InvalidInput, match="'weights'"):
        side_of("a", str(tmp_path / "a.npz"))


def test_json_has_no_infinity_and_no_nan() -> None:
    written = json_text({"r2": [-math.inf, 1.0], "deep": ({"x": math.nan, "y": True},), "n": np.float64("inf")})
    assert json.loads(written) == {"r2": [None, 1.0], "deep": [{"x": None, "y": True}], "n": None}
