"""Data, a recipe and a network for tiny studies."""

import pytest

from experiments.data import Digits
from objectives.data.labelled import LabelledData

__all__ = ["CONDENSED", "NETWORK", "digits"]


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return Digits().load()


CONDENSED = {
    "kind": "condensed",
    "objective": {"terms": {"pixels": {"match": "mmd", "via": "identity"}}},
    "context": {"kind": "fresh", "batch": 9},
    "count": 2,
}
NETWORK = {"kind": "convnet", "width": 4, "depth": 2}
