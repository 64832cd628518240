"""What was measured on every block and network, as rows: one for each set and group, and one for the mean over the classes."""

import math
from collections.abc import Mapping, Sequence

from experiments.compare.answer import ALL, CLASSES, Row
from experiments.compare.estimates import Measured
from experiments.compare.groups import Group
from experiments.compare.halves import Halved
from experiments.compare.worst import WorstCase
from experiments.compare.yardstick import Curve, PowerLaw, Yardstick

__all__ = ["rows_of"]

Found = tuple[Halved | None, Yardstick | None]


def rows_of(
    name: str,
    sets: Sequence[str],
    groups: Sequence[Group],
    measured: Mapping[str, Sequence[Measured]],
    p: Mapping[tuple[str, int], float],
    worst: Mapping[tuple[str, int], Sequence[WorstCase]],
    networks: int,
    confidence: float,
) -> list[Row]:
    """The rows of the discrepancy ``name``, by set; ``measured`` by group, ``p`` and ``worst`` (of each network) by group
    and number of the set."""
    rows = []
    for i, side in enumerate(sets):
        found = {group.name: _averaged(measured[group.name], i, networks) for group in groups}
        cases = {group.name: _worst(worst.get((group.name, i), ()), networks) for group in groups}
        sizes = {group.name: (len(group.real), len(group.sets[i][0])) for group in groups}
        classes = [group.name for group in groups if group.name != ALL]
        order = list(classes)
        if classes:
            found[CLASSES] = _mean([found[group] for group in classes])
            sizes[CLASSES] = (sum(sizes[group][0] for group in classes), sum(sizes[group][1] for group in classes))
            cases[CLASSES] = _mean_worst([cases[group] for group in classes])
            order.append(CLASSES)
        order += [group.name for group in groups if group.name == ALL]
        rows += [
            _row(name, side, group, sizes[group], found[group], confidence, p.get((group, i)), cases[group])
            for group in order
        ]
    return rows


def _row(
    name: str,
    side: str,
    group: str,
    sizes: tuple[int, int],
    found: Found,
    confidence: float,
    p: float | None,
    worst: WorstCase | None,
) -> Row:
    value, yardstick = found
    if value is None:
        return Row(name, side, group, *sizes)
    interval = value.interval(confidence)
    return Row(
        name,
        side,
        group,
        *sizes,
        value.value,
        value.estimate,
        value.error if interval else None,
        interval,
        yardstick.size(value.estimate, interval) if yardstick else None,
        yardstick,
        p,
        worst,
    )


def _averaged(parts: Sequence[Measured], i: int, networks: int) -> Found:
    """Summed over the blocks, and averaged over the networks; nothing where a part of it is missing."""
    values = [part.values[i] for part in parts]
    known = [value for value in values if value is not None and math.isfinite(value.value)]
    whole = Halved.total(known, 1 / networks) if len(known) == len(values) else None
    return whole, _total([part.yardstick for part in parts], 1 / networks)


def _worst(parts: Sequence[WorstCase], networks: int) -> WorstCase | None:
    """Averaged over the networks; None where one of them is missing."""
    return WorstCase.mean(parts, parts[0].real) if parts and len(parts) == networks else None


def _mean_worst(classes: Sequence[WorstCase | None]) -> WorstCase | None:
    known = [case for case in classes if case is not None]
    return WorstCase.mean(known, sum(case.real for case in known)) if len(known) == len(classes) else None


def _mean(classes: Sequence[Found]) -> Found:
    values = [value for value, _ in classes if value is not None]
    if len(values) < len(classes):
        return None, None
    return Halved.total(values, 1 / len(values)), _total([yardstick for _, yardstick in classes], 1 / len(values))


def _total(parts: Sequence[Yardstick | None], scale: float) -> Yardstick | None:
    """The sum of several yardsticks of one sort, times ``scale``; None where one is missing."""
    laws = [part for part in parts if isinstance(part, PowerLaw)]
    if len(laws) == len(parts):
        return PowerLaw.total(laws, scale)
    curves = [part for part in parts if isinstance(part, Curve)]
    return Curve.total(curves, scale) if len(curves) == len(parts) else None
