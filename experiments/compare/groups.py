"""Which data sets fit each other, and which of their points are compared together: those of a class, or all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from experiments.compare.answer import ALL, class_group
from experiments.compare.sides import Side
from experiments.config.mistakes import suggestion

__all__ = ["Group", "check", "groups_of", "whole"]


@dataclass(frozen=True, eq=False)
class Group:
    """The points of the real side, and those of every set with their weights."""

    name: str
    real: Tensor
    sets: tuple[tuple[Tensor, Tensor], ...]


def whole(real: Side, sets: Sequence[Side]) -> Group:
    """All the points together."""
    return Group(ALL, torch.arange(len(real)), tuple(side.members(None) for side in sets))


def groups_of(real: Side, sets: Sequence[Side], by: str) -> list[Group]:
    """Every class, all points, or the one after the other (``both``)."""
    groups = []
    if by != "none":
        labels = real.labels.numbers
        for number, name in enumerate(real.classes):
            rows = (labels == number).nonzero()[:, 0]
            groups.append(Group(class_group(name), rows, tuple(side.members(name) for side in sets)))
    return groups if by == "class" else [*groups, whole(real, sets)]


def check(real: Side, sets: Sequence[Side], by: str) -> None:
    """Refuse data sets that do not fit the real one.

    Raises:
        InvalidInput: on other shapes, scales or classes, on a real side with weights, and on missing labels where there are to
            be classes.
    """
    if real.weights is not None and not bool((real.weights == real.weights[0]).all()):
        raise InvalidInput(
            f"'{real.name}' comes first, so it is the real side, whose examples have equal weights; put it behind"
        )
    for side in sets:
        if side.shape != real.shape:
            raise InvalidInput(
                f"examples of '{side.name}' have shape {side.shape}, those of '{real.name}' {real.shape}; compare sets of "
                "one shape"
            )
        if side.limits != real.limits and None not in (side.limits, real.limits):
            raise InvalidInput(
                f"values of '{side.name}' lie in {_range(side)}, those of '{real.name}' in {_range(real)}; bring them to one "
                "scale"
            )
    for side in sets:
        if side.labels.given and real.labels.given and bool(side.classes) != bool(real.classes):
            have = [f"'{item.name}' has {'classes' if item.classes else 'targets'}" for item in (real, side)]
            raise InvalidInput(f"{have[0]}, and {have[1]}; compare sets of one sort")
        if side.target_units is not None and real.target_units is not None:
            columns = [len(found.target_units.mean) for found in (side, real) if found.target_units is not None]
            if columns[0] != columns[1]:
                raise InvalidInput(f"'{side.name}' has {columns[0]} targets an example, '{real.name}' {columns[1]}")
    if by == "none":
        return
    for side in (real, *sets):
        if not side.classes and by == "class":
            have = "no labels, so it has no classes" if not side.labels.given else "targets and no classes"
            raise InvalidInput(f"'{side.name}' has {have}; compare without them (--by none)")
        foreign = [name for name in side.classes if name not in real.classes]
        if foreign and side.labels.given and real.labels.given:
            raise InvalidInput(
                f"'{side.name}' has the class '{foreign[0]}'{suggestion(foreign[0], real.classes)}, which '{real.name}' has "
                "not; name its classes alike, or compare without them (--by none)"
            )


def _range(side: Side) -> str:
    low, high = side.limits or (math.nan, math.nan)
    return f"{low:g} .. {high:g}"
