"""Whether what `condense compare` says of its uncertainty holds: how often tests reject where nothing differs, and how often
intervals contain the distance of the population.

    python -m experiments.benchmarks.levels [KIND ...] [--repetitions 200] [--seconds 2] [--markdown FILE]

Tests: two samples of one population, Student's t with 3 degrees of freedom in 64 features, with 19 random assignments, in units
of both; a test at 5 % rejects in 5 % of the repetitions. Intervals: a fixed set of m points, and n real points drawn anew, with
replacement, from a population of 2,000 points in three clusters of unequal spread; an interval of 95 % contains the distance
between population and set in 95 %. Data-dependent constants are those of the population. Figures stand with their standard
error. A cell has fewer repetitions than were asked for where they take more processor time than the seconds.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Discrepancy
from discrepancy.embeddings import Identity
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.measure import Measure
from experiments.compare.estimates import Bound
from experiments.compare.halves import Interval
from experiments.compare.permutation import p_value
from experiments.compare.request import PRESETS
from experiments.compare.sides import Side
from experiments.compare.two_samples import two_samples
from experiments.config import build
from experiments.config.hints import kinds_of
from experiments.report import Column, Report, Section, Table, as_markdown, as_text
from experiments.report.progress import shown
from objectives.data.labels import Labels
from objectives.data.units import Normalisation
from objectives.engine.runtime import Runtime
from objectives.rng import rng

__all__ = ["INTERVALS", "TESTS", "Share", "coverage", "kinds", "rejected"]

TESTS = ((20, 20), (24, 15), (20, 300), (100, 60))
"""Points of both samples."""

INTERVALS = ((20, 20), (20, 300), (100, 20), (300, 20), (300, 300))
"""Real points, and points of the set."""

DEALS = 19
LEAST = 5
"""Repetitions, whatever they cost."""
SPLITS = 25
POPULATION = 2000
CLASSES = ("a", "b", "c")

SETTINGS = {
    "mean": PRESETS["mean"],
    "mmd": PRESETS["mmd"],
    "joint": {"of": PRESETS["mmd"]},
    "measure_of_classes": {"of": "moments"},
    "median_of_means": {"of": "mmd"},
    "trimmed_mean": {"of": "mmd"},
}
"""Of kinds that are not measured with their defaults."""


def kinds() -> dict[str, Discrepancy]:
    """Every kind, and the difference of means."""
    return {
        name: build(Discrepancy, {"kind": name, **SETTINGS.get(name, {})})
        for name in ("mean", *sorted(kinds_of(Discrepancy)))
    }


def heavy(n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
    """Student's t with 3 degrees of freedom in 64 features."""
    normal = torch.randn(n, 64, generator=generator)
    return normal / torch.randn(n, 3, generator=generator).square().mean(1, keepdim=True).sqrt()


