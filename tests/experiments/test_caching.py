"""Where runs keep attacked examples, what they say of it, and that nothing of a run depends on it."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from discrepancy import MMD
from discrepancy.embeddings import Features
from discrepancy.networks import ConvNet
from experiments.caching import cache_of
from experiments.cli import main
from experiments.data import Clustered, Digits, HeldOut, Source, Torchvision
from experiments.experiment import Experiment
from experiments.folder import RunFolder
from experiments.plan import planned
from experiments.report import as_text
from experiments.report.summary import plan_report
from experiments.run import Interrupted, run
from objectives.attacks import PGD
from objectives.contexts import Fresh
from objectives.data.cache import Cache
from objectives.solvers import Descent
from objectives.synthetic.pixels import Pixels
from objectives.teacher import Teacher
from objectives.terms.match import Match
from objectives.training.training import Training
from objectives.transforms import Adversarial, Corrupted

NETWORK = ConvNet(width=4, depth=2)
TEACHER = Teacher(network=NETWORK, rounds=1, training=Training(steps=3, batch=16))
ADVERSARIAL = Adversarial(attack=PGD(eps=0.1, steps=2), teacher=TEACHER)
EXAMPLES = 1437
PASSES = TEACHER.passes(EXAMPLES) + EXAMPLES * ADVERSARIAL.attack.passes
SMALL = (
    "context.network.width=4",
    "context.size=1",
    "context.first=1",
    "context.training.steps=1",
    "context.batch=8",
    "objective.terms.robust.transform.teacher={network: {kind: convnet, width: 4}, rounds: 1, training: {steps: 2}}",
    "objective.terms.robust.transform.attack.steps=2",
)


def experiment(transform: Any = ADVERSARIAL, source: Source | None = None, steps: int = 4) -> Experiment:
    match = Match(MMD(), via=Features(), transform=transform)
    return Experiment(
        data=source or Digits(),
        objective=match.as_objective(),
        context=Fresh(network=NETWORK, batch=8),
        solver=Descent(lr=0.5, steps=steps),
        synthetic=Pixels(per_class=1),
        device="cpu",
        compile="never",
    )


def result(folder: Path) -> torch.Tensor:
    return safetensors.torch.load_file(folder / "result.safetensors")["points"]


def test_the_place_is_that_of_the_data_or_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISCREPANCY_CACHE", raising=False)
    monkeypatch.setenv("DISCREPANCY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    mine, root = tmp_path / "home" / "discrepancy", str(tmp_path / "root")
    places = {
        Digits(): mine,
        HeldOut(of=Digits()): mine,
        Clustered(of=HeldOut(of=Digits())): mine,
        Torchvision(name="MNIST"): tmp_path / "data",
        HeldOut(of=Torchvision(name="MNIST", root=root)): tmp_path / "root",
    }
    for source, place in places.items():
        assert cache_of(experiment(source=source)) == Cache(place)
    monkeypatch.setenv("DISCREPANCY_CACHE", str(tmp_path / "named"))
    assert cache_of(experiment(source=Torchvision(name="MNIST"))) == Cache(tmp_path / "named")
    monkeypatch.setenv("DISCREPANCY_CACHE", "off")
    assert cache_of(experiment()) is None


def test_there_is_none_where_it_has_no_use_or_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISCREPANCY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-this-name/x")
    assert cache_of(experiment(transform=None), pytest.fail) is None
    said: list[str] = []
    assert cache_of(experiment(), said.append) is None
    (told,) = said
    assert "nothing is kept for later runs ('XDG_CACHE_HOME' begins with '~nobody-of-this-name'" in told
    assert told.endswith("; or name a folder by DISCREPANCY_CACHE")


def test_a_dry_run_says_what_is_kept_and_writes_nothing(tmp_path: Path) -> None:
    some, cache = experiment(), Cache(tmp_path / "cache")
    plan = planned(some, cache=cache)
    (files,) = plan.kept
    assert (files.name, files.examples, files.all_bytes, files.there_bytes) == ("attacked", EXAMPLES, EXAMPLES * 256, 0)
    assert not cache.folder.exists()
    run(some, RunFolder(tmp_path / "run"), cache=cache)
    on_disk = sum(path.stat().st_size for path in Path(files.folder).glob("*.safetensors"))
    assert files.all_bytes < on_disk < files.all_bytes + 3 * 512
    later = planned(some, cache=cache)
    assert later.kept[0].there_bytes == files.all_bytes
    assert plan.forward_passes - later.forward_passes == PASSES
    lines = [
        next(line for line in as_text(plan_report("Plan", one)).split("\n") if "attacked" in line)
        for one in (plan, later)
    ]
    assert f"kept for later runs in {files.folder}" in lines[0].replace("\n", " ")
    assert lines[0].endswith("none of it there yet")
    assert lines[1].endswith("there already")
    (Path(files.folder) / "00002.safetensors").unlink()
    assert planned(some, cache=cache).kept[0].there_bytes == 1024 * 256


def test_no_line_where_nothing_is_kept() -> None:
    plans = planned(experiment()), planned(experiment(Corrupted()), cache=Cache(Path("nowhere")))
    assert all(plan.kept == () for plan in plans)


def interrupted_after_two(solving: Any) -> None:
    advance = solving.advance

    def counted() -> Any:
        if solving.step == 2:
            raise Interrupted
        return advance()

    solving.advance = counted


def test_a_run_and_its_resume_are_the_same_with_and_without(tmp_path: Path) -> None:
    some = experiment()

    def finished(name: str, first: Cache | None, then: Cache | None) -> torch.Tensor:
        folder = RunFolder(tmp_path / name)

        with pytest.raises(Interrupted):
            run(some, folder, checkpoint_every=2, cache=first, on_start=interrupted_after_two)
        run(some, folder, resume=True, cache=then)
        return result(folder.path)

    run(some, RunFolder(tmp_path / "whole"))
    whole, cache = result(tmp_path / "whole"), Cache(tmp_path / "cache")
    assert finished("none", None, None).equal(whole)
    assert finished("then", None, cache).equal(whole)
    assert finished("both", cache, cache).equal(whole)
    assert finished("first", cache, None).equal(whole)
    assert (tmp_path / "cache").exists()


def test_the_command_says_that_kept_examples_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISCREPANCY_CACHE", str(tmp_path / "cache"))
    command = ["run", "rome", "--data", "digits", "--per-class", "1", "--steps", "1"]
    command += [part for change in SMALL for part in ("--set", change)]
    told = []
    for name in ("first", "second"):
        assert main([*command, "--out", str(tmp_path / name)]) == 0
        told.append(capsys.readouterr().err)
    (folder,) = (tmp_path / "cache" / "attacked").iterdir()
    assert f"condense: attacked examples are kept for later runs in '{folder}'\n" in told[0]
    assert f"condense: attacked examples are read from '{folder}'\n" in told[1]
    assert "kept" not in told[1]
    monkeypatch.setenv("DISCREPANCY_CACHE", "off")
    assert main([*command, "--out", str(tmp_path / "third")]) == 0
    assert "attacked" not in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "fourth"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    first = result(tmp_path / "first")
    assert all(first.equal(result(tmp_path / name)) for name in ("second", "third", "fourth"))
