"""How long a sweep will take, and whether every cell can be run: data are read once, and every run is set up without a step."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from discrepancy.errors import DiscrepancyError
from experiments.caching import cache_of
from experiments.config import ConfigError, Mistake
from experiments.device import chosen_device
from experiments.evaluate import Protocol, whole_budget
from experiments.plan import COMPILED_SPEEDUP, COMPILING_SECONDS, Plan, planned
from experiments.sweeps.cells import Cell
from objectives.data.labelled import LabelledData
from objectives.engine.compile import WORTHWHILE_SECONDS, eager_seconds

__all__ = ["CellPlan", "Estimate", "estimated", "evaluation_seconds"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds that a cell will take, good to a factor of about two, and the memory of its run."""

    condensing: float = 0.0
    evaluating: float = 0.0
    memory_bytes: int = 0

    @property
    def seconds(self) -> float:
        return self.condensing + self.evaluating


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """What is to be done for a cell.

    Args:
        cell: its key.
        state: ``done``, ``failed``, ``begun`` (its run folder is there) or ``open``.
    """

    cell: str
    state: Literal["done", "failed", "begun", "open"]
    estimate: Estimate

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data. The key ``judging`` holds the seconds of the evaluation; other programs read it."""
        return {
            "cell": self.cell,
            "state": self.state,
            "condensing": self.estimate.condensing,
            "judging": self.estimate.evaluating,
            "memory_bytes": self.estimate.memory_bytes,
            "seconds": self.estimate.seconds,
        }


def estimated(
    cells: Sequence[Cell], made: Collection[str] = (), on_cell: Callable[[int], None] | None = None
) -> dict[str, Estimate]:
    """The estimate of every cell, by key; the sets of ``made`` are there already.

    Raises:
        ConfigError: with everything that cannot be run, and all that is wrong with the data.
    """
    found: dict[str, Estimate] = {}
    mistakes: dict[str, list[str]] = {}
    plans: dict[str, Plan] = {}  # of a set, which is condensed once, for whichever of its cells comes first
    done = 0
    for source in dict.fromkeys(cell.source for cell in cells):
        of_source = [cell for cell in cells if cell.source == source]
        where = "data"
        try:
            data = source.load()
            where = "robust"
            for robust in dict.fromkeys(cell.robust for cell in of_source if cell.robust is not None):
                robust.suite(data)
        except DiscrepancyError as error:
            mistakes[f"{where}.{of_source[0].data}: {error}"] = []
            continue
        for cell in of_source:
            try:
                found[cell.key] = _estimate(cell, data, plans, made)
            except DiscrepancyError as error:
                mistakes.setdefault(f"{cell.network or cell.name}: {error}", []).append(f"{cell.data}/{cell.per_class}")
            done += 1
            if on_cell is not None:
                on_cell(done)
        del data
    if mistakes:
        raise ConfigError([Mistake("", _with_places(text, places)) for text, places in mistakes.items()])
    return found


def _with_places(text: str, places: Iterable[Any]) -> str:
    distinct = list(dict.fromkeys(places))
    return f"{text} (for {', '.join(distinct)})" if distinct else text


def _estimate(cell: Cell, data: LabelledData, plans: dict[str, Plan], made: Collection[str]) -> Estimate:
    data.train.require(cell.per_class, f"a sweep at {cell.per_class} a class")
    examples, protocol = cell.per_class * data.count, cell.protocol
    plan, there = plans.get(cell.base), cell.base in plans or cell.base in made
    if plan is None and cell.experiment is not None:
        plan = plans[cell.base] = planned(cell.experiment, data, cache_of(cell.experiment))
    if plan is not None:
        examples = plan.examples
    elif cell.name == "whole":
        protocol, examples = whole_budget(examples, data, protocol), len(data.train)
    evaluating = evaluation_seconds(protocol, data, examples, cell.device)
    if cell.robust is not None:
        suite = cell.robust.suite(data)
        trained = cell.robust.protocols(protocol, suite).values()
        evaluating = sum(evaluation_seconds(own, data, examples, cell.device, suite.passes) for own in trained)
    if plan is None or there:
        return Estimate(evaluating=evaluating)
    return Estimate(condensing=plan.seconds, evaluating=evaluating, memory_bytes=plan.memory_bytes)


def evaluation_seconds(protocol: Protocol, data: LabelledData, examples: int, device: str, attacking: int = 0) -> float:
    """The seconds of training the networks of a protocol on this number of examples, and of testing them. ``attacking`` counts
    forward passes of each network under attacks that never succeed; half of them are taken, as most attacks do.

    Raises:
        InvalidInput: if the network does not suit the data.
    """
    tests = 0 if data.test is None else len(data.test)
    passes = protocol.networks * (protocol.passes(examples, tests) + attacking // 2)
    work = protocol.network.multiplications(data.shape, data.count) * passes
    seconds = eager_seconds(work, chosen_device(device))
    return seconds / COMPILED_SPEEDUP + COMPILING_SECONDS if seconds >= WORTHWHILE_SECONDS else seconds
