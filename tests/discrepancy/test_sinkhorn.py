"""Sinkhorn: the contract, POT's plans, limits of the blur, known answers, refusals.

Properties (Hypothesis):
1. equals plain alternating updates on dense matrices for any sizes (n, m, d >= 1), weights (some zero), offsets, powers;
2. the value is at most that of any plan (balanced, not debiased).
"""

import math
from typing import Any

import geomloss
import numpy as np
import ot
import pytest
import torch
from contract import DiscrepancyContract
from entropic import TIGHT, dense, pair_costs, sample, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import Discrepancy, InvalidInput, Measure, Unsupported
from discrepancy.kernels import Median
from discrepancy.transport.sinkhorn import Sinkhorn


def converged_geomloss(discrepancy: Sinkhorn) -> geomloss.SamplesLoss:
    """Theirs after three hundred iterations, all at the final temperature (but for a factor 1 + 3e-9).

    The distance is given for p = 1: theirs is at least 1e-4, also of a point to itself.
    """
    return geomloss.SamplesLoss(
        "sinkhorn",
        p=discrepancy.p,
        blur=float(discrepancy.blur),  # pyright: ignore[reportArgumentType]
        reach=discrepancy.reach,
        cost=torch.cdist if discrepancy.p == 1 else None,
        diameter=float(discrepancy.blur) * (1 + 3e-9),  # pyright: ignore[reportArgumentType]
        scaling=1 - 1e-11,
        debias=discrepancy.debias,
        backend="tensorized",
    )


class TestSinkhorn(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "balanced": Sinkhorn(blur=2.0, **TIGHT),
        "biased": Sinkhorn(blur=1.0, debias=False, **TIGHT),
        "unbalanced": Sinkhorn(blur=2.0, reach=3.0, **TIGHT),
        "distance": Sinkhorn(p=1, blur=1.0, **TIGHT),
        "distance-unbalanced": Sinkhorn(p=1, blur=0.5, reach=2.0, debias=False, **TIGHT),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Sinkhorn)
        a, b = (side.weights / side.weights.sum() for side in (mu, nu))
        return converged_geomloss(discrepancy)(a, mu.rows, b, nu.rows).item()


class TestSinkhornOfGeomloss(DiscrepancyContract):
    """The back end, against our own solver; it sees rows of numbers, whatever the shape of a point."""

    other_shapes = ()
    instances = {  # noqa: RUF012
        "debiased": Sinkhorn(blur=2.0, backend="geomloss", tolerance=1e-10, iterations=60),
        "biased": Sinkhorn(blur=2.0, backend="geomloss", tolerance=1e-10, iterations=60, debias=False),
    }

    @pytest.mark.filterwarnings("ignore:Sinkhorn stopped after")  # far points: the contract's are twenty times as far
    def test_points_may_be_whole_numbers(self, discrepancy: Discrepancy):
        super().test_points_may_be_whole_numbers(discrepancy)

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Sinkhorn)
        return Sinkhorn(blur=discrepancy.blur, debias=discrepancy.debias, **TIGHT)(mu, nu).item()


def divergence(plan: np.ndarray, reference: np.ndarray) -> float:
    """KL for measures of any mass; 0 log 0 = 0."""
    ratio = np.divide(plan, reference, out=np.ones_like(plan), where=plan > 0)
    return float((plan * np.log(ratio)).sum() - plan.sum() + reference.sum())


# Other libraries


@pytest.mark.parametrize("p", [1, 2])
def test_is_the_cost_of_the_plan_of_pot(p):
    x, y, a, b = sample(7), sample(5, seed=1), weights(7), weights(5, 1)
    cost, eps = pair_costs(x, y, p), 0.8**p
    plan: Any = ot.sinkhorn(a.numpy(), b.numpy(), cost, eps, method="sinkhorn_log", stopThr=1e-14, numItermax=10_000)
    expected = (plan * cost).sum() + eps * divergence(plan, np.outer(a, b))
    value = Sinkhorn(p=p, blur=0.8, debias=False, **TIGHT)(Measure(x, a), Measure(y, b))
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("p", [1, 2])
def test_unbalanced_is_the_cost_of_the_plan_of_pot(p):
    x, y, a, b = sample(7), sample(5, seed=1), weights(7), weights(5, 1)
    cost, eps, rho = pair_costs(x, y, p), 0.8**p, 1.5**p
    plan: Any = ot.unbalanced.sinkhorn_unbalanced(
        a.numpy(), b.numpy(), cost, eps, rho, reg_type="kl", stopThr=1e-15, numItermax=10_000
    )
    expected = (plan * cost).sum() + eps * divergence(plan, np.outer(a, b))
    expected += rho * (divergence(plan.sum(1), a.numpy()) + divergence(plan.sum(0), b.numpy()))
    value = Sinkhorn(p=p, blur=0.8, reach=1.5, debias=False, **TIGHT)(Measure(x, a), Measure(y, b))
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("discrepancy", [Sinkhorn(blur=0.7, **TIGHT), Sinkhorn(p=1, blur=0.7, **TIGHT)], ids=["2", "1"])
def test_gradient_is_that_of_geomloss(discrepancy):
    x, a = sample(7), weights(7)
    leaves = sample(5, seed=1).requires_grad_(), weights(5, 1).requires_grad_()
    ours = torch.autograd.grad(discrepancy(Measure(x, a), Measure(*leaves)), leaves)
    theirs = torch.autograd.grad(converged_geomloss(discrepancy)(a, x, leaves[1], leaves[0]), leaves)
    torch.testing.assert_close(ours[0], theirs[0])
    # Ours is that of the normalised weights.
    torch.testing.assert_close(ours[1], theirs[1] - (theirs[1] * leaves[1]).sum())


