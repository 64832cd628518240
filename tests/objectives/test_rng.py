"""Streams: a function of their names, apart from each other, and free of every global generator."""

import random

import numpy as np
import pytest
import torch

from objectives.rng import rng


def numbers(*names: str | int, seed: int = 0) -> list[float]:
    return torch.rand(4, generator=rng(seed, *names)).tolist()


def test_the_same_names_give_the_same_numbers() -> None:
    assert numbers("batch", 3) == numbers("batch", 3)


@pytest.mark.parametrize(
    ("first", "second"),
    [(("a",), ("b",)), (("a", 1), ("a", 2)), (("a", 1), ("a", "1")), (("ab", "c"), ("a", "bc")), (("a",), ("a", ""))],
    ids=["name", "number", "type", "cut", "length"],
)
def test_other_names_give_other_numbers(first: tuple[str | int, ...], second: tuple[str | int, ...]) -> None:
    assert numbers(*first) != numbers(*second)


def test_another_seed_gives_other_numbers() -> None:
    assert numbers("batch", 3) != numbers("batch", 3, seed=1)


def test_neighbouring_steps_are_uncorrelated() -> None:
    rows = torch.stack([torch.randn(500, generator=rng(0, "batch", step)) for step in range(20)])
    off = torch.corrcoef(rows) - torch.eye(20)
    assert float(off.abs().max()) < 0.25  # five standard deviations of 1/√500


def test_no_global_generator_is_touched() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    numbers("batch", 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
