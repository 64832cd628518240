"""The cells of a sweep: one for each data set, size, method and number, and the mistakes of all of them in one report."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from discrepancy.errors import DiscrepancyError, InvalidInput
from experiments.config import ConfigError, Mistake, Tree, build, dump, override
from experiments.config.mistakes import join
from experiments.data import Source, source_named
from experiments.evaluate import Protocol
from experiments.experiment import Experiment, configured
from experiments.method import method_tree
from experiments.robust import RobustProtocol
from experiments.sweeps.sweep import CROSS, At, Cross, Portion, Sweep

__all__ = ["Cell", "cells_of", "plain_cell"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One evaluation of the table, and the run before it, unless it is a control or its set is there.

    Args:
        data, per_class, name: where it stands; ``name`` is that of an entry, or of a control.
        number: which of the sets of a method.
        network: of the cross-architecture table; else empty.
        experiment: that makes the set; none for a control.
        robust: how its networks are attacked; None if they are not.
    """

    data: str
    per_class: int
    name: str
    number: int
    network: str
    source: Source
    protocol: Protocol
    experiment: Experiment | None
    seed: int
    device: str
    portion: str
    optional: bool
    robust: RobustProtocol | None = None

    @property
    def base(self) -> str:
        """The key of the cell whose set this one evaluates: its own, except in the cross-architecture table."""
        return f"{self.data}/{self.per_class}/{self.name}/{self.number}"

    @property
    def key(self) -> str:
        return join_key(self.base, self.network)

    def describe(self) -> dict[str, Any]:
        """All that determines its result, as plain data: not the device, and not the folder of the data."""
        experiment = None if self.experiment is None else dump(self.experiment)
        return plain_cell(experiment, dump(self.protocol), None if self.robust is None else dump(self.robust))


def plain_cell(experiment: Tree | None, protocol: Tree, robust: Tree | None = None) -> dict[str, Any]:
    """See :meth:`Cell.describe`."""
    attacked = {} if robust is None else {"robust": robust}
    if experiment is None:
        return {"experiment": None, "protocol": protocol, **attacked}
    kept = {key: value for key, value in experiment.items() if key not in ("device", "compile", "method")}
    data = {key: value for key, value in experiment["data"].items() if key != "root"}
    return {"experiment": {**kept, "data": data}, "protocol": protocol, **attacked}


def join_key(base: str, network: str) -> str:
    return f"{base}/{network}" if network else base


def cells_of(sweep: Sweep) -> list[Cell]:
    """Every cell, those of optional portions too: condensed sets and controls in the order of the file, then those of the
    cross-architecture table.

    Raises:
        ConfigError: with all the mistakes of all the cells.
    """
    return _Cells(sweep).made()


