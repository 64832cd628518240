"""Every benchmark runs, in a tiny setting; what it measures is not judged here."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from discrepancy.networks import ConvNet
from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import (
    calls,
    distribution_matching,
    evaluation,
    levels,
    pairwise,
    robustness,
    summarising,
    timing,
)
from experiments.benchmarks.timing import alternating, beside
from objectives import Fresh


def test_actions_take_turns_after_a_round_that_is_not_counted():
    turns: list[str] = []
    found = alternating({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=2)
    assert turns == ["a", "b"] * 3
    assert set(found) == {"a", "b"}


def test_ratios_are_those_of_a_round(monkeypatch: pytest.MonkeyPatch):
    """Seconds 1, 2, 4 beside 1, 1, 1, and the second did twice the work: 2, 4 and 8 times faster for a unit."""
    clock = iter([0.0, 0.0, *(end for seconds in (1.0, 1.0, 2.0, 1.0, 4.0, 1.0) for end in (0.0, seconds))])
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    first, second = beside({"a": lambda: None, "b": lambda: None}, 3, work={"a": 1.0, "b": 2.0})
    assert first == {"what": "a", "seconds": 2.0, "ratio": 1.0}
    assert second == {"what": "b", "seconds": 1.0, "ratio": 4.0, "range": (2.0, 8.0)}
    assert benchmarks._cells(second)[2] == "4.00x (2.00 to 8.00)"


def test_step_of_dm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distribution_matching, "WIDTH", 4)
    monkeypatch.setattr(distribution_matching, "REAL", (100, 120))
    rows = distribution_matching.rows(rounds=1, policy="never", side=8)
    assert len(rows) == 6
    assert all(row["seconds"] > 0 for row in rows)


def test_calls_of_a_step():
    """Its two sides go through the network once each, deeper than the step itself, and torch's own frames are not counted."""
    context = Fresh(network=ConvNet(width=4, depth=1), batch=2)
    step = distribution_matching.started(distribution_matching.random_images(100, 8), context, "never", {}, "")
    found = calls.calls(step)
    assert found[0] == calls.Call(0, "objectives/solvers/descent.py", "_Descending.advance")
    assert sum(call.function == "ChainNetwork.__call__" for call in found) == 2
    assert min(call.depth for call in found[1:]) == 1
    assert {call.module.split("/")[0] for call in found} == {"discrepancy", "objectives"}


def test_robustness():
    """A backward pass to the examples has the products of a forward one. So a plain step passes the real batch once and the
    synthetic set twice, and one with the worst real side the real batch 1 + 6 + 5 times."""
    plain, attacked, worst = robustness.rows(rounds=1, width=4, side=8)
    real, synthetic = 10 * robustness.BATCH, 10 * distribution_matching.PER_CLASS
    times = (12 * real + 2 * synthetic) / (real + 2 * synthetic)
    assert plain["what"].endswith(": 1.00x the operations")
    assert attacked["what"].endswith(": 1.00x the operations")
    assert worst["what"].endswith(f": {times:.2f}x the operations")
    assert plain["ratio"] == 1
    assert worst["ratio"] < 1


def test_summarising():
    network, summary = summarising.rows(rounds=1, n=60, width=4, policy="never")
    assert network["seconds"] > 0 < summary["seconds"]


def test_training():
    rows = evaluation.rows(rounds=1, width=4, epochs=2, policy="never")
    assert all(row["seconds"] > 0 for row in rows)


def test_pairs(monkeypatch: pytest.MonkeyPatch):
    for name, size in (("N", 60), ("M", 10), ("D", 3), ("GROWING", (10, 30))):
        monkeypatch.setattr(pairwise, name, size)
    measured: list[tuple[str, ...]] = []
    monkeypatch.setattr(pairwise, "extra_megabytes", lambda module, *which: measured.append(which) or 1.0)
    rows = pairwise.rows(rounds=1, peer_rounds=1)
    assert all(len({"seconds", "megabytes", "error"} & row.keys()) == 1 for row in rows)
    assert len({row["what"] for row in rows}) >= len(rows) - 2
    assert all(row["error"] < 1e-5 for row in rows if "error" in row and "value" in row["what"])
    assert measured == [("geomloss",), ("step",), ("summary",), ("step", "laplace"), ("step", "energy")]


@pytest.mark.parametrize("name", ["gaussian", "laplace", "energy"])
def test_pairs_are_those_of_geomloss(name: str, monkeypatch: pytest.MonkeyPatch):
    for size, value in (("N", 60), ("M", 10), ("D", 300)):
        monkeypatch.setattr(pairwise, size, value)
    x, y = pairwise.clouds()
    monkeypatch.setattr(pairwise, "Median", lambda: 16.0)
    # Theirs has the factor 1/2.
    theirs = 2 * pairwise.geomloss_step(x, y, name)()
    torch.testing.assert_close(pairwise.step(x, y, name)(), theirs, atol=1e-5, rtol=1e-4)


def test_memory_is_measured(monkeypatch: pytest.MonkeyPatch):
    for name, size in (("N", 600), ("M", 110), ("D", 3)):
        monkeypatch.setattr(pairwise, name, size)
    assert pairwise.peak_of("step", "energy") >= 0


def test_levels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The whole simulation, of two kinds, twice each."""
    file = tmp_path / "levels.md"
    options = ["--repetitions", "2", "--markdown", str(file)]
    monkeypatch.setattr("sys.argv", ["levels", "mean", "covering_radius", *options])
    levels.main()
    rows = [line.split("|")[1:-1] for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [len(row) for row in rows] == [1 + len(levels.TESTS) + len(levels.INTERVALS)] * 4
    assert all("±" in cell for cell in rows[2][1:])
    assert [cell.strip() for cell in rows[3][-len(levels.INTERVALS) :]] == ["no interval"] * len(levels.INTERVALS)
    assert "covering_radius" in capsys.readouterr().out