def clusters(n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """Three clusters in 5 features, each wider than the one before, with their labels."""
    centres = 2 * torch.randn(len(CLASSES), 5, generator=rng(0, "centres"))
    numbers = torch.randint(len(CLASSES), (n,), generator=generator)
    points = torch.randn(n, 5, generator=generator) * (1 + 0.5 * numbers[:, None]) + centres[numbers]
    return points, torch.nn.functional.one_hot(numbers, len(CLASSES)).float()


@dataclass(frozen=True)
class Share:
    """How many of the repetitions."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of

    def __str__(self) -> str:
        error = math.sqrt(max(self.value * (1 - self.value), 1 / self.of) / self.of)
        return f"{100 * self.value:.0f} ± {100 * error:.0f}"


def rejected(discrepancy: Discrepancy, sizes: tuple[int, int], repetitions: int, seconds: float = math.inf) -> Share:
    """How often the test at 5 % rejects samples of these sizes from one population."""

    def one(repetition: int) -> bool:
        generator = rng(repetition, "samples", *sizes)
        points = heavy(sum(sizes), generator)
        labels = Labels("hard", torch.randint(len(CLASSES), (sum(sizes),), generator=generator))
        both = Side("both", points, labels, None, CLASSES, Normalisation.measured(points[: sizes[0]]), None, True)
        rows = torch.arange(sum(sizes)).split(list(sizes))
        samples = two_samples((both, both), (rows[0], rows[1]), Identity(), None, Runtime(seed=0))
        return p_value(discrepancy, *samples, DEALS, rng(repetition, "deals")) <= 0.05

    return _share(one, repetitions, seconds)


def coverage(
    discrepancy: Discrepancy, sizes: tuple[int, int], repetitions: int, seconds: float = math.inf
) -> Share | None:
    """How often the interval of 95 % contains the distance of the population; None where there is no interval.

    Raises:
        InvalidInput: if the discrepancy has no value at these sizes.
    """
    n, m = sizes
    points, labels = clusters(POPULATION, rng(0, "population"))
    population = _measure(discrepancy, points, labels)
    some = _measure(discrepancy, *clusters(m, rng(0, "set", m)))
    resolved = discrepancy.resolve(population)
    draws = resolved.draw(rng(0, "draws"), tuple(points.shape[1:]))
    bound = Bound(resolved, draws, SPLITS)

    def interval(repetition: int) -> Interval | None:
        rows = torch.randint(POPULATION, (n,), generator=rng(repetition, "real", n))
        measured = bound.measured(
            _measure(discrepancy, points[rows], labels[rows]), [some], repetition, "all", yardstick=False
        )
        if measured.values[0] is None:
            raise InvalidInput(measured.reason or "there is no value")
        return measured.values[0].interval(0.95)

    if interval(0) is None:
        return None
    truth = Bound(resolved.v_statistic(), draws, SPLITS).value(bound.summary(population), some)

    def one(repetition: int) -> bool:
        found = interval(repetition)
        return found is not None and found.low <= truth <= found.high

    return _share(one, repetitions, seconds)


def _share(one: Callable[[int], bool], repetitions: int, seconds: float) -> Share:
    begun, count, done = time.process_time(), 0, 0
    while done < repetitions and (done < LEAST or time.process_time() - begun < seconds):
        count, done = count + one(done), done + 1
    return Share(count, done)


def _measure(discrepancy: Discrepancy, points: Tensor, labels: Tensor) -> Measure:
    return Measure(points, torch.ones(len(points)), labels if discrepancy.labelled else None)


def _rows(wanted: Sequence[str], repetitions: int, seconds: float) -> Iterator[dict[str, str]]:
    discrepancies = kinds()
    cells = [(rejected, sizes) for sizes in TESTS] + [(coverage, sizes) for sizes in INTERVALS]
    with shown("simulating", len(wanted) * len(cells)) as advance:
        for number, name in enumerate(wanted):
            row = {"kind": name}
            for place, (what, sizes) in enumerate(cells):
                advance(number * len(cells) + place, f"{name} {sizes}")
                row[f"{what.__name__} {sizes[0]}, {sizes[1]}"] = _tried(
                    what, discrepancies[name], sizes, repetitions, seconds
                )
            yield row


def _tried(what: Any, discrepancy: Discrepancy, *arguments: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        try:
            found = what(discrepancy, *arguments)
        except InvalidInput:
            return "no value"
    return "no interval" if found is None else str(found)


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.levels")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="all without")
    parser.add_argument("--repetitions", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for each cell; no limit by default")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table here")
    options = parser.parse_args()
    rows: list[dict[str, str]] = []
    for row in _rows(options.kinds or list(kinds()), options.repetitions, options.seconds):
        rows.append(row)
        if options.markdown is not None:
            options.markdown.write_text(as_markdown(_report(rows)), encoding="utf-8")
    print(as_text(_report(rows)))


def _report(rows: Sequence[Mapping[str, str]]) -> Report:
    columns = tuple(Column(name, align="left" if name == "kind" else "right") for name in rows[0])
    table = Table(columns=columns, rows=tuple(tuple(row.values()) for row in rows))
    return Report(title="Levels of tests and intervals, in %", sections=(Section(parts=(table,)),), data={"rows": rows})


if __name__ == "__main__":
    main()
