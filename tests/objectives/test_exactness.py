"""What is chosen is stored as the source has it, and what is set for the process does not reach a run."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from discrepancy import MMD, EnergyDistance, InvalidInput
from objectives import Descent, LabelledData, Match, Pixels, SyntheticSet, condense, selection

sys.path.insert(0, str(Path(__file__).parents[1] / "discrepancy"))
from guards import SURROUNDINGS

T = 1_707_954_127_790 + 1000.0 * torch.arange(120, dtype=torch.float64)  # two minutes in milliseconds
X = torch.stack([T, torch.randn(120, generator=torch.Generator().manual_seed(0)).double()], 1)
Y = torch.arange(120) % 3


def of_times(solver: Descent | None = None) -> SyntheticSet:
    match = Match(MMD(), by="class")
    return condense((X, Y), match, solver=solver or selection.Random(), per_class=2, compile="never")  # pyright: ignore


def test_chosen_rows_of_float64_are_those_of_the_source():
    made = of_times()
    assert torch.equal(made.points, X[made.record["chosen"]])
    assert made.normalisation.std[0] == pytest.approx(float(T.std(correction=0)))
    exact = condense((X.round().clamp(-9, 9), Y), Match(MMD(), by="class"), solver=selection.Random(), per_class=2)
    assert exact.points.dtype == torch.float32


def test_chosen_targets_are_those_of_the_source():
    data = LabelledData.with_targets(X[:, 1:], T)
    made = condense(data, Match(MMD(), by="none"), solver=selection.Random(), examples=3)
    assert made.labels is not None
    assert torch.equal(made.labels, T[made.record["chosen"]])


def test_points_in_coarse_units_are_decoded_in_float64():
    """In float32, times are some 131 seconds apart."""
    made = of_times(Descent(lr=1e-12, steps=1))
    nearest = (made.points[:, :1] - T).abs().amin(1)
    assert float(nearest.max()) < 0.01


def test_targets_of_a_run_in_float64_are_standardised_in_float64():
    data = LabelledData.with_targets(X[:, 1:], X[:, 1] / 3)
    units, targets = data.spec.target_units, X[:, 1] / 3
    assert units is not None
    made = condense(data, Match(MMD(), by="none"), solver=selection.Random(), examples=4, dtype=torch.float64)
    expected = (targets[made.record["chosen"]] - units.mean[0]) / units.std[0]
    torch.testing.assert_close(made.parameters["labels"][:, 0], expected, atol=1e-14, rtol=0)


def test_clipped_points_stay_within_the_range_on_the_way_through_the_units():
    images = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    synthetic, solver = Pixels(per_class=2, clip=True), Descent(lr=100.0, steps=3)
    made = condense((images, torch.arange(40) % 2), Match(MMD(), by="class"), synthetic=synthetic, solver=solver)
    assert (float(made.points.min()), float(made.points.max())) == (0.0, 255.0)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_do_not_reach_a_run(name: str):
    match = Match(EnergyDistance(), by="class")

    def run() -> torch.Tensor:
        return condense((X[:, 1:], Y), match, per_class=2, steps=2, compile="never").points

    expected = run()
    with SURROUNDINGS[name]():
        found = run()
    assert torch.equal(found, expected)
    assert not found.is_inference()


@pytest.mark.parametrize(
    "index",
    [slice(0, 3), [0, 2], np.array([1, -1]), torch.tensor([True, False] * 3), slice(None, None, -1), []],
    ids=["slice", "list", "array", "mask", "reversed", "none"],
)
def test_examples_may_be_taken_together(index: object):
    made = of_times()
    assert made.labels is not None
    numbers = np.arange(6)[index].tolist() if not isinstance(index, list) else index
    points, labels = made[index]
    assert torch.equal(points, made.points[numbers])
    assert torch.equal(labels, made.labels[numbers])


def test_examples_that_are_not_there_are_refused():
    made = of_times()
    for index in ([0, 9], 6, -7):
        with pytest.raises(IndexError, match="out of range"):
            made[index]
    for index in (1.5, [0.5], "a", [True]):
        with pytest.raises(InvalidInput):
            made[index]
