"""Labels: numbers, names, distributions, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tables import LABELS, table

from discrepancy.errors import DataWarning, InvalidInput
from objectives.data.labelled import LabelledData
from objectives.data.labels import predicted_classes


class TestLabels:
    """What ``of`` accepts as labels."""

    @pytest.mark.parametrize(
        ("labels", "classes"),
        [
            (LABELS, ("0", "1", "2")),
            (torch.from_numpy(LABELS), ("0", "1", "2")),
            (LABELS.astype(np.uint8), ("0", "1", "2")),
            (LABELS[:, None], ("0", "1", "2")),
            (LABELS.astype(np.float32), ("0", "1", "2")),
            (LABELS * 4 + 3, ("3", "7", "11")),
            (np.array(["a", "b", "c"])[LABELS], ("a", "b", "c")),
            (np.array(["a", "b", "c"], dtype=object)[LABELS], ("a", "b", "c")),
            (np.array([b"a", b"b", b"c"])[LABELS], ("a", "b", "c")),
            (["abc"[k] for k in LABELS], ("a", "b", "c")),
            (np.eye(3)[LABELS], ("0", "1", "2")),
        ],
        ids=[
            "int",
            "tensor",
            "uint8",
            "column",
            "whole-float",
            "gaps",
            "text",
            "object-text",
            "bytes",
            "list",
            "one-hot",
        ],
    )
    def test_hard(self, labels: Any, classes: tuple[str, ...]) -> None:
        data = LabelledData.of(table(), labels)
        assert set(data.classes) == set(classes)
        assert [data.classes[k] for k in data.train.labels.numbers] == [classes[k] for k in LABELS]
        assert data.train.labels.kind == "hard"

    def test_bool(self) -> None:
        data = LabelledData.of(table(), LABELS == 1)
        assert data.classes == ("False", "True")
        assert data.train.labels.numbers.tolist() == (LABELS == 1).astype(int).tolist()

    def test_noncontiguous(self) -> None:
        assert LabelledData.of(table(), np.repeat(LABELS, 2)[::2]).train.labels.numbers.tolist() == LABELS.tolist()

    def test_soft(self) -> None:
        rows = np.full((7, 3), 0.1) + 0.7 * np.eye(3)[LABELS]
        data = LabelledData.of(table(), rows.astype(np.float16))
        assert data.train.labels.numbers.tolist() == LABELS.tolist()
        assert data.train.labels.kind == "soft"
        torch.testing.assert_close(data.train.labels.rows, torch.from_numpy(rows).float(), rtol=0, atol=1e-3)
        torch.testing.assert_close(data.train.labels.rows.sum(1), torch.ones(7))

    @pytest.mark.parametrize("labels", [LABELS, np.array(["x", "y", "z"])[LABELS]], ids=["positions", "names"])
    def test_given_class_names(self, labels: np.ndarray) -> None:
        data = LabelledData.of(table(), labels, classes=["x", "y", "z"])
        assert data.classes == ("x", "y", "z")
        assert data.train.labels.numbers.tolist() == LABELS.tolist()

    def test_given_names_need_not_be_sorted(self) -> None:
        data = LabelledData.of(table(), np.array(["x", "y", "z"])[LABELS], classes=["z", "y", "x"])
        assert data.train.labels.numbers.tolist() == (2 - LABELS).tolist()

    def test_groups(self) -> None:
        data = LabelledData.of(table(), LABELS, groups=["b", "a", "b", "a", "b", "a", "c"])
        assert data.train.groups is not None
        assert data.train.groups.tolist() == [1, 0, 1, 0, 1, 0, 2]

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (LABELS + 0.5, "must be whole numbers, class names or distributions, got 0.5 at example 0"),
            (np.where(LABELS == 2, np.nan, LABELS), "got nan at example 2"),
            (LABELS[:5], "5 labels do not fit 7 points"),
            (np.zeros((7, 2, 2)), r"must have shape \(n,\), or \(n, classes\)"),
            (np.full((7, 3), 0.5), "rows that sum to 1, got 1.5 with least value 0.5 in row 0"),
            (np.tile([1.5, -0.5], (7, 1)), "got 1 with least value -0.5 in row 0"),
            (np.array([None, 1, 2, 3, 4, 5, 6]), "got an array of object"),
            (np.full((7, 2), "a"), r"must have shape \(n,\)"),
        ],
        ids=["fractional", "nan", "length", "3d", "sum", "negative-soft", "object", "text-rows"],
    )
    def test_refuses(self, labels: Any, message: str) -> None:
        with pytest.raises(InvalidInput, match=f"^training data: .*{message}"):
            LabelledData.of(table(), labels)

    @pytest.mark.parametrize(
        ("labels", "classes", "expected"),
        [
            ([-1, 1, -1, 1], None, [0, 1, 0, 1]),
            ([-1.0, 1.0, -7.0, 1.0], None, [1, 2, 0, 2]),
            ([-1, 1, -1, 1], ["-1", "1"], [0, 1, 0, 1]),
            ([-1, 1, -1, 1], ["1", "-1"], [1, 0, 1, 0]),
            ([3, 70, 3, 900], ["900", "70", "3"], [2, 1, 2, 0]),
            ([0, 1, 0, 1], ["1", "0"], [0, 1, 0, 1]),
        ],
        ids=["minus-one", "floats", "named", "named-otherwise", "gaps", "positions"],
    )
    def test_whole_numbers(self, labels: list[Any], classes: list[str] | None, expected: list[int]) -> None:
        data = LabelledData.of(table(4), np.array(labels), classes=classes)
        assert data.train.labels.numbers.tolist() == expected

    def test_minus_one_beside_zero_may_mean_no_label(self) -> None:
        with pytest.warns(DataWarning, match="labels have -1 beside 0: it is taken for a class, of 3 examples"):
            assert LabelledData.of(table(), LABELS - 1).classes == ("-1", "0", "1")

    @pytest.mark.parametrize(
        ("labels", "classes", "message"),
        [
            (LABELS * 0, None, "must have at least two classes with different names, got '0'"),
            (LABELS, ["a", "b", "a"], "at least two classes with different names, got 'a', 'b', 'a'"),
            (LABELS, ["a", "b", "c", "d"], "has no training example of class 'd'"),
            (LABELS, ["a", "b"], r"contain '2' \(first at example 2\), which is none of the 2 classes a, b"),
            (np.eye(3)[LABELS], ["a", "b"], "labels have 3 columns for 2 classes"),
        ],
        ids=["one-class", "same-name", "empty-class", "out-of-range", "columns"],
    )
    def test_refuses_classes(self, labels: Any, classes: list[str] | None, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            LabelledData.of(table(), labels, classes=classes)


def test_a_prediction_that_is_nan_is_of_no_class():
    outputs = torch.tensor([[0.0, 2.0], [math.nan, 1.0], [3.0, math.nan], [-math.inf, -math.inf], [math.inf, 0.0]])
    assert predicted_classes(outputs).tolist() == [1, -1, -1, 0, 0]
