"""The command, as a person uses it: in one process where that is enough, as a real process where it is not."""

import json
from pathlib import Path

import pytest
import torch
from commanding import finished, run, template
from PIL import Image

from experiments.cli import main
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["finished", "template"]


def test_run_leaves_a_complete_folder(finished: Path, capsys: pytest.CaptureFixture[str]):
    names = {path.name for path in finished.iterdir()}
    assert names == {"config.yaml", "metrics.jsonl", "checkpoint.pt", "result.safetensors", "result.png", "losses.png"}
    steps = [json.loads(line)["step"] for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 5]
    synthetic = SyntheticSet.load(finished / "result.safetensors")
    assert synthetic.points.shape == (10, 1, 8, 8)
    assert synthetic.record["config"]["solver"]["steps"] == 6
    with Image.open(finished / "result.png") as picture:
        assert min(picture.size) > 50


def test_quiet_says_nothing_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("--steps", "2", "--out", str(tmp_path / "run"), "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_progress_goes_to_standard_error_and_json_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("--steps", "2", "--out", str(tmp_path / "run"), "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["examples"] == 10
    assert "2/2" in captured.err


def test_dry_run_plans_and_touches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--steps", "50", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["steps"] == 50
    assert plan["stored_bytes"] == 10 * (64 * 4 + 8)
    assert plan["seconds"] > 0
    assert plan["memory_bytes"] > plan["stored_bytes"]
    assert list(tmp_path.iterdir()) == []
    assert run("--steps", "50", "--dry-run") == 0
    assert "memory" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--dry-run", "--quiet"])
def test_not_enough_memory_is_said_before_anything_starts(option: str, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("objectives.engine.runtime.available_bytes", lambda device: 4000)
    assert run(option, "--out", str(tmp_path / "run")) == 2
    assert "GiB are free; use a narrower network" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_every_mistake_of_a_configuration_in_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    changes = ["objective.terms.features.match.kernal=linear", "solver.lr=fast", "context.kind=freshh", "colour=3"]
    assert run(*[part for change in changes for part in ("--set", change)], "--out", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert "objective.terms.features.match.kernal: unknown key; did you mean 'kernel'?" in error
    assert "solver.lr: expected a number, got 'fast'" in error
    assert "context: unknown kind 'freshh' of context; did you mean 'fresh'?" in error
    assert "colour: unknown key" in error
    assert "4 mistakes" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "dmm", "--data", "digits"], "'dmm' is neither a method nor a file; did you mean 'dm'?"),
        (["run", "dm", "--data", "minst"], "did you mean MNIST?"),
        (["run", "dm"], "name the data with --data, such as --data digits"),
        (["run"], "name a method or a configuration file"),
        (["run", "dm", "--data", "digits", "--per-class", "0"], "'per_class' must be at least 1, got 0"),
        (["run", "random", "--data", "digits", "--per-class", "999"], "needs 999 examples of each class"),
        (
            ["run", "dm", "--data", "digits", "--per-class", "1", "--examples", "9"],
            "give --per-class or --examples, one",
        ),
        (["run", "dm", "--data", "digits", "--examples", "9"], "9 synthetic examples leave some of the 10 classes"),
        (["run", "dm", "--data", "digits", "--set", "solver.optimizer=sgdd"], "did you mean 'sgd'?"),
        (["run", "dm", "--data", "digits", "--device", "cuda:99x"], "'device'"),
        (["run", "dm", "--data", "digits", "--checkpoint-every", "0"], "'--checkpoint-every' must be at least 1"),
        (["run", "dm", "--data", "digits", "--import", "nowhere.py"], "nowhere.py"),
        (["evaluate", "nowhere.safetensors"], "'nowhere.safetensors' is not a file"),
        (["show", "hreding"], "did you mean 'herding'?"),
        (["kinds", "kernle"], "did you mean 'kernel'?"),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_clear_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--per-class", "1,b"], "'1,b' should be whole numbers with commas between them"),
        (["--per-class", "1.5"], "'1.5' should be whole numbers with commas between them"),
        (["--noise", "1;2"], "'1;2' should be numbers with commas between them"),
        (["--data", "mnist", "cifar10"], "unrecognized arguments: cifar10"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_several_values_stand_between_commas(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["study", "exact", *arguments])
    assert message in capsys.readouterr().err


def test_a_number_a_class_takes_the_place_of_examples_in_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "mine.yaml"
    assert main(["show", "random"]) == 0
    file.write_text(capsys.readouterr().out)
    sizes = {"--set=synthetic.examples=13": [2, 2, 2] + [1] * 7, "--per-class=2": [2] * 10}
    for number, (option, expected) in enumerate(sizes.items()):
        out = tmp_path / str(number)
        assert main(["run", str(file), "--data", "digits", option, "--quiet", "--out", str(out)]) == 0
        assert torch.bincount(SyntheticSet.load(out / "result.safetensors").numbers).tolist() == expected
        file = out / "config.yaml"


def test_duplicate_keys_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    assert main(["run", str(tmp_path / "twice.yaml"), "--data", "digits"]) == 2
    assert "seed" in capsys.readouterr().err


@pytest.mark.parametrize("shortened", ["--step", "--per"])
def test_a_shortened_option_is_refused(shortened: str, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "dm", shortened, "3"])
    assert stopped.value.code == 2
    assert f"unrecognized arguments: {shortened}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "dm", "--stpes", "3"],
            "condense run: error: unrecognized arguments: --stpes 3; did you mean '--steps'?",
        ),
        (
            ["study", "exact", "--seed=3"],
            "study exact: error: unrecognized arguments: --seed=3; did you mean '--seeds'?",
        ),
        (["methods", "--Json"], "condense methods: error: unrecognized arguments: --Json; did you mean '--json'?"),
        (
            ["runn", "dm"],
            "'runn' is not one of run, label, evaluate, compare, sweep, study, show, export, methods, kinds; "
            "did you mean 'run'?",
        ),
        (["study", "predit"], "'predit' is not one of predict, exact; did you mean 'predict'?"),
        (["--data", "digits", "run", "dm"], "options stand behind the command: condense COMMAND ... --data"),
        (["evaluate", "a", "--labels", "hrad"], "'hrad' is not one of own, hard; did you mean 'hard'?"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_word_of_the_command_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err
