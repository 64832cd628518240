"""Robust means: the contract, bounded influence, how points are dealt to blocks, what is refused.

The truth is numpy, group by group and coordinate by coordinate: blocks by a loop over the points, and a trimmed mean as the
integral of the quantile function between s and 1 - s.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract, M, N, rows
from torch import Tensor

from discrepancy import (
    MMD,
    CharacteristicFunction,
    Coral,
    Discrepancy,
    EnergyDistance,
    Gaussian,
    InvalidInput,
    Joint,
    JointMMD,
    LinearHypotheses,
    MeanGradients,
    Measure,
    MedianOfMeans,
    Moments,
    Quantiles,
    TrimmedMean,
    Unsupported,
)
from discrepancy.kernels import Linear, Median, Polynomial

WRONG = 1e3, 1e6, 1e12


def median_of_means(values: Any, weights: Any, blocks: int) -> Any:
    sums, masses, place = np.zeros((blocks, values.shape[1])), np.zeros(blocks), 0
    for value, weight in zip(values, weights, strict=True):
        if weight > 0:
            sums[place % blocks] += weight * value
            masses[place % blocks] += weight
            place += 1
    present = masses > 0
    return np.median(sums[present] / masses[present, None], axis=0)


def trimmed_mean(values: Any, weights: Any, share: float) -> Any:
    found = []
    for column in values.T:
        order = np.argsort(column)
        levels = np.concatenate([[0.0], np.cumsum(weights[order] / weights.sum())])
        cuts = np.unique(np.clip(np.concatenate([levels, [share, 1 - share]]), share, 1 - share))
        at = np.searchsorted(levels, (cuts[1:] + cuts[:-1]) / 2) - 1
        found.append(np.dot(np.diff(cuts), column[order][at]) / (1 - 2 * share))
    return np.array(found)


def robust(discrepancy: MedianOfMeans | TrimmedMean, values: Any, weights: Any) -> Any:
    weights = weights / weights.max()
    if isinstance(discrepancy, MedianOfMeans):
        return median_of_means(values, weights, discrepancy.blocks)
    return trimmed_mean(values, weights, discrepancy.share)


def truth_of(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
    """D written out for each ``of`` here, from numpy means."""
    assert isinstance(discrepancy, MedianOfMeans | TrimmedMean)
    of, sides = discrepancy.of, []
    for side in (mu, nu):
        points = side.points.flatten(1).double().numpy()  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(of, JointMMD):
            if side.labels is None:
                raise NotImplementedError
            values = (points[:, :, None] * side.labels.double().numpy()[:, None]).reshape(len(points), -1)
        elif isinstance(of, CharacteristicFunction):
            drawn = of.draw(torch.Generator().manual_seed(5), (points.shape[1],))["frequencies"]
            angles = points @ drawn.double().numpy().T / 3
            values = np.concatenate([np.cos(angles), np.sin(angles)], 1) / math.sqrt(of.frequencies)
        elif isinstance(of, LinearHypotheses):
            values = (points[:, :, None] * points[:, None]).reshape(len(points), -1)
        else:
            values = points if of != MMD(kernel=4 * Linear()) else 2 * points
        sides.append((values, side.weights.double().numpy()))
    real, (values, weights) = robust(discrepancy, *sides[0]), sides[1]
    gap = real - np.average(values, axis=0, weights=weights / weights.max())
    if isinstance(of, LinearHypotheses):
        size = math.isqrt(len(gap))
        return float(4 * np.linalg.norm(gap.reshape(size, size), 2))
    square = float(gap @ gap)
    return math.sqrt(square) if getattr(of, "root", False) else square


class RobustContract(DiscrepancyContract):
    classes = 3

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        return truth_of(discrepancy, mu, nu)


class TestMedianOfMeans(RobustContract):
    instances = {  # noqa: RUF012
        "linear": MedianOfMeans(of=MMD(), blocks=3),
        "linear-root-even": MedianOfMeans(of=MMD(root=True), blocks=4),
        "more-blocks-than-points": MedianOfMeans(of=MMD()),
        "scaled": MedianOfMeans(of=MMD(kernel=4 * Linear()), blocks=3),
        "characteristic": MedianOfMeans(of=CharacteristicFunction(frequencies=7, lengthscale=3.0), blocks=3),
        "gradients": MedianOfMeans(of=MeanGradients(form="mse"), blocks=5),
        "hypotheses": MedianOfMeans(of=LinearHypotheses(), blocks=3),
        "joint": MedianOfMeans(of=JointMMD(), blocks=3),
    }

    def test_order_of_points_does_not_matter(self, discrepancy: Discrepancy):
        """Of the synthetic side; on the real side, within blocks and of the blocks."""
        assert isinstance(discrepancy, MedianOfMeans)
        blocks = discrepancy.blocks
        mu, nu = self.sample(3 * blocks), self.sample(M, 1)
        expected = self.value(discrepancy, mu, nu)
        torch.testing.assert_close(self.value(discrepancy, mu, rows(nu, torch.arange(M).flip(0))), expected)
        places = torch.arange(3 * blocks).view(3, blocks)
        for same in (places.flip(0), places.flip(1)):
            torch.testing.assert_close(self.value(discrepancy, rows(mu, same.flatten()), nu), expected)
        other = self.value(discrepancy, rows(mu, places.mT.flatten()), nu)
        assert (other - expected).abs() > 1e-6


class TestTrimmedMean(RobustContract):
    instances = {  # noqa: RUF012
        "linear": TrimmedMean(of=MMD(), share=0.2),
        "linear-root": TrimmedMean(of=MMD(root=True), share=0.45),
        "less-than-a-point": TrimmedMean(of=MMD()),
        "nothing": TrimmedMean(of=MMD(), share=0.0),
        "hypotheses": TrimmedMean(of=LinearHypotheses(), share=0.3),
        "joint": TrimmedMean(of=JointMMD(), share=0.2),
        "characteristic": TrimmedMean(of=CharacteristicFunction(frequencies=7, lengthscale=3.0), share=0.1),
    }


# Influence

ROBUST = MedianOfMeans(of=MMD()), TrimmedMean(of=MMD(), share=0.02)


def hundred(seed: int = 0) -> Tensor:
    return torch.randn(100, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_of(discrepancy: Discrepancy, points: Tensor, weights: Tensor | None = None) -> Tensor:
    return discrepancy.summarise(Measure(points, weights).as_groups()).mean[0]


@pytest.mark.parametrize("discrepancy", ROBUST, ids=lambda discrepancy: discrepancy.kind)
def test_one_wrong_point_in_a_hundred_moves_the_mean_by_a_bounded_amount(discrepancy: Discrepancy):
    points = hundred()
    before, plain = mean_of(discrepancy, points), mean_of(MMD(), points)
    for place in (0, 41, 99):
        moves = []
        for wrong in WRONG:
            spoilt = points.clone()
            spoilt[place] = wrong
            moves.append(float((mean_of(discrepancy, spoilt) - before).abs().max()))
            assert float((mean_of(MMD(), spoilt) - plain).abs().min()) > 0.009 * wrong
        assert max(moves) < 0.3
        assert max(moves) - min(moves) < 1e-12


@pytest.mark.parametrize("blocks", [4, 5])
def test_median_of_means_holds_while_fewer_than_half_of_the_blocks_are_wrong(blocks: int):
    points, allowed = hundred(), (blocks - 1) // 2
    D = MedianOfMeans(of=MMD(), blocks=blocks)
    right = torch.stack([points[place::blocks].mean(0) for place in range(blocks)])
    spoilt = points.clone()
    for place in range(allowed):
        spoilt[place::blocks] = 1e12
    mean = mean_of(D, spoilt)
    assert bool((mean <= right.amax(0)).all() & (mean >= right[allowed:].amin(0)).all())
    spoilt[allowed] = 1e12
    assert mean_of(D, spoilt).min() > 1e9


def test_trimmed_mean_holds_while_wrong_points_have_at_most_its_share():
    points, D = hundred(), TrimmedMean(of=MMD(), share=0.0501)
    spoilt = points.clone()
    spoilt[:5] = 1e12
    assert bool((mean_of(D, spoilt) <= points.amax(0)).all())
    weights = torch.ones(100, dtype=torch.float64)
    weights[0] = 10.0  # of 109
    assert mean_of(D, spoilt, weights).min() > 1e9


def test_the_real_points_far_away_in_float32_lose_no_digit():
    """Means of 16-bit whole numbers about 2²⁰ are exact in float64."""
    points = torch.randint(-(2**10), 2**10, (33, 3), generator=torch.Generator().manual_seed(1)).double()
    for D in (MedianOfMeans(of=MMD()), TrimmedMean(of=MMD(), share=0.1)):
        far = mean_of(D, (points + 2**20).float())
        torch.testing.assert_close(far - 2**20, mean_of(D, points), atol=1e-8, rtol=0)


@pytest.mark.parametrize("discrepancy", ROBUST, ids=lambda discrepancy: discrepancy.kind)
def test_a_statistic_that_is_not_finite_is_not_hidden(discrepancy: Discrepancy):
    for wrong in (torch.nan, torch.inf):
        points = hundred()
        points[7, 2] = wrong
        mean = mean_of(discrepancy, points)
        assert not bool(torch.isfinite(mean[2]))
        assert bool(torch.isfinite(mean[[0, 1, 3]]).all())


# Blocks


def test_points_of_a_merged_summary_follow_those_of_the_first():
    points, D = hundred(), MedianOfMeans(of=MMD(), blocks=7)
    weights = (torch.arange(100) % 3 > 0).double()
    whole = D.summarise(Measure(points, weights).as_groups())
    for cut in (1, 5, 8, 64):
        first, second = (
            D.summarise(Measure(points[part], weights[part]).as_groups()) for part in (slice(cut), slice(cut, None))
        )
        merged = D.merge(first, second)
        for name in ("total", "mass", "count"):
            torch.testing.assert_close(getattr(merged, name), getattr(whole, name), msg=name)


def test_points_without_weight_have_no_place():
    points, D = hundred(), MedianOfMeans(of=MMD(), blocks=7)
    weights = (torch.arange(100) % 3 > 0).double()
    torch.testing.assert_close(mean_of(D, points, weights), mean_of(D, points[weights > 0]))


def test_a_trimmed_mean_is_sorted_in_parts_of_its_coordinates(monkeypatch: pytest.MonkeyPatch):
    D, points = TrimmedMean(of=MMD(), share=0.1), hundred()
    expected = mean_of(D, points)
    monkeypatch.setattr("discrepancy.mean_embeddings.robust_means.SORTED_BYTES", 3 * 8 * 100)
    torch.testing.assert_close(mean_of(D, points), expected)


def test_nothing_is_trimmed_at_share_zero_and_everything_but_the_median_near_a_half():
    points, nu = hundred()[:99], Measure(hundred(1)[:M])
    torch.testing.assert_close(TrimmedMean(of=MMD(), share=0.0)(Measure(points), nu), MMD()(Measure(points), nu))
    torch.testing.assert_close(mean_of(TrimmedMean(of=MMD(), share=0.4999), points), points.median(0).values)


# What is refused


@pytest.mark.parametrize(
    "of",
    [
        MMD(estimator="u"),
        MMD(kernel=Gaussian(lengthscale=1.0)),
        MMD(kernel=Polynomial()),
        JointMMD(estimator="u"),
        EnergyDistance(),
        CharacteristicFunction(learned=True),
        Moments(orders=(1, 2)),
        Coral(),
        Quantiles(),
        Joint(of=EnergyDistance()),
        MedianOfMeans(of=MMD()),
    ],
    ids=lambda of: of.kind,
)
def test_what_does_not_compare_means_of_a_statistic_is_refused(of: Discrepancy):
    for kind in (MedianOfMeans, TrimmedMean):
        with pytest.raises(InvalidInput, match=rf"'of' must compare the means of .*, and '{of.kind}' .*; use mmd"):
            kind(of=of)
    with pytest.raises(Unsupported, match="ask 'has_statistic' first"):
        Quantiles().statistics(Measure(hundred()).as_groups(), None)


def test_fields_out_of_range_are_refused():
    for blocks in (0, 2):
        with pytest.raises(InvalidInput, match=f"'blocks' must be at least 3, got {blocks}"):
            MedianOfMeans(of=MMD(), blocks=blocks)
    for share in (-0.1, 0.5, math.nan):
        with pytest.raises(InvalidInput, match=rf"'share' must be >= 0 and < 0.5, got {share}"):
            TrimmedMean(of=MMD(), share=share)


def test_merging_trimmed_means_names_the_kind_that_merges():
    D = TrimmedMean(of=MMD())
    summary = D.summarise(Measure(hundred()))
    with pytest.raises(Unsupported, match=r"'trimmed_mean' cannot be merged, .* or use 'median_of_means'"):
        D.merge(summary, summary)
    assert not Joint(of=D).merges


# What belongs to the discrepancy inside


def test_constants_and_labels_are_those_of_the_discrepancy_inside():
    sample = Measure(hundred(), labels=torch.arange(100) % 3)
    for kind in (MedianOfMeans, TrimmedMean):
        ruled = kind(of=CharacteristicFunction(lengthscale=Median()))
        assert not ruled.resolved
        assert ruled.resolve(sample).of == ruled.of.resolve(sample)
        assert kind(of=JointMMD()).labelled
        assert not kind(of=MMD()).labelled
        assert kind(of=MMD()).bound is None


def test_labels_joined_to_points():
    labels = torch.arange(N) % 3
    mu, nu = Measure(hundred()[:N], labels=labels), Measure(hundred(1)[:M], labels=labels[:M])
    joined = [
        Measure(torch.cat([side.tensors[""], torch.eye(3).double()[side.labels]], 1), side.weights)  # pyright: ignore
        for side in (mu, nu)
    ]
    for kind in (MedianOfMeans, TrimmedMean):
        expected = kind(of=MMD())(joined[0], joined[1])
        torch.testing.assert_close(kind(of=Joint(of=MMD()))(mu, nu), expected)
        torch.testing.assert_close(Joint(of=kind(of=MMD()))(mu, nu), expected)
