"""One canary a package: with the import hook on, a wrong shape raises. If one of these fails, shapes go unchecked."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import checked
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from discrepancy.measure import Grouping
from experiments.data.base import hashed_order
from objectives.data.labelled import Normalisation

hooked = pytest.mark.skipif(os.environ.get("DISCREPANCY_UNHOOKED") == "1", reason="the hook is off in this session")


@hooked
def test_discrepancy() -> None:
    with pytest.raises(TypeCheckError):
        Grouping.of(torch.zeros(2, 3, dtype=torch.long), 1)


@hooked
def test_objectives() -> None:
    with pytest.raises(TypeCheckError):
        Normalisation((0.0,), (1.0,)).apply(torch.zeros(5))


@hooked
def test_experiments() -> None:
    with pytest.raises(TypeCheckError):
        hashed_order(torch.zeros(2, 3, dtype=torch.long), "salt")


# The decorator, on functions of this file

check = checked.decorator(typechecker=checked.strict)


@check
def transposed(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], turn: bool = True) -> Float[Tensor, "d n"]:
    """Calls itself with sizes of its own, and is wrong where it is told not to turn."""
    if len(x) > 1:
        transposed(x[:1], y[:1])
    return (x + y).T if turn else x + y


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ((torch.zeros(3, 2), torch.zeros(3, 2)), ""),
        ((torch.zeros(3), torch.zeros(3)), "parameter x"),
        ((torch.zeros(3, 2), torch.zeros(3, 4)), "parameter y"),
        ((torch.zeros(3, 2), torch.zeros(3, 2).long()), "parameter y"),
        ((torch.zeros(3, 2), torch.zeros(3, 2), "no"), "parameter turn"),
        ((torch.zeros(3, 2), torch.zeros(3, 2), False), "return"),
        ((torch.zeros(3, 3), torch.zeros(3, 3), False), ""),
    ],
)
def test_arguments_and_result_share_their_sizes(arguments: tuple, refused: str) -> None:
    if not refused:
        assert transposed(*arguments).shape == arguments[0].T.shape
        return
    with pytest.raises(TypeCheckError, match=refused):
        transposed(*arguments)


def test_fields_and_generators_are_checked_too() -> None:
    @check
    @dataclass
    class Sized:
        x: Float[Tensor, "n d"]
        y: Float[Tensor, " n"]

    @check
    def rows(x: Float[Tensor, "n d"]) -> Iterator[Tensor]:
        yield from x

    assert len(Sized(torch.zeros(3, 2), torch.zeros(3)).y) == len(list(rows(torch.zeros(3, 2))))
    with pytest.raises(TypeCheckError):
        Sized(torch.zeros(3, 2), torch.zeros(2))
    with pytest.raises(TypeCheckError):
        rows(torch.zeros(3))


def test_of_many_calls_in_a_test_the_first_ones_are_checked_and_then_some(monkeypatch: pytest.MonkeyPatch) -> None:
    @check
    def plain(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return x

    def refused() -> list[int]:
        found = []
        for number in range(1, 101):
            try:
                plain(torch.zeros(3))
            except TypeCheckError:
                found.append(number)
        return found

    expected = [*range(1, checked.ALL + 1), *(n for n in range(checked.ALL + 1, 101) if n % checked.SOME == 0)]
    assert refused() == expected
    assert plain(torch.zeros(3, 2)).shape == (3, 2)
    monkeypatch.setattr(checked.Test, "number", checked.Test.number + 1)
    assert refused() == expected
