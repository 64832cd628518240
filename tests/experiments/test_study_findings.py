"""What a study found: rows, comparisons and their report."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from discrepancy import InvalidInput
from experiments.report import as_text, save
from experiments.report.files import save_png
from experiments.studies.findings import found
from experiments.studies.prediction_report import prediction_report


def lines(values: dict[str, float | None], reasons: dict[str, str] | None = None) -> list[dict[str, Any]]:
    return [{"values": values, "reasons": reasons or {}, "notes": [], "seconds": 1.0}]


ACCURACIES = {
    f"2/{family}/{i}": (0.1 * i + 0.01 * shift, 0.1 * i) for shift, family in enumerate("abc") for i in range(3)
}


def table() -> dict[tuple[str, str], list[dict[str, Any]]]:
    good = {key: -sum(values) for key, values in ACCURACIES.items()}
    half = dict(list(good.items())[:5]) | dict.fromkeys(list(good)[5:])
    none = dict.fromkeys(good)
    return {
        ("v", "bad"): lines({key: -value for key, value in good.items()}),
        ("v", "none"): lines(none, dict.fromkeys(good, "needs 2 points")),
        ("v", "good"): lines(good),
        ("v", "half"): lines(half, dict.fromkeys(list(good)[5:], "is singular")),
    }


def test_rows_are_sorted_and_say_what_is_missing():
    (size,) = found(ACCURACIES, table(), resamples=50).sizes
    assert [row.discrepancy for row in size.rows] == ["good", "half", "bad", "none"]
    good, half, bad, none = size.rows
    assert (good.spearman, bad.spearman) == pytest.approx((1, -1))
    assert good.left_out == pytest.approx({"a": 1, "b": 1, "c": 1})
    assert (good.sets, half.sets, none.sets) == (9, 5, 0)
    assert half.missing == {"is singular": 4}
    assert none.missing == {"needs 2 points": 9}
    assert math.isnan(none.spearman)
    assert none.spearman_interval is None


def test_without_any_correlation_the_report_says_why():
    same = dict.fromkeys(ACCURACIES, (0.5, 0.5))
    assert "there are no correlations: all sets have the same accuracy" in as_text(
        prediction_report(found(same, table(), resamples=5))
    )
    nothing = {pair: value for pair, value in table().items() if pair == ("v", "none")}
    text = as_text(prediction_report(found(ACCURACIES, nothing, resamples=5)))
    assert "there are no correlations: no discrepancy has a value on two sets or more" in text
    assert "there are no correlations" not in as_text(prediction_report(found(ACCURACIES, table(), resamples=5)))


def test_a_negative_number_of_rows_is_refused():
    with pytest.raises(InvalidInput, match="'rows' must be at least 0, got -3"):
        prediction_report(found(ACCURACIES, table(), resamples=5), rows=-3)


def test_comparison_with_the_reference_and_the_second():
    pairs = {name: ("v", name) for name in ("good", "half", "bad")}
    (size,) = found(ACCURACIES, table(), reference=pairs["bad"], resamples=50).sizes
    second, reference = size.comparisons
    assert (second.first, second.second, second.sets) == (pairs["good"], pairs["half"], 5)
    assert second.difference == pytest.approx(0)
    assert second.share == pytest.approx(0.5)
    assert (reference.second, reference.difference) == (pairs["bad"], pytest.approx(2))
    assert reference.share == pytest.approx(1)
    assert [row.above_reference for row in size.rows] == [1, 1, None, None]


def test_sizes_are_not_mixed():
    """Within each size the order is perfect, though the larger size has the larger values everywhere."""
    accuracies = {f"{size}/a/{i}": (0.1 * size + 0.01 * i,) for size in (1, 2) for i in range(4)}
    values = {key: 10.0 * int(key[0]) - int(key[-1]) for key in accuracies}
    sizes = found(accuracies, {("v", "d"): lines(values)}, resamples=10).sizes
    assert [(size.per_class, size.rows[0].sets) for size in sizes] == [(1, 4), (2, 4)]
    assert [size.rows[0].spearman for size in sizes] == pytest.approx([1, 1])


def test_report_as_text_csv_and_pictures(tmp_path: Path):
    findings = found(ACCURACIES, table(), reference=("v", "half"), resamples=50)
    report = prediction_report(findings, rows=1)
    text = as_text(report)
    assert "2 a class: 9 sets of 3 families, 2 networks each" in text
    assert "half" in text  # the reference is shown even beyond the rows that were asked for
    assert "missing: half of 4 sets in v: is singular" in text
    assert "missing: none of 9 sets in v: needs 2 points" in text
    save(report, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["discrepancy"] for row in rows] == ["good", "half", "bad", "none"]
    assert float(rows[2]["spearman"]) == pytest.approx(-1)
    assert rows[3]["spearman"] == ""
    assert [picture.name for picture in report.pictures] == ["correlations", "scatter"]
    for drawn in report.pictures:
        save_png(drawn.png, tmp_path / f"{drawn.name}.png")
        with Image.open(tmp_path / f"{drawn.name}.png") as picture:
            assert len(picture.convert("L").getcolors() or []) > 10
    json.dumps(findings.as_dict(), allow_nan=False)
