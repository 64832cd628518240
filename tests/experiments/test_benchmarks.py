"""Every benchmark runs, in a tiny setting; what it measures is not judged here."""

import pytest

from experiments.benchmarks import distribution_matching, evaluation, pairwise
from experiments.benchmarks.timing import alternating


def test_actions_take_turns_after_a_round_that_is_not_counted():
    turns: list[str] = []
    found = alternating({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=2)
    assert turns == ["a", "b"] * 3
    assert set(found) == {"a", "b"}


def test_step_of_dm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distribution_matching, "WIDTH", 4)
    monkeypatch.setattr(distribution_matching, "REAL", (100, 120))
    rows = distribution_matching.rows(rounds=1, policy="never", side=8)
    assert len(rows) == 6
    assert all(row["seconds"] > 0 for row in rows)


def test_training():
    rows = evaluation.rows(rounds=1, width=4, epochs=2, policy="never")
    assert all(row["seconds"] > 0 for row in rows)


def test_pairs(monkeypatch: pytest.MonkeyPatch):
    for name, size in (("N", 50), ("M", 10), ("D", 3)):
        monkeypatch.setattr(pairwise, name, size)
    x, y = pairwise.clouds()
    assert pairwise.step(x, y)().shape == (10, 3)
    assert all(row["error"] < 1e-6 for row in pairwise.error_rows(100.0) if "gradient" not in row["what"])
