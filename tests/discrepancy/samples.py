"""Sizes of samples, what a discrepancy claims, and measures with some of their parts replaced."""

from typing import get_args

import pytest
from torch import Tensor

from discrepancy import Discrepancy, Measure
from discrepancy.discrepancy import Tag

__all__ = ["M", "N", "claims", "needs", "rows", "with_points", "with_weights"]

N, M = 7, 5


def claims(discrepancy: Discrepancy) -> frozenset[Tag]:
    """The tags of an instance; without any it fails."""
    tags = discrepancy.tags
    assert tags, f"{discrepancy} claims no law; give it tags"
    assert tags <= set(get_args(Tag)), f"unknown tags {sorted(tags - set(get_args(Tag)))}"
    return tags


def needs(discrepancy: Discrepancy, tag: Tag) -> None:
    if tag not in claims(discrepancy):
        pytest.skip(f"does not claim '{tag}'")


def with_points(side: Measure, points: Tensor) -> Measure:
    return Measure(points, side.mass_of, side.labels)


def with_weights(side: Measure, weights: Tensor) -> Measure:
    return Measure(side.points, weights, side.labels)


def rows(side: Measure, index: Tensor) -> Measure:
    return Measure(side.points[index], side.mass_of[index], None if side.labels is None else side.labels[index])  # pyright: ignore
