"""A held-out part in place of the test data: which examples, and a run and an evaluation that never see the others."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from discrepancy.errors import InvalidInput
from experiments import commands
from experiments.cli import main
from experiments.config import build, dump
from experiments.data import Digits, HeldOut, Images, Source, Torchvision
from objectives import SyntheticSet
from objectives.data.labelled import Normalisation
from objectives.data.labels import Labels


def test_the_parts_divide_the_training_data() -> None:
    whole, data = Digits().load(), HeldOut(of=Digits()).load()
    assert data.test is not None
    numbers = {bytes(point.numpy().data): number for number, point in enumerate(whole.train.points)}
    assert len(numbers) == len(whole.train)
    held, kept = ([numbers[bytes(p.numpy().data)] for p in part.points] for part in (data.test, data.train))
    assert sorted(held + kept) == list(range(len(whole.train)))
    for label in range(10):
        members = (whole.train.labels.numbers == label).nonzero()[:, 0].tolist()
        ordered = sorted(members, key=lambda number: hashlib.sha256(f"validation:{number}".encode()).digest())
        assert set(ordered[: round(len(members) / 10)]) == {n for n in held if n in set(members)}
    assert torch.equal(data.train.labels.numbers, whole.train.labels.numbers[kept])
    assert data.normalisation == whole.normalisation
    assert data.name == "digits (held out)"


def test_it_is_written_and_read_back() -> None:
    source = HeldOut(of=Digits(), fraction=0.2)
    assert build(Source, dump(source)) == source


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(InvalidInput, match="'fraction' must lie strictly between 0 and 1"):
        HeldOut(of=Digits(), fraction=fraction)


def test_a_run_for_validation_is_tested_on_the_held_out_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    options = ["--data", "digits", "--per-class", "1", "--out", str(folder), "--quiet"]
    assert main(["run", "random", *options, "--validation"]) == 0
    capsys.readouterr()
    small = ["--set", "networks=1", "--set", "epochs=2", "--set", "network.width=4", "--set", "network.depth=2"]
    assert main(["evaluate", str(folder / "result.safetensors"), "--json", "--quiet", *small]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"] == "digits (held out)"
    assert {row["test_examples"] for row in found["rows"].values()} == {143}


def test_the_root_that_is_given_is_that_of_the_data_of_which_a_part_is_held_out(tmp_path: Path) -> None:
    source = HeldOut(of=Torchvision(name="MNIST", root="/gone"))
    record = {"config": {"data": dump(source)}}
    made = SyntheticSet(
        torch.zeros(2, 1),
        Labels("hard", torch.arange(2)),
        torch.ones(2),
        ("a", "b"),
        Normalisation((0.0,), (1.0,)),
        record=record,
    )
    moved = commands.source_of(made, "a", root=str(tmp_path))
    assert moved == HeldOut(of=Torchvision(name="MNIST", root=str(tmp_path)))
    with pytest.raises(InvalidInput, match=r"name '/gone', and what a file names is not read .*: --root /gone"):
        commands.source_of(made, "a")


def test_data_that_are_named_again_are_taken_as_they_were(tmp_path: Path) -> None:
    source = HeldOut(of=Images(path=str(tmp_path), size=4))
    made = SyntheticSet(
        torch.zeros(2, 1),
        Labels(),
        torch.ones(2),
        (),
        Normalisation((0.0,), (1.0,)),
        record={"config": {"data": dump(source)}},
    )
    assert commands.source_of(made, "a", data=str(tmp_path)) == source
    assert commands.source_of(made, "a", data=str(tmp_path.parent)) == Images(path=str(tmp_path.parent))
    with pytest.raises(InvalidInput, match="unless you name it too: --data"):
        commands.source_of(made, "a")
