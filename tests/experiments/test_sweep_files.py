"""Sweep files: mistakes all at once and before anything starts; cells that fail; the packaged sweep."""

import re
from pathlib import Path
from typing import Any

import pytest
from sweeping import TINY, files_in, finished, in_process, rows_in, sweep, template, written

from experiments.cli import main
from experiments.config import ConfigError, build, dump, read, write_yaml
from experiments.evaluate import PROTOCOLS
from experiments.sweeps import available
from experiments.sweeps.cells import cells_of
from experiments.sweeps.sweep import Sweep
from objectives.methods import available as methods

__all__ = ["finished", "in_process", "template"]


# --- mistakes and failures --------------------------------------------------------------------------------------------------


def test_a_cell_that_fails_is_shown_and_the_others_are_done(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
):
    broken = {"dm": {"set": ["solver.lr=1e30", "solver.steps=9"]}, "random": {"shared": False}}
    file, out = written(tmp_path / "tiny.yaml", methods=broken, per_class=[1]), tmp_path / "out"
    assert sweep(file, out) == 1
    said = capsys.readouterr().out
    row = rows_in(out)["digits/1/dm"]
    assert row["mean"] is None
    (reason,) = row["failures"]
    assert "term 'features' became" in reason
    assert f"dm failed: {reason}" in said
    assert "failed" in said.splitlines()[2]
    assert rows_in(out)["digits/1/random"]["n"] == 2
    before = {name: what for name, what in files_in(out).items() if "/dm/" not in name}
    assert main(["sweep", "--out", str(out), "--resume", "--quiet"]) == 1
    assert before.items() <= files_in(out).items()


