"""``condense run`` on private data: one charge for one release, whatever happens, and a record that tells nothing else."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experiments import releasing
from experiments.cli import main
from experiments.config import build
from experiments.data import Digits
from experiments.data.arrays import Npz
from experiments.releasing import default_ledger
from objectives.storage import StorageError

TINY = {
    "data": "digits",
    "synthetic": {"kind": "pixels", "per_class": 1, "start": "noise"},
    "objective": {"terms": {"features": {"match": {"kind": "mmd", "kernel": "linear"}, "via": "normalised"}}},
    "context": {"kind": "pool", "size": 2, "network": {"kind": "convnet", "width": 4, "depth": 2}},
    "solver": {"kind": "descent", "optimizer": "sgd", "lr": 1.0, "steps": 12},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "private.yaml"
    privacy = {"epsilon": 2.0, "ledger": str(tmp_path / "ledger.jsonl")}
    path.write_text(json.dumps(TINY | {"privacy": privacy}), encoding="utf-8")
    return path


def run(config: Path, out: Path, *arguments: str) -> int:
    return main(["run", str(config), "--out", str(out), "--quiet", "--threads", "1", *arguments])


def charges(folder: Path) -> list[dict[str, Any]]:
    path = folder / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def record_of(path: Path) -> dict[str, Any]:
    """The metadata of a safetensors file, read without any library."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["discrepancy"])


def test_the_budget_is_spent_once(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, tmp_path / "a") == 0
    out = capsys.readouterr().out
    assert "ε = 2, δ = 1e-05, add-remove; an attack finds at most" in out
    assert str(tmp_path / "ledger.jsonl") in out
    (charge,) = charges(tmp_path)
    assert charge["data"] == Digits().load().train.fingerprint()
    assert charge["what"] == "sums of 2 statistics, 320 numbers, and the number of examples of each class, once"
    assert run(config, tmp_path / "b") == 2
    assert "the budget of (ε, δ) = (2, 1e-05) is spent" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert len(charges(tmp_path)) == 1


def test_the_record_says_what_was_spent_and_nothing_that_was_measured(config: Path, tmp_path: Path) -> None:
    assert run(config, tmp_path / "a") == 0
    record = record_of(tmp_path / "a" / "result.safetensors")
    assert record["privacy"]["release"] == charges(tmp_path)[0]["release"]
    assert record["privacy"]["private"] is True
    assert record.keys() == {
        "versions", "config", "resolved", "seed", "data", "privacy", "seconds", "threads", "steps", "memory", "format",
        "classes", "normalisation", "limits", "labels", "target_units", "stored_bytes",
    }  # fmt: skip
    assert record["normalisation"] == {"mean": [8.0], "std": [8.0]}  # of the limits 0 .. 16
    train = Digits().load().train
    text = (tmp_path / "a" / "result.safetensors").read_bytes()
    assert train.fingerprint().encode() not in text
    for files in (tmp_path / "a").iterdir():
        assert str(list(train.per_class)).encode() not in files.read_bytes()
        assert train.fingerprint().encode() not in files.read_bytes()


def test_a_run_that_died_after_its_release_goes_on_with_it(config: Path, tmp_path: Path) -> None:
    assert run(config, tmp_path / "a") == 0
    whole = load_file(tmp_path / "a" / "result.safetensors")["points"]
    for name in ("result.safetensors", "result.png", "losses.png", "checkpoint.pt", "metrics.jsonl"):
        (tmp_path / "a" / name).unlink()
    assert run(config, tmp_path / "a") == 2  # the folder holds what was paid for
    assert main(["run", "--out", str(tmp_path / "a"), "--resume", "--quiet", "--threads", "1"]) == 0
    assert torch.equal(load_file(tmp_path / "a" / "result.safetensors")["points"], whole)
    assert len(charges(tmp_path)) == 1


