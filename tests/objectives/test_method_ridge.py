"""Exact ridge regression: numpy learns from the condensed set the weights that it learns from all the real data."""

import numpy as np
import pytest
import torch
from conformance import trial

from objectives.condensation import result, solve


def learned(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """min over W of E ‖W x - y‖² + λ ‖W‖²; the one of least norm for λ = 0."""
    if penalty == 0:
        return np.linalg.lstsq(x, y, rcond=1e-11)[0].T
    return np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(x.shape[1]), x.T @ y / len(x)).T


@pytest.mark.conformance("ridge")
@pytest.mark.parametrize("per_class", [1, 3])
def test_the_same_weights_from_one_example_a_class_on(per_class: int):
    """Theorem 4.1. λ has the least squared error on a twentieth of the real examples: those numbers n = 1, 2, ... whose
    frac(n (√5 - 1)/2) is below 1/20. The weights are those of all the examples."""
    some = trial("ridge", (f"synthetic.per_class={per_class}",), size=1)
    solve(some.run)
    made, data = result(some.problem, some.run), some.problem.data

    def flat(points: torch.Tensor) -> np.ndarray:
        return data.normalisation.apply(points, torch.float64).flatten(1).numpy()

    x, y = flat(data.rows().points), np.eye(3)[data.strata.numpy()]
    held = (np.arange(1, len(x) + 1) * (5**0.5 - 1) / 2) % 1 < 0.05
    errors = {}
    for penalty in 10.0 ** np.arange(-10, 1.25, 0.5):
        guess = x[held] @ learned(x[~held], y[~held], penalty).T
        errors[penalty] = ((guess - y[held]) ** 2).mean()
    sought = learned(x, y, min(errors, key=errors.__getitem__))
    assert made.labels is not None
    assert len(made) == 3 * per_class
    found = learned(flat(made.points), np.eye(3)[made.labels.numpy()], 0)
    assert np.linalg.norm(found - sought) < 1e-9 * np.linalg.norm(sought)
