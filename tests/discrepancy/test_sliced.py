"""Sliced and max-sliced transport: the contract, quantile integration by hand, closed forms, inequalities, memory.

Properties (Hypothesis):
1. W_p^p on the line equals the integral over merged quantiles, for any sizes, ties, and weights with zeros;
2. sliced <= max-sliced <= W for the same directions; max-sliced is at least each slice it starts from.
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import Discrepancy, InvalidInput, Measure, Unsupported
from discrepancy.transport import MaxSlicedWasserstein, SlicedWasserstein, Wasserstein, line
from discrepancy.transport.line import QuantileTables, line_cost, shared_levels


def by_quantiles(x, w, y, v, p: float) -> float:
    """∫ |Q_x - Q_y|^p by walking up both staircases, taking from each the smaller rest of mass."""
    first = sorted(zip(np.asarray(x).tolist(), (np.asarray(w) / np.sum(np.asarray(w))).tolist(), strict=True))
    second = sorted(zip(np.asarray(y).tolist(), (np.asarray(v) / np.sum(np.asarray(v))).tolist(), strict=True))
    total, i, j = 0.0, 0, 0
    left, right = first[0][1], second[0][1]
    while i < len(first) and j < len(second):
        moved = min(left, right)
        total += moved * abs(first[i][0] - second[j][0]) ** p
        left, right = left - moved, right - moved
        if left <= 1e-15:
            i += 1
            left = first[i][1] if i < len(first) else 0.0
        if right <= 1e-15:
            j += 1
            right = second[j][1] if j < len(second) else 0.0
    return total


def slices(discrepancy, mu: Measure, nu: Measure, directions: torch.Tensor) -> list[float]:
    unit = directions.double() / directions.double().norm(dim=-1, keepdim=True)
    return [
        by_quantiles(mu.rows.double() @ theta, mu.weights, nu.rows.double() @ theta, nu.weights, discrepancy.p)
        for theta in unit
    ]


def sample(n: int, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestSlicedWasserstein(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "two": SlicedWasserstein(directions=11),
        "two-root": SlicedWasserstein(directions=11, root=True),
        "one": SlicedWasserstein(p=1.0, directions=11),
        "one-and-a-half-root": SlicedWasserstein(p=1.5, directions=11, root=True),
        "three": SlicedWasserstein(p=3.0, directions=11),
    }
    float32_tolerance = 5e-6

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, SlicedWasserstein)
        directions = discrepancy.draw(generator(), mu.points.shape[1:])["direction"]  # pyright: ignore
        value = float(np.mean(slices(discrepancy, mu, nu, directions)))
        return value ** (1 / discrepancy.p) if discrepancy.root else value


class TestSlicedWassersteinOnTheLine(TestSlicedWasserstein):
    instances: ClassVar = {name: TestSlicedWasserstein.instances[name] for name in ("two-root", "one", "three")}
    shape = (1,)
    other_shapes = ()


class TestMaxSlicedWasserstein(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "two": MaxSlicedWasserstein(starts=3, steps=2),
        "two-root": MaxSlicedWasserstein(starts=3, steps=2, root=True),
        "one": MaxSlicedWasserstein(p=1.0, starts=3, steps=2),
        "three": MaxSlicedWasserstein(p=3.0, starts=3, steps=2),
    }
    float32_tolerance = 5e-6

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        """The directions are ours; the value along each is not."""
        assert isinstance(discrepancy, MaxSlicedWasserstein)
        draws = discrepancy.draw(generator(), mu.points.shape[1:])  # pyright: ignore
        summary = discrepancy.summarise(mu.as_groups(), draws)
        directions = discrepancy.sharpened(summary, nu.as_groups(), draws)["direction"][0]  # pyright: ignore
        value = max(slices(discrepancy, mu, nu, directions))
        return value ** (1 / discrepancy.p) if discrepancy.root else value

    def test_lone_point_moves_to_its_target(self, discrepancy: Discrepancy):
        """As in a run, where the directions climb while the point moves."""
        target, point = self.sample(1, 3), self.sample(1, 4).points
        assert isinstance(point, torch.Tensor)
        draws = self.draws(discrepancy)
        summary = discrepancy.summarise(target.as_groups(), draws)
        for step in range(30):
            leaf = point.clone().requires_grad_()
            side = Measure(leaf).as_groups()
            draws = discrepancy.sharpened(summary, side, draws if step == 0 else {"direction": draws["direction"][0]})  # pyright: ignore
            (slope,) = torch.autograd.grad(discrepancy.compare(summary, side, draws).sum(), leaf)
            point = point - 0.6 * 0.85**step * slope / slope.norm().clamp(min=1e-12)
        torch.testing.assert_close(point, target.points, atol=0.1, rtol=0)


# Known answers


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_two_diracs(p: float):
    """E |⟨θ, z⟩|^p for θ on the circle: ‖z‖^p times 2/π, 1/2 and 4/(3π)."""
    discrepancy = SlicedWasserstein(p=p, directions=20_000)
    draws = discrepancy.draw(generator(), (2,))
    value = discrepancy(Measure(torch.zeros(1, 2)), Measure(torch.tensor([[3.0, 4.0]])), draws)
    share = {1.0: 2 / math.pi, 2.0: 0.5, 3.0: 4 / (3 * math.pi)}[p]
    assert value.item() == pytest.approx(share * 5**p, rel=0.01)


def test_orthogonal_blocks_see_a_translation_exactly():
    """Σ ⟨θ, z⟩² = ‖z‖² over d orthogonal directions, so the mean over whole blocks is ‖z‖²/d."""
    discrepancy, x = SlicedWasserstein(directions=10), sample(7, 5)
    draws = discrepancy.draw(generator(), (5,))
    shift = sample(1, 5, 1)
    value = discrepancy(Measure(x), Measure(x + shift), draws)
    torch.testing.assert_close(value, shift.square().sum() / 5, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("directions", "d"), [(3, 7), (7, 7), (17, 7), (5, 1)], ids=["few", "one", "more", "line"])
def test_directions_are_orthogonal_in_blocks(directions: int, d: int):
    drawn = SlicedWasserstein(directions=directions).draw(generator(), (d,))["direction"]  # pyright: ignore
    assert drawn.shape == (directions, d)
    assert drawn.dtype == torch.float32
    for block in drawn.split(d):
        torch.testing.assert_close(block @ block.mT, torch.eye(len(block)), atol=1e-5, rtol=0)


def test_directions_are_uniform_on_the_sphere():
    """Entries of a uniform direction have mean 0 and variance 1/d; blocks of different seeds."""
    drawn = torch.cat(
        [SlicedWasserstein(directions=3).draw(generator(seed), (3,))["direction"][:1] for seed in range(4000)]  # pyright: ignore
    )
    torch.testing.assert_close(drawn.T @ drawn / 4000, torch.eye(3) / 3, atol=0.03, rtol=0)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_against_pot(p: float):
    x, y = sample(23), sample(11, seed=1)
    w, v = (torch.rand(n, generator=generator(n)).double() for n in (23, 11))
    discrepancy = SlicedWasserstein(p=p, directions=13, root=True)
    draws = discrepancy.draw(generator(), (3,))
    unit = torch.nn.functional.normalize(draws["direction"].double(), dim=-1)  # pyright: ignore
    theirs = ot.sliced_wasserstein_distance(x, y, w / w.sum(), v / v.sum(), projections=unit.T, p=p)
    torch.testing.assert_close(discrepancy(Measure(x, w), Measure(y, v), draws), theirs)


def test_max_sliced_finds_the_direction_in_which_they_differ():
    """Two clouds in 20 dimensions that differ by a stretch of one axis: 1/n Σ (3 xᵢ - xᵢ)² along it."""
    x = sample(200, 20)
    y = x * torch.cat([torch.tensor([3.0]), torch.ones(19)])
    discrepancy = MaxSlicedWasserstein(steps=100)
    value = discrepancy(Measure(x), Measure(y), discrepancy.draw(generator(), (20,)))
    expected = 4 * x[:, 0].square().mean()
    assert value >= 0.99 * expected


def test_max_sliced_of_diracs_is_their_distance():
    x, y = sample(1, 9), sample(1, 9, 1)
    discrepancy = MaxSlicedWasserstein(root=True, steps=200)
    value = discrepancy(Measure(x), Measure(y), discrepancy.draw(generator(), (9,)))
    assert value.item() == pytest.approx((x - y).norm().item(), rel=1e-3)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "weighted"])
def test_gradient_in_the_directions(p: float, equal: bool):
    mu = Measure(sample(7)) if equal else Measure(sample(7), torch.rand(7, generator=generator()).double() + 0.1)
    nu = Measure(sample(5, seed=1), torch.rand(5, generator=generator(1)).double() + 0.1)
    discrepancy = MaxSlicedWasserstein(p=p, starts=3)
    summary = discrepancy.summarise(mu.as_groups())
    for shape in ((3, 3), (1, 3, 3)):
        direction = sample(9, 1).view(shape).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda theta: discrepancy.compare(summary, nu.as_groups(), {"direction": theta}), direction
        )


def test_each_group_has_directions_of_its_own():
    discrepancy = MaxSlicedWasserstein(starts=2, steps=5)
    mu, nu = (
        Measure(sample(14).view(2, 7, 3), torch.ones(2, 7)),
        Measure(sample(10, seed=1).view(2, 5, 3), torch.ones(2, 5)),
    )
    draws = discrepancy.draw(generator(), (3,))
    summary = discrepancy.summarise(mu, draws)
    moved = discrepancy.sharpened(summary, nu, draws)
    assert moved["direction"].shape == (2, 2, 3)  # pyright: ignore
    assert not torch.allclose(moved["direction"][0], moved["direction"][1])  # pyright: ignore
    assert not moved["direction"].requires_grad  # pyright: ignore


# Second derivatives


def test_hessian_of_a_translation():
    """For m = 1, W₂² along θ is ⟨θ, y⟩² + ..., so the Hessian is 2/L Σ θ θᵀ."""
    discrepancy = SlicedWasserstein(directions=4)
    draws = discrepancy.draw(generator(), (3,))
    summary = discrepancy.summarise(Measure(sample(7)).as_groups(), draws)
    function = torch.func.grad(lambda y: discrepancy.compare(summary, Measure(y[None]).as_groups(), draws)[0])
    directions = torch.nn.functional.normalize(draws["direction"].double(), dim=-1)  # pyright: ignore
    torch.testing.assert_close(torch.func.jacrev(function)(sample(1)[0]), 2 / 4 * directions.T @ directions)


def test_max_sliced_refuses_second_derivatives():
    y = sample(5, seed=1).requires_grad_()
    discrepancy = MaxSlicedWasserstein(steps=2)
    value = discrepancy(Measure(sample(7)), Measure(y), discrepancy.draw(generator(), (3,)))
    (slope,) = torch.autograd.grad(value, y, create_graph=True)
    with pytest.raises(Unsupported, match="'max_sliced_wasserstein' has first derivatives only"):
        torch.autograd.grad(slope.sum(), y)


@pytest.mark.parametrize("tables", [True, False], ids=["tables", "merged"])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_derivatives_at_coincident_points_are_finite(p: float, tables: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(line.QuantileTables, "pays", lambda points, slices: tables)
    discrepancy = SlicedWasserstein(p=p, directions=3)
    draws = discrepancy.draw(generator(), (3,))
    x = sample(5)
    summary = discrepancy.summarise(Measure(x).as_groups(), draws)
    function = torch.func.grad(lambda y: discrepancy.compare(summary, Measure(y).as_groups(), draws)[0])
    slope, bend = function(x), torch.func.jacrev(function)(x)
    torch.testing.assert_close(slope, torch.zeros_like(x), atol=1e-6, rtol=0)
    assert bool(torch.isfinite(bend).all())


@pytest.mark.parametrize("tables", [True, False], ids=["tables", "merged"])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_slopes_by_weights_at_equal_levels_are_subgradients(p: float, tables: bool, monkeypatch: pytest.MonkeyPatch):
    """Four points beside two, all of them equally heavy: the value, convex in the shares, has a kink there."""
    monkeypatch.setattr(line.QuantileTables, "pays", lambda points, slices: tables)
    mu = Measure(torch.tensor([[-1.2], [1.0]]).double())
    y, v, discrepancy = torch.tensor([[1.6], [0.5], [-2.8], [-2.1]]).double(), torch.ones(4).double(), Wasserstein(p=p)
    leaf = v.clone().requires_grad_()
    value = discrepancy(mu, Measure(y, leaf))
    (slope,) = torch.autograd.grad(value, leaf)
    for j, step in enumerate(1e-6 * torch.eye(4).double()):
        ahead, behind = (
            sign * (discrepancy(mu, Measure(y, v + sign * step)) - value.detach()).item() / 1e-6 for sign in (1, -1)
        )
        assert behind - 1e-4 <= slope[j].item() <= ahead + 1e-4


# Summaries and memory


@pytest.mark.parametrize(("p", "tables"), [(2.0, 1), (1.0, 2), (3.0, 1)])
def test_tables_are_as_large_as_stated(p: float, tables: int):
    n, directions = 1000, 20
    discrepancy = SlicedWasserstein(p=p, directions=directions)
    draws = discrepancy.draw(generator(), (3,))
    for weights, more in ((None, 0), (torch.rand(n, generator=generator()), 1)):
        real = Measure(sample(n), weights).as_groups()
        held = sum(table.nbytes for table in discrepancy.summarise(real, draws).constants.values())
        assert held == pytest.approx(8 * n * directions * (tables + more), rel=0.06)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_saved_bytes_do_not_grow_with_n(p: float):
    discrepancy = SlicedWasserstein(p=p, directions=7)
    draws = discrepancy.draw(generator(), (3,))

    def saved(n: int) -> int:
        summary = discrepancy.summarise(Measure(sample(n)).as_groups(), draws)
        tables = {table.data_ptr() for table in summary.constants.values()}
        leaf, total = sample(5, seed=1).requires_grad_(), 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += 0 if tensor.data_ptr() in tables else tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            discrepancy.compare(summary, Measure(leaf).as_groups(), draws)
        return total

    assert saved(1009) == saved(4001) > 0


def test_levels_are_shared_where_weights_are_equal():
    real = torch.tensor([[1.0, 1.0, 0.0, 1.0], [2.0, 0.0, 0.0, 2.0]]).double()
    levels = shared_levels(real / real.sum(-1, keepdim=True))
    assert levels is not None
    torch.testing.assert_close(levels[:, 0], torch.tensor([[0, 1 / 3, 2 / 3, 1, 1], [0, 0.5, 1, 1, 1]]).double())
    assert shared_levels(torch.tensor([[0.2, 0.8]]).double()) is None


# Refusals


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SlicedWasserstein(p=0.5), "'p' must be a finite number >= 1, got 0.5"),
        (lambda: SlicedWasserstein(directions=0), "'directions' must be >= 1, got 0"),
        (lambda: MaxSlicedWasserstein(p=0.5), "'p' must be a finite number >= 1, got 0.5"),
        (lambda: MaxSlicedWasserstein(starts=0), "'starts' must be >= 1, got 0"),
        (lambda: MaxSlicedWasserstein(steps=-1), "'steps' must be >= 0, got -1"),
        (lambda: MaxSlicedWasserstein(rate=0.0), "'rate' must be > 0 and finite, got 0.0"),
    ],
)
def test_settings_without_meaning_are_refused(build, message: str):
    with pytest.raises(InvalidInput, match=message):
        build()


@pytest.mark.parametrize("discrepancy", [SlicedWasserstein(), MaxSlicedWasserstein()], ids=["sliced", "max"])
def test_directions_are_asked_for(discrepancy: Discrepancy):
    with pytest.raises(InvalidInput, match=r"draw them with draw\(generator, shape\)"):
        discrepancy(Measure(sample(3)), Measure(sample(2)))


# Properties


masses = st.sampled_from([0.0, 0.5, 1.0, 3.0])


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("made", [SlicedWasserstein(directions=5), MaxSlicedWasserstein(steps=2)], ids=["mean", "max"])
def test_tables_are_left_where_their_sums_cancel(
    made: SlicedWasserstein | MaxSlicedWasserstein, p: float, monkeypatch: pytest.MonkeyPatch
):
    discrepancy = dataclasses.replace(made, p=p)
    for dtype, far in ((torch.float32, 1e4), (torch.float64, 1e7)):
        x = sample(40, dtype=dtype)
        x[::2] += far
        y, draws = x.flip(0) + 0.25, discrepancy.draw(generator(), (3,))
        draws = discrepancy.sharpened(discrepancy.summarise(Measure(x), draws), Measure(y), draws) or draws
        unit = draws["direction"].double() / draws["direction"].double().norm(dim=-1, keepdim=True)
        moves = ((y.double().flip(0) - x.double()) @ unit.mT).abs() ** p
        right = moves.mean() if isinstance(discrepancy, SlicedWasserstein) else moves.mean(0).amax()
        value = discrepancy.compare(discrepancy.summarise(Measure(x), draws), Measure(y), draws)
        torch.testing.assert_close(value.double(), right, rtol=1e-5, atol=0)
        assert discrepancy.compare(discrepancy.summarise(Measure(x), draws), Measure(x), draws) == 0
    kind, near = Measure(sample(40)), Measure(sample(30, seed=1), torch.rand(30, generator=generator()).double())
    by_tables = discrepancy.compare(discrepancy.summarise(kind, draws), near, draws)
    monkeypatch.setattr(line.QuantileTables, "pays", lambda points, slices: False)
    torch.testing.assert_close(discrepancy.compare(discrepancy.summarise(kind, draws), near, draws), by_tables)


def drawn(data: st.DataObject, n: int) -> torch.Tensor:
    some = data.draw(st.lists(masses, min_size=n - 1, max_size=n - 1))
    return torch.tensor([*some, 1.0], dtype=torch.float64)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    p=st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    ties=st.booleans(),
    equal=st.booleans(),
    tables=st.booleans(),
    data=st.data(),
)
def test_line_is_the_integral_over_quantiles(
    n: int, m: int, p: float, ties: bool, equal: bool, tables: bool, data: st.DataObject
):
    x, y = sample(n, 1)[:, 0], sample(m, 1, 1)[:, 0]
    if ties:
        x, y = x.round(), y.round()
    w, v = (torch.ones(size).double() if equal else drawn(data, size) for size in (n, m))
    w, v = w / w.sum(), v / v.sum()
    real = QuantileTables.of(x[None, None], w[None], shared_levels(w[None]), p if tables else None)
    value = line_cost(real, y[None, None], v[None], p)[0].item()
    assert value == pytest.approx(by_quantiles(x, w, y, v, p), rel=1e-9, abs=1e-12)
    if p == 1:
        assert value == pytest.approx(scipy.stats.wasserstein_distance(x, y, w, v), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    d=st.integers(1, 4),
    p=st.sampled_from([1.0, 2.0, 3.0]),
    seed=st.integers(0, 99),
)
def test_sliced_is_less_than_max_sliced_is_less_than_exact(n: int, m: int, d: int, p: float, seed: int):
    mu, nu = Measure(sample(n, d, seed)), Measure(sample(m, d, seed + 100))
    worst = MaxSlicedWasserstein(p=p, starts=4, steps=3)
    draws = worst.draw(generator(seed), (d,))
    sliced, maximal, exact = (
        discrepancy(mu, nu, draws) for discrepancy in (SlicedWasserstein(p=p), worst, Wasserstein(p=p))
    )
    assert max(slices(worst, mu, nu, draws["direction"])) <= maximal + 1e-9  # pyright: ignore
    assert sliced <= maximal + 1e-12
    assert maximal <= exact + 1e-9
