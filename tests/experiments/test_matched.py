"""The control of equal accuracy, on data whose accuracy at each size is known."""

from pathlib import Path

import pytest
import torch

from discrepancy import MMD
from discrepancy.errors import InvalidInput
from discrepancy.networks import MLP
from experiments.commands.artefacts import evaluate
from experiments.data import Diabetes, Digits
from experiments.evaluate import NetworkEvaluator, Protocol, matched
from experiments.evaluate.matched import matched_size, sizes_up_to
from objectives import Match, condense

PROTOCOL = Protocol(network=MLP(width=16, depth=2), networks=2, epochs=60, lr=0.05, name="small")


@pytest.fixture(scope="module")
def evaluator() -> NetworkEvaluator:
    return NetworkEvaluator(Digits().load(), PROTOCOL)


def test_sizes_are_powers_of_the_square_root_of_two():
    assert sizes_up_to(20) == [1, 2, 3, 4, 6, 8, 11, 16, 20]
    assert sizes_up_to(1) == [1]
    assert sizes_up_to(4) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("accuracy", "size"),
    [(0.0, 1), (0.1, 1), (0.44, 4), (0.46, 6), (0.6, 8), (0.86, 16), (2.0, 64)],
)
def test_the_nearest_of_accuracies_that_rise(
    evaluator: NetworkEvaluator, monkeypatch: pytest.MonkeyPatch, accuracy: float, size: int
):
    """The accuracy of m examples a class is taken to be √(m) / 4.5 - 0.05, at most 1."""
    tried = []

    def found(evaluator: NetworkEvaluator, size: int, progress: object) -> float:
        tried.append(size)
        return min(1.0, size**0.5 / 4.5 - 0.05)

    monkeypatch.setattr(matched, "_accuracy", found)
    assert int(torch.bincount(evaluator.train.strata).min()) == 138
    assert matched_size(evaluator, accuracy) == size
    assert len(tried) <= 5


def test_accuracies_are_those_of_random_examples(evaluator: NetworkEvaluator):
    """A network for each of two random sets; the larger ones are better, and the answer lies between."""
    shares: list[float] = []
    small, large = (matched._accuracy(evaluator, size, shares.append) for size in (1, 32))
    assert 0.1 < small < large - 0.1
    assert shares == sorted(shares[: len(shares) // 2]) * 2
    assert shares[-1] == 1
    assert 1 < matched_size(evaluator, (small + large) / 2) < 32


def test_the_command_shows_the_control(tmp_path: Path):
    made = condense(Digits().load(), Match(MMD()), per_class=4, steps=1)
    made.save(tmp_path / "set.safetensors")
    report = evaluate(
        tmp_path / "set.safetensors",
        protocol="quick",
        changes=["network.width=4", "epochs=3"],
        networks=2,
        data="digits",
        controls=["matched"],
        quiet=True,
    )
    rows = report.data["rows"]
    assert list(rows) == ["condensed", "matched"]
    assert rows["matched"]["examples"] in [10 * size for size in sizes_up_to(138)]
    assert rows["matched"]["n"] == 2


def test_it_needs_networks_and_classes():
    regression = NetworkEvaluator(Diabetes().load(), PROTOCOL)
    with pytest.raises(
        InvalidInput, match="'matched' has the same accuracy as the set, so it needs networks and classes"
    ):
        matched_size(regression, 0.5)