def test_a_release_that_could_not_be_kept_is_charged_again(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("the disk is full")

    half = ("--set", "privacy.share=0.5")
    with monkeypatch.context() as patched:
        patched.setattr(releasing, "save_release", full)
        assert run(config, tmp_path / "a", *half) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert not (tmp_path / "a" / "release.safetensors").exists()
    assert main(["run", "--out", str(tmp_path / "a"), "--resume", "--quiet", "--threads", "1"]) == 0
    first, second = charges(tmp_path)
    assert second["mu"] == pytest.approx(first["mu"] / 2**0.5)


@pytest.mark.parametrize(("before", "after"), [("seed: 0\n", "seed: 5\n"), ("by: class", "by: none")])
def test_a_release_is_of_use_for_what_was_asked_alone(
    before: str, after: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path / "a") == 0
    for name in ("result.safetensors", "checkpoint.pt", "metrics.jsonl"):
        (tmp_path / "a" / name).unlink()
    kept = tmp_path / "a" / "config.yaml"
    text = kept.read_text(encoding="utf-8")
    assert before in text
    kept.write_text(text.replace(before, after), encoding="utf-8")
    assert main(["run", "--out", str(tmp_path / "a"), "--resume", "--quiet", "--threads", "1"]) == 2
    assert "was released for another seed, context or term" in capsys.readouterr().err


def test_a_damaged_release_is_never_drawn_again(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path / "a") == 0
    release = tmp_path / "a" / "release.safetensors"
    release.write_bytes(release.read_bytes()[:-3])
    (tmp_path / "a" / "result.safetensors").unlink()
    assert main(["run", "--out", str(tmp_path / "a"), "--resume", "--quiet", "--threads", "1"]) == 2
    assert "release" in capsys.readouterr().err
    assert len(charges(tmp_path)) == 1


@pytest.mark.parametrize("kept", ["checkpoint.pt", "result.safetensors"])
def test_a_release_that_is_lost_is_not_charged_again(
    kept: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path / "a", "--set", "privacy.share=0.5") == 0
    for name in {"release.safetensors", "checkpoint.pt", "result.safetensors"} - {kept}:
        (tmp_path / "a" / name).unlink()
    assert main(["run", "--out", str(tmp_path / "a"), "--resume", "--quiet", "--threads", "1"]) == 2
    assert "release.safetensors' is lost, and a new release would be charged again" in capsys.readouterr().err
    assert not (tmp_path / "a" / "release.safetensors").exists()
    assert len(charges(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        "data={kind: held_out, of: digits}",
        "data={kind: mislabelled, of: digits, share: 0.1}",
        "data={kind: clustered, of: digits}",
    ],
)
def test_the_examples_under_another_name_have_the_same_budget(
    change: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path / "a") == 0
    assert run(config, tmp_path / "b", "--set", change) == 2
    assert "1 release of these data or of some of their examples" in capsys.readouterr().err
    assert len(charges(tmp_path)) == 1


def test_a_dry_run_spends_nothing_and_says_what_would_be_spent(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, tmp_path / "a", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "this release: ε = 2 (δ = 1e-05, add-remove); budget of the data: ε = 2" in out
    assert "ε = 0 spent before" in out
    assert charges(tmp_path) == []
    assert run(config, tmp_path / "a", "--set", "privacy.share=0.25") == 0
    capsys.readouterr()
    assert run(config, tmp_path / "b", "--dry-run") == 0
    spent = record_of(tmp_path / "a" / "result.safetensors")["privacy"]["epsilon"]
    assert f"ε = {spent:.4g} spent before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("privacy.epsilon=0", "'epsilon' must be > 0"),
        ("privacy.epsilom=1", "did you mean 'epsilon'?"),
        ("privacy.adjacency=replace", "did you mean 'replace-one'?"),
        ("synthetic.start=real", "'digits' is private: noisy sums"),
        ("context={kind: fresh, network: convnet}", "use the context 'pool' with batch: all"),
        ("teacher={network: convnet}", "'teacher' learns from the private data themselves"),
        ("privacy.ledger=/dev/null/x.jsonl", "the folder '/dev/null' of the ledger cannot be made"),
    ],
)
def test_mistakes(change: str, said: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, tmp_path / "a", "--set", change) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert charges(tmp_path) == []


def test_the_ledger_is_beside_the_data_or_where_no_cache_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    assert default_ledger(Digits()) == tmp_path / "home" / "discrepancy" / "privacy-ledger.jsonl"
    source = build(Npz, {"kind": "npz", "path": str(tmp_path / "data" / "mine.npz")})
    assert default_ledger(source) == tmp_path / "data" / "privacy-ledger.jsonl"


def test_the_configuration_of_the_documentation_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
    path = tmp_path / "page.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    small = [
        "data=digits",
        "context.network={kind: convnet, width: 4, depth: 2}",
        "solver.steps=3",
        f"privacy.ledger={tmp_path / 'ledger.jsonl'}",
    ]
    assert run(path, tmp_path / "a", *(word for change in small for word in ("--set", change))) == 0
    shown = page.split("```text\nprivacy")[1].split("\n")[0].split()
    assert shown == capsys.readouterr().out.split("privacy")[1].split("\n")[0].split()
