"""Sinkhorn: the contract against geomloss, POT's plans, limits of the blur, known answers, convergence, memory.

Properties (Hypothesis):
1. equals plain alternating updates on dense matrices for any sizes (n, m, d >= 1), weights (some zero), offsets, powers;
2. the value is at most that of any plan (balanced, not debiased).
"""

import importlib.util
import math
import sys
from typing import Any

import geomloss
import numpy as np
import ot
import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import Discrepancy, InvalidInput, Measure, Unsupported
from discrepancy.discrepancy import SampleSummary
from discrepancy.errors import NumericalWarning
from discrepancy.kernels import Median
from discrepancy.transport import backends, costs, potentials
from discrepancy.transport.sinkhorn import Sinkhorn

TIGHT: dict[str, Any] = {"tolerance": 1e-11, "iterations": 1000}


def converged_geomloss(discrepancy: Sinkhorn) -> geomloss.SamplesLoss:
    """Theirs after a thousand iterations, all at the final temperature (but for a factor 1 + 1e-8).

    The distance is given for p = 1: theirs is at least 1e-4, also of a point to itself.
    """
    return geomloss.SamplesLoss(
        "sinkhorn",
        p=discrepancy.p,
        blur=float(discrepancy.blur),  # pyright: ignore[reportArgumentType]
        reach=discrepancy.reach,
        cost=torch.cdist if discrepancy.p == 1 else None,
        diameter=float(discrepancy.blur) * (1 + 1e-8),  # pyright: ignore[reportArgumentType]
        scaling=1 - 1e-11,
        debias=discrepancy.debias,
        backend="tensorized",
    )


class TestSinkhorn(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "balanced": Sinkhorn(blur=1.0, **TIGHT),
        "biased": Sinkhorn(blur=1.0, debias=False, **TIGHT),
        "unbalanced": Sinkhorn(blur=1.0, reach=1.5, **TIGHT),
        "distance": Sinkhorn(p=1, blur=0.5, **TIGHT),
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
        "debiased": Sinkhorn(blur=1.0, backend="geomloss", tolerance=1e-10, iterations=300),
        "biased": Sinkhorn(blur=1.0, backend="geomloss", tolerance=1e-10, iterations=300, debias=False),
    }

    @pytest.mark.filterwarnings("ignore:Sinkhorn stopped after")  # far points: the contract's are twenty times as far
    def test_points_may_be_whole_numbers(self, discrepancy: Discrepancy):
        super().test_points_may_be_whole_numbers(discrepancy)

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Sinkhorn)
        return Sinkhorn(blur=discrepancy.blur, debias=discrepancy.debias, **TIGHT)(mu, nu).item()


def sample(n: int, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(n: int, seed: int = 0) -> torch.Tensor:
    values = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    return values / values.sum()


def pair_costs(x: torch.Tensor, y: torch.Tensor, p: int) -> np.ndarray:
    return (x[:, None] - y).norm(dim=-1).pow(p).div(p).numpy()


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


@pytest.mark.parametrize("debias", [True, False], ids=["debiased", "biased"])
def test_back_ends_agree_in_value_and_gradient(debias):
    """Two groups, weights that differ, a padded point in each."""
    x, y = torch.stack([sample(23), sample(23, seed=2)]), torch.stack([sample(7, seed=1), 2 * sample(7, seed=3)])
    w, v = torch.ones(2, 23).double(), torch.stack([weights(7, 1), weights(7, 2)])
    w[0, -1] = v[1, 0] = 0
    found = []
    for backend in ("own", "geomloss"):
        leaves = y.clone().requires_grad_(), v.clone().requires_grad_()
        discrepancy = Sinkhorn(blur=0.7, debias=debias, backend=backend, tolerance=1e-9, iterations=2000)
        value = discrepancy(Measure(x, w), Measure(*leaves))
        found.append((value.detach(), *torch.autograd.grad(value.sum(), leaves)))
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(other, own, atol=1e-8, rtol=1e-8)


def test_geomloss_that_stops_early_is_said():
    x, y = sample(31), sample(7, seed=1)
    with pytest.warns(
        NumericalWarning, match=r"stopped after 3 iterations with .* mass out of place .tolerance 0.0001"
    ):
        Sinkhorn(blur=0.1, iterations=3, debias=False, backend="geomloss")(Measure(x), Measure(y))


@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("flash_sinkhorn") is None,
    reason="CUDA and flash-sinkhorn",
)
def test_flash_sinkhorn_agrees_in_value_and_gradient():
    x, y, v = sample(203, 5).float().cuda(), sample(31, 5, seed=1).float().cuda(), weights(31, 1).float().cuda()
    found = []
    for backend in ("own", "flash_sinkhorn"):
        leaf = y.clone().requires_grad_()
        value = Sinkhorn(blur=0.7, backend=backend)(Measure(x), Measure(leaf, v))
        found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(other, own, atol=1e-4, rtol=1e-3)


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


