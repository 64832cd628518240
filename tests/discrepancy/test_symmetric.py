"""Sums of outer products and penalised systems, beside plain numpy."""

import numpy as np
import pytest
import torch

from discrepancy.errors import InvalidInput
from discrepancy.numerics.symmetric import OuterProducts, Penalised


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rows", [1, 10, 4096])
@pytest.mark.parametrize("block", [3, 512])
def test_outer_products_of_parts_add_up(monkeypatch: pytest.MonkeyPatch, rows: int, block: int):
    monkeypatch.setattr("discrepancy.numerics.symmetric.ROWS", rows)
    monkeypatch.setattr("discrepancy.numerics.symmetric.BLOCK", block)
    z, weights = drawn(3, 25, 7), drawn(3, 25, seed=1).square()
    weights[1, 4] = 0
    sums = OuterProducts()
    for part, share in zip(z.split(4, 1), weights.split(4, 1), strict=True):
        sums.add([part[..., :2], part[..., 2:]], share)
        sums.add([part[:, :0]], share[:, :0])
    truth = np.einsum("gn,gni,gnj->gij", weights.numpy(), z.numpy(), z.numpy())
    np.testing.assert_allclose(sums.total.numpy(), truth, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(sums.total.numpy(), sums.total.mT.numpy())
    sums.add([z[:, :1]], weights[:, :1])  # goes on after the total was asked for
    truth += np.einsum("gn,gni,gnj->gij", weights[:, :1].numpy(), z[:, :1].numpy(), z[:, :1].numpy())
    np.testing.assert_allclose(sums.total.numpy(), truth, rtol=1e-12, atol=1e-12)


def test_products_in_float32_are_added_in_float64(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("discrepancy.numerics.symmetric.ROWS", 8)
    z, ones = 1e4 * drawn(1, 8, 3), torch.ones(1, 8)
    once, often = OuterProducts(torch.float32), OuterProducts(torch.float32)
    once.add([z.float()], ones)
    for _ in range(1000):
        often.add([z.float()], ones)
    truth = z.mT @ z
    assert 1e-9 < float((once.total - truth).norm() / truth.norm()) < 1e-6
    torch.testing.assert_close(often.total / 1000, once.total, rtol=1e-12, atol=0)


def test_no_rows_at_all():
    sums = OuterProducts()
    with pytest.raises(InvalidInput, match="no rows whose products could be added up"):
        _ = sums.total
    sums.add([drawn(2, 0, 3)], torch.ones(2, 0))
    assert sums.total.shape == (2, 3, 3)
    assert not sums.total.any()


@pytest.mark.parametrize("size", [1, 2, 3, 40])
def test_one_factorisation_solves_for_all_penalties(size: int):
    root = drawn(60, size)
    matrix, right = root.T @ root / 60, drawn(size, 4, seed=2)
    numbers = [1e-9, 1e-2, 1.0, 50.0]
    found = Penalised(matrix).solutions(right, numbers)
    assert list(found) == numbers
    for number, solution in found.items():
        truth = np.linalg.solve(matrix.numpy() + number * np.eye(size), right.numpy())
        np.testing.assert_allclose(solution.numpy(), truth, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [1, 12])
def test_penalties_that_leave_it_indefinite_are_left_out(size: int):
    matrix = -torch.eye(size, dtype=torch.float64)
    matrix[0, -1] = matrix[-1, 0] = -1.0 if size == 1 else 0.5
    found = Penalised(matrix).solutions(drawn(size, 2), [0.1, 3.0])
    assert list(found) == [3.0]
    assert Penalised(matrix).solutions(drawn(size, 2), [0.1]) == {}
