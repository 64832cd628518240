"""What a sweep that attacks its networks has found: accuracies without and under attack, as a table and a picture."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from experiments.report.figures import FAINT, INK, MORE_COLOURS, blank, framed, verbatim
from experiments.report.record import COUNT, Column, MeanStd, Picture, Table, fixed
from experiments.robust.suite import ATTACKS
from objectives.attacks import Threat

__all__ = ["ROBUST_TABLE", "UnderAttack", "frontier", "robust_table", "under_attack"]

ROBUST_TABLE = "robust"
"""The name of the table, and of its CSV file."""

CLEAN = "clean"
"""In place of an attack: all the test examples, unchanged."""


@dataclass(frozen=True, kw_only=True)
class UnderAttack:
    """Accuracies of the networks of a row, in percent, after one way of training, under one attack in one ball.

    Args:
        training: ``natural`` or ``adversarial``.
        attack: or ``clean``, on all the test examples; ``none``, without an attack on those that are attacked.
        examples: test examples.
        values: one for each network of each set.
    """

    training: str
    attack: str
    threat: Threat
    examples: int
    values: tuple[float, ...]

    @property
    def spread(self) -> MeanStd:
        return MeanStd(fmean(self.values), stdev(self.values) if len(self.values) > 1 else None)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        found = {name: getattr(self, name) for name in ("training", "attack", "examples")}
        mean, std = self.spread
        return {**found, **asdict(self.threat), "mean": mean, "std": std, "n": len(self.values)}


def under_attack(evaluations: Sequence[Mapping[str, Any]]) -> tuple[UnderAttack, ...]:
    """What the evaluations of a row's sets hold, by way of training."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for evaluation in evaluations:
        for training, row in evaluation["rows"].items():
            if "robust" in row:
                rows.setdefault(training, []).append(row)
    return tuple(found for training, own in rows.items() for found in _of_training(training, own))


def _of_training(training: str, rows: Sequence[Mapping[str, Any]]) -> Iterable[UnderAttack]:
    networks = [network for row in rows for network in row["robust"]]
    clean = tuple(100 * value for row in rows for value in row["accuracies"])
    unchanged = Threat("linf", 0.0)
    yield UnderAttack(
        training=training, attack=CLEAN, threat=unchanged, examples=rows[0]["test_examples"], values=clean
    )
    for name, attacks in networks[0]["attacks"].items():
        for attack in attacks:
            values = tuple(100 * network["attacks"][name][attack] for network in networks)
            yield UnderAttack(
                training=training,
                attack=attack,
                threat=Threat.named(name),
                examples=networks[0]["examples"],
                values=values,
            )


def robust_table(rows: Mapping[str, Sequence[UnderAttack]], records: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each row and way of training: the accuracy without an attack, and under the strongest attack in each ball.

    Args:
        rows: what was found, by the name that is shown.
        records: of the CSV file.
    """
    found = [item for own in rows.values() for item in own]
    threats = dict.fromkeys(item.threat for item in found if item.threat.eps > 0)
    strongest = _strongest(found)
    columns = (
        Column("method"),
        Column("training"),
        Column("clean", fixed(1), unit="%"),
        *(Column(f"{strongest}, {threat.name}", fixed(1), unit="%") for threat in threats),
        Column("n", COUNT),
    )
    lines = []
    for name, own in rows.items():
        for training in dict.fromkeys(item.training for item in own):
            here = {(item.attack, item.threat): item for item in own if item.training == training}
            clean = here[CLEAN, Threat("linf", 0.0)]
            cells = [here[strongest, threat].spread for threat in threats]
            lines.append((name, training, clean.spread, *cells, len(clean.values)))
    return Table(columns=columns, rows=tuple(lines), records=tuple(map(dict, records)), name=ROBUST_TABLE)


def frontier(title: str, rows: Mapping[str, Sequence[UnderAttack]], name: str) -> Picture:
    """The accuracy under the strongest attack over that without one: a point for each row, a panel for each ball and way of
    training. Rows whose names differ in a last number alone, ``name-NUMBER``, are joined, in the order of these numbers."""
    return Picture(f"{title}: accuracy under attack over clean accuracy", name, lambda: _drawn(rows))


def _drawn(rows: Mapping[str, Sequence[UnderAttack]]) -> Figure:
    found = [item for own in rows.values() for item in own]
    ways = list(dict.fromkeys(item.training for item in found))
    threats = list(dict.fromkeys(item.threat for item in found if item.threat.eps > 0))
    strongest = _strongest(found)
    figure = blank(1.8 + 2.8 * len(threats), 0.4 + 2.6 * len(ways))
    panels = figure.subplots(len(ways), len(threats), squeeze=False)
    for line, training in zip(panels, ways, strict=True):
        for axes, threat in zip(line, threats, strict=True):
            for (label, names), style in zip(_joined(rows).items(), _styles(), strict=False):
                points = [_point(rows[name], training, strongest, threat) for name in names]
                across, up = zip(*points, strict=True)
                axes.errorbar(
                    [cell.mean for cell in across],
                    [cell.mean for cell in up],
                    [cell.std or 0.0 for cell in up],
                    [cell.std or 0.0 for cell in across],
                    **style,
                    markersize=4,
                    linewidth=1,
                    elinewidth=0.6,
                    label=verbatim(label),
                )
            framed(axes)
            axes.grid(color=FAINT, linewidth=0.8)
            axes.set_ylim(bottom=0)
            axes.set_title(f"{training} training, {threat.name}", size=8, color=INK, loc="left")
            axes.set_xlabel("clean accuracy, %", size=8, color=INK)
    for line in panels:
        line[0].set_ylabel(f"accuracy under {strongest}, %", size=8, color=INK)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _point(found: Sequence[UnderAttack], training: str, attack: str, threat: Threat) -> tuple[MeanStd, MeanStd]:
    here = {(item.attack, item.threat): item.spread for item in found if item.training == training}
    return here[CLEAN, Threat("linf", 0.0)], here[attack, threat]


def _joined(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of each line: those that differ in a last number alone, in its order."""
    series: dict[str, list[tuple[float, str]]] = {}
    for name in names:
        found = re.fullmatch(r"(.+)-(\d+(?:\.\d+)?)", name)
        base, number = (found[1], float(found[2])) if found else (name, 0.0)
        series.setdefault(base, []).append((number, name))
    return {base: [name for _, name in sorted(own)] for base, own in series.items()}


def _styles() -> Iterable[dict[str, Any]]:
    for marker in "osD^v":
        for colour in MORE_COLOURS:
            yield {"color": colour, "marker": marker}


def _strongest(found: Iterable[UnderAttack]) -> str:
    return max((item.attack for item in found if item.attack in ATTACKS), key=ATTACKS.index)