@pytest.mark.parametrize("reach", [None, 0.5], ids=["balanced", "unbalanced"])
def test_far_outliers_and_small_blur_stay_finite(reach):
    x, y = sample(31), sample(7, seed=1)
    x[0], y[0], y[1] = 30, -30, 10
    leaf = y.float().requires_grad_()
    value = Sinkhorn(blur=0.1, reach=reach)(Measure(x.float()), Measure(leaf))
    value.backward()
    assert leaf.grad is not None
    assert bool(torch.isfinite(leaf.grad).all())
    exact = Sinkhorn(blur=0.1, reach=reach, **TIGHT)(Measure(x), Measure(y))
    torch.testing.assert_close(value.double(), exact, atol=0, rtol=1e-3)


def test_stopping_early_is_said():
    x, y = sample(31), sample(7, seed=1)
    with pytest.warns(NumericalWarning, match=r"stopped after 2 iterations .* mass out of place .* raise 'blur'"):
        value = Sinkhorn(blur=0.02, iterations=2, debias=False)(Measure(x), Measure(y))
    assert value.item() == pytest.approx(Sinkhorn(blur=0.02, debias=False)(Measure(x), Measure(y)).item(), rel=0.1)


def test_groups_end_each_at_its_own_time():
    """An easy group beside a hard one has the value and gradient that it has alone, also at a loose tolerance."""
    x, y = torch.stack([sample(31), 9 * sample(31, seed=2)]), torch.stack([sample(7, seed=1), 9 * sample(7, seed=3)])
    leaf, discrepancy = y.clone().requires_grad_(), Sinkhorn(blur=0.5, tolerance=1e-2)
    v, w = torch.ones(2, 7), torch.ones(2, 31)
    together = discrepancy(Measure(x, w), Measure(leaf, v))
    (gradient,) = torch.autograd.grad(together.sum(), leaf)
    for group in range(2):
        alone = y[group].clone().requires_grad_()
        value = discrepancy(Measure(x[group]), Measure(alone))
        torch.testing.assert_close(together[group], value)
        torch.testing.assert_close(gradient[group], torch.autograd.grad(value, alone)[0])


def test_diverged_points_give_nan_at_once():
    summary = Sinkhorn(blur=0.5).summarise(Measure(sample(7)).as_groups())
    nowhere = torch.full((1, 5, 3), torch.nan).double()
    assert bool(Sinkhorn(blur=0.5).compare(summary, Measure(nowhere, torch.ones(1, 5))).isnan())


# Memory and reuse


@pytest.mark.parametrize("p", [1, 2])
def test_holding_the_products_changes_nothing(p, monkeypatch: pytest.MonkeyPatch):
    x, leaf = Measure(sample(53, 17)), sample(11, 17, seed=1).requires_grad_()
    results = []
    for budget in (1 << 20, 0):
        monkeypatch.setitem(costs.HELD_BYTES, "cpu", budget)
        value = Sinkhorn(p=p, blur=2.0, **TIGHT)(x, Measure(leaf))
        results.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("held", [1 << 20, 0], ids=["held", "again"])
@pytest.mark.parametrize("fields", [{}, {"p": 1}, {"reach": 3.0}], ids=["square", "distance", "unbalanced"])
def test_order_in_memory_changes_nothing(fields, held, monkeypatch: pytest.MonkeyPatch):
    x, leaf = Measure(sample(53, 17)), sample(11, 17, seed=1).requires_grad_()
    monkeypatch.setitem(costs.HELD_BYTES, "cpu", held)
    results = []
    for narrow in (0, 100):
        monkeypatch.setattr(costs, "NARROW", narrow)
        value = Sinkhorn(blur=2.0, **fields, **TIGHT)(x, Measure(leaf))
        results.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("p", [1, 2])
def test_clusters_that_lie_far_apart_are_compared_one_by_one(p: int, dtype: torch.dtype):
    x = sample(20)
    y, far = x.flip(0) + 0.25, torch.zeros(20, 1).double()
    discrepancy = Sinkhorn(p=p, blur=0.5, tolerance=1e-7)  # pyright: ignore[reportArgumentType]
    far[::2] = 1e6
    x, y = ((side + offset).to(dtype).double() for side, offset in ((x, far), (y, far.flip(0))))
    apart = [
        discrepancy(*(Measure((side - 1e6 * near)[(side[:, 0] > 5e5) == near]) for side in (x, y)))
        for near in (True, False)
    ]
    value = discrepancy(*(Measure(side.to(dtype)) for side in (x, y)))
    torch.testing.assert_close(value.double(), (apart[0] + apart[1]) / 2, rtol=1e-4, atol=1e-5)


def test_few_columns_lie_column_by_column():
    x, y = sample(53)[None], sample(11, seed=1)[None]
    cost = costs.Cost(2, x, y, torch.zeros(1, 1, 3), (torch.ones(1, 53), torch.ones(1, 11)))
    assert cost.negative(slice(0, 1), slice(0, 53), slice(0, 11)).mT.is_contiguous()


