"""The metrics of a run: ``metrics.jsonl``, a line for each measured step."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from objectives.storage import read_lines

__all__ = ["read_metrics"]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of the file; none if there is no file. A last line that was cut off is left out. Values that are null, which
    were not finite, are NaN.

    Raises:
        InvalidInput: if the file cannot be read, or another line is damaged.
    """
    lines = read_lines(path, _is_measurement)
    return [
        line | {"loss": _number(line["loss"]), "terms": {name: _number(value) for name, value in line["terms"].items()}}
        for line in lines
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _is_measurement(line: Mapping[str, Any]) -> bool:
    step, loss, terms = (line.get(name) for name in ("step", "loss", "terms"))
    return (
        "loss" in line
        and type(step) is int
        and isinstance(terms, dict)
        and all(isinstance(value, int | float | None) for value in (loss, *terms.values()))
    )
