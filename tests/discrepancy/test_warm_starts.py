"""Warm starts change the time and no bit.

Property (Hypothesis): masses in whole units are those of the measure to 2⁻⁵¹.
"""

import gc

import numpy as np
import ot
import pytest
import torch
from exact_plans import sample, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import Measure
from discrepancy.transport import Wasserstein, exact, simplex


def descent(n: int, m: int, steps: int, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The points after so many steps against one summary, as a run makes them."""
    summary, v = Wasserstein().summarise(Measure(x).as_groups()), weights(m)[None] + 0.1
    for _ in range(steps):
        leaf = y.clone().requires_grad_()
        (slope,) = torch.autograd.grad(Wasserstein().compare(summary, Measure(leaf[None], v)).sum(), leaf)
        y = y - 0.05 * m * slope
    return y


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """Of each program: whether it started warm, and whether its plan is the only optimal one."""
    seen: list[tuple[bool, bool]] = []
    solve = simplex.simplex

    def watched(a, b, cost, start=None):
        found = solve(a, b, cost, start)
        seen.append((start is not None, simplex._unique(cost, found)))
        return found

    monkeypatch.setattr(simplex, "simplex", watched)
    return seen


@pytest.mark.parametrize("ties", [False, True], ids=["in general position", "with ties"])
def test_a_run_that_is_interrupted_is_the_same_to_the_bit(ties: bool, used):
    """3 + 3 steps, of which the fourth starts cold, equal 6; whole numbers and repeated points have many optimal plans."""
    n, m = 700, 150
    x, y = sample(n, 5), sample(m, 5, seed=1)
    if ties:
        x, y = x.round(), x.round()[:m]
    whole = descent(n, m, 6, y, x)
    warm = [each for start, each in used if start]
    assert any(warm) != ties
    assert torch.equal(descent(n, m, 3, descent(n, m, 3, y, x), x), whole)


def test_a_warm_start_changes_neither_value_nor_gradient(used):
    x, y = sample(900, 7), sample(120, 7, seed=1)
    summary, found = Wasserstein().summarise(Measure(x).as_groups()), []
    Wasserstein().compare(summary, Measure(y + 0.01 * sample(120, 7, seed=2)).as_groups())
    for against in (summary, Wasserstein().summarise(Measure(x).as_groups())):
        leaf = y.clone().requires_grad_()
        value = Wasserstein().compare(against, Measure(leaf).as_groups())
        found.append((value.detach(), torch.autograd.grad(value.sum(), leaf)[0]))
    assert [start for start, _ in used] == [False, True, False]
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    theirs = ot.emd2([], [], (torch.cdist(x, y) ** 2).numpy())
    assert found[0][0].item() == pytest.approx(float(theirs), rel=1e-11)


def test_learned_weights_start_cold(used):
    """The potentials, which are the gradient, are one choice of many where the plan is degenerate."""
    summary, y = Wasserstein().summarise(Measure(sample(900)).as_groups()), sample(120, seed=1)[None]
    for _ in range(3):
        Wasserstein().compare(summary, Measure(y, torch.ones(1, 120).requires_grad_()))
    assert not any(start for start, _ in used)


def test_a_summary_that_goes_takes_its_potentials_along():
    before = len(exact._STARTS)
    summary = Wasserstein().summarise(Measure(sample(900)).as_groups())
    Wasserstein().compare(summary, Measure(sample(120, seed=1)).as_groups())
    assert len(exact._STARTS) == before + 1
    del summary
    gc.collect()
    assert len(exact._STARTS) == before


def test_warm_starts_that_fail_are_left(used):
    """Points on a grid: no plan is the only one, so after three times the cold solver is left alone."""
    x = sample(900, 2).round()
    summary = Wasserstein().summarise(Measure(x).as_groups())
    for _ in range(6):
        Wasserstein().compare(summary, Measure(x[:120]).as_groups())
    assert sum(start for start, _ in used) == simplex.PATIENCE


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 99), equal=st.booleans())
def test_masses_in_whole_units(n: int, seed: int, equal: bool):
    mass = np.ones(n) if equal else weights(n, seed).numpy()
    whole = simplex._whole(mass)
    assert whole.sum() == simplex.UNITS
    assert np.array_equal(whole, np.round(whole))
    np.testing.assert_allclose(whole / simplex.UNITS, mass / mass.sum(), rtol=0, atol=2.0**-51)


def test_a_cycle_of_ties_is_not_unique():
    """Two points against two: all pairs cost the same, so any plan is optimal; and not if one pair costs more."""
    masses = np.full(2, simplex.UNITS / 2)
    for cost, expected in ((np.ones((2, 2)), False), (np.array([[0.0, 1.0], [1.0, 1.0]]), True)):
        assert simplex._unique(cost, simplex.simplex(masses, masses, cost)) is expected
