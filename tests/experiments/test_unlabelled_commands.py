"""Points without labels on the command line: made, drawn, exported, compared; and not evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from experiments.cli import main
from experiments.data import Npz
from experiments.report.grid import drawn
from objectives.synthetic.artefact import SyntheticSet

CONFIG = """
synthetic: {kind: pixels, examples: 12}
objective: {terms: {points: {match: {kind: energy_distance}, by: none}}}
context: {kind: fresh, batch: 64}
solver: {kind: descent, lr: 1.0, steps: 4}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unlabelled")
    digits = load_digits().images[:200].astype(np.uint8)
    np.savez(path / "points.npz", x=digits)
    np.savez(path / "classes.npz", x=digits, y=load_digits().target[:200])
    np.savez(path / "ages.npz", x=digits, targets=np.linspace(20, 60, 200))
    (path / "config.yaml").write_text(CONFIG)
    for name in ("points", "ages"):
        given = [
            "run",
            str(path / "config.yaml"),
            "--data",
            str(path / f"{name}.npz"),
            "--out",
            str(path / name),
            "--quiet",
        ]
        assert main(given) == 0
    return path


def test_an_npz_of_points_alone_has_no_labels(folder: Path) -> None:
    data = Npz(path=str(folder / "points.npz")).load()
    assert data.test is not None
    assert (data.classes, data.target_units, len(data.train), len(data.test)) == ((), None, 160, 40)


def test_a_run_leaves_points_and_a_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = SyntheticSet.load(folder / "points" / "result.safetensors")
    assert (read.labelling.kind, read.points.shape) == ("none", (12, 1, 8, 8))
    with Image.open(folder / "points" / "result.png") as picture:
        assert min(picture.size) > 50
    assert main(["show", str(folder / "points" / "result.safetensors")]) == 0
    shown = capsys.readouterr().out.split("\n")
    assert any(line.split() == ["labels", "none"] for line in shown)
    assert main(["run", "--out", str(folder / "points"), "--resume", "--quiet"]) == 0


def test_pictures_are_sorted_by_target(folder: Path) -> None:
    read = SyntheticSet.load(folder / "ages" / "result.safetensors")
    assert read.labels is not None
    texts = [text.get_text() for text in drawn(read).texts]
    ordered = read.labels.sort().values.tolist()
    assert texts[:2] == [f"{ordered[0]:.4g} … {ordered[9]:.4g}", f"{ordered[10]:.4g} … {ordered[11]:.4g}"]


def test_images_are_exported_into_one_folder(folder: Path, tmp_path: Path) -> None:
    for name in ("points", "ages"):
        assert main(["export", str(folder / name / "result.safetensors"), str(tmp_path / name)]) == 0
        assert len(list((tmp_path / name).glob("*.png"))) == 12
    assert not (tmp_path / "points" / "labels.csv").exists()
    lines = (tmp_path / "ages" / "labels.csv").read_text().splitlines()
    assert lines[0] == "file,target0"
    assert len(lines) == 13
    assert main(["export", str(folder / "points" / "result.safetensors"), str(tmp_path / "a.npz")]) == 0
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays) == {"x", "weights"}


def test_a_comparison_is_of_all_the_points(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, artefact = str(folder / "points.npz"), str(folder / "points" / "result.safetensors")
    given = ["compare", data, artefact, "--resamples", "10", "--quiet", "--json"]
    assert main([*given, "--discrepancies", "mean,energy_distance"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["group"] for row in found["rows"]} == {"all"}
    assert main([*given, "--discrepancies", "joint_mmd"]) == 2
    assert "points.npz' has none; leave it out" in capsys.readouterr().err


def test_classes_and_targets_are_not_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = [str(folder / "classes.npz"), str(folder / "ages" / "result.safetensors")]
    assert main(["compare", *sides, "--discrepancies", "mean", "--resamples", "10", "--quiet"]) == 2
    assert "classes.npz' has classes, and 'ages' has targets; compare sets of one sort" in capsys.readouterr().err


def test_evaluation_is_refused_with_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact, data = str(folder / "points" / "result.safetensors"), ["--data", str(folder / "points.npz")]
    assert main(["evaluate", artefact, "--quiet"]) == 2
    assert (
        f"what a file names is not read or written unless you name it too: {' '.join(data)}" in capsys.readouterr().err
    )
    assert main(["evaluate", artefact, *data, "--quiet"]) == 2
    assert "no network can be trained on it and evaluated; see how far a set is from it: condense compare" in (
        capsys.readouterr().err
    )
    assert main(["label", artefact, *data, "--out", str(folder / "b.safetensors")]) == 2
    assert "a teacher needs classes, but 'points' has no labels" in capsys.readouterr().err
