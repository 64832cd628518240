"""Exact transport: the contract, linear programs of other libraries, closed forms, inequalities, refusals.

Properties (Hypothesis):
1. equals scipy's linear program for any sizes, weights with zeros, dimensions and powers;
2. |E f(P) - E f(Q)| <= Lip(f) W₁(P, Q) <= Lip(f) W₂(P, Q).
"""

import math
from typing import ClassVar

import numpy as np
import ot
import pytest
import scipy.optimize
import scipy.stats
import torch
from contract import DiscrepancyContract
from exact_plans import drawn, sample, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import Discrepancy, InvalidInput, Measure, NonFinite, NumericalWarning, Unsupported
from discrepancy.transport import Wasserstein, simplex
from discrepancy.transport.exact import optimal_plan


def distances(mu: Measure, nu: Measure) -> np.ndarray:
    x, y = (side.rows.numpy() for side in (mu, nu))
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))


def linear_program(costs: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """min ⟨π, C⟩ with marginals a and b, as scipy solves it."""
    n, m = costs.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    solution = scipy.optimize.linprog(
        costs.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b]), bounds=(0, None), method="highs"
    )
    assert solution.success
    return float(solution.fun)


class TestWasserstein(DiscrepancyContract):
    far_tolerance = 1e-4
    other_shapes = (2, 3, 1), (19,)
    instances = {  # noqa: RUF012
        "two": Wasserstein(),
        "two-root": Wasserstein(root=True),
        "one": Wasserstein(p=1.0),
        "three": Wasserstein(p=3.0),
        "one-and-a-half-root": Wasserstein(p=1.5, root=True),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, Wasserstein)
        value = linear_program(distances(mu, nu) ** discrepancy.p, mu.shares.numpy(), nu.shares.numpy())
        return value ** (1 / discrepancy.p) if discrepancy.root else value


class TestWassersteinOnTheLine(TestWasserstein):
    instances: ClassVar = {name: TestWasserstein.instances[name] for name in ("two-root", "one", "three")}
    shape = (1,)
    other_shapes = ()


# Other libraries


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_against_pot_in_value_and_gradient(p: float):
    x, y = sample(23), sample(17, seed=1).requires_grad_()
    v = weights(17, 1).requires_grad_()
    theirs = ot.emd2(torch.full((23,), 1 / 23).double(), v / v.sum(), torch.cdist(x, y) ** p)
    ours = Wasserstein(p=p)(Measure(x), Measure(y, v))
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(*(torch.autograd.grad(value, (y, v)) for value in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, other)


def test_equal_sizes_are_an_assignment():
    x, y = sample(13), sample(13, seed=1)
    cost = distances(Measure(x), Measure(y)) ** 2
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    assert Wasserstein()(Measure(x), Measure(y)).item() == pytest.approx(cost[rows, columns].mean(), rel=1e-12)


def test_plan_has_the_marginals():
    x, y, w, v = sample(7)[None], sample(5, seed=1)[None], weights(7)[None], weights(5, 1)[None]
    w, v = w / w.sum(), v / v.sum()
    plan = optimal_plan(x, w, y, v)
    torch.testing.assert_close(torch.zeros(7).double().scatter_add(0, plan.real[0], plan.mass[0]), w[0])
    torch.testing.assert_close(torch.zeros(5).double().scatter_add(0, plan.synthetic[0], plan.mass[0]), v[0])


# Known answers


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("d", [1, 3])
def test_translation_costs_its_length(p: float, d: int):
    x = sample(11, d)
    shift = torch.full((d,), 2.0).double()
    value = Wasserstein(p=p, root=True)(Measure(x, weights(11)), Measure(x + shift, weights(11)))
    assert value.item() == pytest.approx(2 * math.sqrt(d), rel=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 2.5])
def test_two_diracs(p: float):
    value = Wasserstein(p=p)(Measure(torch.zeros(1, 2)), Measure(torch.tensor([[3.0, 4.0]])))
    assert value.item() == pytest.approx(5**p, rel=1e-6)


@pytest.mark.parametrize("d", [1, 2])
def test_a_cloud_against_its_mean_is_its_variance(d: int):
    x = sample(29, d)
    value = Wasserstein()(Measure(x), Measure(x.mean(0, keepdim=True)))
    torch.testing.assert_close(value, x.var(0, correction=0).sum())


