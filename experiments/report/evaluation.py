"""The report of an evaluation: a condensed set beside its controls, and where its labels are from."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from experiments.evaluate import Comparison, Evaluation, Protocol
from experiments.report.record import (
    BYTES,
    COUNT,
    SECONDS,
    Cell,
    Column,
    Notes,
    Picture,
    Report,
    Section,
    Table,
    fixed,
    significant,
)

__all__ = ["evaluation_report", "teacher_in_words"]


def evaluation_report(found: Comparison, picture: Picture | None = None) -> Report:
    """Test accuracy (for a regression: error) of a set and of its controls: mean and standard deviation over n networks.

    Args:
        picture: of the set, if there is one.
    """
    first = next(iter(found.rows.values()))
    part = "validation" if any(row.validation for row in found.rows.values()) else "test"
    table = Table(
        columns=(
            Column("set"),
            Column("examples", COUNT),
            Column("labels"),
            *_measured_columns(first, part),
            Column("n", COUNT),
            Column("stored", BYTES),
            Column("time", SECONDS),
        ),
        rows=tuple(
            (name, row.examples, row.labels, *_measured(row), row.n, row.stored_bytes, row.seconds)
            for name, row in found.rows.items()
        ),
        records=tuple({"set": name, **row.as_dict()} for name, row in found.rows.items()),
    )
    parts = (table, Notes((_about(found, first, part), *found.notes, *_scores(found), *_teacher(found))))
    return Report(
        title=f"Evaluation on {found.data}",
        sections=(Section(parts=parts if picture is None else (*parts, picture)),),
        data=found.as_dict(),
    )


def _measured_columns(first: Evaluation, part: str) -> tuple[Column, ...]:
    if not first.accuracies:
        return Column(f"{part} RMSE", significant(4)), Column("std", significant(2)), Column("R²", fixed(3))
    risk = (Column(f"{part} MSE", significant(4)),) if first.risk else ()
    return Column(f"{part} accuracy", fixed(1), unit="%"), Column("std", fixed(1)), *risk


def _measured(row: Evaluation) -> tuple[Cell, ...]:
    """The mean and the standard deviation of accuracies, in %, or of errors, with the mean coefficient of determination."""
    spread = row.std if row.n > 1 else None
    if not row.accuracies:
        return row.mean, spread, fmean(row.r2)
    risk = (fmean(row.risk),) if row.risk else ()
    return 100 * row.mean, None if spread is None else 100 * spread, *risk


def _about(found: Comparison, first: Evaluation, part: str) -> str:
    networks = isinstance(found.protocol, Protocol)
    how = ("protocol", "last epoch") if networks else ("learner", "in closed form")
    return (
        f"{found.data}, {how[0]} {found.protocol.title} ({first.protocol_hash}), {first.test_examples:,} {part} examples, "
        f"{how[1]}, seed {first.seed}, torch {found.torch} on {found.device}"
    )


def _scores(found: Comparison) -> tuple[str, ...]:
    if not isinstance(found.protocol, Protocol) or not any(row.labels == "scores" for row in found.rows.values()):
        return ()
    return ("the labels are scores and not probabilities: every network was trained with the squared loss",)


def _teacher(found: Comparison) -> tuple[str, ...]:
    if found.teacher is None:
        return ()
    return (f"labels of one teacher for every set: {teacher_in_words(found.teacher)} ({found.teacher['hash']})",)


def teacher_in_words(about: Mapping[str, Any]) -> str:
    """``convnet, 98.3 % accuracy on 360 test examples``, from the record of a teacher."""
    several = f"{about['networks']} x " if about.get("networks", 1) > 1 else ""
    accuracy = f", {100 * about['accuracy']:.1f} % accuracy on {about['on']}" if "accuracy" in about else ""
    return f"{several}{about['config']['network']['kind']}{accuracy}"
