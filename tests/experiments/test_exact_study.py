"""The study of exact ridge regression, and the method ridge on the command line: accuracies beside those of scikit-learn."""

import json
import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from discrepancy.errors import InvalidInput
from experiments.cli import main
from experiments.data import Digits
from experiments.report import MeanStd, progress
from experiments.studies import exactness, run_exact
from objectives.synthetic.artefact import SyntheticSet


def accuracy(points: np.ndarray, labels: np.ndarray, penalty: float) -> float:
    """Of sklearn's ridge regression on digits in normalised units, on the test examples."""
    data = Digits().load()
    assert data.test is not None
    ridge = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(points, labels)
    tests = data.normalisation.apply(data.test.points, torch.float64).flatten(1).numpy()
    return float((ridge.predict(tests).argmax(1) == data.test.labels.numbers.numpy()).mean())


def test_rows_are_what_sklearn_finds_and_are_not_made_twice(tmp_path, capsys, monkeypatch: pytest.MonkeyPatch):
    command = [
        "study",
        "exact",
        "--data",
        "digits",
        "--per-class",
        "1,3",
        "--out",
        str(tmp_path / "s"),
        "--json",
        "--quiet",
    ]
    assert main([*command, "--features", "linear", "--kip", "0.001"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["method"], row["per_class"]) for row in rows] == [("ridge", 1), ("ridge", 3)]
    data = Digits().load()
    x = data.normalisation.apply(data.train.points, torch.float64).flatten(1).numpy()
    for row in rows:
        truth = accuracy(x, np.eye(10)[data.train.strata.numpy()], row["penalty"] * len(x))
        assert row["original"] == row["condensed"] == pytest.approx(truth, abs=1e-12)
        assert row["error"] < 1e-13
        made = SyntheticSet.load(tmp_path / "s" / "sets" / f"digits-linear-0-{row['per_class']}.safetensors")
        assert made.labels is not None
        points = data.normalisation.apply(made.points, torch.float64).flatten(1).numpy()
        assert accuracy(points, np.eye(10)[made.labels.numpy()], 1e-13) == pytest.approx(truth, abs=1e-12)
    monkeypatch.setattr(exactness, "exact", lambda *_, **__: pytest.fail("made again"))
    assert main([*command, "--features", "linear"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows


def test_kip_stands_beside_on_the_features_of_a_network(tmp_path, capsys, monkeypatch: pytest.MonkeyPatch):
    options = ["--data", "digits", "--features", "linear,fcnn", "--per-class", "2", "--kip", "0.01", "--seeds", "2"]
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert main(["study", "exact", *options, "--out", str(tmp_path / "s")]) == 0
    printed, shown = capsys.readouterr()
    assert "Compared with KIP on the same features" in printed
    assert "digits fcnn, kip at 2 a class: step 1, " in shown
    assert re.search(r"exact: 0/4, \d+ s, digits linear", shown)  # of the time left nothing is known yet
    rows = json.loads((tmp_path / "s" / "report.json").read_text())["rows"]
    kip = [row for row in rows if row["method"] == "kip"]
    assert [(row["features"], row["seed"], row["minutes"]) for row in kip] == [("fcnn", 0, 0.01), ("fcnn", 1, 0.01)]
    assert all(row["steps"] >= 1 and row["condensed"] > 0.3 for row in kip)
    exact = [row for row in rows if row["method"] == "ridge" and row["features"] == "fcnn"]
    assert len({row["penalty"] for row in exact} | {row["original"] for row in exact}) > 2  # another network for a seed
    table = (tmp_path / "s" / "table.md").read_text()
    assert table.count("| digits | fcnn |") == 1
    assert " ± " in table


def test_noise_hides_nothing_from_whoever_holds_both(tmp_path, capsys):
    options = ["--data", "digits", "--features", "linear", "--per-class", "1,3", "--noise", "0.01,1,100"]
    assert main(["study", "exact", *options, "--out", str(tmp_path), "--quiet", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["noise"] for row in found["noise"]] == [0.01, 1.0, 100.0]
    assert {row["per_class"] for row in found["noise"]} == {3}
    assert all(row["error"] < 1e-8 for row in found["noise"])
    assert {row["accuracy"] for row in found["noise"]} == {found["rows"][0]["original"]}
    assert "the noise hides nothing" in (tmp_path / "table.md").read_text()


def test_a_folder_of_another_precision_is_not_continued(tmp_path, capsys):
    command = [
        "study",
        "exact",
        "--data",
        "digits",
        "--features",
        "linear",
        "--per-class",
        "1",
        "--out",
        str(tmp_path),
        "--quiet",
    ]
    assert main(command) == 0
    assert main([*command, "--precision", "mixed"]) == 2
    assert "precision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--per-class", "0"], "'per_class' must be at least 1"),
        (["--seeds", "0"], "'seeds' must be at least 1"),
        (["--kip", "0"], "'kip' must be a number of minutes > 0"),
        (["--features", "linear,fcn"], "there are no features 'fcn'; did you mean 'fcnn'?"),
        (["--data", "digits,minst"], "did you mean MNIST?"),
    ],
)
def test_mistakes_come_before_any_work(tmp_path, capsys, options: list[str], message: str):
    assert main(["study", "exact", "--data", "digits", "--out", str(tmp_path / "s"), "--quiet", *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("features", ["linear", "fcnn", "cnn", "coupling", "rff"])
@pytest.mark.parametrize("data", ["digits", "28 x 28"])
def test_the_method_with_its_features_by_name(tmp_path, capsys, features: str, data: str):
    folder, shape = tmp_path / features, (10, 1, 8, 8) if data == "digits" else (2, 1, 28, 28)
    if data != "digits":
        random, data = np.random.default_rng(0), str(tmp_path / "larger.npz")
        images, labels = random.integers(0, 256, (50, 28, 28), dtype=np.uint8), np.arange(50) % 2
        np.savez(data, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    assert main(["run", "ridge", "--data", data, "--features", features, "--out", str(folder), "--quiet"]) == 0
    made = SyntheticSet.load(folder / "result.safetensors")
    assert made.points.shape == shape
    assert made.points.dtype == torch.float64
    found = made.record["findings"]
    assert found["error"] < 100 * np.finfo(np.float64).eps * found["condition"] < 1e-3
    assert (folder / "result.png").exists()


def test_features_that_a_method_does_not_have(capsys):
    assert main(["run", "ridge", "--data", "digits", "--features", "fccn", "--dry-run"]) == 2
    assert "did you mean 'fcnn'?" in capsys.readouterr().err
    assert main(["run", "dm", "--data", "digits", "--features", "fcnn", "--dry-run"]) == 2
    assert "this method has none by name; use --set" in capsys.readouterr().err


def test_the_study_from_python(tmp_path):
    found = run_exact(data=["digits"], features=["linear"], per_class=[1, 3], noise=[1.0], out=tmp_path / "s")
    assert [(row.method, row.per_class) for row in found.rows] == [("ridge", 1), ("ridge", 3)]
    assert [(row.per_class, row.noise) for row in found.noise] == [(3, 1.0)]
    assert all(file.exists() for file in found.files)
    again = run_exact(data=["digits"], features=["linear"], per_class=[3], out=tmp_path / "s")
    assert again.rows == found.rows[1:]
    first, second = found.report().tables
    assert first.rows[0][:2] == ("digits", "linear")
    assert first.rows[0][2] == MeanStd(100 * found.rows[0].condensed)
    assert second.rows[0][:4] == ("digits", "linear", 3, 1.0)
    with pytest.raises(InvalidInput, match=r"'per_class' must be at least 1, got \[0\]"):
        run_exact(data=["digits"], per_class=[0], out=tmp_path / "t")
