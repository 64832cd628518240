"""The metrics of a run: ``metrics.jsonl``, a line for each measured step."""

import math
from pathlib import Path
from typing import Any

from objectives.storage import holds, read_lines

__all__ = ["read_metrics"]

TYPES = {"step": int, "loss": float | None, "terms": dict[str, float | None]}
"""Of what is read of a line."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of the file; none if there is no file. A last line that was cut off is left out. Values that are null, which
    were not finite, are NaN.

    Raises:
        InvalidInput: if the file cannot be read, or another line is damaged.
    """
    lines = read_lines(path, lambda line: holds(line, TYPES))
    return [
        line | {"loss": _number(line["loss"]), "terms": {name: _number(value) for name, value in line["terms"].items()}}
        for line in lines
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
