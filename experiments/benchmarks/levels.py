"""Whether what `condense compare` says of its uncertainty holds: how often tests reject where nothing differs, and how often
intervals contain the distance of the population.

    python -m experiments.benchmarks.levels [KIND ...] [--repetitions 200] [--markdown FILE]

Tests: two samples of one population, Student's t with 3 degrees of freedom in 64 features, dealt out 19 times in units of
both; a test at 5 % rejects in 5 % of the repetitions. Intervals: a fixed set of m points, and n real points drawn anew from a
population of 4,000 points in three clusters of unequal spread; an interval of 95 % contains the distance between population
and set in 95 %. That distance is the estimate from all 4,000 points. Data-dependent constants are those of the population.
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Discrepancy
from discrepancy.embeddings import Identity
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.measure import Measure
from discrepancy.parts import FAMILIES
from experiments.compare.estimates import Bound
from experiments.compare.permutation import p_value
from experiments.compare.request import PRESETS
from experiments.compare.sides import Side
from experiments.compare.two_samples import two_samples
from experiments.config import build
from experiments.report import Column, Report, Section, Table, as_markdown, as_text
from experiments.report.progress import shown
from experiments.report.record import fixed
from objectives.data.labels import Labels
from objectives.data.units import Normalisation
from objectives.engine.runtime import Runtime
from objectives.rng import rng

__all__ = ["INTERVALS", "TESTS", "coverage", "kinds", "rejected"]

TESTS = ((20, 20), (24, 15), (20, 300), (100, 60))
"""Points of both samples."""

INTERVALS = ((20, 20), (20, 300), (100, 20), (300, 20), (300, 300))
"""Real points, and points of the set."""

DEALS = 19
SPLITS = 25
POPULATION = 4000
CLASSES = ("a", "b", "c")

SETTINGS = {
    "mean": PRESETS["mean"],
    "mmd": PRESETS["mmd"],
    "joint": {"of": PRESETS["mmd"]},
    "measure_of_classes": {"of": "moments"},
}
"""Of kinds that are not measured with their defaults."""


def kinds() -> dict[str, Discrepancy]:
    """Every kind, and the difference of means."""
    members = FAMILIES["discrepancy"].members
    return {name: build(Discrepancy, {"kind": name, **SETTINGS.get(name, {})}) for name in ("mean", *sorted(members))}


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


def rejected(discrepancy: Discrepancy, sizes: tuple[int, int], repetitions: int) -> float:
    """How often the test at 5 % rejects samples of these sizes from one population."""
    found = 0
    for repetition in range(repetitions):
        generator = rng(repetition, "samples", *sizes)
        points = heavy(sum(sizes), generator)
        labels = Labels("hard", torch.randint(len(CLASSES), (sum(sizes),), generator=generator))
        both = Side("both", points, labels, None, CLASSES, Normalisation.measured(points[: sizes[0]]), None, True)
        rows = torch.arange(sum(sizes)).split(list(sizes))
        samples = two_samples((both, both), (rows[0], rows[1]), Identity(), None, Runtime(seed=0))
        found += p_value(discrepancy, *samples, DEALS, rng(repetition, "deals")) <= 0.05
    return found / repetitions


def coverage(discrepancy: Discrepancy, sizes: tuple[int, int], repetitions: int) -> float | None:
    """How often the interval of 95 % contains the distance of the population; None where there is no interval.

    Raises:
        InvalidInput: if the discrepancy has no value at these sizes.
    """
    n, m = sizes
    points, labels = clusters(POPULATION, rng(0, "population"))
    population = _measure(discrepancy, points, labels)
    some = _measure(discrepancy, *clusters(m, rng(0, "set", m)))
    resolved = discrepancy.resolve(population)
    bound = Bound(resolved, resolved.draw(rng(0, "draws"), tuple(points.shape[1:])), SPLITS)
    truth = None
    inside = 0
    for repetition in range(repetitions):
        rows = torch.randperm(POPULATION, generator=rng(repetition, "real", n))[:n]
        real = _measure(discrepancy, points[rows], labels[rows])
        measured = bound.measured(real, [some], repetition, "all", yardstick=False)
        interval = None if measured.values[0] is None else measured.values[0].interval(0.95)
        if measured.values[0] is None:
            raise InvalidInput(measured.reason or "there is no value")
        if interval is None:
            return None
        if truth is None:
            bound_of_all = Bound(resolved, bound.draws, 4)
            whole = bound_of_all.measured(population, [some], 0, "all", yardstick=False).values[0]
            assert whole is not None
            truth = whole.estimate
        inside += interval.low <= truth <= interval.high
    return inside / repetitions


def _measure(discrepancy: Discrepancy, points: Tensor, labels: Tensor) -> Measure:
    return Measure(points, torch.ones(len(points)), labels if discrepancy.labelled else None)


def _rows(wanted: Sequence[str], repetitions: int) -> Iterator[dict[str, Any]]:
    discrepancies = kinds()
    jobs = [(name, what, sizes) for name in wanted for what in (rejected, coverage) for sizes in SIZES[what.__name__]]
    with shown("simulating", len(jobs)) as advance:
        for name in wanted:
            row: dict[str, Any] = {"kind": name}
            for done, (kind, what, sizes) in enumerate(jobs):
                if kind == name:
                    advance(done, f"{name} {sizes}")
                    row[f"{what.__name__} {sizes[0]}, {sizes[1]}"] = _tried(
                        what, discrepancies[name], sizes, repetitions
                    )
            yield row


SIZES = {"rejected": TESTS, "coverage": INTERVALS}


def _tried(what: Any, discrepancy: Discrepancy, sizes: tuple[int, int], repetitions: int) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        try:
            found = what(discrepancy, sizes, repetitions)
        except InvalidInput:
            return None
    return None if found is None else 100 * found


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.levels")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="all without")
    parser.add_argument("--repetitions", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table here")
    options = parser.parse_args()
    rows = list(_rows(options.kinds or list(kinds()), options.repetitions))
    columns = tuple(Column(name, fixed(0), align="right") if name != "kind" else Column(name) for name in rows[0])
    table = Table(columns=columns, rows=tuple(tuple(row.values()) for row in rows))
    report = Report(
        title="Levels of tests and intervals, in %", sections=(Section(parts=(table,)),), data={"rows": rows}
    )
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(report), encoding="utf-8")
    print(as_text(report))


if __name__ == "__main__":
    main()
