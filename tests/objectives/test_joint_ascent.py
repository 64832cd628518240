"""The largest value of a function of many points that move within balls."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.attacks import Threat
from objectives.attacks.joint import JointAscent
from objectives.attacks.threat import Ball

NORMS = ["linf", "l2"]


def points(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lengths(moved: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(moved, ord=float("inf") if norm == "linf" else 2, dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_function_rises_by_the_dual_norms(norm: Any) -> None:
    """sup Σ ⟨w_i, x_i + δ_i⟩ is Σ ⟨w_i, x_i⟩ + ε Σ ‖w_i‖, with the norm L1 for L∞ and L2 for L2."""
    x, w, eps = points(5, 3), points(5, 3, 1) - 0.5, 0.07
    found = JointAscent(eps=eps, norm=norm).highest(
        lambda z: (w * z).sum(), Ball(Threat(norm, eps), x), torch.Generator()
    )
    rise = eps * torch.linalg.vector_norm(w, ord=1 if norm == "linf" else 2, dim=1).sum()
    torch.testing.assert_close((w * (found - x)).sum(), rise, rtol=1e-5, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_the_largest_of_a_grid_in_two_dimensions(norm: Any) -> None:
    """A bent function of one point of the plane, with limits, on 401² places."""
    eps, centre = 0.2, torch.tensor([[0.1, 0.6]], dtype=torch.float64)

    def value(z: Tensor) -> Tensor:
        return torch.sin(5 * z[..., 0]) + 2 * z[..., 0] * z[..., 1] ** 2 + torch.cos(3 * z[..., 1])

    steps = np.linspace(-eps, eps, 401)
    moves = torch.from_numpy(np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2))
    places = centre + moves[lengths(moves, norm) <= eps]
    highest = value(places[((places >= 0) & (places <= 1)).all(1)]).max()
    ascent = JointAscent(eps=eps, norm=norm, steps=60, restarts=3)
    ball = Ball(Threat(norm, eps), centre, 0.0, 1.0)
    found = value(ascent.highest(lambda z: value(z).sum(), ball, torch.Generator().manual_seed(0)))
    assert float(value(centre)) + 0.1 < float(highest)
    torch.testing.assert_close(found[0], highest, rtol=2e-3, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_points_stay_within_the_ball_and_no_value_is_lost(norm: Any) -> None:
    """Also of a function that falls along its steepest ascent, where the steps are long."""
    x = points(7, 4)

    def value(z: Tensor) -> Tensor:
        return -torch.linalg.vector_norm(z - x - 1e-3).square()

    for eps in (0.0, 0.02, 0.9):
        ascent = JointAscent(eps=eps, norm=norm, steps=3, step=0.5, restarts=2)
        found = ascent.highest(value, Ball(Threat(norm, eps), x, 0.0, 1.0), torch.Generator().manual_seed(1))
        assert float(lengths(found - x, norm).max()) <= eps * (1 + 1e-6)
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        assert float(value(found)) >= float(value(x))
        assert eps > 0 or torch.equal(found, x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": -0.1}, "'eps' must be >= 0 and finite, got -0.1"),
        ({"eps": 0.1, "steps": 0}, "'steps' must be at least 1"),
        ({"eps": 0.1, "restarts": 0}, "'restarts' must be at least 1"),
        ({"eps": 0.1, "step": float("inf")}, "'step' must be > 0 and finite, got inf"),
        ({"eps": 0.1, "step": 0.0}, "'step' must be > 0 and finite, got 0.0"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        JointAscent(**settings)
