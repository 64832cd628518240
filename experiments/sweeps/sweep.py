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
    robust: {attacks: [autoattack], eps: [0.1, 0.2]}     # accuracy under attack too, after natural and adversarial training
    sets: 1                                   # condensed sets of each method, with the seeds seed, seed + 1, ...
    portions:                                 # parts of the sweep; without them, all methods on all data at all sizes
      first: {per_class: [10]}
      rest: {data: [fashion-mnist], per_class: [1, 10], methods: [dm], optional: true}    # with --all
    cross:                                    # the sets again, under other networks: the cross-architecture table
      networks: {mlp: mlp, vgg: {kind: vgg, width: 16}}
      data: [cifar10]
      set: [epochs=301]                       # changes of the protocol

``condense sweep FILE --dry-run`` says what it will take. Later changes win: the method's file, the sweep's ``set`` and ``at``,
the method's ``set`` and ``at``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discrepancy.networks import Network
from discrepancy.parts import named
from experiments.config.mistakes import check_name, refuse, suggestion, wrong_name
from experiments.data import is_described, source_named
from experiments.device import wrong_device
from experiments.evaluate import CONTROLS, Protocol, protocol_named
from experiments.robust import RobustProtocol

__all__ = ["CROSS", "At", "Cross", "Entry", "ProtocolChoice", "Portion", "Sweep"]

CROSS = "cross"
"""The name of the portion that the cross-architecture table is."""

REQUIRED = ("methods", "data", "per_class")

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
class ProtocolChoice:
    """A protocol by name or file, and changes of it."""

    name: str = "quick"
    set: tuple[str, ...] = ()
    networks: int | None = None

    @property
    def protocol(self) -> Protocol:
        return protocol_named(self.name, self.set, self.networks)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """A part of a sweep. A field that is left out means everything that the sweep names. An optional portion runs with
    ``--all``, or if it is named."""

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
class Sweep:
    """See the module.

    Args:
        title: of the table.
        robust: how the networks of every cell are attacked, but for those of the cross-architecture table; not at all without.
        root: where torchvision's data lie; see the option of this name.
    """

    methods: tuple[tuple[str, Entry | None], ...]
    data: tuple[str, ...]
    per_class: tuple[int, ...] = (10,)
    title: str = ""
    controls: tuple[str, ...] = ("random",)
    set: tuple[str, ...] = ()
    at: At = ()
    protocol: ProtocolChoice | str = "quick"
    robust: RobustProtocol | None = None
    sets: int = 1
    portions: tuple[tuple[str, Portion], ...] = ()
    cross: Cross | None = None
    seed: int = 0
    device: str = "auto"
    root: str | None = None

    def __post_init__(self) -> None:
        for name in ("methods", "at", "portions"):
            object.__setattr__(self, name, named(getattr(self, name)))
        refuse(self._mistakes())

    def _mistakes(self) -> Iterator[str]:
        if len(self.sources) < len(self.data):
            yield f"'data' names the same data twice, {', '.join(self.data)}; rename a file, or keep one"
        for field, names in (("methods", self.entries), ("data", self.sources), ("portions", dict(self.portions))):
            yield from (wrong for name in names if (wrong := wrong_name(field, name)))
        yield from (f"'{field}' is empty; name at least one" for field in REQUIRED if not getattr(self, field))
        if self.sets < 1:
            yield f"'sets' must be at least 1, got {self.sets}"
        yield from wrong_device(self.device)
        if CROSS in dict(self.portions):
            yield f"'portions' has the name '{CROSS}', which is that of the cross-architecture table; rename it"
        yield from self._unknown("controls", self.controls, CONTROLS)
        for name in self.controls:
            if name in self.entries:
                yield f"'controls' and methods have the name '{name}' in common; keep one of them"
        for name, portion in self.portions:
            yield from self._wrong_selection(f"portions.{name}", portion)
            yield from self._unknown(f"portions.{name}.controls", portion.controls or (), CONTROLS)
        if self.cross is not None:
            yield from self._wrong_selection("cross", self.cross)
            yield from self._unknown("cross.controls", self.cross.controls, CONTROLS)
        places = {*self.sources, *map(str, self.sizes)}
        places |= {f"{name}/{size}" for name in self.sources for size in self.sizes}
        for where, at in (("at", self.at), *((f"methods.{name}.at", item.at) for name, item in self.entries.items())):
            yield from self._unknown(where, [name for name, _ in at], sorted(places))

    def _wrong_selection(self, where: str, selection: Portion | Cross) -> Iterator[str]:
        yield from self._unknown(f"{where}.data", selection.data, self.sources)
        yield from self._unknown(f"{where}.methods", selection.methods, self.entries)
        if any(size < 1 for size in selection.per_class):
            yield f"'{where}.per_class' must be at least 1, got {list(selection.per_class)}"

    def _unknown(self, where: str, names: Sequence[str], known: Sequence[str] | dict[str, Any]) -> Iterator[str]:
        for name in names:
            if name not in known:
                yield f"'{where}' names '{name}', which is none of {', '.join(known)}{suggestion(name, known)}"

    @property
    def entries(self) -> dict[str, Entry]:
        """The methods by name."""
        return {name: item or Entry() for name, item in self.methods}

    @property
    def sources(self) -> dict[str, str]:
        """What was written, by the name of the data."""
        return {source_named(item).title if is_described(item) else Path(item).stem: item for item in self.data}

    @property
    def sizes(self) -> tuple[int, ...]:
        """All the sizes that are anywhere."""
        found = [*self.per_class, *(size for _, portion in self.portions for size in portion.per_class)]
        return tuple(dict.fromkeys(found))

    @property
    def evaluation_protocol(self) -> Protocol:
        """The protocol of the table."""
        choice = ProtocolChoice(name=self.protocol) if isinstance(self.protocol, str) else self.protocol
        return choice.protocol
