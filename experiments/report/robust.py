"""The report of a robust evaluation: accuracy over the radius of the ball, for a set and its controls."""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from experiments.evaluate import Comparison, Evaluation
from experiments.report.evaluation import evaluation_report
from experiments.report.figures import COLOURS, FAINT, INK, blank, framed, verbatim
from experiments.report.record import Cell, Column, MeanStd, Notes, Picture, Report, Section, Table, fixed
from experiments.robust import Suite, failed_checks
from objectives.attacks import Threat

__all__ = ["robust_report"]

MARK = " (!)"
"""Behind the name of a set whose figures fail a check."""


def robust_report(found: Mapping[str, Comparison], suite: Suite, picture: Picture | None = None) -> Report:
    """Accuracies without an attack and under attack, after each way of training (``natural``, ``adversarial``)."""
    sections = []
    for training, comparison in found.items():
        plain = evaluation_report(comparison, picture if not sections else None)
        sections.append(Section(f"{training} training", plain.sections[0].parts))
        sections += _sections(training, comparison, suite)
    first = next(iter(found.values()))
    drawn = Picture("accuracy under attack over the radius", "robust", lambda: _drawn(found, suite))
    return Report(
        title=f"Robust evaluation on {first.data}",
        sections=(*sections, Section(parts=(drawn,))),
        data={training: comparison.as_dict() for training, comparison in found.items()},
    )


def _sections(training: str, found: Comparison, suite: Suite) -> list[Section]:
    checks = {name: failed_checks(row, suite) for name, row in found.rows.items()}
    rows, records = [], []
    for name, row in found.rows.items():
        marked = name + (MARK if checks[name] else "")
        for attack in suite.attacks:
            cells = [_under(row, threat, attack) for threat in suite.threats]
            rows.append((marked, attack, *cells))
        records += _records(training, name, row, suite)
    columns = (Column("set"), Column("attack"), *(Column(item.name, fixed(1), unit="%") for item in suite.threats))
    table = Table(columns=columns, rows=tuple(rows), records=tuple(records), name="robust")
    n = next(iter(found.rows.values())).robust[0]["examples"]
    strongest = "; apgd: APGD-CE and then APGD-T" if "apgd" in suite.attacks else ""
    strongest += "" if "autoattack" in suite.attacks else "; AutoAttack was not run"
    pgd = f"; pgd: {suite.steps} steps, {suite.restarts} restarts" if "pgd" in suite.attacks else ""
    notes = [
        f"accuracy on {n:,} test examples after each attack, mean and standard deviation over networks; radii for values in "
        f"0 .. 1 where their limits are known, else in their own units{pgd}{strongest}"
    ]
    notes += [f"{name}{MARK}: {problem}" for name, problems in checks.items() for problem in problems]
    return [Section(parts=(table, Notes(tuple(notes)))), Section(parts=(_beyond(found),))]


def _under(row: Evaluation, threat: Threat, attack: str) -> MeanStd:
    own = [one["attacks"][threat.name] for one in row.robust]
    return _spread([100 * item.get(attack, item.get("none")) for item in own])


def _records(training: str, name: str, row: Evaluation, suite: Suite) -> list[dict[str, Any]]:
    """Every accuracy, for CSV."""
    found = []
    for threat in suite.threats:
        for attack in row.robust[0]["attacks"][threat.name]:
            values = [one["attacks"][threat.name][attack] for one in row.robust]
            found.append(
                {
                    "training": training,
                    "set": name,
                    "norm": threat.norm,
                    "eps": threat.eps,
                    "attack": attack,
                    "mean": fmean(values),
                    "std": stdev(values) if len(values) > 1 else None,
                    "n": len(values),
                    "attacked": row.robust[0]["examples"],
                }
            )
    return found


def _beyond(found: Comparison) -> Table:
    """Corruptions, calibration, and the worst class and group."""
    first = next(iter(found.rows.values())).robust[0]
    names = [*first["corruptions"]]
    columns = [Column("set"), *(Column(name, fixed(1), unit="%") for name in names)]
    columns += [Column("calibration error", fixed(1), unit="%"), Column("worst class", fixed(1), unit="%")]
    groups = "worst_group" in first
    columns += [Column("worst group", fixed(1), unit="%")] if groups else []
    rows = []
    for name, row in found.rows.items():
        cells: list[Cell] = [_spread([100 * fmean(one["corruptions"][each]) for one in row.robust]) for each in names]
        for measure in ("calibration", "worst_class", *(["worst_group"] if groups else [])):
            cells.append(_spread([100 * one[measure] for one in row.robust]))
        rows.append((name, *cells))
    return Table(columns=tuple(columns), rows=tuple(rows), name="beyond attacks")


def _spread(values: list[float]) -> MeanStd:
    return MeanStd(fmean(values), stdev(values) if len(values) > 1 else None)


def _drawn(found: Mapping[str, Comparison], suite: Suite) -> Figure:
    """A line for each set, over ε in L∞, under the strongest attack; a panel for each way of training."""
    threats = [item for item in suite.threats if item.norm == "linf"]
    figure = blank(3.6 * len(found), 3.2)
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (training, comparison) in zip(panels, found.items(), strict=True):
        for colour, (name, row) in zip(COLOURS, comparison.rows.items(), strict=False):
            cells = [_under(row, threat, suite.strongest) for threat in threats]
            axes.errorbar(
                [threat.eps for threat in threats],
                [cell.mean for cell in cells],
                [cell.std or 0.0 for cell in cells],
                color=colour,
                marker="o",
                markersize=3,
                linewidth=1.5,
                capsize=2,
                label=verbatim(name),
            )
        framed(axes)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_ylim(0, 100)
        axes.set_title(f"{training} training", size=9, color=INK, loc="left")
        axes.set_xlabel("ε (L∞)", size=8, color=INK)
    panels[0].set_ylabel(f"accuracy under {suite.strongest}, %", size=8, color=INK)
    panels[-1].legend(frameon=False, fontsize=8)
    return figure
