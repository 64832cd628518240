"""The lines of a study's folder: of other types than were written they are refused, by file and line."""

import json
from pathlib import Path
from typing import Any

import pytest

from discrepancy.errors import InvalidInput
from experiments.studies.folder import Lines, StudyFolder

ACCURACIES = {"set": "1/random/0", "accuracies": [0.5, 1], "seconds": 1.5, "test_examples": 3}
VALUES = {
    "view": "pixels",
    "discrepancy": "mean",
    "values": {"a": 1.0, "b": None},
    "reasons": {},
    "notes": [],
    "resolved": {},
    "seconds": 0.1,
}
ROWS = {
    **dict.fromkeys(("data", "features", "method"), "a"),
    **dict.fromkeys(("per_class", "seed", "steps"), 1),
    **dict.fromkeys(("condensed", "real_seconds", "own_seconds"), 0.5),
    **dict.fromkeys(("minutes", "original", "error", "condition", "penalty", "accuracy_float32", "accuracy_bytes")),
}
WRONG = [
    *(("accuracies", change) for change in ({"set": 1}, {"accuracies": ["0.5"]}, {"accuracies": 1}, {"seconds": None})),
    *(("accuracies", change) for change in ({"test_examples": 1.5}, {"test_examples": True})),
    *(("values", change) for change in ({"values": []}, {"values": {"a": "1"}}, {"notes": "a"}, {"reasons": {"a": 1}})),
    *(("rows", change) for change in ({"steps": "1"}, {"error": "none"}, {"more": 1}, {"data": None})),
]


def lines_of(folder: Path, name: str, line: dict[str, Any]) -> Lines:
    lines: Lines = getattr(StudyFolder(folder), name)
    whole = {"accuracies": ACCURACIES, "values": VALUES, "rows": ROWS}[name]
    lines.path.write_text(f"{json.dumps(whole)}\n{json.dumps({**whole, **line})}\n", encoding="utf-8")
    return lines


@pytest.mark.parametrize("name", ["accuracies", "values", "rows"])
def test_lines_come_back(tmp_path: Path, name: str):
    first, second = lines_of(tmp_path, name, {}).read()
    assert first == second


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_lines_of_other_types_are_refused_in_one_sentence(tmp_path: Path, name: str, change: dict[str, Any]):
    with pytest.raises(InvalidInput, match=rf"^'.*{name}.jsonl' is damaged at line 2; remove that line$"):
        lines_of(tmp_path, name, change).read()
