"""How the potentials are found: extremes, early stops, memory, and no digit lost."""

import pytest
import torch
from entropic import TIGHT, dense, sample

from discrepancy import Measure
from discrepancy.discrepancy import SampleSummary
from discrepancy.errors import NumericalWarning
from discrepancy.transport import costs, potentials
from discrepancy.transport.sinkhorn import Sinkhorn

# Convergence


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


# Properties


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
