"""Private problems that go wrong: nothing is charged, or the mistake is told."""

from pathlib import Path

import pytest
import torch

from discrepancy import InvalidInput
from objectives import LabelledData, Privacy
from objectives.privacy.curator import private
from tests.objectives.small import images
from tests.objectives.test_privacy_release import PRIVACY, SOLVER, posed


def test_a_run_that_dies_while_it_sums_up_has_paid_nothing(tmp_path: Path) -> None:
    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    stated = Privacy(epsilon=1.0, ledger=str(tmp_path / "ledger.jsonl"))
    with pytest.raises(KeyboardInterrupt):
        private(posed(images()), stated, SOLVER, progress=die)
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_ledger_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    private(posed(images()), Privacy(epsilon=1.0, ledger="~/ledger.jsonl"), SOLVER)
    assert (tmp_path / "ledger.jsonl").exists()


def test_examples_with_weights_are_refused() -> None:
    data = images()
    weighted = LabelledData.made(data.spec, data.train.rows().with_weights(torch.arange(31.0)), None)
    with pytest.raises(InvalidInput, match="the examples of 'data' have weights, and private ones count alike"):
        private(posed(weighted), PRIVACY, SOLVER)