def test_a_point_may_stand_for_several():
    """(0, 1, 2, 3) with equal weights against ½ δ₀ + ½ δ₄: 1/4 (0 + 1 + 4 + 1) = 3/2 for p = 2, and 1 for p = 1."""
    x, y = torch.tensor([0.0, 1, 2, 3]), torch.tensor([0.0, 4])
    for p, expected in ((2.0, 1.5), (1.0, 1.0)):
        for d in (1, 2):
            sides = [Measure(torch.nn.functional.pad(side[:, None], (0, d - 1))) for side in (x, y)]
            assert Wasserstein(p=p)(*sides).item() == pytest.approx(expected, rel=1e-6)


# Numerics


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e9])
def test_any_unit(p: float, factor: float):
    """The simplex alone stops at a wrong plan where all costs are tiny."""
    x, y = sample(23), sample(17, seed=1)
    expected = Wasserstein(p=p)(Measure(x), Measure(y)) * factor**p
    value = Wasserstein(p=p)(Measure(factor * x), Measure(factor * y))
    torch.testing.assert_close(value, expected, atol=0, rtol=1e-9)


def test_plans_of_nearest_pairs_alone_are_certified():
    """Of few points each is often paired with its nearest, at a cost of zero beyond the minima of rows and columns."""
    for seed in range(500):
        x, y = sample(5, 2, seed=2 * seed), sample(5, 2, seed=2 * seed + 1)
        costs = torch.cdist(x, y).square().numpy()
        right = costs[scipy.optimize.linear_sum_assignment(costs)].mean()
        assert Wasserstein()(Measure(x), Measure(y)).item() == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0])
def test_derivative_by_the_weight_of_a_point_without_weight(p: float, d: int):
    """That of all costs of moving mass from the only real point."""
    x, y = torch.zeros(1, d).double(), torch.zeros(3, d).double()
    y[:, 0] = torch.tensor([1.0, 3.0, -2.0])
    mass = torch.tensor([1.0, 0.0, 0.0]).double().requires_grad_()
    (slope,) = torch.autograd.grad(Wasserstein(p=p)(Measure(x), Measure(y, mass)), mass)
    torch.testing.assert_close(slope, y[:, 0].abs() ** p - 1)


def best_pairs(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """The x of each y, by another solver, of squared costs in longdouble less the minima of rows and columns."""
    a, b = (side.numpy().astype(np.longdouble) for side in (x, y))
    costs = ((a[:, None] - b) ** 2).sum(-1)
    costs -= costs.min(1, keepdims=True)
    rows, columns = scipy.optimize.linear_sum_assignment((costs - costs.min(0)).astype(float))
    return rows[np.argsort(columns)]


@pytest.mark.parametrize("far", [1e5, 1e8])
@pytest.mark.parametrize("side", ["outlier", "clusters"])
def test_far_points_do_not_blur_the_plan_of_others(side: str, far: float, recwarn: pytest.WarningsRecorder):
    x, y = sample(60, 2), sample(60, 2, seed=1)
    if side == "outlier":
        x[0] += far
        nearest = best_pairs(x, y)
    else:  # each cluster on its own
        nearest = np.empty(60, dtype=int)
        for part in (np.arange(0, 60, 2), np.arange(1, 60, 2)):
            nearest[part] = part[best_pairs(x[part], y[part])]
        x[::2] += far
        y[::2] += far
    leaf = y.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Wasserstein()(Measure(x), Measure(leaf)), leaf)
    torch.testing.assert_close(slope, (y - x[nearest]) / 30, rtol=1e-9, atol=1e-9)
    assert not recwarn.list


def test_a_plan_that_is_not_certified_warns():
    """Costs from 1e-2 to 1e16, with mass that must go far."""
    x, y = sample(60, 2), sample(60, 2, seed=1)
    x[::2] += 1e8
    y[::3] += 1e8
    with pytest.warns(NumericalWarning, match="not certified: the costs of its pairs differ by more"):
        Wasserstein()(Measure(x), Measure(y))


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("d", [1, 2])
def test_weight_of_a_point_without_weight_has_a_gradient(p: float, d: int):
    """What the first mass on it would change, against a one-sided difference."""
    mu, y = Measure(sample(7, d), weights(7)), sample(5, d, seed=1)
    v = torch.tensor([0.5, 0.0, 0.7, 0.3, 0.0], dtype=torch.float64)
    leaf = v.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Wasserstein(p=p)(mu, Measure(y, leaf)), leaf)
    for place in range(5):
        step = torch.zeros(5).double().index_fill(0, torch.tensor(place), 1e-6)
        difference = (Wasserstein(p=p)(mu, Measure(y, v + step)) - Wasserstein(p=p)(mu, Measure(y, v))) / 1e-6
        torch.testing.assert_close(slope[place], difference, atol=1e-4, rtol=1e-4)