class _Cells:
    """The cells of a sweep, and the mistakes that were found in them."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.mistakes = sweep, dict[str, list[str]]()
        self.cells: dict[str, Cell] = {}

    def made(self) -> list[Cell]:
        sweep = self.sweep
        sources = {
            name: self._attempted("data", "", source_named, item, sweep.root) for name, item in sweep.sources.items()
        }
        protocol = self._attempted("protocol", "", lambda: sweep.evaluation_protocol)
        trees = {
            name: self._attempted(f"methods.{name}", "", method_tree, item.method or name)
            for name, item in sweep.entries.items()
        }
        for name, portion in sweep.portions or (("all", Portion()),):
            for data in portion.data or sweep.sources:
                for size in portion.per_class or sweep.per_class:
                    self._place(name, portion, data, size, sources[data], protocol, trees)
        if sweep.cross is not None and protocol is not None:
            self._cross(sweep.cross, protocol)
        if self.mistakes:
            raise ConfigError([_located(mistake, places) for mistake, places in self.mistakes.items()])
        return list(self.cells.values())

    def _place(
        self,
        name: str,
        portion: Portion,
        data: str,
        size: int,
        source: Source | None,
        protocol: Protocol | None,
        trees: dict[str, Any],
    ) -> None:
        sweep, place = self.sweep, f"{data}/{size}"
        for entry in portion.methods or sweep.entries:
            for number in range(sweep.sets):
                if trees[entry] is None or source is None:
                    continue
                made = self._attempted(
                    f"methods.{entry}", place, self._experiment, entry, trees[entry], data, size, source, number
                )
                if made is not None and protocol is not None:
                    self._add(name, portion.optional, data, size, entry, number, source, protocol, made)
        for control in sweep.controls if portion.controls is None else portion.controls:
            if source is not None and protocol is not None:
                self._add(name, portion.optional, data, size, control, 0, source, protocol, None)

    def _add(
        self,
        portion: str,
        optional: bool,
        data: str,
        size: int,
        name: str,
        number: int,
        source: Source,
        protocol: Protocol,
        experiment: Experiment | None,
        network: str = "",
    ) -> None:
        cell = Cell(
            data=data,
            per_class=size,
            name=name,
            number=number,
            network=network,
            source=source,
            protocol=protocol,
            experiment=experiment,
            seed=self.sweep.seed + number,
            device=self.sweep.device,
            portion=portion,
            optional=optional,
            robust=None if network else self.sweep.robust,
        )
        there = self.cells.get(cell.key)
        if there is None or (there.optional and not optional):
            self.cells[cell.key] = cell

    def _cross(self, cross: Cross, protocol: Protocol) -> None:
        changed = self._attempted("cross", "", lambda: build(Protocol, override(dump(protocol), cross.set)))
        if changed is None:
            return
        chosen = [
            cell
            for cell in list(self.cells.values())
            if cell.data in (cross.data or self.sweep.sources)
            and cell.per_class in (cross.per_class or self.sweep.sizes)
            and cell.name in (cross.methods or self.sweep.entries)
        ]
        places = dict.fromkeys((cell.data, cell.per_class, cell.source) for cell in chosen)
        for name, network in cross.networks:
            under_network = replace(changed, network=network)
            for cell in chosen:
                place = (cell.data, cell.per_class, cell.name, cell.number, cell.source)
                self._add(CROSS, cross.optional, *place, under_network, cell.experiment, name)
            for (data, size, source), control in ((place, item) for place in places for item in cross.controls):
                self._add(CROSS, cross.optional, data, size, control, 0, source, under_network, None, name)

    def _experiment(
        self, entry: str, tree: dict[str, Any], data: str, size: int, source: Source, number: int
    ) -> Experiment:
        sweep, item = self.sweep, self.sweep.entries[entry]
        changes = {
            "data": dump(source, defaults=False),
            "synthetic": {"per_class": size},
            "seed": sweep.seed + number,
            "device": sweep.device,
        }
        places = (data, str(size), f"{data}/{size}")
        assignments = [*sweep.set, *_matching(sweep.at, places)] if item.shared else []
        assignments += [*item.set, *_matching(item.at, places)]
        made = build(Experiment, configured(tree, changes, assignments))
        if made.data != source:
            raise InvalidInput("'data' cannot be changed for a method; all the methods of a sweep share them")
        return made

    def _attempted(self, path: str, place: str, make: Callable[..., Any], *arguments: Any) -> Any:
        """What is made, or None and its mistakes noted."""
        try:
            return make(*arguments)
        except ConfigError as error:
            for mistake in error.mistakes:
                self._note(join(path, mistake.path) if mistake.path else path, mistake.message, place)
        except DiscrepancyError as error:
            self._note(path, str(error), place)
        return None

    def _note(self, path: str, message: str, place: str) -> None:
        places = self.mistakes.setdefault(str(Mistake(path, message)), [])
        if place and place not in places:
            places.append(place)


def _located(mistake: str, places: list[str]) -> Mistake:
    return Mistake("", f"{mistake} (for {', '.join(places)})" if places else mistake)


def _matching(at: At, places: Sequence[str]) -> Iterator[str]:
    """The changes of the places, from the general to the special."""
    for place in places:
        yield from (change for name, changes in at if name == place for change in changes)
