"""The ledger: releases add up over processes, a budget is never exceeded, damage is told."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from discrepancy import InvalidInput
from objectives import Privacy
from objectives.privacy.gaussian import gaussian_epsilon, gaussian_mu
from objectives.privacy.ledger import DataKey, Ledger
from objectives.storage import StorageError
from tests.objectives.small import unchecked


def known(name: str, rows: int = 50, first: int = 0) -> DataKey:
    """Data with a fingerprint and points of their own."""
    numbers = range(first, first + rows)
    return DataKey(name, frozenset(hashlib.sha256(f"{name}{row}".encode()).digest()[:16] for row in numbers))


def charge(ledger: Ledger, data: str = "d", epsilon: float = 2.0, share: float = 1.0, **changes: Any):
    return ledger.charge(known(data), changes.get("adjacency", "add-remove"), epsilon, 1e-5, share, "sums")


def test_shares_add_up_to_the_budget(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    halves = [charge(ledger, share=0.5).mu, charge(ledger, share=0.5).mu, charge(ledger).mu]
    assert halves == pytest.approx([gaussian_mu(2.0, 1e-5) * part**0.5 for part in (0.5, 0.25, 0.25)])
    assert gaussian_epsilon(ledger.spent(known("d"), "add-remove"), 1e-5) == pytest.approx(2.0)
    with pytest.raises(InvalidInput, match=r"budget of .* \(2, 1e-05\) is spent: .* has 3 releases .* together ε = 2;"):
        charge(ledger)
    assert len(ledger.charges(known("d"))) == 3
    more = charge(ledger, epsilon=3.0).mu
    assert more**2 + gaussian_mu(2.0, 1e-5) ** 2 == pytest.approx(gaussian_mu(3.0, 1e-5) ** 2)


def test_other_data_have_a_budget_of_their_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    charge(ledger, "one")
    assert charge(ledger, "other").mu == pytest.approx(gaussian_mu(2.0, 1e-5))
    assert [len(ledger.charges(known(name))) for name in ("one", "other", "third")] == [1, 1, 0]


def test_data_that_share_examples_share_a_budget(tmp_path: Path) -> None:
    """A part under another fingerprint, and the whole after a release of a part."""
    for before, after in ((1000, 300), (300, 1000)):
        ledger = Ledger(tmp_path / f"{before}.jsonl")
        first, second = (DataKey(name, known("d", rows).rows) for name, rows in (("a", before), ("b", after)))
        ledger.charge(first, "add-remove", 2.0, 1e-5, 0.5, "sums")
        assert ledger.spent(second, "add-remove") == pytest.approx(gaussian_mu(2.0, 1e-5) * 0.5**0.5)
        ledger.charge(second, "add-remove", 2.0, 1e-5, 1.0, "sums")
        with pytest.raises(
            InvalidInput, match="2 releases of these data or of some of their examples, together ε = 2;"
        ):
            ledger.charge(first, "add-remove", 2.0, 1e-5, 1.0, "sums")
        assert ledger.charges(DataKey("c", known("d", 50, first=5000).rows)) == []


def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be locked .* so nothing was charged or released"):
        charge(Ledger(tmp_path / "file" / "ledger.jsonl"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInput, match=r"'.*folder' cannot be read"):
        charge(Ledger(tmp_path / "folder"))


def test_neighbours_are_not_mixed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    charge(ledger, share=0.5)
    with pytest.raises(InvalidInput, match="under adjacency add-remove, and this one is under replace-one"):
        charge(ledger, adjacency="replace-one")


def test_many_at_once_never_exceed_the_budget(tmp_path: Path) -> None:
    def try_one(_: int) -> float:
        try:
            return charge(Ledger(tmp_path / "ledger.jsonl"), share=0.3).mu
        except InvalidInput:
            return 0.0

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(try_one, range(24)))
    assert sum(mu**2 for mu in taken) <= gaussian_mu(2.0, 1e-5) ** 2 * (1 + 1e-9)
    assert Ledger(tmp_path / "ledger.jsonl").spent(known("d"), "add-remove") ** 2 == pytest.approx(
        sum(m**2 for m in taken)
    )


def test_a_line_that_was_cut_off_was_never_released(tmp_path: Path) -> None:
    """A charge is whole on the disk before its release is made."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    charge(ledger, share=0.5)
    whole = ledger.path.read_text()
    ledger.path.write_text(whole + whole[:40])
    assert len(ledger.charges(known("d"))) == 1
    charge(ledger)
    assert len(ledger.path.read_text().splitlines()) == 2


def test_a_last_charge_without_its_line_break_is_not_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    charge(ledger)
    ledger.path.write_text(ledger.path.read_text().rstrip("\n"))
    with pytest.raises(InvalidInput, match="has no end, and would not be counted"):
        charge(ledger)


@pytest.mark.parametrize("change", [{"mu": -1.0}, {"mu": "1"}, {"data": 3}, {"adjacency": None}, {"sketch": "x"}])
def test_a_damaged_ledger_is_told(change: dict[str, Any], tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    charge(ledger, share=0.5)
    line = json.loads(ledger.path.read_text())
    ledger.path.write_text(json.dumps(line | change) + "\n")
    with pytest.raises(InvalidInput, match="is damaged at line 1"):
        charge(ledger)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epsilon": 0.0}, "'epsilon' must be > 0"),
        ({"epsilon": 1e13}, "as good as no privacy at all"),
        ({"epsilon": "1"}, "'epsilon' must be a number, got '1'"),
        ({"delta": 1.0}, "'delta' must lie strictly between"),
        ({"clip": float("inf")}, "'clip' must be > 0 and finite"),
        ({"share": 0.0}, "'share' must be > 0 and at most 1"),
        ({"share": 1.1}, "'share' must be > 0 and at most 1"),
        ({"adjacency": "swap"}, "'adjacency' must be one of add-remove, replace-one"),
    ],
)
def test_what_is_stated_is_checked(changes: dict[str, Any], said: str) -> None:
    with unchecked(), pytest.raises(InvalidInput, match=said):
        Privacy(**{"epsilon": 1.0, **changes})
