"""The rows of a sweep's tables, from what the cells have left in the folder."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from experiments.sweeps.cells import Cell
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.published import Published, deviations, recovered
from experiments.sweeps.under_attack import UnderAttack, under_attack

__all__ = ["Row", "rows_of"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method, or a control, on the same data at the same size: one line of a table.

    Args:
        method: the name in its configuration, under which published figures are found.
        network: of the cross-architecture table; else empty.
        control: whether it is one.
        done, sets: how many of its sets are evaluated, and how many there will be.
        accuracies: of all the networks trained on all the sets, in percent.
        seconds: of condensing a set and labelling it, in the mean; without evaluation and the reading of data.
        peak_bytes: of memory in condensing a set, at most; ``peak_of`` says of what.
        labels: hard, or what they are in place of it.
        augmented: whether the networks are trained with augmentation.
        published: in percent, with ``published_std`` and ``published_source``.
        deviations: from the published settings; None where these are not known. The row has the published settings if empty.
        recovered: only where it has.
        computed_on: what it was evaluated with.
        failures: why sets of it have failed.
        attacked: accuracies under attack.
        doubts: why accuracies under attack are not to be believed.
    """

    data: str
    per_class: int
    name: str
    method: str
    network: str
    control: bool
    done: int
    sets: int
    accuracies: tuple[float, ...]
    examples: int | None = None
    seconds: float | None = None
    peak_bytes: int | None = None
    peak_of: str = ""
    stored_bytes: int | None = None
    steps: int | None = None
    labels: str = ""
    augmented: bool = False
    protocol: str = ""
    protocol_hash: str = ""
    epochs: int = 0
    published: float | None = None
    published_std: float | None = None
    published_source: str = ""
    deviations: tuple[str, ...] | None = None
    recovered: bool | None = None
    computed_on: str = ""
    failures: tuple[str, ...] = ()
    attacked: tuple[UnderAttack, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.accuracies)

    @property
    def mean(self) -> float | None:
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def std(self) -> float | None:
        """Over all the networks of all the sets, divided by n - 1."""
        return stdev(self.accuracies) if self.n > 1 else None

    @property
    def settings(self) -> str:
        """published, or reduced, or changed; nothing where the published ones are not known."""
        if self.deviations is None:
            return ""
        return "changed" if self.deviations else "published"

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        plain = asdict(self)
        derived = {"n": self.n, "mean": self.mean, "std": self.std, "settings": self.settings}
        plain["attacked"] = tuple(found.as_dict() for found in self.attacked)
        if not self.attacked:
            del plain["attacked"], plain["doubts"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()} | derived


def rows_of(cells: Sequence[Cell], folder: SweepFolder, published: Published) -> list[Row]:
    """A row for the cells of each method and control, in their order."""
    grouped: dict[tuple[str, int, str, str], list[Cell]] = {}
    for cell in cells:
        grouped.setdefault((cell.data, cell.per_class, cell.name, cell.network), []).append(cell)
    return [_row(group, folder, published) for group in grouped.values()]


def _row(cells: Sequence[Cell], folder: SweepFolder, published: Published) -> Row:
    first = cells[0]
    files = [folder.files(cell) for cell in cells]
    evaluated = [found for found in (item.evaluated for item in files) if found is not None]
    records = [] if first.network else [record for record in (item.record for item in files) if record is not None]
    found = [next(iter(item["rows"].values())) for item in evaluated]
    method = first.name if first.experiment is None or first.experiment.method is None else first.experiment.method.name
    known: dict[str, Any] = {}
    if found:
        known |= {name: found[0][name] for name in ("examples", "stored_bytes", "protocol", "protocol_hash", "epochs")}
        known["computed_on"] = f"torch {evaluated[0]['torch']} on {evaluated[0]['device']}"
        known |= {"labels": found[0]["labels"], "augmented": first.protocol.augment is not None}
    if records:
        known["seconds"] = fmean(
            record["seconds"] + record.get("teacher", {}).get("seconds", 0.0) for record in records
        )
        known["peak_bytes"] = max(record["memory"]["peak_bytes"] for record in records)
        known |= {"peak_of": records[0]["memory"]["of"], "steps": records[0]["steps"]}
    accuracies = tuple(100 * value for item in found for value in item["accuracies"])
    return Row(
        data=first.data,
        per_class=first.per_class,
        name=first.name,
        method=method,
        network=first.network,
        control=first.experiment is None,
        done=len(evaluated),
        sets=len(cells),
        accuracies=accuracies,
        failures=tuple(dict.fromkeys(reason for reason in (item.failed for item in files) if reason)),
        attacked=under_attack(evaluated),
        doubts=tuple(dict.fromkeys(note for item in evaluated for note in item.get("notes", ()))),
        **known,
        **_beside(first, method, accuracies, published),
    )


def _beside(cell: Cell, method: str, accuracies: Iterable[float], published: Published) -> dict[str, Any]:
    """What is published, and whether it was recovered."""
    if cell.network:
        return {}
    figure = published.figure(method, getattr(cell.source, "name", cell.source.kind), cell.per_class)
    if figure is None:
        return {}
    apart, values = deviations(cell, method, published), list(accuracies)
    return {
        "published": figure.accuracy,
        "published_std": figure.std,
        "published_source": published.source(figure),
        "deviations": None if apart is None else tuple(apart),
        "recovered": recovered(fmean(values), figure) if apart == [] and values else None,
    }