def test_values_that_cannot_be_are_reported_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    changes: dict[str, Any] = {"sets": 0, "controls": ["randm"], "device": "gpu7", "at": {"minst": ["solver.lr=1"]}}
    assert main(["sweep", written(tmp_path / "wrong.yaml", **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "4 mistakes" in error
    assert "sets: 'sets' must be at least 1, got 0" in error
    assert (
        "controls: 'controls' names 'randm', which is none of random, herding, whole; did you mean 'random'?" in error
    )
    assert "device: 'device' must be auto, cpu, cuda or cuda:NUMBER, got 'gpu7'" in error
    assert "at: 'at' names 'minst', which is none of " in error


def test_every_mistake_of_a_file_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    changes: dict[str, Any] = {
        "data": ["digits", "minst"],
        "methods": {"dmm": None, "dm": {"set": ["solver.stepz=3", "solver.lr=fast"]}, "random": {"shared": False}},
        "protocol": {"name": "quick", "set": ["epoch=2"]},
    }
    assert main(["sweep", written(tmp_path / "wrong.yaml", **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "5 mistakes" in error
    assert "no data called 'minst'" in error
    assert "methods.dmm: 'dmm' is neither a method nor a file; did you mean 'dm'?" in error
    assert "methods.dm.solver.stepz: unknown key; did you mean 'steps'?" in error
    assert "methods.dm.solver.lr: expected a number, got 'fast' (text) (for digits/1, digits/2)" in error
    assert "protocol.epoch: unknown key; did you mean 'epochs'?" in error
    assert not (tmp_path / "out").exists()


def test_one_mistake_in_the_only_method_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = written(tmp_path / "wrong.yaml", methods={"dm": {"metod": "dm"}}, controls=[])
    assert main(["sweep", file, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "1 mistake:" in error
    assert "methods.dm.metod: unknown key; did you mean 'method'?" in error


def test_mistakes_of_values_and_of_cells_are_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What is wrong in a value hides nothing that is wrong in the cells of the rest; without data or sizes there are none."""
    changes: dict[str, Any] = {
        "sets": 0,
        "colour": 3,
        "portions": {"a": {"per_class": [1], "data": ["minst"]}, "b": {"per_class": [2]}},
        "methods": {"dmm": None, "dm": {"set": ["solver.stepz=3"]}, "random": {"shared": "perhaps"}},
        "protocol": {"name": "quick", "set": ["epoch=2"]},
    }
    assert main(["sweep", written(tmp_path / "wrong.yaml", **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    for said in (
        "7 mistakes",
        "sets: 'sets' must be at least 1",
        "colour: unknown key",
        "methods.random.shared: expected true or false",
        "'portions.a.data' names 'minst'",
        "methods.dmm: 'dmm' is neither a method nor a file",
        "methods.dm.solver.stepz: unknown key; did you mean 'steps'?",
        "(for digits/2)",
        "protocol.epoch: unknown key",
    ):
        assert said in error
    changes |= {"per_class": ["few"]}
    assert main(["sweep", written(tmp_path / "wrong.yaml", **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "per_class.0: expected a whole number" in error
    assert "stepz" not in error


def test_what_cannot_be_run_is_said_before_anything_starts(
    tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
):
    """A solver that refuses its objective, a size that the data do not have, a network that does not fit the images."""
    changes: dict[str, Any] = {
        "per_class": [2, 9999],
        "methods": {"dm": {"set": ["solver.steps=1"]}, "herding": {"set": ["objective.terms.features.by=none"]}},
        "cross": {"networks": {"vgg": "vgg"}, "optional": False, "controls": [], "per_class": [2]},
    }
    assert main(["sweep", written(tmp_path / "wrong.yaml", **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "'herding' selects within classes" in error
    assert "needs 9999 examples of each class" in error
    assert "vgg" in error
    assert not (tmp_path / "out" / "cells").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {}}, "'methods' is empty"),
        ({"sets": 0}, "'sets' must be at least 1, got 0"),
        (
            {"controls": ["randm"]},
            "'controls' names 'randm', which is none of random, herding, whole; did you mean 'random'?",
        ),
        ({"controls": ["random"]}, "'controls' and methods have the name 'random' in common"),
        ({"portions": {"a": {"data": ["mnist"]}}}, "'portions.a.data' names 'mnist', which is none of digits"),
        ({"portions": {"cross": {}}}, "'portions' has the name 'cross'"),
        ({"at": {"digts": []}}, "'at' names 'digts'"),
        ({"methods": {"a/b": {"method": "dm"}}}, "'methods' has the name 'a/b'"),
        ({"data": ["digits", "digits"]}, "names the same data twice"),
        ({"colour": 3}, "colour: unknown key"),
        ({"methods": {"dm": {"set": ["data.kind=npz", "data.path=x"]}}}, "'data' cannot be changed for a method"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_sweep_gets_one_clear_line(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        cells_of(build(Sweep, {**TINY, **changes}))


def test_a_sweep_that_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sweep", "matchin"]) == 2
    assert "'matchin' is neither a sweep nor a file; did you mean 'matching'?" in capsys.readouterr().err
    assert main(["sweep"]) == 2
    assert "name a sweep file, or one of: best_ablation, label_noise, matching, robust_mnist" in capsys.readouterr().err
    assert main(["sweep", "matching", "--out", str(tmp_path / "none"), "--report-only"]) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_a_method_file_lies_beside_the_sweep_file(tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.yaml").write_text(write_yaml(read(methods()["dm"])))
    own = {"mine": {"method": "own.yaml", "set": ["solver.steps=2", "context.batch=4"]}}
    file = written(tmp_path / "mine" / "tiny.yaml", methods=own, per_class=[1], controls=[])
    monkeypatch.chdir(tmp_path)
    assert sweep(file, tmp_path / "out") == 0
    monkeypatch.chdir(tmp_path / "out")
    assert main(["sweep", "--out", str(tmp_path / "out"), "--resume", "--quiet"]) == 0
    assert rows_in(tmp_path / "out")["digits/1/mine"]["steps"] == 2


# --- the packaged sweep -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matching() -> Sweep:
    return build(Sweep, read(available()["matching"]))


LEARNERS = {"ridge", "kip", "frepo"}
"""Methods whose sets are judged by a learner of their own."""


ROBUST = {"group_dro", "guard", "mfc", "rome"}
"""Methods for groups and for attacks, which accuracy alone does not measure."""


def test_the_packaged_sweep_has_every_method_but_those_of_learners(matching: Sweep):
    named = {item.method or name for name, item in matching.entries.items()}
    assert named | LEARNERS | ROBUST >= set(methods())
    assert {"whole"} <= set(matching.controls)
    cells = cells_of(matching)
    first = {(cell.data, cell.per_class) for cell in cells if not cell.optional}
    assert first == {("mnist", 10), ("cifar10", 10)}
    assert {(cell.data, cell.per_class) for cell in cells} >= {
        (name, size) for name in matching.sources for size in (1, 10)
    }
    assert {cell.protocol.networks for cell in cells if not cell.optional} == {3}
    assert {cell.network for cell in cells if cell.network} == {"mlp", "lenet", "alexnet", "vgg", "resnet", "vit"}
    assert all(cell.protocol.network.pointwise for cell in cells)
    assert len({cell.key for cell in cells}) == len(cells)


def test_the_packaged_sweep_reads_back_equal(matching: Sweep):
    assert build(Sweep, dump(matching, defaults=False)) == matching


def test_nothing_of_the_packaged_sweep_has_the_published_settings(matching: Sweep):
    """Its width is reduced, and so no row of it may count as recovered."""
    vico = PROTOCOLS["vico"]
    assert all(cell.protocol.network != vico.network for cell in cells_of(matching))
