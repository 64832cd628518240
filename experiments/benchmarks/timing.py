"""Fair timings: alternating, after a warm-up, medians."""

import time
from collections.abc import Callable, Mapping
from statistics import median

__all__ = ["alternating"]


def alternating(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of every action over ``rounds`` rounds in turn, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for count in range(rounds + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if count:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}
