"""Precision, recall, density, coverage: the contract, the definitions in numpy, ties, copies.

Properties (Hypothesis):
1. equal weights give one minus the published numbers, for any sizes, k and tiles;
2. values lie in [0, 1] (density: at most 1), order and zero-weight points do nothing, also on a lattice.
"""

import numpy as np
import pytest
import torch
from contract import M, N, claiming
from hypothesis import given, settings
from hypothesis import strategies as st
from larger_groups import LargerGroups

from discrepancy import Discrepancy, InvalidInput, Measure
from discrepancy.divergences import Coverage, Density, Precision, Recall
from discrepancy.numerics import pairwise

KINDS = {"precision": Precision, "recall": Recall, "density": Density, "coverage": Coverage}


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a[:, None] - b, axis=-1)


def published(x: np.ndarray, y: np.ndarray, k: int) -> dict[str, float]:
    """The four quantities of equally heavy points, from the definitions."""
    radius_x, radius_y = (np.sort(distances(side, side), 1)[:, k] for side in (x, y))
    table = distances(x, y)
    within = table <= radius_x[:, None] * (1 + 1e-12)
    return {
        "precision": float(np.mean([within[:, j].any() for j in range(len(y))])),
        "recall": float(np.mean([(table[i] <= radius_y * (1 + 1e-12)).any() for i in range(len(x))])),
        "density": float(within.sum() / (k * len(y))),
        "coverage": float(np.mean([within[i].any() for i in range(len(x))])),
    }


def weighted(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
    """One minus the quantity for weighted points in general position, point by point."""
    k: int = discrepancy.k  # pyright: ignore[reportAttributeAccessIssue]
    (x, w), (y, v) = ((side.rows.double().numpy(), side.shares.numpy()) for side in (mu, nu))
    table, value = distances(x, y), 0.0
    own_x, own_y = distances(x, x), distances(y, y)
    if discrepancy.kind == "recall":
        for i in range(len(x)):
            value += w[i] * any(table[i, j] <= np.sort(own_y[j])[k] for j in range(len(y)))
    for i in range(len(x)):
        radius = np.sort(own_x[i])[k]
        mass = sum(w[other] for other in np.argsort(own_x[i])[1 : k + 1])
        if discrepancy.kind == "coverage":
            value += w[i] * any(table[i] <= radius)
        if discrepancy.kind == "density":
            value += sum(v[j] * w[i] / mass for j in range(len(y)) if table[i, j] <= radius)
    if discrepancy.kind == "precision":
        for j in range(len(y)):
            value += v[j] * any(table[i, j] <= np.sort(own_x[i])[k] for i in range(len(x)))
    return 1 - value


class TestPrecisionRecall(LargerGroups):
    instances = {f"{name}-{k}": kind(k=k) for name, kind in KINDS.items() for k in (1, 2)}  # noqa: RUF012

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        return weighted(discrepancy, mu, nu)

    @claiming("nonnegative")
    def test_nonnegative(self, discrepancy: Discrepancy):
        """A share, so zero at times for samples that differ; positive for samples far apart. Density may be negative."""
        for seed in range(4):
            mu, nu, far = self.sample(N, seed), self.sample(M, seed + 10), self.sample(M, seed + 10, shift=50.0)
            assert self.value(discrepancy, mu, nu) >= 0
            assert self.value(discrepancy, mu, far) == pytest.approx(1)


def normal(n: int, d: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", KINDS)
def test_one_line(name: str):
    """x = {0, 1, 3, 7}, y = {1, 3.5, 20}, k = 1: the radii of x are 1, 1, 2, 4 and those of y 2.5, 2.5, 16.5.

    20 lies in no real ball; 0, 1, 3 lie in [-1.5, 3.5], 7 in [3.5, 36.5]; 1 lies in the balls of 0, 1, 3 and 3.5 in those of 3,
    7 (which reaches to 3); every real ball holds one.
    """
    x, y = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[1.0], [3.5], [20.0]])
    expected = {"precision": 1 / 3, "recall": 0.0, "density": 1 - 5 / 3, "coverage": 0.0}[name]
    assert KINDS[name](k=1)(Measure(x.double()), Measure(y.double())).item() == pytest.approx(expected, abs=1e-12)


