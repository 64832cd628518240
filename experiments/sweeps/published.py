"""Published accuracies as data, with their sources, and the settings that they belong to.

A figure stands beside every row of its method, data and size. It is compared with the row only where the row's settings are the
published ones, to the last of them: those of the method's file with the changes that ``published.yaml`` names, evaluated by
the published protocol with any number of networks.
"""

from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from discrepancy.errors import DiscrepancyError, InvalidInput
from discrepancy.parts import named
from experiments.config import build, difference, dump, merge, read
from experiments.evaluate import protocol_named
from experiments.experiment import Experiment, configured
from experiments.method import method_tree
from experiments.sweeps.cells import Cell

__all__ = ["Figure", "Published", "Settings", "deviations", "packaged", "recovered"]

POINTS = 1.0
"""Points of accuracy that count as recovered, unless the published standard deviation is larger."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A published accuracy, in percent.

    Args:
        data: as torchvision calls them.
        per_class: None for one that is of no size.
        std: where it is published.
        source: a key of the sources.
    """

    method: str
    data: str
    per_class: int | None
    accuracy: float
    source: str
    std: float | None = None

    @property
    def shown(self) -> str:
        return f"{self.accuracy:.1f}" if self.std is None else f"{self.accuracy:.1f} ± {self.std:.1f}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The published settings of a method: changes of its file, further ones by examples a class, and the protocol."""

    set: tuple[str, ...] = ()
    at: tuple[tuple[str, tuple[str, ...]], ...] = ()
    protocol: str = "vico"
    protocol_set: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", named(self.at))

    def changes(self, per_class: int) -> list[str]:
        """Of the file, at this size."""
        return [*self.set, *dict(self.at).get(str(per_class), ())]


@dataclass(frozen=True, kw_only=True)
class Published:
    """Everything that is known, by name."""

    sources: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, Settings], ...]
    figures: tuple[Figure, ...]

    def __post_init__(self) -> None:
        for name in ("sources", "settings"):
            object.__setattr__(self, name, named(getattr(self, name)))
        seen = set()
        for figure in self.figures:
            if figure.source not in dict(self.sources):
                raise InvalidInput(f"'figures' names the source '{figure.source}', which is not one of 'sources'")
            if not 0 < figure.accuracy < 100:
                raise InvalidInput(f"'accuracy' is in percent, got {figure.accuracy} of {figure.method}")
            place = (figure.method, figure.data, figure.per_class)
            if place in seen:
                raise InvalidInput(f"'figures' has two for {figure.method} on {figure.data} at {figure.per_class}")
            seen.add(place)

    def figure(self, method: str, data: str, per_class: int) -> Figure | None:
        """What is published of a method (or a control) on these data at this size."""
        for figure in self.figures:
            if figure.method == method and figure.data == data and figure.per_class in (per_class, None):
                return figure
        return None

    def source(self, figure: Figure) -> str:
        return dict(self.sources)[figure.source]


@cache
def packaged() -> Published:
    """The figures that come with the package."""
    return build(Published, read(resources.files("experiments.sweeps") / "published.yaml"))


def deviations(cell: Cell, method: str, published: Published) -> list[str] | None:
    """Where a cell's settings differ from the published ones, those of the protocol first; None where these are not known."""
    settings = dict(published.settings).get(method)
    if settings is None or cell.experiment is None:
        return None
    theirs = replace(protocol_named(settings.protocol, settings.protocol_set), networks=cell.protocol.networks)
    found = (
        [] if theirs.hash == cell.protocol.hash else difference(_protocol(theirs), _protocol(cell.protocol), "protocol")
    )
    try:
        tree = merge(method_tree(method), {"data": dump(cell.source)})
        changes = {"synthetic": {"per_class": cell.per_class}, "seed": cell.seed, "device": cell.device}
        exact = build(Experiment, configured(tree, changes, settings.changes(cell.per_class)))
    except DiscrepancyError as error:
        return [*found, f"the published settings cannot be built: {error}"]
    return found + difference(_computed(exact), _computed(cell.experiment))


def _protocol(protocol: Any) -> dict[str, Any]:
    return {name: value for name, value in dump(protocol).items() if name not in ("name", "source")}


def _computed(experiment: Experiment) -> dict[str, Any]:
    """Without what says nothing of the result."""
    return {name: value for name, value in dump(experiment).items() if name not in ("method", "compile", "device")}


def recovered(mean: float, figure: Figure) -> bool:
    """Whether an accuracy in percent is within one published standard deviation, or one point, of the figure."""
    return abs(mean - figure.accuracy) <= max(POINTS, figure.std or 0.0)
