"""One discrepancy between the real examples and every set, in one view. For every set without a value there is a reason."""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from discrepancy.discrepancy import Discrepancy
from discrepancy.errors import DiscrepancyError, NumericalWarning, PerformanceWarning
from experiments.studies.views import Level, Sides
from objectives.rng import rng
from objectives.terms.features import moved

__all__ = ["Measured", "measured"]


@dataclass(frozen=True)
class Measured:
    """The value of each set, the mean over draws, classes and (added up) blocks; None where there is none, and why."""

    values: dict[str, float | None]
    reasons: dict[str, str]
    notes: tuple[str, ...]
    resolved: dict[str, Any]
    seconds: float


def measured(
    discrepancy: Discrepancy, draws: Sequence[Sides], level: Level, *, names: Sequence[str], seed: int
) -> Measured:
    """The discrepancy of the named sets in these draws of a view, with each real side summarised once.

    Args:
        level: what is compared; values of classes are averaged.
        seed: of the discrepancy's own random parts, new for each draw.
    """
    started = time.perf_counter()
    notes: dict[str, None] = {}
    totals = dict.fromkeys(names, 0.0)
    reasons: dict[str, str] = {}
    found: dict[str, Discrepancy] = {}
    with _noted(notes):
        try:
            found = {block: discrepancy.resolve(sample) for block, sample in draws[0].sample(level).blocks()}
            for number, sides in enumerate(draws):
                _add(found, sides, level, (seed, number), totals, reasons)
        except _REFUSALS as error:
            reasons |= {name: _sentence(error) for name in totals if name not in reasons}
    for name, total in totals.items():
        if not math.isfinite(total):
            reasons.setdefault(name, f"the value is {total}")
    return Measured(
        values={name: None if name in reasons else total / len(draws) for name, total in totals.items()},
        reasons=reasons,
        notes=tuple(notes),
        resolved={block: part.describe() for block, part in found.items()},
        seconds=time.perf_counter() - started,
    )


_REFUSALS = (DiscrepancyError, torch.linalg.LinAlgError)  # pyright: ignore[reportPrivateImportUsage]
"""What a discrepancy raises where it has no value; all else is a mistake of ours, and stops the study."""


def _add(
    found: dict[str, Discrepancy],
    sides: Sides,
    level: Level,
    key: tuple[int, int],
    totals: dict[str, float],
    reasons: dict[str, str],
) -> None:
    """Add the values of one draw to the totals."""
    real, sets = sides.both(level)
    synthetic = {name: dict(sets[name].blocks()) for name in totals}
    for block, part in real.blocks():
        own, points = found[block], part.tensors[""]
        random = moved(own.draw(rng(key[0], "discrepancy", block, key[1]), tuple(points.shape[2:])), points.device)
        summary = own.summarise(part, random)
        for name, blocks in synthetic.items():
            if name in reasons:
                continue
            try:
                sharpened = own.sharpened(summary, blocks[block], random)
                totals[name] += own.compare(summary, blocks[block], sharpened).double().mean().item()
            except _REFUSALS as error:
                reasons[name] = _sentence(error)


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextmanager
def _noted(notes: dict[str, None]) -> Iterator[None]:
    """Keep the library's own warnings as notes, each once; others are passed on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, NumericalWarning | PerformanceWarning):
            notes.setdefault(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
