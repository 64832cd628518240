"""A set that has seen the test examples is refused, and so are data that are not what it was made from."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from discrepancy import MMD
from discrepancy.errors import InvalidInput
from experiments.cli import main
from experiments.data import Digits, Npz
from experiments.evaluate import check_same, check_unseen, held_out, note_of_others
from objectives import Match, condense
from objectives.data.fingerprint import SKETCH, Sketch, row_hashes
from objectives.data.labelled import LabelledData
from objectives.solvers import Random
from objectives.synthetic.artefact import SyntheticSet

SMALL = ["--protocol", "table", "--networks", "1", "--set", "epochs=2", "--controls", "none", "--quiet", "--json"]


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return Digits().load()


def made(data: object, steps: int = 1, **options: object) -> SyntheticSet:
    return condense(data, Match(MMD(), by="class"), per_class=2, **options, **({} if options else {"steps": steps}))  # pyright: ignore


def whole(data: LabelledData) -> LabelledData:
    """All the examples as training data."""
    assert data.test is not None
    parts = data.train.rows(), data.test.rows()
    points, numbers = (torch.cat(part) for part in ([x.points for x in parts], [x.labels.numbers for x in parts]))
    return LabelledData.of(points, numbers.numpy())


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (
            lambda data: made(data.test),
            "the set was made from the test examples of 'digits'; condense the training part",
        ),
        (
            lambda data: made(whole(data)),
            r"about (1[5-9]|2[0-5])% of the examples that the set was made from are test exam",
        ),
        (
            lambda data: replace(made(data.test, solver=Random()), record={}),
            "20 of the 20 examples of the set are test examples of 'digits'",
        ),
    ],
    ids=["test", "all", "points"],
)
def test_a_set_that_has_seen_test_examples_is_refused(
    of: Callable[[LabelledData], SyntheticSet], message: str, digits: LabelledData
) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_unseen(of(digits), digits)


def test_a_set_of_training_examples_passes_and_examples_of_both_parts_do_not_count(digits: LabelledData) -> None:
    for found in (made(digits), made(digits, solver=Random())):
        check_unseen(found, digits)
        assert note_of_others(found, digits) is None
    assert digits.test is not None
    twice = replace(digits, test=LabelledData.made(digits.spec, digits.train.rows(), digits.train.rows()).test)
    check_unseen(replace(made(digits, solver=Random()), record={}), twice)


def test_validation_examples_that_a_set_has_seen_are_refused(digits: LabelledData) -> None:
    part = held_out(digits, 3)
    check_unseen(made(part), part, validation=True)
    with pytest.raises(InvalidInput, match=r"about (\d|1\d)% of .* are validation examples of 'digits'; condense with"):
        check_unseen(made(digits), part, validation=True)


def test_the_sketch_says_what_share_is_in_other_data(digits: LabelledData) -> None:
    sketch = digits.train.sketch()
    assert len(sketch.hashes) == SKETCH
    assert sketch == Sketch.from_text(sketch.as_text())
    assert Sketch.of(digits.train.points.double().flip(0)) == sketch
    half = row_hashes(digits.train.points[::2])
    assert sketch.share_in(half) == pytest.approx(0.5, abs=0.12)
    assert Sketch.of(digits.train.points[:3]).share_in(half) == 2 / 3
    for text in ("", "0", "ab", 7, "zz" * 8, "00" * (8 * SKETCH + 8)):
        with pytest.raises(InvalidInput, match="the sketch of rows is damaged"):
            Sketch.from_text(text)


def test_data_that_changed_behind_their_name_are_refused_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(60, 3)), np.arange(60) % 2
    np.savez("table.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    assert main(["run", "random", "--data", "table.npz", "--per-class", "3", "--out", "run", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", "table.npz", *SMALL]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")  # where another file has the name
    np.savez("table.npz", x=x, y=y)
    assert main(["evaluate", "../run", *SMALL]) == 2
    assert f"unless you name it too: --data {tmp_path / 'table.npz'}" in capsys.readouterr().err
    assert main(["evaluate", "../run", "--data", "../table.npz", *SMALL]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]["condensed"]["test_examples"] == 20
    monkeypatch.chdir(tmp_path)
    np.savez("table.npz", x_train=x[:40], y_train=1 - y[:40], x_test=x[40:], y_test=y[40:])
    for command in (["evaluate", "run", *SMALL], ["label", "run", "--teacher", "mlp", "--out", "other.safetensors"]):
        assert main(command) == 2
        assert f"not read or written unless you name it too: --data {tmp_path / 'table.npz'}" in capsys.readouterr().err
    with pytest.raises(
        InvalidInput, match="'table' is not what 'run' was made from: its training examples have changed"
    ):
        check_same(SyntheticSet.load("run/result.safetensors"), Npz(path="table.npz").load(), "run")
    x[:20] += 1
    np.savez("table.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    assert main(["evaluate", "run", "--data", "table.npz", *SMALL]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note == (
        "the set was made from other data than the training examples of 'table'; about 50% of them are training examples here"
    )
    np.savez("table.npz", x_train=x[40:], y_train=y[40:], x_test=x[20:40], y_test=y[20:40])
    assert main(["evaluate", "run", "--data", "table.npz", *SMALL]) == 2
    assert "of the 6 examples of the set are test examples of 'table'" in capsys.readouterr().err
