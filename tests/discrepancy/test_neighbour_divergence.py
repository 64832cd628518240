"""Nearest neighbours and the divergence they give: the contract, loops, gaussians, ties and copies, tiles.

Properties (Hypothesis):
1. the distances equal scipy's k-d tree for any sizes, tiles and offsets, also with copies;
2. the divergence equals the loops for any weights, and zero-weight points and order do nothing;
3. the value is finite for points on a lattice, where many coincide and many are equally far.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from larger_groups import LargerGroups
from scipy.spatial import KDTree

from discrepancy import Discrepancy, InvalidInput, Measure
from discrepancy.divergences import NeighbourKL, nearest_distances
from discrepancy.divergences import neighbours as module
from discrepancy.numerics import pairwise


def one_way(x: np.ndarray, w: np.ndarray, y: np.ndarray, v: np.ndarray, k: int) -> float:
    """The weighted estimate, point by point, for distinct points without ties."""
    total = 0.0
    for i in range(len(x)):
        own = sorted((math.dist(x[i], x[j]), w[j]) for j in range(len(x)) if j != i)[:k]
        other = sorted((math.dist(x[i], y[j]), v[j]) for j in range(len(y)))[:k]
        p = sum(weight for _, weight in own) / (1 - w[i]) / own[-1][0] ** x.shape[1]
        q = sum(weight for _, weight in other) / other[-1][0] ** x.shape[1]
        total += w[i] * math.log(p / q)
    return total


def loops(discrepancy: NeighbourKL, mu: Measure, nu: Measure) -> float:
    sides = [(side.rows.double().numpy(), side.shares.numpy()) for side in (mu, nu)]
    forward, reverse = (one_way(*first, *second, discrepancy.k) for first, second in (sides, sides[::-1]))
    return {"forward": forward, "reverse": reverse, "jeffreys": forward + reverse}[discrepancy.direction]


class TestNeighbourKL(LargerGroups):
    instances = {  # noqa: RUF012
        "forward": NeighbourKL(k=1),
        "second": NeighbourKL(k=2),
        "reverse": NeighbourKL(k=2, direction="reverse"),
        "jeffreys": NeighbourKL(k=1, direction="jeffreys"),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, NeighbourKL)
        return loops(discrepancy, mu, nu)


def normal(n: int, d: int = 1, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Known answers


def test_equal_weights_give_the_published_formula():
    x, y, k = normal(23, 3).numpy(), normal(17, 3, 1).numpy(), 3
    rho = KDTree(x).query(x, k + 1)[0][:, k]
    nu = KDTree(y).query(x, k)[0][:, k - 1]
    expected = 3 / 23 * np.log(nu / rho).sum() + math.log(17 / 22)
    value = NeighbourKL(k=k)(Measure(torch.from_numpy(x)), Measure(torch.from_numpy(y)))
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("d", "shift", "scale"), [(1, 1.0, 1.0), (2, 0.0, 2.0), (3, 0.5, 1.5)], ids=["shift", "scale", "both"]
)
def test_gaussians(d: int, shift: float, scale: float):
    """KL(N(0, 1) ‖ N(s, a²)) = d (log a + (1 + s²)/(2 a²) - 1/2)."""
    expected = d * (math.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5)
    mu, nu = Measure(normal(4000, d)), Measure(shift + scale * normal(4000, d, 1))
    assert NeighbourKL(k=5)(mu, nu).item() == pytest.approx(expected, abs=0.08)
    assert NeighbourKL(k=5, direction="reverse")(nu, mu).item() == pytest.approx(expected, abs=0.08)


def test_weights_are_those_of_the_measure():
    """Points of N(0, 1) with weights of the density ratio stand for N(1/2, 1)."""
    points = normal(6000)
    weights = torch.exp(points[:, 0] / 2)
    value = NeighbourKL(k=5)(Measure(points, weights), Measure(normal(6000, seed=1)))
    assert value.item() == pytest.approx(0.5**2 / 2, abs=0.05)
    assert NeighbourKL(k=5)(Measure(points + 0.5), Measure(points, weights)).item() == pytest.approx(0.0, abs=0.05)


def test_two_samples_of_one_law_are_near_zero():
    for direction in ("forward", "reverse", "jeffreys"):
        value = NeighbourKL(direction=direction)(Measure(normal(3000, 2)), Measure(normal(2000, 2, 1)))
        assert abs(value.item()) < 0.1


# Ties and copies


def test_a_shared_point_takes_the_next_neighbour():
    """x = {0, 3}, y = {0, 1, 5}, k = 1: νs 1 (with mass 2/3) and 2, ρs 3, so ½ log(1/3 · 3/2) + ½ log(2/3 · 3)."""
    x, y = torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [1.0], [5.0]])
    value = NeighbourKL(k=1)(Measure(x.double()), Measure(y.double()))
    assert value.item() == pytest.approx((math.log(0.5) + math.log(2)) / 2, abs=1e-12)


def test_ties_share_the_places():
    """x = {0, 10}; both y of weights 0.1, 0.3 are at distance 1 from 0: k = 1 counts half of 0.4."""
    x, y = torch.tensor([[0.0], [10.0]]), torch.tensor([[-1.0], [1.0], [12.0]])
    value = NeighbourKL(k=1)(Measure(x.double()), Measure(y.double(), torch.tensor([0.1, 0.3, 0.6]).double()))
    expected = (math.log(0.1) - math.log(0.2) + math.log(0.2) - math.log(0.6)) / 2
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_copies_are_one_point():
    x, y = normal(7, 2), normal(6, 2, 1)
    value = NeighbourKL(k=2)(Measure(torch.cat([x, x[:3]])), Measure(torch.cat([y, y, y])))
    expected = NeighbourKL(k=2)(Measure(x, torch.tensor([2.0, 2, 2, 1, 1, 1, 1])), Measure(y))
    torch.testing.assert_close(value, expected, check_dtype=False)


@pytest.mark.parametrize("side", ["real", "synthetic"])
def test_too_few_distinct_points_are_refused(side: str):
    many, few = Measure(normal(9)), Measure(normal(2).repeat(4, 1))
    pair = (few, many) if side == "real" else (many, few)
    for direction in ("forward", "reverse", "jeffreys"):
        with pytest.raises(InvalidInput, match=rf"k = 2 needs at least 3 distinct points .* got 2 on the {side} side"):
            NeighbourKL(k=2, direction=direction)(*pair)


def test_bad_fields_are_refused():
    with pytest.raises(InvalidInput, match="'k' must be at least 1, got 0"):
        NeighbourKL(k=0)
    discrepancy = object.__new__(NeighbourKL)
    object.__setattr__(discrepancy, "direction", "both")
    with pytest.raises(InvalidInput, match="'direction' must be one of forward, reverse, jeffreys; got 'both'"):
        discrepancy.__post_init__()


# The distances themselves


def test_float32_at_a_large_offset_is_exact():
    x, y = normal(50, 5, dtype=torch.float32) + 1000, normal(40, 5, 1, torch.float32) + 1000
    expected, _ = KDTree(y.double().numpy()).query(x.double().numpy(), 3)
    torch.testing.assert_close(nearest_distances(x, y, 3), torch.from_numpy(expected), rtol=1e-12, atol=0)


def test_too_many_neighbours_are_refused():
    with pytest.raises(InvalidInput, match="3 neighbours need as many other points, got 2"):
        nearest_distances(normal(3), normal(3), 3, exclude_self=True)


def test_no_table_of_all_pairs_is_held(monkeypatch: pytest.MonkeyPatch):
    sizes = []
    tiles = module._tiles

    def watched(x: torch.Tensor, y: torch.Tensor):
        for tile in tiles(x, y):
            sizes.append(tile[2].numel())
            yield tile

    monkeypatch.setattr(module, "_tiles", watched)
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", 8 * 1000)
    NeighbourKL(k=2, direction="jeffreys")(Measure(normal(300, 2), normal(300).abs()[:, 0]), Measure(normal(200, 2, 1)))
    assert max(sizes) <= 1000
    assert sum(sizes) >= 300 * 200


# Properties


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(2, 9),
    d=st.integers(1, 4),
    k=st.integers(1, 4),
    own=st.booleans(),
    copies=st.booleans(),
    offset=st.sampled_from([0.0, 300.0]),
    tile=st.sampled_from([8, 100, 4 << 20]),
)
def test_distances_equal_a_tree(n, m, d, k, own, copies, offset, tile):
    y = normal(m, d) + offset
    if copies:
        y[1] = y[0]
    x = y if own else torch.cat([normal(n, d, 1) + offset, y[:1]])
    k = min(k, m - own)
    table = np.linalg.norm(x.numpy()[:, None] - y.numpy(), axis=-1)
    if own:
        np.fill_diagonal(table, np.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pairwise.BLOCK_BYTES, "cpu", tile)
        found = nearest_distances(x, y, k, exclude_self=own)
    torch.testing.assert_close(found, torch.from_numpy(np.sort(table, 1)[:, :k]), rtol=1e-10, atol=1e-13)


@settings(max_examples=40, deadline=None)
@given(
    d=st.integers(1, 3),
    k=st.integers(1, 3),
    direction=st.sampled_from(["forward", "reverse", "jeffreys"]),
    weights=st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=6, max_size=6),
    seed=st.integers(0, 99),
)
def test_equals_the_loops(d, k, direction, weights, seed):
    w = torch.tensor([1.0, 0.2, 0.7, 2.0, *weights], dtype=torch.float64)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    x, y = normal(10, d, seed) + 100, normal(7, d, seed + 100) + 100
    discrepancy = NeighbourKL(k=k, direction=direction)
    kept = w > 0
    expected = loops(discrepancy, Measure(x[kept], w[kept]), Measure(y))
    assert discrepancy(Measure(x[order], w[order]), Measure(y)).item() == pytest.approx(expected, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    k=st.integers(1, 2),
    direction=st.sampled_from(["forward", "reverse", "jeffreys"]),
)
def test_is_finite_on_a_lattice(seed, k, direction):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    x, y = (torch.cat([corners, torch.randint(0, 2, (6, 2), generator=generator).float()]) for _ in range(2))
    w = torch.rand(9, generator=generator) + 0.1
    discrepancy = NeighbourKL(k=k, direction=direction)
    value = discrepancy(Measure(x, w), Measure(y))
    assert math.isfinite(value.item())
    torch.testing.assert_close(discrepancy(Measure(x.flip(0), w.flip(0)), Measure(y.flip(0))), value)
