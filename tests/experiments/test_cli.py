"""The command, as a person uses it: in one process where that is enough, as a real process where it is not."""

import errno
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from PIL import Image

from discrepancy import InvalidInput
from experiments.checkpoint import read_checkpoint
from experiments.cli import main
from experiments.folder import RunFolder
from objectives.synthetic.artefact import SyntheticSet

TINY = ["--data", "digits", "--per-class", "1", "--set", "context.network.width=4", "--set", "context.batch=8"]
CONDENSE = [sys.executable, "-c", "import sys; from experiments.start import main; sys.exit(main())"]


def run(*arguments: str) -> int:
    return main(["run", "dm", *TINY, *arguments])


def checksum(folder: Path) -> str:
    """Of the tensors alone: the record holds the seconds that were taken."""
    synthetic = SyntheticSet.load(folder / "result.safetensors")
    return hashlib.sha256(synthetic.points.numpy().tobytes()).hexdigest()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "run"
    assert run("--steps", "6", "--out", str(folder), "--quiet") == 0
    return folder


@pytest.fixture
def finished(template: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of six steps."""
    return Path(shutil.copytree(template, tmp_path / "run"))


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


# --- interruption and resume ----------------------------------------------------------------------------------------------


def test_a_finished_folder_is_not_overwritten(finished: Path, capsys: pytest.CaptureFixture[str]):
    before = (finished / "result.safetensors").read_bytes()
    assert run("--steps", "6", "--out", str(finished)) == 2
    assert "holds a run already; continue it with --resume" in capsys.readouterr().err
    assert (finished / "result.safetensors").read_bytes() == before


def test_resume_needs_no_other_argument_and_changes_nothing_when_finished(finished: Path):
    before = checksum(finished)
    assert main(["run", "--out", str(finished), "--resume", "--quiet"]) == 0
    assert checksum(finished) == before


def test_resume_under_a_changed_configuration_is_refused_with_the_difference(finished: Path, capsys):
    assert run("--steps", "6", "--set", "solver.lr=0.5", "--out", str(finished), "--resume") == 2
    assert "solver.lr: 1.0 -> 0.5" in capsys.readouterr().err


def test_resume_under_another_number_of_threads_is_refused(finished: Path, capsys):
    threads = torch.load(finished / "checkpoint.pt", weights_only=True)["threads"]
    rewrite(finished, threads=threads + 1)
    assert run("--steps", "6", "--out", str(finished), "--resume") == 2
    assert f"use --threads {threads + 1}" in capsys.readouterr().err


def test_resume_without_a_run(tmp_path: Path, capsys):
    assert run("--out", str(tmp_path / "none"), "--resume") == 2
    assert "holds no run to resume" in capsys.readouterr().err
    assert main(["run", "--out", str(tmp_path / "none"), "--resume"]) == 2
    assert f"'{tmp_path / 'none'}' holds no run to resume" in capsys.readouterr().err


@pytest.mark.parametrize("again", [["--resume"], []], ids=["resume", "anew"])
def test_a_run_that_died_before_its_first_checkpoint_can_go_on(finished: Path, again: list[str]):
    before = checksum(finished)
    for name in ("checkpoint.pt", "result.safetensors"):
        (finished / name).unlink()
    assert run("--steps", "6", "--out", str(finished), "--quiet", *again) == 0
    assert checksum(finished) == before
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == 2


def rewrite(folder: Path, **changes: object) -> None:
    """Change a checkpoint and seal it again."""
    whole = torch.load(folder / "checkpoint.pt", weights_only=True)
    content = io.BytesIO()
    torch.save({**whole, **changes}, content)
    seal = b"\nsha256 " + hashlib.sha256(content.getvalue()).hexdigest().encode()
    (folder / "checkpoint.pt").write_bytes(content.getvalue() + seal)


@pytest.mark.parametrize("keep", [0, 10, 1000], ids=["empty", "first bytes", "cut short"])
def test_a_damaged_checkpoint_is_said_to_be_one(finished: Path, keep: int, capsys):
    path = finished / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    assert run("--steps", "6", "--out", str(finished), "--resume") == 2
    assert "is damaged or no checkpoint" in capsys.readouterr().err
    assert (finished / "result.safetensors").exists()


def test_a_newer_checkpoint_is_refused(finished: Path, capsys):
    rewrite(finished, format=99)
    assert run("--steps", "6", "--out", str(finished), "--resume") == 2
    assert "was written by a newer version" in capsys.readouterr().err


def test_two_runs_in_one_folder(tmp_path: Path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    with filelock.FileLock(folder / ".lock"):
        assert run("--steps", "2", "--out", str(folder)) == 2
    assert "is in use by another run" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys):
    (tmp_path / "file").write_text("")
    assert run("--steps", "2", "--out", str(tmp_path / "file" / "run")) == 1
    assert "cannot be used as a run folder" in capsys.readouterr().err


def test_a_full_disk_at_any_write_is_one_line_and_the_run_can_be_resumed(finished: Path, tmp_path, capsys, monkeypatch):
    whole, fsync = checksum(finished), os.fsync
    arguments = ["--steps", "6", "--checkpoint-every", "3", "--quiet", "--out"]
    for number in range(100):
        folder, writes = tmp_path / str(number), itertools.count()

        def fill(descriptor: int, number=number, writes=writes) -> None:
            if next(writes) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fill)
        status = run(*arguments, str(folder))
        monkeypatch.undo()
        lines = capsys.readouterr().err.splitlines()
        if status == 0:
            break
        assert status == 1
        assert len(lines) == 1
        assert "could not be written (No space left on device); free space" in lines[0]
        assert not folder.exists() or not list(folder.glob(".*"))
        assert run(*arguments, str(folder), *(["--resume"] if folder.exists() else [])) == 0
        assert checksum(folder) == whole
    assert number == 8  # configuration, two times metrics and checkpoint, result, two pictures


def test_a_folder_that_is_removed_during_the_run(tmp_path: Path, capsys, monkeypatch):
    folder, measured = tmp_path / "run", RunFolder.measured

    def removed(*arguments: Any) -> None:
        measured(*arguments)
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "mine").touch()

    monkeypatch.setattr(RunFolder, "measured", removed)
    assert run("--steps", "6", "--out", str(folder), "--quiet") == 1
    assert capsys.readouterr().err.startswith(f"condense: '{folder}' was removed or replaced while it was in use")
    assert [path.name for path in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "checkpoint.pt"])
def test_a_file_that_cannot_be_read_is_one_line(finished: Path, name: str, capsys):
    (finished / name).unlink()
    (finished / name).mkdir()
    assert run("--steps", "6", "--out", str(finished), "--resume") == 2
    error = capsys.readouterr().err
    assert name in error
    assert "cannot be read" in error


def test_every_bit_of_a_checkpoint_counts(finished: Path, capsys):
    path = finished / "checkpoint.pt"
    content = path.read_bytes()
    for number, place in enumerate(random.Random(0).sample(range(len(content)), 40)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InvalidInput, match="is damaged or no checkpoint"):
            read_checkpoint(path, torch.device("cpu"))
        if number == 0:
            assert run("--steps", "6", "--out", str(finished), "--resume") == 2
            assert "is damaged or no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": {}}, "is of step None, but this run has steps 0 to 6; start anew"),
        ({"state": {"step": 10**9}}, "is of step 1000000000, but"),
        ({"state": {"step": 3.0}}, "is of step 3.0, but"),
        ({"state": {"step": 3, "parameters": []}}, "is not a state of this solver and problem"),
        ({"state": []}, "is damaged or no checkpoint"),
        (
            {"data": "0" * 64},
            "was begun with other data of the same name (digits): their fingerprint was 000000000000 and",
        ),
        ({"more": 1}, "is damaged or no checkpoint"),
    ],
    ids=["empty", "far", "half", "lists", "list", "data", "more"],
)
def test_a_checkpoint_of_another_form_is_one_line(finished: Path, changes: dict[str, Any], message: str, capsys):
    rewrite(finished, **changes)
    assert run("--steps", "6", "--out", str(finished), "--resume") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_lost_configuration_is_said(finished: Path, capsys):
    (finished / "config.yaml").unlink()
    for option in ([], ["--resume"]):
        for what in (["dm", *TINY], []):
            if what or option:
                assert main(["run", *what, "--out", str(finished), *option]) == 2
                assert "holds a run, but its config.yaml is lost; restore it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "result.png", "losses.png", "result.teacher.safetensors"]
)
def test_files_of_other_origin_are_not_overwritten(tmp_path: Path, name: str, capsys):
    (tmp_path / name).write_text("mine: 1")
    for option in ([], ["--resume"]):
        assert run("--steps", "2", "--out", str(tmp_path), *option) == 2
        assert f"{name}' exists already and is not a file of a run" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine: 1")]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_resume_runs_compiled_where_the_run_did(finished: Path, compiled: bool, capsys, monkeypatch):
    """Nothing is compiled for a run of six steps, and there may be a compiler or not."""
    asked: list[str] = []

    def compiles(policy: str, *_: Any) -> bool:
        asked.append(policy)
        return False

    rewrite(finished, compiled=compiled)
    monkeypatch.setattr("objectives.engine.runtime.compiles", compiles)
    assert run("--steps", "6", "--out", str(finished), "--resume", "--quiet") == (2 if compiled else 0)
    assert asked[-1] == ("always" if compiled else "never")
    if compiled:
        assert "was made with compiled networks, and there is no compiler now" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_names_the_term_and_keeps_the_checkpoint(tmp_path: Path, capsys):
    folder = tmp_path / "run"
    arguments = ["--set", "context.network.norm=none", "--set", "solver.lr=1e9", "--steps", "60"]
    assert run(*arguments, "--checkpoint-every", "1", "--out", str(folder)) == 1
    assert "term 'features' became" in capsys.readouterr().err
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["parameters"]["points"].isfinite().all()


def test_killed_anywhere_and_resumed_gives_the_same_bits():
    """A few kills; many are for the hand: python tests/kills.py --kills 1000."""
    script = Path(__file__).parents[1] / "kills.py"
    found = subprocess.run([sys.executable, script, "--kills", "6"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "; 0 runs went wrong" in found.stdout


def test_a_real_process_that_is_stopped_says_how_to_continue(tmp_path: Path):
    folder, arguments = tmp_path / "run", ["--steps", "2000", "--threads", "1", "--checkpoint-every", "1"]
    process = subprocess.Popen([*CONDENSE, "run", "dm", *TINY, *arguments, "--out", folder], stderr=subprocess.PIPE)
    while not (folder / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 130
    advice = f"continue with: condense run --out {folder} --resume --threads 1\n"
    assert error.decode().endswith(advice)
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "metrics.jsonl", "checkpoint.pt"}


@pytest.mark.parametrize("ignored", [False, True])
def test_an_interruption_while_modules_are_imported_is_one_line(tmp_path: Path, ignored: bool):
    """It comes in the middle of the import of a module, where an exception would be swallowed."""
    module = "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: pass\n"
    (tmp_path / "torch.py").write_text(module)
    handler = "SIG_IGN" if ignored else "default_int_handler"
    prepared = f"import signal; signal.signal(signal.SIGINT, signal.{handler}); "
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {prepared}from experiments.start import main; sys.exit(main())"
    found = subprocess.run([sys.executable, "-c", code, "run", "dm"], capture_output=True, check=False)
    if ignored:
        assert b"interrupted" not in found.stderr
    else:
        assert (found.returncode, found.stderr, found.stdout) == (130, b"condense: interrupted\n", b"")


def test_an_interruption_names_the_files_with_parts_of_the_users_own(tmp_path: Path, capsys, monkeypatch):
    def interrupted(*_, **__):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.yaml").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.commands.running.run_experiment", interrupted)
    own = tmp_path / "my own.py"
    own.write_text("")
    assert run("--import", str(own), "--threads", "1", "--out", str(tmp_path / "run"), "--quiet") == 130
    assert capsys.readouterr().err.endswith(f"--resume --import '{own}' --threads 1\n")


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


# --- the other commands ---------------------------------------------------------------------------------------------------


def test_evaluate_beside_controls(finished: Path, capsys: pytest.CaptureFixture[str]):
    small = ["--set", "network.width=4", "--set", "epochs=3", "--networks", "2", "--quiet"]
    assert main(["evaluate", str(finished / "result.safetensors"), "--controls", "random,herding,whole", *small]) == 0
    table = capsys.readouterr().out
    for name in ("condensed", "random", "herding", "whole"):
        assert name in table
    assert main(["evaluate", str(finished / "result.safetensors"), "--controls", "none", "--json", *small]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["rows"]) == ["condensed"]
    assert found["rows"]["condensed"]["n"] == 2
    assert len(found["protocol"]["hash"]) == 12


def test_show_prints_a_method_that_run_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", "dm"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert (
        main(["run", str(tmp_path / "mine.yaml"), *TINY, "--steps", "2", "--out", str(tmp_path / "run"), "--quiet"])
        == 0
    )


def test_show_describes_an_artefact(finished: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert main(["show", str(finished / "result.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "1x8x8" in shown
    assert "siamese" in shown


def test_methods_and_kinds_are_listed(capsys: pytest.CaptureFixture[str]):
    assert main(["methods"]) == 0
    assert "Distribution matching" in capsys.readouterr().out
    assert main(["kinds", "solver"]) == 0
    listed = capsys.readouterr().out
    assert "herding" in listed
    assert "convnet" not in listed
    assert main(["kinds", "--json"]) == 0
    assert {"kernel", "discrepancy", "context"} <= json.loads(capsys.readouterr().out).keys()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "--step"], ["methods"]], ids=" ".join)
def test_names_are_listed_without_torch(arguments: list[str]):
    code = f"""
import sys
from experiments.cli import main
try:
    main({arguments})
except SystemExit:
    pass
print({{"torch", "matplotlib", "numpy", "scipy"}} & sys.modules.keys(), file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr.endswith("set()\n")


@pytest.mark.slow
def test_every_kind_is_known_in_a_new_process():
    code = """
import importlib, pkgutil
from discrepancy.discrepancy import Discrepancy
from experiments.config import known
from experiments.config.hints import kinds_of
assert "sliced_wasserstein" in kinds_of(Discrepancy)
from objectives.synthetic.parameterisation import Parameterisation
assert "bases" in kinds_of(Parameterisation)
names = lambda: {(family, kind.kind) for family, kinds in known().items() for kind in kinds}
first = names()
for package in ("discrepancy", "objectives", "experiments"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
assert len(first) > 100
assert names() == first, names() - first
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_export_to_images_and_npz(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    artefact = str(finished / "result.safetensors")
    synthetic = SyntheticSet.load(artefact)
    assert main(["export", artefact, str(tmp_path / "images")]) == 0
    files = sorted((tmp_path / "images").rglob("*.png"))
    assert len(files) == 10
    assert {path.parent.name for path in files} == set(synthetic.classes)
    with Image.open(files[3]) as image:
        shown = np.asarray(image).astype(float)
    expected = (synthetic.points[3, 0] / 16 * 255).round().clamp(0, 255).numpy()
    np.testing.assert_array_equal(shown, expected)
    assert main(["export", artefact, str(tmp_path / "set.npz")]) == 0
    with np.load(tmp_path / "set.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["x"], synthetic.points.numpy())
        assert arrays["y"].tolist() == list(range(10))
    assert main(["export", artefact, str(tmp_path / "images")]) == 2
    assert "is not an empty folder" in capsys.readouterr().err


def test_a_folder_with_packages_of_the_users_own(tmp_path: Path):
    for name in ("experiments", "objectives", "discrepancy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    script = Path(sys.executable).with_name("condense")
    found = subprocess.run([script, "methods"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "herding" in found.stdout


def test_parts_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.py").write_text(
        "from discrepancy.kernels import Kernel, Linear\n"
        "from objectives import Penalty\n"
        "class Small(Penalty, kind='small_by_test'):\n"
        "    takes = frozenset({'points'})\n"
        "    def __call__(self, taken, labels, weights):\n"
        "        return taken['points'].square().mean()\n"
    )
    change = "objective.terms.small={penalty: small_by_test, weight: 0.5}"
    folder = tmp_path / "run"
    arguments = [
        "--import",
        str(tmp_path / "mine.py"),
        "--set",
        change,
        "--steps",
        "2",
        "--quiet",
        "--out",
        str(folder),
    ]
    assert run(*arguments) == 0
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert set(line["terms"]) == {"features", "small"}


def test_the_version_of_the_environment_does_not_leak_into_the_artefact(finished: Path):
    assert os.environ["HOME"] not in json.dumps(dict(SyntheticSet.load(finished / "result.safetensors").record))
