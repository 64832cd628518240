"""Reductions, by their formulas; CVaR against its own definition as a minimum."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from discrepancy.errors import InvalidInput
from discrepancy.reductions import CVaR, Max, Mean, Proportional, Reduction, Sum

VALUES = torch.tensor([3.0, -1.0, 4.0, 1.5, 4.0], dtype=torch.float64)
SHARE = torch.tensor([0.3, 0.2, 0.1, 0.25, 0.15], dtype=torch.float64)
ALL = [Sum(), Mean(), Proportional(), Max(), CVaR(fraction=0.4)]


def cvar_by_definition(values: np.ndarray, share: np.ndarray, fraction: float) -> float:
    """min over t of t + Σ p (D - t)₊ / a: convex and piecewise linear, so the minimum is at one of the values."""
    return min(t + (share * np.maximum(values - t, 0)).sum() / fraction for t in values)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        (Sum(), 11.5),
        (Mean(), 2.3),
        (Proportional(), 0.9 - 0.2 + 0.4 + 0.375 + 0.6),
        (Max(), 4.0),
        (CVaR(fraction=0.25), 4.0),
        (CVaR(fraction=0.5), (4 * 0.25 + 3 * 0.25) / 0.5),
    ],
    ids=lambda item: item.kind if isinstance(item, Reduction) else "",
)
def test_formula(reduction: Reduction, expected: float) -> None:
    assert float(reduction(VALUES, SHARE)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.55, 0.9, 1.0])
def test_cvar_is_its_minimum(fraction: float) -> None:
    value = float(CVaR(fraction=fraction)(VALUES, SHARE))
    values, share = VALUES.numpy(), SHARE.numpy()
    assert value == pytest.approx(cvar_by_definition(values, share, fraction), rel=1e-12)
    found = minimize_scalar(
        lambda t: t + (share * np.maximum(values - t, 0)).sum() / fraction, bounds=(-5, 5), method="bounded"
    )
    assert value == pytest.approx(found.fun, abs=1e-4)


def test_cvar_of_everything_is_proportional() -> None:
    torch.testing.assert_close(CVaR(fraction=1.0)(VALUES, SHARE), Proportional()(VALUES, SHARE), rtol=1e-12, atol=0)


def test_cvar_of_a_mass_that_is_small_beside_the_last() -> None:
    """Half of the fraction has the value 3: (3 + 1) / 2, also in float32, where 5e-10 + 1 is 1."""
    values, share = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 5e-10])
    assert float(CVaR(fraction=1e-9)(values, share)) == pytest.approx(2.0, rel=1e-6)


def test_cvar_gradient_is_the_worst_mass() -> None:
    values = VALUES.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(CVaR(fraction=0.4)(values, SHARE), values)
    expected = torch.tensor([0.15, 0, 0.1, 0, 0.15], dtype=torch.float64) / 0.4
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", ALL, ids=lambda item: item.kind)
def test_separable_means_linear(reduction: Reduction) -> None:
    other = torch.tensor([1.0, 5.0, -2.0, 0.0, 1.0], dtype=torch.float64)
    together = reduction(VALUES + other, SHARE)
    apart = reduction(VALUES, SHARE) + reduction(other, SHARE)
    assert reduction.separable == torch.isclose(together, apart, rtol=1e-12).item()


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(InvalidInput, match=r"'fraction' must lie in \(0, 1\], got"):
        CVaR(fraction=fraction)


@pytest.mark.parametrize("reduction", ALL, ids=lambda item: item.kind)
def test_several_rows_at_once(reduction: Reduction) -> None:
    values, share = torch.stack([VALUES, VALUES.flip(0)]), torch.stack([SHARE, SHARE])
    each = torch.stack([reduction(*rows) for rows in zip(values, share, strict=True)])
    torch.testing.assert_close(reduction(values, share), each, rtol=1e-12, atol=0)


@pytest.mark.parametrize("reduction", [item for item in ALL if item.of_examples], ids=lambda item: item.kind)
def test_examples_count_by_their_mass(reduction: Reduction) -> None:
    """An example without mass changes nothing, nor does one that is divided into two."""
    expected = reduction(VALUES, SHARE)
    none = torch.cat([VALUES, torch.tensor([1e6, -1e6]).double()]), torch.cat([SHARE, torch.zeros(2).double()])
    torch.testing.assert_close(reduction(*none), expected, rtol=1e-12, atol=0)
    split = torch.cat([VALUES, VALUES[:1]]), torch.cat([0.5 * SHARE[:1], SHARE[1:], 0.5 * SHARE[:1]])
    torch.testing.assert_close(reduction(*split), expected, rtol=1e-12, atol=0)


def test_sums_and_means_do_not_look_at_mass() -> None:
    assert {item.kind for item in ALL if not item.of_examples} == {"sum", "mean"}


def test_equal_worst_values_count_alike() -> None:
    values = VALUES.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(Max()(values, SHARE), values)
    assert gradient.tolist() == [0.0, 0.0, 0.5, 0.0, 0.5]


def test_a_learned_mass_has_a_gradient() -> None:
    """CVaR by the mass: what moves into the tail at its edge takes the place of what was there."""
    share = SHARE.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(CVaR(fraction=0.4)(VALUES, share), share)
    step = 1e-7
    for place in range(5):
        moved = torch.zeros(5, dtype=torch.float64)
        moved[place] = step
        values = [float(CVaR(fraction=0.4)(VALUES, SHARE + sign * moved)) for sign in (1, -1)]
        assert float(slope[place]) == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-6)
