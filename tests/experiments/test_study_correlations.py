"""Rank correlations with intervals: those of scipy, and resamples written out by hand.

Properties, by Hypothesis: with all counts one ρ and τ are scipy's, ties included; a resample is the sets written out as often
as they are counted.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.studies.correlation import ceiling, interval, kendall, left_out, resamples, same_family, spearman

FEW = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=9)


@settings(deadline=None, database=None)
@given(points=FEW)
def test_coefficients_are_scipys(points: list[tuple[int, int]]):
    x, y = np.array(points, dtype=float).T
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(spearman(x, y)[0])
        assert np.isnan(kendall(x, y)[0])
        return
    assert spearman(x, y)[0] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert kendall(x, y)[0] == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@settings(deadline=None, database=None)
@given(points=FEW, data=st.data())
def test_a_resample_is_the_sets_written_out(points: list[tuple[int, int]], data: st.DataObject):
    x, y = np.array(points, dtype=float).T
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(x), max_size=len(x)).filter(any)))
    rows = np.repeat(np.arange(len(x)), counts)
    for coefficient in (spearman, kendall):
        expected, got = coefficient(x[rows], y[rows])[0], coefficient(x, y, counts[None].astype(float))[0]
        assert got == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("coefficient", [spearman, kendall])
def test_perfect_and_reversed_order(coefficient: Any):
    x = np.array([1.0, 2.0, 5.0, 9.0])
    assert coefficient(x, np.exp(x))[0] == pytest.approx(1)
    assert coefficient(x, -np.exp(x))[0] == pytest.approx(-1)


def test_order_within_families_and_between_them():
    """Two families, each in the right order, but the family that is better has the larger values."""
    x = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    y = np.array([11.0, 12.0, 13.0, 1.0, 2.0, 3.0])
    families = list("aaabbb")
    assert kendall(x, y, pairs=same_family(families))[0] == pytest.approx(1)
    assert kendall(x, y)[0] == pytest.approx((6 - 9) / 15)
    assert np.isnan(kendall(x, y, pairs=same_family(list("abcdef")))[0])


def test_without_each_family():
    """Families b and c agree with y; a alone does not."""
    x = np.array([9.0, 8.0, 1.0, 2.0, 3.0, 4.0])
    y = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    found = left_out(x, y, list("aabbcc"))
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == pytest.approx(1)
    assert found["b"] == pytest.approx(stats.spearmanr(x[[0, 1, 4, 5]], y[[0, 1, 4, 5]]).statistic)
    assert left_out(x, y, ["a"] * 6) == {}


def test_resamples_draw_families_then_sets():
    families = list("aaaabbc")
    counts = resamples(families, 4000, np.random.default_rng(0))
    by_family = np.stack([counts[:, :4].sum(1) / 4, counts[:, 4:6].sum(1) / 2, counts[:, 6]], 1)
    torch.testing.assert_close(torch.tensor(by_family), torch.tensor(by_family).round())  # whole families
    assert (by_family.sum(1) == 3).all()
    assert counts.mean(0) == pytest.approx(np.ones(7), abs=0.1)
    assert ((counts[:, :4] > 0).sum(1) < 4).any()  # and within a family not every set


def test_interval_of_resamples():
    values = np.arange(1001) / 1000
    assert interval(values, 0.9) == pytest.approx((0.05, 0.95))
    assert interval(np.where(values < 0.05, np.nan, values), 0.9) is not None
    assert interval(np.where(values < 0.2, np.nan, values), 0.9) is None


def test_ceiling_is_what_a_perfect_predictor_reaches():
    generator = np.random.default_rng(1)
    truth = generator.standard_normal(1000)
    for noise, networks in ((0.5, 3), (1.0, 3), (2.0, 8)):
        accuracies = truth[:, None] + noise * generator.standard_normal((len(truth), networks))
        reached = spearman(truth, accuracies.mean(1))[0]
        assert ceiling(accuracies) == pytest.approx(reached, abs=0.04)


def test_ceiling_without_noise_and_without_networks():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert ceiling(np.stack([x, x + 7], 1)) == pytest.approx(1)  # what all sets share is no noise
    assert ceiling(x[:, None]) is None
    assert ceiling(np.stack([x, -x], 1)) is None
