"""Covering radius: the contract, scipy, known answers, inequalities, memory.

Properties (Hypothesis):
1. equals the loops for any sizes (n, m, d >= 1), weights (zero ones too), offsets and norms.
"""

import math

import numpy as np
import pytest
import torch
from contract import DiscrepancyContract
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, directed_hausdorff

from discrepancy import Discrepancy, InvalidInput, Measure
from discrepancy.cover import CoveringRadius
from discrepancy.numerics import pairwise

ORDERS = {"l1": 1, "l2": 2, "linf": np.inf}


def loops(discrepancy: CoveringRadius, mu: Measure, nu: Measure) -> float:
    """sup and min over the points of positive weight, one by one."""
    sides = [side.points[side.weights > 0].flatten(1).numpy() for side in (mu, nu)]  # pyright: ignore

    def directed(a, b) -> float:
        return max(min(float(np.linalg.norm(x - y, ORDERS[discrepancy.norm])) for y in b) for x in a)

    cover = directed(*sides)
    return cover if discrepancy.side == "cover" else max(cover, directed(*sides[::-1]))


class TestCoveringRadius(DiscrepancyContract):
    far_tolerance = 1e-4
    instances = {  # noqa: RUF012
        "cover": CoveringRadius(),
        "cover-l1": CoveringRadius(norm="l1"),
        "cover-linf": CoveringRadius(norm="linf"),
        "hausdorff": CoveringRadius(side="hausdorff"),
        "hausdorff-linf": CoveringRadius(side="hausdorff", norm="linf"),
    }

    @staticmethod
    def truth(discrepancy: Discrepancy, mu: Measure, nu: Measure) -> float:
        assert isinstance(discrepancy, CoveringRadius)
        return loops(discrepancy, mu, nu)


def sample(n: int, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_against_scipy():
    x, y = sample(101, 5), sample(17, 5, 1)
    forth, back = (directed_hausdorff(*pair)[0] for pair in ((x, y), (y, x)))
    assert CoveringRadius()(Measure(x), Measure(y)).item() == pytest.approx(forth, rel=1e-12)
    both = CoveringRadius(side="hausdorff")(Measure(x), Measure(y))
    assert both.item() == pytest.approx(max(forth, back), rel=1e-12)


def test_known_answer():
    """Real points 0, 1, 5 and synthetic ones 0, 2, 9: the worst are the real 5, 3 from 2, and the synthetic 9, 4 from 5."""
    x, y = torch.tensor([[0.0], [1], [5]]), torch.tensor([[0.0], [2], [9]])
    assert CoveringRadius()(Measure(x), Measure(y)).item() == 3
    assert CoveringRadius(side="hausdorff")(Measure(x), Measure(y)).item() == 4


def test_cover_is_zero_where_every_real_point_is_a_synthetic_one():
    x = sample(7)
    assert CoveringRadius()(Measure(x[:4]), Measure(x)).item() == 0
    assert CoveringRadius(side="hausdorff")(Measure(x[:4]), Measure(x)).item() > 0


@pytest.mark.parametrize("side", ["cover", "hausdorff"])
def test_norms_are_ordered(side):
    """‖·‖∞ <= ‖·‖₂ <= ‖·‖₁ <= √d ‖·‖₂ pass on to sup and min."""
    x, y = Measure(sample(23)), Measure(sample(5, seed=1))
    inf, two, one = (CoveringRadius(norm=norm, side=side)(x, y).item() for norm in ("linf", "l2", "l1"))
    assert inf <= two <= one <= math.sqrt(3) * two


def test_hausdorff_obeys_the_triangle_inequality():
    measures = [Measure(sample(7, seed=seed)) for seed in range(5)]
    between = CoveringRadius(side="hausdorff")
    for a in measures:
        for b in measures:
            for c in measures:
                assert between(a, c) <= between(a, b) + between(b, c) + 1e-12


def test_gradient_moves_the_point_that_decides():
    x, leaf = torch.tensor([[0.0, 0], [3, 4]]), torch.tensor([[0.0, 1], [0, -9]], requires_grad=True)
    CoveringRadius()(Measure(x), Measure(leaf)).backward()
    torch.testing.assert_close(leaf.grad, torch.tensor([[-3.0, -3], [0, 0]]) / math.sqrt(18))


def test_close_clouds_far_from_the_origin():
    """The synthetic points are the real ones, each moved by 1e-3: squares of float32 would lose that."""
    x = sample(101, 50, dtype=torch.float32) + 1000
    y = x + 1e-3 * sample(101, 50, 1, torch.float32)
    expected = cdist(x.double(), y.double()).min(1).max()
    assert CoveringRadius()(Measure(x), Measure(y)).item() == pytest.approx(expected, rel=1e-5)


def test_blocks_hold_no_more_than_their_bytes(monkeypatch):
    sizes = []
    monkeypatch.setitem(pairwise.BLOCK_BYTES, "cpu", 8 * 5 * 20)
    product = CoveringRadius._all
    monkeypatch.setattr(CoveringRadius, "_all", lambda self, x, y: sizes.append(x.shape[1]) or product(self, x, y))
    CoveringRadius()(Measure(sample(101)), Measure(sample(5, seed=1)))
    assert max(sizes) == 20
    assert sum(sizes) == 101


def test_unknown_choices_are_refused():
    for field in ("norm", "side"):
        discrepancy = object.__new__(CoveringRadius)
        for name, value in {"norm": "l2", "side": "cover", field: "other"}.items():
            object.__setattr__(discrepancy, name, value)
        with pytest.raises(InvalidInput, match=f"'{field}' must be one of .* got 'other'"):
            discrepancy.__post_init__()


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 7),
    m=st.integers(1, 5),
    d=st.integers(1, 4),
    offset=st.sampled_from([0.0, 1.0, -100.0]),
    norm=st.sampled_from(["l1", "l2", "linf"]),
    side=st.sampled_from(["cover", "hausdorff"]),
    data=st.data(),
)
def test_equals_the_loops(n: int, m: int, d: int, offset: float, norm, side, data: st.DataObject):
    def weights(size: int) -> torch.Tensor:
        some = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=size - 1, max_size=size - 1))
        return torch.tensor([*some, 1.0], dtype=torch.float64)

    discrepancy = CoveringRadius(norm=norm, side=side)
    mu, nu = Measure(sample(n, d) + offset, weights(n)), Measure(sample(m, d, 1) + offset, weights(m))
    assert discrepancy(mu, nu).item() == pytest.approx(loops(discrepancy, mu, nu), rel=1e-9)