def test_padding_may_lie_anywhere():
    x, y = sample(7), sample(5, seed=1)
    far = [torch.cat([1e30 * torch.ones(2, 3).double(), side]) for side in (x, y)]
    sides = [Measure(side, torch.cat([torch.zeros(2), torch.ones(len(side) - 2)]).double()).as_groups() for side in far]
    for p in (1.0, 2.0):
        torch.testing.assert_close(Wasserstein(p=p)(*sides)[0], Wasserstein(p=p)(Measure(x), Measure(y)))


def test_what_is_kept_for_backward_does_not_grow_with_the_pairs():
    def saved(n: int) -> int:
        summary = Wasserstein().summarise(Measure(sample(n)).as_groups())
        leaf, total = sample(11, seed=1).requires_grad_(), 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            Wasserstein().compare(summary, Measure(leaf).as_groups())
        return total

    assert saved(800) < 5 * saved(200)


# Refusals


def test_beyond_the_cap_is_refused():
    with pytest.raises(
        InvalidInput, match=r"between 7 and 5 points exceeds its 'cap' of 34 pairs.*'sliced_wasserstein'"
    ):
        Wasserstein(cap=34)(Measure(sample(7)), Measure(sample(5)))
    padded = Measure(sample(9), torch.tensor([1.0] * 7 + [0.0] * 2))
    assert Wasserstein(cap=35)(padded, Measure(sample(5))) >= 0
    assert Wasserstein(cap=1)(Measure(sample(7, 1)), Measure(sample(5, 1))) >= 0


def test_giving_up_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simplex, "PIVOTS", 2)
    with pytest.raises(Unsupported, match=r"was not solved in 2 steps .*use fewer points"):
        Wasserstein()(Measure(sample(23)), Measure(sample(17, seed=1)))


def test_points_that_are_not_finite_are_refused_in_a_comparison():
    summary = Wasserstein().summarise(Measure(sample(7)).as_groups())
    with pytest.raises(NonFinite, match="not finite"):
        Wasserstein().compare(summary, Measure(torch.nan * sample(5)).as_groups())


def test_second_derivative_is_refused():
    y = sample(5, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(Wasserstein()(Measure(sample(7)), Measure(y)), y, create_graph=True)
    with pytest.raises(Unsupported, match="'wasserstein' has first derivatives only"):
        torch.autograd.grad(slope.sum(), y)


@pytest.mark.parametrize("p", [0.5, math.inf, math.nan])
def test_powers_that_are_no_metric_are_refused(p: float):
    with pytest.raises(InvalidInput, match=r"'p' must be a finite number >= 1, got"):
        Wasserstein(p=p)


def test_a_cap_of_nothing_is_refused():
    with pytest.raises(InvalidInput, match=r"'cap' must be >= 1, got 0"):
        Wasserstein(cap=0)


def test_no_global_generator_is_touched():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Wasserstein()(Measure(sample(7)), Measure(sample(5, seed=1)))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


# Properties


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 6),
    d=st.integers(1, 9),
    p=st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    offset=st.sampled_from([0.0, -100.0]),
    equal=st.booleans(),
    data=st.data(),
)
def test_equals_the_program_of_scipy(n: int, m: int, d: int, p: float, offset: float, equal: bool, data: st.DataObject):
    x = sample(n, d) + offset
    y = x[torch.arange(m) % n] if equal else sample(m, d, 1) + offset
    mu, nu = Measure(x, drawn(data, n)), Measure(y, drawn(data, m))
    expected = linear_program(distances(mu, nu) ** p, mu.shares.numpy(), nu.shares.numpy())
    assert Wasserstein(p=p)(mu, nu).item() == pytest.approx(expected, rel=1e-8, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 9), d=st.integers(1, 4), seed=st.integers(0, 99))
def test_expectations_of_lipschitz_functions(n: int, m: int, d: int, seed: int):
    """f(x) = minₖ (aₖ + ‖x - cₖ‖) has Lipschitz constant 1."""
    mu, nu = Measure(sample(n, d, seed), weights(n)), Measure(sample(m, d, seed + 100), weights(m, 1))
    heights, centres = weights(3, seed), sample(3, d, seed + 200)
    means = [(side.shares * (torch.cdist(side.rows, centres) + heights).amin(-1)).sum() for side in (mu, nu)]
    first, second = (Wasserstein(p=p, root=True)(mu, nu) for p in (1.0, 2.0))
    assert (means[0] - means[1]).abs() <= first + 1e-12
    assert first <= second + 1e-12