def test_own_term_of_the_real_side_is_computed_once(monkeypatch: pytest.MonkeyPatch):
    discrepancy, sizes = Sinkhorn(blur=0.5), []
    summary = discrepancy.summarise(Measure(sample(101)).as_groups())
    assert isinstance(summary, SampleSummary)
    alone = potentials.Entropic.alone
    monkeypatch.setattr(
        potentials.Entropic,
        "alone",
        lambda self, y, b, *known, **slopes: sizes.append(y.shape[1]) or alone(self, y, b, *known, **slopes),
    )
    discrepancy.compare(summary, Measure(sample(5, seed=1)).as_groups())
    assert sizes == [5]
    assert "own" not in Sinkhorn(debias=False).summarise(Measure(sample(11)).as_groups()).constants


def test_saved_bytes_do_not_grow_with_n():
    def saved(n: int) -> int:
        summary = Sinkhorn(blur=0.5).summarise(Measure(sample(n)).as_groups())
        leaf, total = sample(5, seed=1).requires_grad_(), 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            Sinkhorn(blur=0.5).compare(summary, Measure(leaf).as_groups())
        return total

    assert saved(17) == saved(509) > 0


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


@pytest.mark.parametrize(("module", "pairs"), [("geomloss", 100), ("pykeops", 10)])
def test_a_library_that_is_not_there_is_named(module, pairs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(backends, "DENSE_PAIRS", pairs)
    with pytest.raises(InvalidInput, match=rf"'{module}' does not import .*: pip install {module}; .*backend: own"):
        Sinkhorn(backend="geomloss")(Measure(sample(7)), Measure(sample(5)))


def test_flash_sinkhorn_takes_float32_on_cuda_only():
    with pytest.raises(
        Unsupported, match=r"'flash_sinkhorn' takes float32 on a CUDA device only, got torch.float64 on cpu"
    ):
        Sinkhorn(backend="flash_sinkhorn")(Measure(sample(7)), Measure(sample(5)))


def test_a_back_end_has_no_second_derivative_either():
    leaf = sample(5, seed=1).requires_grad_()
    value = Sinkhorn(blur=0.7, backend="geomloss")(Measure(sample(7)), Measure(leaf))
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
    with pytest.raises(Unsupported, match="'sinkhorn' has first derivatives only"):
        gradient.square().sum().backward()


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


def dense(p: int, eps: float, x: torch.Tensor, a: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """OT on the points that have weight, by updates of both potentials that are averaged with what was there before."""
    x, y, a, b = x[a > 0], y[b > 0], a[a > 0], b[b > 0]
    cost = torch.from_numpy(pair_costs(x, y, p))
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(500):
        row = -eps * torch.logsumexp(b.log() + (g - cost) / eps, 1)
        column = -eps * torch.logsumexp(a.log()[:, None] + (f[:, None] - cost) / eps, 0)
        f, g = 0.5 * (f + row), 0.5 * (g + column)
    return a @ f + b @ g


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(
    ("x", "y", "b"),
    [
        ([[0.0, 3.0], [0.0, 1.0]], [[-1.0, 0.0], [1.0, 0.0]], [0.5, 0.5]),
        ([[1.5, 0.0], [-0.3, 0.0]], [[0.7, 0.0], [0.3, 0.0]], [0.0, 1.0]),
    ],
    ids=["both columns equally far from each row", "one column has all the mass"],
)
def test_the_potential_of_a_measure_with_itself_must_be_right_for_both_sides(p, x, y, b):
    # The synthetic side's own potential puts all mass in place, and is not the potential of the real side.
    x, y, b = (torch.tensor(side, dtype=torch.float64) for side in (x, y, b))
    a = torch.full((2,), 0.5, dtype=torch.float64)
    value = Sinkhorn(p=p, blur=1.5, **TIGHT)(Measure(x, a), Measure(y, b))
    cross, own, other = (dense(p, 1.5**p, *sides) for sides in ((x, a, y, b), (x, a, x, a), (y, b, y, b)))
    torch.testing.assert_close(value, cross - 0.5 * own - 0.5 * other)


@pytest.mark.parametrize(
    ("distance", "share", "blur", "dtype"),
    [(50.0, 0.51, 0.05, torch.float32), (10.0, 0.5001, 0.05, torch.float64), (1.0, 0.505, 0.001, torch.float32)],
)
def test_a_little_mass_in_another_cluster_counts(distance: float, share: float, blur: float, dtype: torch.dtype):
    """The value is that mass times half the squared distance."""
    x = torch.tensor([[0.0], [distance]], dtype=dtype)
    value = Sinkhorn(blur=blur)(Measure(x), Measure(x, torch.tensor([share, 1 - share], dtype=dtype)))
    assert value.item() == pytest.approx((share - 0.5) * distance**2 / 2, rel=2e-3)


def test_no_digit_is_lost_far_from_the_origin():
    x, y = (sample(size, 8, seed).float() + 1e5 for size, seed in ((100, 0), (50, 1)))
    discrepancy = Sinkhorn(blur=0.5)
    exact = discrepancy(Measure(x.double()), Measure(y.double()))
    torch.testing.assert_close(discrepancy(Measure(x), Measure(y)).double(), exact, rtol=2e-6, atol=0)


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