def test_a_part_of_the_real_points_has_precision_one_and_covers_at_ties():
    """A chosen real point lies on the edge of each ball whose radius it gives, and counts as within."""
    x = normal(60, 5) + 100
    chosen = x[::7]
    assert Precision(k=3)(Measure(x), Measure(chosen)).item() == 0
    for name in KINDS:
        expected = 1 - published(x.numpy(), chosen.numpy(), 3)[name]
        assert KINDS[name](k=3)(Measure(x), Measure(chosen)).item() == pytest.approx(expected, abs=1e-12)


def test_density_of_a_second_sample_is_about_one():
    weights = torch.rand(2000, generator=torch.Generator().manual_seed(2)).double() + 0.05
    assert abs(Density()(Measure(normal(2000)), Measure(normal(2000, seed=1))).item()) < 0.05
    assert abs(Density()(Measure(normal(2000), weights), Measure(normal(2000, seed=1))).item()) < 0.1


def test_copies_are_one_point():
    x, y = normal(8), normal(7, seed=1)
    weights = torch.tensor([3.0, 1, 1, 1, 1, 1, 1, 1]).double()
    for kind in KINDS.values():
        copied = kind(k=2)(Measure(torch.cat([x, x[:1], x[:1]])), Measure(torch.cat([y, y])))
        torch.testing.assert_close(copied, kind(k=2)(Measure(x, weights), Measure(y)))


@pytest.mark.parametrize("name", KINDS)
def test_too_few_points_are_refused(name: str):
    side = "synthetic" if name == "recall" else "real"
    few, many = Measure(normal(5)), Measure(normal(9))
    with pytest.raises(
        InvalidInput, match=rf"'{name}' with k = 5 needs at least 6 distinct points .* got 5 on the {side}"
    ):
        KINDS[name]()(*((many, few) if name == "recall" else (few, many)))
    with pytest.raises(InvalidInput, match="'k' must be at least 1, got 0"):
        KINDS[name](k=0)


# Properties


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from([*KINDS]),
    n=st.integers(4, 15),
    m=st.integers(4, 15),
    d=st.integers(1, 4),
    k=st.integers(1, 3),
    seed=st.integers(0, 99),
    tile=st.sampled_from([8, 200, 4 << 20]),
)
def test_equals_the_definition(name, n, m, d, k, seed, tile):
    x, y = normal(n, d, seed), 1.3 * normal(m, d, seed + 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pairwise.BLOCK_BYTES, "cpu", tile)
        value = KINDS[name](k=k)(Measure(x + 100), Measure(y + 100))
    assert value.item() == pytest.approx(1 - published(x.numpy(), y.numpy(), k)[name], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from([*KINDS]), k=st.integers(1, 2), lattice=st.booleans(), seed=st.integers(0, 999))
def test_range_order_and_padding(name, k, lattice, seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    x, y = (torch.cat([corners, 2 * torch.randn(6, 2, generator=generator)]) for _ in range(2))
    x, y = (x.round(), y.round()) if lattice else (x, y)
    w, v = (torch.rand(9, generator=generator) + 0.1 for _ in range(2))
    discrepancy = KINDS[name](k=k)
    value = discrepancy(Measure(x, w), Measure(y, v))
    assert value <= 1 + 1e-6
    assert name == "density" or value >= 0
    padding = Measure(torch.randn(4, 2, generator=generator), torch.zeros(4))
    other = discrepancy(
        Measure.merged([padding, Measure(x.flip(0), w.flip(0))]),
        Measure.merged([Measure(y.flip(0), v.flip(0)), padding]),
    )
    torch.testing.assert_close(other, value)
