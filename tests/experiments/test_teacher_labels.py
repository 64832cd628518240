"""A teacher's labels on the command line: made by run and label, and the same teacher's for the controls of an evaluation."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from discrepancy.networks import ConvNet
from experiments.cli import main
from experiments.config import build
from experiments.data import Digits
from experiments.evaluate import NetworkEvaluator, Protocol, TrainingSet, comparison, evaluate_each, protocol_named
from experiments.teaching import beside, teacher_of, teacher_tree
from objectives.data.labels import Labels
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Teacher

TEACHER = "{network: {kind: convnet, width: 4, depth: 2}, rounds: 2, training: {steps: 8, lr: 0.1}, temperature: 2}"
RUN = [
    "run",
    "dm",
    "--data",
    "digits",
    "--per-class",
    "2",
    "--steps",
    "2",
    "--set",
    "context.network.width=4",
    "--quiet",
]
PROTOCOL = Protocol(network=ConvNet(width=4, depth=2), networks=2, epochs=3, batch=16, lr=0.05)
CPU = torch.device("cpu")
SHOWN = re.compile(r"labels of one teacher for every set: convnet, \d+\.\d % accuracy on 360 test examples \(\w+\)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "run"
    assert main([*RUN, "--teacher", TEACHER, "--out", str(path)]) == 0
    return path


def test_a_run_with_a_teacher_leaves_its_labels_and_its_weights(folder: Path) -> None:
    read = SyntheticSet.load(folder / "result.safetensors")
    data = Digits().load()
    taught = build(Teacher, teacher_tree(TEACHER)).taught(data.train, data.test, seed=0)
    assert read.labels.equal(taught(read.points))
    assert read.numbers.tolist() == [c for c in range(10) for _ in range(2)]
    about = read.record["teacher"]
    assert about["hash"] == taught.hash
    assert about["on"] == "360 test examples"
    assert read.stored_bytes == 20 * (64 * 4 + 10 * 4)
    assert read.record["config"]["teacher"]["temperature"] == 2.0
    assert (folder / "result.teacher.safetensors").exists()


def test_a_resumed_run_is_labelled_alike(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert main([*RUN, "--teacher", TEACHER, "--out", str(path)]) == 0
    for name in ("result.safetensors", "result.teacher.safetensors"):
        (path / name).unlink()
    assert main(["run", "--out", str(path), "--resume", "--quiet"]) == 0
    first, again = (SyntheticSet.load(place / "result.safetensors") for place in (folder, path))
    assert first.labels.equal(again.labels)


def test_a_run_that_ends_while_the_teacher_learns_leaves_no_artefact_and_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "taught", stopped)
        assert main([*RUN, "--teacher", TEACHER, "--out", str(out)]) == 130
    assert f"continue with: condense run --out {out} --resume" in capsys.readouterr().err
    assert not (out / "result.safetensors").exists()
    assert main(["run", "--out", str(out), "--resume", "--quiet"]) == 0
    again, before = (SyntheticSet.load(place / "result.safetensors") for place in (out, folder))
    assert again.labels is not None
    assert before.labels is not None
    assert torch.equal(again.labels, before.labels)


def test_a_plan_counts_the_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--teacher", TEACHER, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stored_bytes"] == 20 * (64 * 4 + 10 * 4)


def test_controls_have_the_labels_of_the_same_teacher(folder: Path) -> None:
    data, synthetic = Digits().load(), SyntheticSet.load(folder / "result.safetensors")
    teacher = teacher_of(synthetic, folder / "result.safetensors", data, device=CPU)
    evaluator = NetworkEvaluator(data, PROTOCOL, runtime=Runtime(seed=3), teacher=teacher)
    found = comparison(synthetic, evaluator, controls=("random", "whole"))
    assert [row.labels for row in found.rows.values()] == ["teacher", "teacher", "teacher"]

    def draw(network: int) -> TrainingSet:
        generator = rng(3, "control", "random", network)
        rows = torch.cat([rows[torch.randperm(len(rows), generator=generator)[:2]] for rows in digits.train.members])
        points = digits.train.points[rows]
        return TrainingSet(digits.normalisation.apply(points), Labels("teacher", teacher(points)))

    digits = data
    assert found.rows["random"].accuracies == evaluate_each(evaluator, draw).accuracies
    labels = Labels("teacher", teacher(data.train.points))
    whole = TrainingSet(data.normalisation.apply(data.train.points), labels)
    budget = protocol_named("quick")
    assert budget.hash != PROTOCOL.hash
    assert found.rows["whole"].stored_bytes == data.train.points.nbytes + whole.labels.nbytes
    assert found.as_dict()["teacher"]["hash"] == teacher.hash


def test_the_teacher_has_a_bar_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN[:-1], "--teacher", TEACHER, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().err
    assert -1 < shown.find("condensing with dm: 2/2, ") < shown.find("teaching: 2/2, ")


def test_a_teacher_whose_weights_are_gone_is_taught_again(folder: Path, tmp_path: Path) -> None:
    data, synthetic = Digits().load(), SyntheticSet.load(folder / "result.safetensors")
    asked: list[int] = []
    again = teacher_of(
        synthetic, tmp_path / "moved.safetensors", data, device=CPU, on_round=lambda *n: asked.append(n[0])
    )
    assert again.hash == synthetic.record["teacher"]["hash"]
    assert asked == [0, 1, 2]
    weights = beside(tmp_path / "moved.safetensors")
    build(Teacher, teacher_tree(TEACHER)).taught(data.train, data.test, seed=9).save(
        weights
    )  # those of another one are not taken for its own
    assert teacher_of(synthetic, tmp_path / "moved.safetensors", data, device=CPU).hash == again.hash


def test_without_controls_nobody_is_taught(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("taught")

    monkeypatch.setattr(Teacher, "taught", refuse)
    copy = tmp_path / "alone.safetensors"
    copy.write_bytes((folder / "result.safetensors").read_bytes())
    small = ["--networks", "1", "--set", "epochs=2", "--set", "network.width=4", "--controls", "none", "--quiet"]
    assert main(["evaluate", str(copy), *small]) == 0
    assert SHOWN.search(capsys.readouterr().out)


def test_one_setting_of_a_teachers_training_leaves_the_others() -> None:
    assert build(Teacher, {"training": {"batch": 32}}).training == replace(Teacher().training, batch=32)


def test_evaluate_shows_labels_and_teacher_and_hard_labels_for_all(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--networks", "1", "--set", "epochs=2", "--set", "network.width=4", "--quiet"]
    assert main(["evaluate", str(folder / "result.safetensors"), *small]) == 0
    shown = capsys.readouterr().out
    assert SHOWN.search(shown)
    assert [line.split()[2] for line in shown.split("\n")[1:4]] == ["teacher"] * 3
    assert main(["evaluate", str(folder / "result.safetensors"), *small, "--labels", "hard", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["labels"] for row in found["rows"].values()] == ["hard"] * 3
    assert found["teacher"] is None


def test_label_makes_another_artefact(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "b.safetensors"
    given = ["label", str(folder / "result.safetensors"), "--out", str(out), "--quiet", "--json"]
    assert main([*given, "--teacher", "mlp", "--set", "rounds=1", "--set", "training.steps=2"]) == 0
    assert re.fullmatch(r"mlp, \d+\.\d % accuracy on 360 test examples", json.loads(capsys.readouterr().out)["teacher"])
    read, before = SyntheticSet.load(out), SyntheticSet.load(folder / "result.safetensors")
    assert read.points.equal(before.points)
    assert not read.labels.equal(before.labels)
    assert read.numbers.equal(before.numbers)
    assert read.record["teacher"]["config"]["network"] == {"kind": "mlp"}
    assert main([*given, "--teacher", "mlp"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_weights_of_a_teacher_label_another_set(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    weights = str(folder / "result.teacher.safetensors")
    assert main(["label", str(folder / "result.safetensors"), "--out", str(out), "--teacher", weights, "--quiet"]) == 0
    read, before = SyntheticSet.load(out), SyntheticSet.load(folder / "result.safetensors")
    assert read.labels.equal(before.labels)
    assert read.record["teacher"]["hash"] == before.record["teacher"]["hash"]


def test_a_labelled_set_is_shown_and_exported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = str(folder / "result.safetensors")
    assert main(["show", artefact]) == 0
    assert re.search(r"labels +of a teacher: convnet, \d+\.\d % accuracy on 360 test examples", capsys.readouterr().out)
    assert main(["export", artefact, str(tmp_path / "a.npz")]) == 0
    assert np.load(tmp_path / "a.npz")["y"].shape == (20, 10)
    assert main(["export", artefact, str(tmp_path / "images")]) == 0
    assert len(list((tmp_path / "images" / "7").iterdir())) == 2
    assert len((tmp_path / "images" / "labels.csv").read_text().splitlines()) == 21


def test_mistakes_have_their_places(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--teacher", TEACHER, "--set", "synthetic.labels=soft", "--dry-run"]) == 2
    assert "teacher: 'teacher' gives every example its label" in capsys.readouterr().err
    assert main([*RUN, "--teacher", "{network: {kind: convnet, widht: 3}}", "--dry-run"]) == 2
    assert "teacher.network.widht: unknown key" in capsys.readouterr().err
    assert main([*RUN, "--teacher", str(folder / "result.safetensors"), "--dry-run"]) == 2
    assert "but no file of a teacher; for weights of your own" in capsys.readouterr().err
    assert (
        main(
            ["label", str(folder / "result.safetensors"), "--teacher", "[1]", "--out", str(tmp_path / "a.safetensors")]
        )
        == 2
    )
    assert "'--teacher' must be a network, YAML, or a file" in capsys.readouterr().err
