"""Interruption, damage and resume of a run."""

import errno
import hashlib
import io
import itertools
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
import pytest
import torch
from commanding import TINY, finished, run, template

from discrepancy import InvalidInput
from experiments.checkpoint import read_checkpoint
from experiments.cli import main
from experiments.folder import RunFolder
from experiments.start import interruptible
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["finished", "template"]


CONDENSE = [sys.executable, "-c", "import sys; from experiments.start import main; sys.exit(main())"]


def checksum(folder: Path) -> str:
    """Of the tensors alone: the record holds the seconds that were taken."""
    synthetic = SyntheticSet.load(folder / "result.safetensors")
    return hashlib.sha256(synthetic.points.numpy().tobytes()).hexdigest()


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
    found = subprocess.run([sys.executable, script, "--kills", "2"], capture_output=True, text=True, check=False)
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


def swallowed() -> None:
    """As compiled code does it: a KeyboardInterrupt becomes an error of its own."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except KeyboardInterrupt:
        raise InvalidInput("a file is damaged") from None


def test_an_error_that_compiled_code_makes_of_ctrl_c_is_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible():
        swallowed()
    with pytest.raises(InvalidInput, match="without Ctrl-C"), interruptible():
        raise InvalidInput("without Ctrl-C")
    folder = tmp_path / "run"
    monkeypatch.setattr("experiments.commands.running.run_experiment", lambda *_, **__: swallowed())
    assert main(["run", "dm", *TINY, "--out", str(folder)]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("condense: interrupted")
    assert signal.getsignal(signal.SIGINT) is before


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
