"""Fair timings: alternating, after a warm-up, medians."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

__all__ = ["alternating", "beside", "turns"]


def turns(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds of every action in each of so many rounds in turn, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for count in range(rounds + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if count:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def alternating(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of every action over :func:`turns`."""
    return {name: median(values) for name, values in turns(actions, rounds).items()}


def beside(
    actions: Mapping[str, Callable[[], object]], rounds: int, work: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """A row for each action: median seconds, and how many times faster than the first one it is in the same round.

    The ratio is the median of those of the rounds, with the least and the largest as its range; for actions that do different
    amounts of ``work`` it is that of the seconds for a unit of work.
    """
    seconds = turns(actions, rounds)
    first, *_ = seconds
    rows = []
    for name, values in seconds.items():
        share = 1.0 if work is None else work[name] / work[first]
        ratios = [share * one / other for one, other in zip(seconds[first], values, strict=True)]
        row: dict[str, Any] = {"what": name, "seconds": median(values), "ratio": median(ratios)}
        rows.append(row if name == first else row | {"range": (min(ratios), max(ratios))})
    return rows
