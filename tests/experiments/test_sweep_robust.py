"""Sweeps that attack their networks: every figure of the table is one of the evaluations, and the picture shows them."""

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from sweeping import TINY, in_process, lines_of, rows_in, sweep, written

from experiments.cli import main
from experiments.sweeps import plan_sweep, read_sweep, run
from experiments.sweeps.under_attack import _joined, frontier, under_attack
from objectives.attacks import Threat

__all__ = ["in_process"]

ROBUST: dict[str, Any] = {"attacks": ["fgsm"], "eps": ["8/255", 0.1], "examples": 20, "corrupted": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeping import here

    folder = tmp_path_factory.mktemp("robust")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Child", here)
        patch.setattr("experiments.plan.TRYING_SECONDS", 0.0)
        file = written(
            folder / "tiny.yaml",
            per_class=[1],
            controls=["random"],
            methods={"dm": {"set": TINY["methods"]["dm"]["set"]}},
            robust=ROBUST,
            sets=2,
        )
        assert sweep(file, folder / "out") == 0
    return folder / "out"


def test_every_accuracy_is_that_of_the_evaluations(folder: Path):
    lines = lines_of(folder / "robust.csv")
    assert {line["training"] for line in lines} == {"natural", "adversarial"}
    assert len(lines) == 2 * 2 * (1 + 1 + 2)  # rows, ways; clean, the attacked ones unchanged, an attack in two balls
    for line in lines:
        numbers = range(2 if line["name"] == "dm" else 1)
        evaluations = [
            json.loads((folder / f"cells/digits/1/{line['name']}/{number}/evaluation.json").read_text())["rows"][
                line["training"]
            ]
            for number in numbers
        ]
        name = {"0.0": "linf 0", "0.1": "linf 0.1"}.get(line["eps"], "linf 8/255")
        if line["attack"] == "clean":
            values = [100 * value for row in evaluations for value in row["accuracies"]]
        else:
            values = [
                100 * network["attacks"][name][line["attack"]] for row in evaluations for network in row["robust"]
            ]
        assert int(line["n"]) == len(values) == 2 * len(numbers)
        assert float(line["mean"]) == pytest.approx(fmean(values))
        assert float(line["std"]) == pytest.approx(stdev(values))


def test_adversarial_training_is_another_one(folder: Path):
    rows = json.loads((folder / "cells/digits/1/dm/0/evaluation.json").read_text())["rows"]
    assert rows["natural"]["protocol_hash"] != rows["adversarial"]["protocol_hash"]
    assert rows["natural"]["protocol_hash"] == rows_in(folder)["digits/1/dm"]["protocol_hash"]


def test_the_table_the_picture_and_the_doubts(folder: Path, capsys: pytest.CaptureFixture[str]):
    evaluation = json.loads((folder / "cells/digits/1/dm/0/evaluation.json").read_text())
    assert evaluation["notes"]  # so short a training leaves networks that call everything by one name
    text = (folder / "table.md").read_text()
    assert "| method | training | clean % | fgsm, linf 8/255 % | fgsm, linf 0.1 % | n |" in text
    assert "| dm (!) | natural |" in text
    assert f"- dm (!): {evaluation['notes'][0]}" in text
    assert (folder / "table-frontier-digits-1.png").read_bytes()[:4] == b"\x89PNG"
    before = (folder / "robust.csv").read_bytes()
    assert main(["sweep", "--out", str(folder), "--report-only", "--quiet"]) == 0
    assert (folder / "robust.csv").read_bytes() == before


def test_a_sweep_is_another_one_with_other_attacks(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", "--out", str(folder), "--resume", "--quiet", "--set", "robust.examples=30"]) == 2
    assert "holds a sweep with other cells" in capsys.readouterr().err


def test_the_time_of_attacks_is_estimated(folder: Path, in_process: None):
    asked = read_sweep(out=folder)
    plain = read_sweep(out=folder, changes=["robust=null"])
    (attacked, *_), (without, *_) = (plan_sweep(one, folder / "other") for one in (asked, plain))
    assert attacked.estimate.evaluating > 3 * without.estimate.evaluating


def test_what_cannot_be_attacked_is_refused_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = written(tmp_path / "tiny.yaml", robust={"eps": [8.0], "attacks": ["pgd"]})
    assert sweep(file, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "1 mistake" in error
    assert "robust.digits: 'eps' is 8, but no two examples are further apart than 1" in error
    file = written(tmp_path / "tiny.yaml", robust={"attacks": ["pdg"], "training": ["natural"]})
    assert sweep(file, tmp_path / "out") == 2
    assert (
        "robust.attacks: 'attacks' must be any of fgsm, pgd, apgd, autoattack, got 'pdg'; did you mean 'pgd'?"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def network(clean: float, left: float) -> dict[str, Any]:
    return {
        "examples": 10,
        "attacks": {"linf 0": {"none": clean}, "linf 8/255": {"pgd": left + 0.1, "autoattack": left}},
    }


def test_the_picture_has_the_strongest_attack_and_joins_weights():
    rows = {
        name: under_attack(
            [
                {
                    "rows": {
                        "natural": {
                            "accuracies": [clean, clean + 0.02],
                            "test_examples": 99,
                            "robust": [network(0.5, left), network(0.5, left)],
                        }
                    }
                }
            ]
        )
        for name, clean, left in (("dm", 0.6, 0.1), ("dm-worst-10", 0.4, 0.3), ("dm-worst-3", 0.5, 0.2))
    }
    (axes,) = frontier("here", rows, "name").draw().axes
    lines = {line.get_label(): line for line in axes.containers}
    assert list(lines) == ["dm", "dm-worst"]
    drawn = axes.containers[1].lines[0]
    assert list(drawn.get_xdata()) == pytest.approx([51.0, 41.0])
    assert list(drawn.get_ydata()) == pytest.approx([20.0, 30.0])
    assert axes.get_ylabel() == "accuracy under autoattack, %"
    assert axes.get_title(loc="left") == "natural training, linf 8/255"


def test_names_that_differ_in_a_last_number_are_joined():
    assert _joined(["dm", "a-1", "a-0.3", "dm-x", "b-2"]) == {
        "dm": ["dm"],
        "a": ["a-0.3", "a-1"],
        "dm-x": ["dm-x"],
        "b": ["b-2"],
    }


@pytest.mark.parametrize(
    "threat", [Threat("linf", 8 / 255), Threat("l2", 128 / 255), Threat("linf", 0.1), Threat("l2", 0.0)]
)
def test_a_threat_is_read_from_its_name(threat: Threat):
    found = Threat.named(threat.name)
    assert found.norm == threat.norm
    assert found.eps == pytest.approx(threat.eps, rel=1e-6)
