"""Sizes of samples, which instances a law is for, and measures with some of their parts replaced."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from torch import Tensor

from discrepancy import Discrepancy, Measure
from discrepancy.discrepancy import Tag

__all__ = [
    "M",
    "N",
    "applies",
    "claiming",
    "claims",
    "one_a_class",
    "rows",
    "under",
    "where",
    "with_points",
    "with_weights",
]

N, M = 7, 5


def claims(discrepancy: Discrepancy) -> frozenset[Tag]:
    """The tags of an instance; without any it fails."""
    tags = discrepancy.tags
    assert tags, f"{discrepancy} claims no law; give it tags"
    assert tags <= set(get_args(Tag)), f"unknown tags {sorted(tags - set(get_args(Tag)))}"
    return tags


def where(condition: Callable[[Discrepancy], bool]) -> Callable[[Any], Any]:
    """A law of the instances for which the condition holds."""

    def mark(test: Any) -> Any:
        test.condition = condition
        return test

    return mark


def claiming(tag: Tag) -> Callable[[Any], Any]:
    """A law of the instances that claim it."""
    return where(lambda discrepancy: tag in claims(discrepancy))


def one_a_class(test: Any) -> Any:
    """A law of code that all instances of a class share; two are enough where some keep points and others means."""
    test.one_a_class = True
    return test


def applies(test: Any, discrepancy: Discrepancy) -> bool:
    return getattr(test, "condition", lambda _: True)(discrepancy)


def under(test: Any, instances: Mapping[str, Discrepancy]) -> dict[str, Discrepancy]:
    """The instances for which a test of the contract runs, by name."""
    chosen = {name: instance for name, instance in instances.items() if applies(test, instance)}
    if getattr(test, "one_a_class", False):
        first: dict[Any, str] = {}
        for name, instance in chosen.items():
            first.setdefault((type(instance), instance.mergeable), name)
        chosen = {name: chosen[name] for name in first.values()}
    return chosen


def with_points(side: Measure, points: Tensor) -> Measure:
    return Measure(points, side.weights, side.labels)


def with_weights(side: Measure, weights: Tensor) -> Measure:
    return Measure(side.points, weights, side.labels)


def rows(side: Measure, index: Tensor) -> Measure:
    return Measure(side.points[index], side.weights[index], None if side.labels is None else side.labels[index])  # pyright: ignore
