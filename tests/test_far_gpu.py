"""``make gpu`` runs in a tiny setting on the pretend accelerator; what it measures is not judged here."""

import json
from collections.abc import Callable
from pathlib import Path

import far
import pytest
import torch

from experiments.gpu import __main__ as gpu
from experiments.gpu import methods, published
from experiments.gpu.budget import Budget, Setting
from experiments.gpu.tests import OUTCOME


def needs_far(test: Callable[..., None]) -> Callable[..., None]:
    """Skipped where the pretend accelerator cannot be had."""
    old = pytest.mark.skipif(not far.SUPPORTED, reason=f"needs torch >= 2.10, this is {torch.__version__}")
    named = pytest.mark.skipif("config.getoption('--device') != 'far'", reason="--device names another accelerator")
    return old(named(test))


@needs_far
def test_every_part_leaves_rows_in_one_json(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    assert gpu.main(["--device", "far", "--tiny", "--out", str(file)]) == 0
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["machine"]["device"] == "far:0"
    assert list(report["parts"]) == list(gpu.PARTS)
    assert all(part["rows"] and "error" not in part for part in report["parts"].values())
    assert [row["passed"] for row in report["parts"]["tests"]["rows"]] == [2]
    assert all(row["float64"]["apart"] < 1e-9 for row in report["parts"]["methods"]["rows"])


@needs_far
def test_a_part_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "few_digits", lambda: 1 / 0)
    file = tmp_path / "gpu.json"
    assert gpu.main(["--device", "far", "--tiny", "--only", "methods,dm", "--out", str(file)]) == 1
    parts = json.loads(file.read_text(encoding="utf-8"))["parts"]
    assert "ZeroDivisionError" in parts["methods"]["error"]
    assert parts["dm"]["rows"]


def test_what_does_not_fit_into_the_time_is_named() -> None:
    rows = list(methods.rows(Setting(torch.device("cpu")), Budget(0)))
    assert [row["what"] for row in rows] == list(methods.METHODS)
    assert all(row["left_out"] == "no time left" for row in rows)


def test_outcomes_are_read_from_what_pytest_prints() -> None:
    text = "tests/test_a.py::test_b[by networks] PASSED  [ 50%]\ntests/test_a.py::test_c FAILED [100%]\n"
    assert OUTCOME.findall(text) == [
        ("tests/test_a.py::test_b[by networks]", "PASSED"),
        ("tests/test_a.py::test_c", "FAILED"),
    ]


def test_synthetic_images_are_named_so(tmp_path: Path) -> None:
    assert published.cifar10(Setting(torch.device("cpu"), tiny=True)).name == "synthetic images"


@pytest.mark.data
def test_real_images_are_cifar10(real_data: Path) -> None:
    data = published.cifar10(Setting(torch.device("cpu"), data=real_data))
    assert (data.name, data.shape, len(data.train)) == ("CIFAR-10", (3, 32, 32), 30_000)