# Limits and known answers


@pytest.mark.parametrize("p", [1, 2])
def test_goes_to_exact_transport_as_the_blur_vanishes(p):
    x, y, a, b = sample(7), sample(5, seed=1), weights(7), weights(5, 1)
    exact = ot.emd2(a.numpy(), b.numpy(), pair_costs(x, y, p))
    value = Sinkhorn(p=p, blur=0.03 ** (2 / p), **TIGHT)(Measure(x, a), Measure(y, b))
    assert value.item() == pytest.approx(exact, abs=0.03**2 * math.log(7))


def test_goes_to_the_distance_of_means_as_the_blur_grows():
    x, y, a, b = sample(7), sample(5, seed=1), weights(7), weights(5, 1)
    value = Sinkhorn(blur=3e3, **TIGHT)(Measure(x, a), Measure(y, b))
    torch.testing.assert_close(value, 0.5 * (a @ x - b @ y).square().sum(), atol=1e-6, rtol=1e-5)


def test_goes_to_half_the_energy_distance_as_the_blur_grows():
    x, y, a, b = sample(7), sample(5, seed=1), weights(7), weights(5, 1)
    mean = [v @ torch.cdist(r, s) @ w for r, v, s, w in ((x, a, y, b), (x, a, x, a), (y, b, y, b))]
    value = Sinkhorn(p=1, blur=1e6, **TIGHT)(Measure(x, a), Measure(y, b))
    torch.testing.assert_close(value, mean[0] - 0.5 * mean[1] - 0.5 * mean[2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("p", [1, 2])
def test_two_diracs(p, debias):
    """At distance r with cost c = rᵖ/p: c if balanced, and else f = g = ρ c / (2ρ + ε), so (2ρ + ε)(1 - exp(-c / (2ρ + ε)))."""
    sides = Measure(torch.zeros(1, 1).double()), Measure(torch.full((1, 1), 3.0).double())
    cost, width = 3.0**p / p, 2 * 2.0**p + 0.5**p
    assert Sinkhorn(p=p, blur=0.5, debias=debias)(*sides).item() == pytest.approx(cost)
    unbalanced = Sinkhorn(p=p, blur=0.5, reach=2.0, debias=debias, **TIGHT)(*sides)
    assert unbalanced.item() == pytest.approx(-width * math.expm1(-cost / width))


def test_permutation_is_found():
    x = 5 * sample(11)
    shift = torch.full((11, 3), 0.1).double()
    value = Sinkhorn(blur=0.05)(Measure(x), Measure((x + shift)[torch.randperm(11)]))
    assert value.item() == pytest.approx(0.5 * 3 * 0.1**2, rel=1e-3)


@pytest.mark.parametrize("p", [1, 2])
def test_units_scale_with_the_blur(p):
    x, y = sample(7), sample(5, seed=1)
    near = Sinkhorn(p=p, blur=0.7, reach=2.0, **TIGHT)(Measure(x), Measure(y))
    far = Sinkhorn(p=p, blur=2.1, reach=6.0, **TIGHT)(Measure(3 * x), Measure(3 * y))
    torch.testing.assert_close(far, 3**p * near)


@pytest.mark.parametrize("reach", [None, 1.5], ids=["balanced", "unbalanced"])
def test_weight_gradient_at_a_point_without_weight(reach):
    """The derivative towards a point that has none yet, against a difference to the right."""
    x, y = Measure(sample(7)), sample(4, seed=1)
    discrepancy = Sinkhorn(blur=0.7, reach=reach, **TIGHT)
    v = torch.tensor([0.5, 0.2, 0.3, 0.0]).double().requires_grad_()
    value = discrepancy(x, Measure(y, v))
    (gradient,) = torch.autograd.grad(value, v)
    step = torch.tensor([0, 0, 0, 1e-6]).double()
    moved = discrepancy(x, Measure(y, v.detach() + step))
    assert gradient[3].item() == pytest.approx((moved - value.detach()).item() / 1e-6, rel=1e-4)


# Convergence


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_defaults_are_close(p, dtype):
    """Tolerance 1e-4 gives the value to about its square, and the gradient to a thousandth."""
    x, y = sample(101, 5).to(dtype), (sample(23, 5, seed=1) + 0.3).to(dtype)
    exact_leaf, leaf = y.double().requires_grad_(), y.clone().requires_grad_()
    value = Sinkhorn(p=p, blur=0.5)(Measure(x), Measure(leaf))
    exact = Sinkhorn(p=p, blur=0.5, **TIGHT)(Measure(x.double()), Measure(exact_leaf))
    torch.testing.assert_close(value.double(), exact, atol=1e-6, rtol=1e-6)
    (gradient,), (exact_gradient,) = torch.autograd.grad(value, leaf), torch.autograd.grad(exact, exact_leaf)
    scale = exact_gradient.abs().max().item()
    torch.testing.assert_close(gradient.double(), exact_gradient, atol=1e-3 * scale, rtol=0)


# Refusals


def test_second_derivative_is_refused():
    leaf = sample(5, seed=1).requires_grad_()
    value = Sinkhorn(blur=0.7)(Measure(sample(7)), Measure(leaf))
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
    with pytest.raises(Unsupported, match="'sinkhorn' has first derivatives only"):
        (gradient.square().sum() + leaf.sum()).backward()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blur": 0.0}, "'blur' must be finite and > 0, got 0"),
        ({"reach": -1.0}, "'reach' must be finite and > 0, got -1"),
        ({"scaling": 1.0}, "'scaling' must lie between 0 and 1, got 1"),
        ({"tolerance": 0.0}, "'tolerance' must be finite and > 0"),
        ({"iterations": 0}, "'iterations' must be >= 1, got 0"),
        ({"backend": "geomloss", "p": 1}, "backend 'geomloss' takes p: 2 .*, got p: 1, .* use backend: own"),
        ({"backend": "geomloss", "reach": 2.0}, "backend 'geomloss' .* neither 'reach' nor 'scaling', .* reach: 2.0"),
        ({"backend": "flash_sinkhorn", "scaling": 0.9}, "backend 'flash_sinkhorn' .* scaling: 0.9; use backend: own"),
    ],
    ids=["blur", "reach", "scaling", "tolerance", "iterations", "p of a library", "reach of a library", "its scaling"],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(InvalidInput, match=message):
        Sinkhorn(**fields)


def test_other_powers_are_refused():
    # Past __init__, whose argument types are checked under test.
    discrepancy = object.__new__(Sinkhorn)
    object.__setattr__(discrepancy, "p", 3)
    with pytest.raises(InvalidInput, match="'p' must be 1 or 2, got 3"):
        discrepancy.__post_init__()


def test_resolve_puts_the_numbers_in():
    real = Measure(sample(23))
    rule = Sinkhorn(blur=Median(factor=0.05), reach=Median(factor=2.0))
    assert not rule.resolved
    assert rule.resolve(real) == Sinkhorn(
        blur=Median(factor=0.05).measured(real), reach=Median(factor=2.0).measured(real)
    )
    assert Sinkhorn().resolve(real) == Sinkhorn()
    with pytest.raises(InvalidInput, match=r"'blur' is the rule 'median' .* call resolve\(sample\)"):
        rule(real, real)


# Properties


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 4),
    p=st.sampled_from([1, 2]),
    offset=st.sampled_from([0.0, -100.0]),
    data=st.data(),
)
def test_equals_dense_updates(n: int, m: int, d: int, p, offset: float, data: st.DataObject):
    def drawn(size: int) -> torch.Tensor:
        some = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=size - 1, max_size=size - 1))
        values = torch.tensor([*some, 1.0], dtype=torch.float64)
        return values / values.sum()

    x, a, y, b = sample(n, d) + offset, drawn(n), sample(m, d, 1) + offset, drawn(m)
    cross, own, other = (dense(p, 1.5**p, *sides) for sides in ((x, a, y, b), (x, a, x, a), (y, b, y, b)))
    value = Sinkhorn(p=p, blur=1.5, **TIGHT)(Measure(x, a), Measure(y, b))
    torch.testing.assert_close(value, cross - 0.5 * own - 0.5 * other, atol=1e-7, rtol=1e-7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), blur=st.sampled_from([0.3, 1.0, 5.0]), n=st.integers(1, 6), m=st.integers(1, 6))
def test_no_plan_costs_less(seed: int, blur: float, n: int, m: int):
    """Against the mixtures of the independent plan and that of the linear program."""
    x, y, a, b = sample(n, seed=seed), sample(m, seed=seed + 1), weights(n, seed), weights(m, seed + 1)
    cost, independent = pair_costs(x, y, 2), np.outer(a, b)
    best = ot.emd(a.numpy(), b.numpy(), cost)
    value = Sinkhorn(blur=blur, debias=False, iterations=2000)(Measure(x, a), Measure(y, b)).item()
    for share in (0.0, 0.3, 1.0):
        plan = share * best + (1 - share) * independent
        assert value <= (plan * cost).sum() + blur**2 * divergence(plan, independent) + 1e-9
