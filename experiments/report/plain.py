"""A report for programs: CSV and JSON."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.record import Facts, Report, Table
from objectives.storage import json_text

__all__ = ["as_csv", "as_json"]


def as_csv(report: Report, name: str | None = None) -> str:
    """The records of the tables of one ``name``, by default that of the first table, below one line of names. A report without
    tables gives one record of its facts. A value that is missing or not finite is empty; several values are joined by
    semicolons."""
    if not report.tables:
        return _written(
            [{fact.title: fact.value for part in report.parts if isinstance(part, Facts) for fact in part.facts}]
        )
    wanted = report.tables[0].name if name is None else name
    records = [record for table in report.tables if table.name == wanted for record in _records(table)]
    return _written(records)


def _written(records: Sequence[Mapping[str, Any]]) -> str:
    if not any(records):
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]))
    writer.writeheader()
    writer.writerows({key: _bare(value) for key, value in record.items()} for record in records)
    return out.getvalue()


def _records(table: Table) -> list[Mapping[str, Any]]:
    if table.records:
        return list(table.records)
    names = [column.key or column.title for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def _bare(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return "; ".join(str(_bare(item)) for item in value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value


def as_json(report: Report, indent: int | None = None) -> str:
    """The data of the report; a number that is not finite is null."""
    return json_text(report.data, indent)
