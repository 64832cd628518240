"""The whole study of prediction in small: its report, interruption, growth, and mistakes of its configuration."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predicting import CONDENSED, NETWORK, digits

from experiments.cli import main
from experiments.config import build, dump, read
from experiments.data import Digits
from experiments.report import Picture
from experiments.report.progress import Advance, silent
from experiments.studies import prediction_tree, run_prediction, running
from experiments.studies.folder import Lines
from experiments.studies.prediction import Prediction, packaged

__all__ = ["digits"]


TINY: dict[str, Any] = {
    "data": "digits",
    "per_class": [1, 2],
    "real": 9,
    "protocol": {"kind": "scratch", "network": NETWORK, "networks": 2, "epochs": 3},
    "reference": {"view": "network", "discrepancy": "mean"},
    "resamples": 20,
    "sets": {
        "random": {"kind": "random", "count": 3},
        "noise": {"kind": "noise", "count": 1},
        "dm": CONDENSED | {"context": {"kind": "fresh", "batch": 5}, "stages": [1, 2], "count": 1},
    },
    "views": {
        "pixels": {"via": "identity"},
        "network": {"via": "features", "network": NETWORK, "n_draws": 2},
        "trained": {
            "via": "features",
            "trained": {"kind": "scratch", "network": NETWORK, "networks": 1, "epochs": 1},
        },
    },
    "by_class": {"mean": "mmd", "gaussian": {"kind": "mmd", "kernel": {"kind": "gaussian", "lengthscale": "median"}}},
    "whole": {"mean_of_all": "mmd"},
}


def write(tree: dict[str, Any], path: Path) -> str:
    path.write_text(json.dumps(tree), encoding="utf-8")  # JSON is YAML
    return str(path)


@pytest.fixture
def study(tmp_path: Path) -> Any:
    """A function that runs the tiny study, changed as it is told, in one folder."""

    def run(*arguments: str, **changes: Any) -> int:
        file = write(TINY | changes, tmp_path / "tiny.yaml")
        return main(["study", "predict", file, "--out", str(tmp_path / "out"), "--quiet", *arguments])

    return run


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than the study; the first test draws them."""
    monkeypatch.setattr(Picture, "png", b"")


