"""Fingerprints of data, and hashes of single rows."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from objectives.data.fingerprint import row_hashes
from objectives.data.labelled import LabelledData
from objectives.data.subset import Subset

LABELS = np.array([0, 1, 2, 0, 1, 2, 0])


def table(n: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3))


def test_the_fingerprint_is_the_sha256_of_types_shapes_and_bytes() -> None:
    points, labels = table(), LABELS
    expected = hashlib.sha256(b"float64(7, 3);" + points.tobytes() + b"int64(7,);" + labels.tobytes() + b"none;")
    assert LabelledData.of(points, labels).fingerprints() == {"train": expected.hexdigest()}


def test_the_fingerprint_of_copies_is_the_same_whatever_their_names_and_units() -> None:
    data = LabelledData.of(table(), LABELS, test=(table(2), [0, 1]))
    again = LabelledData.of(torch.from_numpy(table()), LABELS, test=(table(2), [0, 1]), name="other", limits=(-9, 9))
    assert data.fingerprints() == again.fingerprints()
    assert Subset(data.train, torch.arange(7)).fingerprint() == data.train.fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        lambda: LabelledData.of(table() + 1e-9, LABELS),
        lambda: LabelledData.of(table(), 2 - LABELS),
        lambda: LabelledData.of(table().astype(np.float32), LABELS),
        lambda: LabelledData.of(table(), LABELS, test=(table(2), [0, 1])),
        lambda: LabelledData.of(table(), np.full((7, 3), 0.1) + 0.7 * np.eye(3)[LABELS]),
        lambda: LabelledData.of(table(), LABELS, groups=LABELS),
        lambda: LabelledData.with_targets(table(), LABELS.astype(float)),
        lambda: LabelledData.unlabelled(table()),
    ],
    ids=["points", "labels", "type", "test", "soft", "groups", "targets", "unlabelled"],
)
def test_the_fingerprint_of_others_differs(other: Callable[[], LabelledData]) -> None:
    assert other().fingerprints() != LabelledData.of(table(), LABELS).fingerprints()


def test_rows_are_found_again_in_every_type_and_shape_that_holds_their_values() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1030, 1, 2, 3), dtype=np.uint8))
    assert len(set(row_hashes(images))) == 1030
    for copy in (images.float(), images.double(), images.flatten(1), images.long()):
        assert row_hashes(copy) == row_hashes(images)
    points = torch.from_numpy(table(5))
    points[0] = torch.tensor([-0.0, 3.0, 7.0])  # whole numbers, with a zero of either sign
    assert row_hashes(points.float()) == row_hashes(points)
    assert row_hashes(points)[0] == row_hashes(torch.tensor([[0, 3, 7]], dtype=torch.uint8))[0]


@pytest.mark.parametrize("values", [(1e39, 2e39), (1e-50, 2e-50), (0.0, 1e-50), (-1.0, 255.0), (256.0, 0.0)])
def test_rows_of_other_values_have_other_hashes(values: tuple[float, float]) -> None:
    first, second = row_hashes(torch.tensor(values, dtype=torch.float64)[:, None])
    assert first != second
