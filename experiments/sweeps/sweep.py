"""A sweep as one frozen value: what a sweep file holds. Each of its cells is a run and an evaluation.

    data: [mnist, cifar10]                    # as --data takes them: names, .npz files, folders of images
    per_class: [10]
    methods:                                  # by name; or {method: my.yaml} under a name of your own
      dm: {set: [solver.steps=500]}           # changes, as --set takes them
      dc: {at: {cifar10: [solver.steps=200], "1": [...], cifar10/10: [...]}}   # where the data or the size are these
      random: {shared: false}                 # without the changes that all the methods have
    set: [context.network.width=32]           # changes of all the methods
    controls: [random, whole]                 # random, herding, whole: those of 'condense evaluate'
    protocol: {name: vico, set: [network.width=32], networks: 3}      # or a name alone
    sets: 1                                   # condensed sets of each method, with the seeds seed, seed + 1, ...
    portions:                                 # stretches of the sweep; without, all methods on all data at all sizes
      first: {per_class: [10]}
      rest: {data: [fashion-mnist], per_class: [1, 10], methods: [dm], optional: true}    # with --all
    cross:                                    # the sets again, under other networks: the cross-architecture table
      networks: {mlp: mlp, vgg: {kind: vgg, width: 16}}
      data: [cifar10]
      set: [epochs=301]                       # changes of the protocol

``condense sweep FILE --dry-run`` says what it will take. Later changes win: the method's file, the sweep's ``set`` and ``at``,
the method's ``set`` and ``at``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from discrepancy.base import named
from discrepancy.errors import DiscrepancyError, InvalidInput
from discrepancy.networks import Network
from experiments.config import ConfigError, Mistake, Tree, build, dump, override
from experiments.config.mistakes import check_name, join, suggestion
from experiments.data import Source, source_named
from experiments.evaluate import CONTROLS, Protocol, protocol_named
from experiments.experiment import Experiment, chosen_device, configured, method_tree

__all__ = ["CROSS", "Cell", "Cross", "Entry", "Judging", "Portion", "Sweep"]

CROSS = "cross"
"""The name of the portion that the cross-architecture table is."""

At = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A method in a sweep.

    Args:
        method: its name, or a configuration file; the name of the entry without.
        set: changes, as ``--set`` takes them.
        at: changes where the data, the size or both (``DATA/SIZE``) have this name.
        shared: whether the changes of the sweep hold for it.
    """

    method: str | None = None
    set: tuple[str, ...] = ()
    at: At = ()
    shared: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", named(self.at))


@dataclass(frozen=True, kw_only=True)
class Judging:
    """A protocol by name or file, and changes of it."""

    name: str = "quick"
    set: tuple[str, ...] = ()
    networks: int | None = None

    @property
    def protocol(self) -> Protocol:
        return protocol_named(self.name, self.set, self.networks)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """A stretch of a sweep; what is left out is all that the sweep names. An optional one runs with ``--all``, or by name."""

    data: tuple[str, ...] = ()
    per_class: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    controls: tuple[str, ...] | None = None
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Cross:
    """The sets of a sweep under other networks.

    Args:
        networks: by name; the network of the protocol is replaced by each.
        data, per_class, methods: which sets; all that are condensed without.
        controls: under the same networks; of as many examples.
        set: changes of the protocol.
    """

    networks: tuple[tuple[str, Network], ...]
    data: tuple[str, ...] = ()
    per_class: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    controls: tuple[str, ...] = ("random",)
    set: tuple[str, ...] = ()
    optional: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", named(self.networks))
        for name, _ in self.networks:
            check_name("networks", name)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One evaluation of the table, and the run before it unless it is a control or a set of another cell.

    Args:
        data, per_class, name: where it stands; ``name`` is that of an entry, or of a control.
        number: which of the sets of a method.
        network: of the cross-architecture table; else empty.
        experiment: that makes the set; none for a control.
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

    @property
    def base(self) -> str:
        """The key of the cell whose set this one judges: itself, but in the cross-architecture table."""
        return f"{self.data}/{self.per_class}/{self.name}/{self.number}"

    @property
    def key(self) -> str:
        return join_key(self.base, self.network)

    @property
    def condenses(self) -> bool:
        return self.experiment is not None and not self.network

    def describe(self) -> dict[str, Any]:
        """All that its result follows from, as plain data; not where it is computed, and where the data lie."""
        return plain_cell(None if self.experiment is None else dump(self.experiment), dump(self.protocol))


def plain_cell(experiment: Tree | None, protocol: Tree) -> dict[str, Any]:
    """See :meth:`Cell.describe`."""
    if experiment is None:
        return {"experiment": None, "protocol": protocol}
    kept = {key: value for key, value in experiment.items() if key not in ("device", "compile", "method")}
    data = {key: value for key, value in experiment["data"].items() if key != "root"}
    return {"experiment": {**kept, "data": data}, "protocol": protocol}


