"""One canary a package: with the import hook on, a wrong shape raises. If one of these fails, shapes go unchecked."""

import os

import pytest
import torch
from jaxtyping import TypeCheckError

from discrepancy.measure import Grouping
from experiments.data.base import hashed_order
from objectives.data.labelled import Normalisation

pytestmark = pytest.mark.skipif(os.environ.get("DISCREPANCY_UNHOOKED") == "1", reason="the hook is off in this session")


def test_discrepancy() -> None:
    with pytest.raises(TypeCheckError):
        Grouping.of(torch.zeros(2, 3, dtype=torch.long), 1)


def test_objectives() -> None:
    with pytest.raises(TypeCheckError):
        Normalisation((0.0,), (1.0,)).apply(torch.zeros(5))


def test_experiments() -> None:
    with pytest.raises(TypeCheckError):
        hashed_order(torch.zeros(2, 3, dtype=torch.long), "salt")
