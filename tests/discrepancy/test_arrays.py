"""What people have becomes dense tensors of real numbers, or is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from discrepancy import InvalidInput, Measure

ROWS = [np.ma.masked_less(np.arange(3.0), row) for row in range(3)]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ma.masked_less(np.arange(6.0).reshape(2, 3), 2), "'points' have 2 masked values; fill them"),
        (ROWS, "'points' have 3 masked values"),
        ([ROWS[0], [0.0, np.ma.masked, 2.0]], "'points' have 1 masked values"),
        (torch.eye(3).to_sparse(), "'points' must be a dense tensor of real numbers, .* of layout torch.sparse_coo"),
        (torch.eye(3, dtype=torch.complex64), "got complex numbers; use torch.view_as_real"),
        ([[1.0], [1.0, 2.0]], "all rows of one length"),
        (np.full((2, 3), "a"), "nested lists of numbers"),
    ],
    ids=["masked", "rows", "entry", "sparse", "complex", "ragged", "text"],
)
def test_what_is_no_dense_tensor_is_refused(points: Any, message: str):
    with pytest.raises(InvalidInput, match=message):
        Measure(points)


def test_unmasked_masked_arrays_are_arrays():
    """Nothing is masked, alone and in a list."""
    values = np.arange(6.0).reshape(2, 3)
    plain = np.ma.masked_array(values)
    for points in (plain, list(plain)):
        assert torch.equal(Measure(points).points, torch.from_numpy(values))