def join_key(base: str, network: str) -> str:
    return f"{base}/{network}" if network else base


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """See the module.

    Args:
        title: of the table.
        root: where torchvision's data lie; see the option of this name.
    """

    methods: tuple[tuple[str, Entry | None], ...]
    data: tuple[str, ...]
    per_class: tuple[int, ...] = (10,)
    title: str = ""
    controls: tuple[str, ...] = ("random",)
    set: tuple[str, ...] = ()
    at: At = ()
    protocol: Judging | str = "quick"
    sets: int = 1
    portions: tuple[tuple[str, Portion], ...] = ()
    cross: Cross | None = None
    seed: int = 0
    device: str = "auto"
    root: str | None = None

    def __post_init__(self) -> None:
        for name in ("methods", "at", "portions"):
            object.__setattr__(self, name, named(getattr(self, name)))
        if len(self.sources) < len(self.data):
            raise InvalidInput(f"'data' names the same data twice, {', '.join(self.data)}; rename a file, or keep one")
        for field, names in (("methods", self.entries), ("data", self.sources), ("portions", dict(self.portions))):
            for name in names:
                check_name(field, name)
        for field in ("methods", "data", "per_class"):
            if not getattr(self, field):
                raise InvalidInput(f"'{field}' is empty; name at least one")
        if self.sets < 1:
            raise InvalidInput(f"'sets' must be at least 1, got {self.sets}")
        chosen_device(self.device)
        if CROSS in dict(self.portions):
            raise InvalidInput(
                f"'portions' has the name '{CROSS}', which is that of the cross-architecture table; rename it"
            )
        self._check_named("controls", self.controls, CONTROLS)
        both = [name for name in self.controls if name in self.entries]
        if both:
            raise InvalidInput(f"'controls' and methods have the name '{both[0]}' in common; keep one of them")
        for name, portion in self.portions:
            self._check_selection(f"portions.{name}", portion)
            self._check_named(f"portions.{name}.controls", portion.controls or (), CONTROLS)
        if self.cross is not None:
            self._check_selection("cross", self.cross)
            self._check_named("cross.controls", self.cross.controls, CONTROLS)
        places = {*self.sources, *map(str, self.sizes)}
        places |= {f"{name}/{size}" for name in self.sources for size in self.sizes}
        for where, at in (("at", self.at), *((f"methods.{name}.at", item.at) for name, item in self.entries.items())):
            self._check_named(where, [name for name, _ in at], sorted(places))

    def _check_selection(self, where: str, selection: Portion | Cross) -> None:
        self._check_named(f"{where}.data", selection.data, self.sources)
        self._check_named(f"{where}.methods", selection.methods, self.entries)
        if any(size < 1 for size in selection.per_class):
            raise InvalidInput(f"'{where}.per_class' must be at least 1, got {list(selection.per_class)}")

    def _check_named(self, where: str, names: Sequence[str], known: Sequence[str] | dict[str, Any]) -> None:
        for name in names:
            if name not in known:
                raise InvalidInput(
                    f"'{where}' names '{name}', which is none of {', '.join(known)}{suggestion(name, known)}"
                )

    @property
    def entries(self) -> dict[str, Entry]:
        """The methods by name."""
        return {name: item or Entry() for name, item in self.methods}

    @property
    def sources(self) -> dict[str, str]:
        """What was written, by the name of the data."""
        return {Path(item).stem: item for item in self.data}

    @property
    def sizes(self) -> tuple[int, ...]:
        """All the sizes that are anywhere."""
        found = [*self.per_class, *(size for _, portion in self.portions for size in portion.per_class)]
        return tuple(dict.fromkeys(found))

    @property
    def judged_by(self) -> Protocol:
        """The protocol of the table."""
        judging = Judging(name=self.protocol) if isinstance(self.protocol, str) else self.protocol
        return judging.protocol

    def cells(self) -> list[Cell]:
        """Every cell, those of optional portions too: condensed sets and controls in the order of the file, then those of the
        cross-architecture table.

        Raises:
            ConfigError: with all the mistakes of all the cells.
        """
        return _Cells(self).made()


class _Cells:
    """The cells of a sweep, and the mistakes on the way."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.mistakes = sweep, dict[str, list[str]]()
        self.cells: dict[str, Cell] = {}

    def made(self) -> list[Cell]:
        sweep = self.sweep
        sources = {
            name: self._attempted("data", "", source_named, item, sweep.root) for name, item in sweep.sources.items()
        }
        protocol = self._attempted("protocol", "", lambda: sweep.judged_by)
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
            judged = replace(changed, network=network)
            for cell in chosen:
                place = (cell.data, cell.per_class, cell.name, cell.number, cell.source)
                self._add(CROSS, cross.optional, *place, judged, cell.experiment, name)
            for (data, size, source), control in ((place, item) for place in places for item in cross.controls):
                self._add(CROSS, cross.optional, data, size, control, 0, source, judged, None, name)

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
