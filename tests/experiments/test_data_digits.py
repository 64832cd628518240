import hashlib

import numpy as np
import torch
from sklearn.datasets import load_digits

from experiments.data import Digits, Source
from experiments.data.base import hashed_order
from objectives.data.fingerprint import fingerprint


def test_hashed_order_by_hand() -> None:
    order = hashed_order(torch.tensor([4, 0, 11, 7]), "salt")
    assert order.tolist() == sorted([4, 0, 11, 7], key=lambda k: hashlib.sha256(f"salt:{k}".encode()).hexdigest())


def test_hashed_order_is_no_order_of_size() -> None:
    assert hashed_order(torch.arange(97), "salt").tolist() != list(range(97))
    assert sorted(hashed_order(torch.arange(97), "salt").tolist()) == list(range(97))


def test_sizes_types_and_units() -> None:
    data = Digits().load()
    assert (len(data.train), data.shape, data.count, data.limits, data.mirror) == (
        1437,
        (1, 8, 8),
        10,
        (0.0, 16.0),
        False,
    )
    assert data.train.points.dtype == torch.uint8
    assert data.test is not None
    assert data.test.labels.numbers.bincount().tolist() == [36] * 10


def test_both_parts_together_are_the_whole_set() -> None:
    data = Digits().load()
    assert data.test is not None
    found = torch.cat([data.train.points, data.test.points]).flatten(1).numpy()
    labels = torch.cat([data.train.labels.numbers, data.test.labels.numbers]).numpy()
    points, targets = load_digits(return_X_y=True)
    rows, expected = (
        sorted(map(tuple, np.column_stack(pair).astype(int).tolist())) for pair in ((found, labels), (points, targets))
    )
    assert rows == expected


def test_is_the_same_set_everywhere() -> None:
    data = Digits().load()
    assert data.test is not None
    assert fingerprint(data.train.rows(), data.test.rows()).startswith("f424dbb2")


def test_is_a_kind_of_source() -> None:
    assert Source.members["digits"] is Digits
    assert Digits().describe() == {"kind": "digits"}