def test_the_study_leaves_a_report_and_computes_nothing_twice(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert study("--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert [(size["per_class"], size["sets"]) for size in first["sizes"]] == [(1, 6), (2, 6)]
    assert {(row["view"], row["discrepancy"]) for row in first["sizes"][0]["rows"]} == {
        (view, name) for view in TINY["views"] for name in ("mean", "gaussian", "mean_of_all")
    }
    out = tmp_path / "out"
    assert len(list(out.glob("sets/*/*/*.safetensors"))) == 12
    for name in ("report.json", "report.html", "correlations.csv", "correlations.png", "scatter.png"):
        assert (out / name).stat().st_size > 100

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("was computed again")

    for name in ("evaluate_each", "embedded", "measured"):
        monkeypatch.setattr(running, name, never)
    monkeypatch.setattr(Digits, "load", never)
    assert study("--json") == 0
    assert json.loads(capsys.readouterr().out) == first


def test_an_interrupted_study_goes_on(
    study: Any, no_pictures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Stopped at every stage in turn, with a line cut off, it ends with the same values as one that was left alone."""
    calls = {"evaluate_each": 2, "measured": 1}
    for name, most in calls.items():
        original, made = getattr(running, name), []

        def stop(*arguments: Any, original: Any = original, made: list[int] = made, most: int = most, **options: Any):
            made.append(1)
            if len(made) > most:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(running, name, stop)
            assert study("--set", "views.pixels.n_draws=1") == 130
    assert "the same command continues" in capsys.readouterr().err
    values = tmp_path / "out" / "values.jsonl"
    with values.open("a", encoding="utf-8") as file:
        file.write('{"view": "net')
    assert study("--json") == 0
    resumed = json.loads(capsys.readouterr().out)
    assert len(Lines(tmp_path / "out" / "accuracies.jsonl").read()) == 12
    (tmp_path / "out").rename(tmp_path / "before")
    assert study("--json") == 0
    alone = json.loads(capsys.readouterr().out)
    for tree in (resumed, alone):
        del tree["training_seconds"]
        for size in tree["sizes"]:
            for row in size["rows"]:
                del row["seconds"]
    assert resumed == alone


def test_a_study_may_grow_and_not_change(
    study: Any, no_pictures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    assert study(whole={}, per_class=[1]) == 0
    assert study(per_class=[1], confidence=0.5) == 0
    assert len(Lines(tmp_path / "out" / "values.jsonl").read()) == 9
    more = TINY["sets"] | {"centres": {"kind": "centres", "count": 1}}
    assert study(sets=more) == 0
    trained = [line["set"] for line in Lines(tmp_path / "out" / "accuracies.jsonl").read()]
    assert len(trained) == len(set(trained)) == 14
    capsys.readouterr()
    assert study(sets=more, real=8) == 2
    error = capsys.readouterr().err
    assert "real: 9 -> 8" in error
    assert "holds a study with another configuration" in error
    assert study(sets=more, seed=1) == 2
    assert study(sets={"random": TINY["sets"]["random"]}) == 2
    assert "sets.centres" in capsys.readouterr().err


def test_gradients_are_compared_where_there_is_a_network(study: Any, no_pictures: None, tmp_path: Path):
    views = {name: TINY["views"][name] for name in ("pixels", "network")}
    gradients = {"cosine": "mean_gradients", "mse": {"kind": "mean_gradients", "form": "mse"}}
    changes = {"sets": {"random": {"kind": "random", "count": 4}}, "by_class": {"mean": "mmd"}, "whole": {}}
    assert study(views=views, gradients=gradients, per_class=[1], **changes) == 0
    found = {(line["view"], line["discrepancy"]): line for line in Lines(tmp_path / "out" / "values.jsonl").read()}
    assert found.keys() == {("pixels", "mean"), ("network", "mean"), ("network", "cosine"), ("network", "mse")}
    assert all(value > 0 for line in found.values() for value in line["values"].values())


def test_validation_leaves_the_test_examples(study: Any, no_pictures: None, tmp_path: Path):
    assert study(validation=True, per_class=[1]) == 0
    about = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert (about["part"], about["examples"]) == ("validation", 143)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": {"a": "randm"}}, "unknown kind 'randm' of recipe; did you mean 'random'?"),
        ({"by_class": {"a": "mmdd"}}, "unknown kind 'mmdd' of discrepancy; did you mean 'mmd'?"),
        ({"per_klass": [1]}, "unknown key; did you mean 'per_class'?"),
        ({"per_class": [1, 1]}, "'per_class' must be different sizes"),
        ({"sets": {"a/b": "random"}}, "'sets' has the name 'a/b'"),
        ({"whole": {"mean": "mmd"}}, "two discrepancies are named 'mean'; rename one"),
        (
            {"reference": {"view": "x", "discrepancy": "mean"}},
            "'reference' is 'mean' in view 'x', which is not computed",
        ),
        ({"views": {"pixels": {"without": ["gausian"]}}}, "is not the name of a discrepancy; did you mean 'gaussian'?"),
        ({"sets": {"a": CONDENSED | {"solver": "herding", "stages": [1]}}}, "'stages' has no meaning for the solver"),
        ({"sets": {"a": {"kind": "noisy", "strengths": [-1.0]}}}, "'strengths' must be > 0, got -1"),
    ],
)
def test_mistakes_of_a_configuration(changes: dict[str, Any], message: str, study: Any, tmp_path: Path, capsys):
    assert study(**changes) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_packaged_study_is_written_and_read_alike(capsys: pytest.CaptureFixture[str]):
    packaged_study = build(Prediction, read(packaged()))
    assert build(Prediction, dump(packaged_study)) == packaged_study
    assert hash(packaged_study) == hash(build(Prediction, read(packaged())))
    families = len(packaged_study.sets)
    assert families >= 8
    assert 35 <= len(packaged_study.keys) <= 60
    assert main(["study", "predict", "--data", "digits", "--show"]) == 0
    assert "data: {kind: digits}" in capsys.readouterr().out


def test_the_packaged_study_in_small(no_pictures: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """All of the packaged discrepancies, in three of its views, on few sets of three of the digits."""
    data, arrays = Digits().load(), {}
    for name, part in (("train", data.train), ("test", data.test)):
        assert part is not None
        few = part.labels.numbers < 3
        arrays |= {f"x_{name}": part.points[few].numpy(), f"y_{name}": part.labels.numbers[few].numpy()}
    np.savez(tmp_path / "three.npz", **arrays)
    tree = read(packaged())
    tree["views"] = {name: tree["views"][name] for name in ("pixels", "network", "trained_logits")}
    small = {"kind": "convnet", "width": 4, "depth": 2}
    tree |= {
        "data": {"kind": "npz", "path": str(tmp_path / "three.npz")},
        "per_class": [4],
        "real": 8,
        "resamples": 20,
        "protocol": {"kind": "scratch", "network": small, "networks": 1, "epochs": 1},
        "sets": {"random": {"kind": "random", "count": 2}, "noisy": {"kind": "noisy", "strengths": [1.0, 3.0]}},
    }
    for view in tree["views"].values():
        view["n_draws"] = 1
        if "network" in view:
            view["network"] = small
        if "trained" in view:
            view["trained"] |= {"network": small}
    assert main(["study", "predict", write(tree, tmp_path / "a.yaml"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    measured_lines = Lines(tmp_path / "out" / "values.jsonl").read()
    assert {(line["view"], line["discrepancy"]) for line in measured_lines} == set(build(Prediction, tree).pairs)
    for line in measured_lines:
        pair = (line["view"], line["discrepancy"], line["reasons"])
        assert all(value is not None for value in line["values"].values()), pair
    assert "sets of 2 families" in capsys.readouterr().out


def test_the_study_from_python(tmp_path: Path):
    file = write(TINY | {"per_class": [1]}, tmp_path / "tiny.yaml")
    study = build(
        Prediction, prediction_tree(file, seed=3, changes=["views={pixels: {via: identity}}", "reference=null"])
    )
    seen: list[str] = []

    def progress(title: str, total: int) -> AbstractContextManager[Advance]:
        seen.append(title)
        return silent(title, total)

    result = run_prediction(study, tmp_path / "out", progress=progress)
    assert seen == ["making sets", "training networks", "comparing sets"]
    (size,) = result.findings.sizes
    assert {row.pair for row in size.rows} == {("pixels", name) for name in ("mean", "gaussian", "mean_of_all")}
    assert all(file.stat().st_size > 100 for file in result.files)
    assert len(result.report(rows=1).tables[0].rows) == 1
    assert len(result.report(rows=0).tables[0].rows) == 3
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
