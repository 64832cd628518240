"""Barycentres: known answers, a stationary point that gets better, groups, refusals.

Properties (Hypothesis):
1. the barycentre has the mean of the means, for any sizes and weights with zeros;
2. it costs no more than the points it starts from.
"""

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discrepancy import Grouping, InvalidInput, Measure, NumericalWarning
from discrepancy.transport import Wasserstein, barycentre


def sample(n: int, d: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cost(measures: list[Measure], nu: Measure) -> float:
    return sum(Wasserstein()(mu, nu).item() for mu in measures) / len(measures)


def ordered(points: torch.Tensor) -> torch.Tensor:
    return points[points[:, 0].argsort()]


# Known answers


@pytest.mark.parametrize("count", [1, 3])
def test_of_two_diracs_is_the_point_between(count: int):
    x, y = sample(1), sample(1, seed=1)
    found = barycentre([Measure(x), Measure(y)], count, generator=generator(), importance=[3.0, 1.0])
    torch.testing.assert_close(found.points, (0.75 * x + 0.25 * y).expand(count, 3))
    torch.testing.assert_close(found.weights, torch.full((count,), 1 / count).double())


def test_of_shifted_copies_is_a_copy_with_the_mean_shift():
    x, shifts = sample(11), [torch.zeros(3), torch.tensor([3.0, 0, 0]), torch.tensor([0, 6.0, -3.0])]
    found = barycentre([Measure(x + shift) for shift in shifts], 11, generator=generator())
    torch.testing.assert_close(ordered(found.points), ordered(x + torch.stack(shifts).mean(0)))  # pyright: ignore


def test_of_one_measure_with_as_many_atoms_is_the_measure():
    x = sample(11)
    torch.testing.assert_close(ordered(barycentre([Measure(x)], 11, generator=generator()).points), ordered(x))  # pyright: ignore


def test_with_one_atom_it_is_the_mean():
    x, w = sample(11), torch.rand(11, generator=generator()).double()
    found = barycentre([Measure(x, w)], 1, generator=generator())
    torch.testing.assert_close(found.points[0], (w[:, None] * x).sum(0) / w.sum())


def test_on_the_line_it_averages_the_quantiles():
    x, y = sample(11, 1), 3 * sample(11, 1, seed=1)
    found = barycentre([Measure(x), Measure(y)], 11, generator=generator())
    torch.testing.assert_close(ordered(found.points), (x.sort(0).values + y.sort(0).values) / 2)  # pyright: ignore


def test_of_one_measure_it_is_a_balanced_quantisation():
    """Two far pairs: each atom stands in the middle of one."""
    x = torch.tensor([[0.0, 0.0], [0.0, 2.0], [50.0, 0.0], [50.0, 2.0]], dtype=torch.float64)
    found = barycentre([Measure(x)], 2, generator=generator(1))
    torch.testing.assert_close(ordered(found.points), torch.tensor([[0.0, 1], [50, 1]]).double())  # pyright: ignore


def test_is_as_good_as_pots():
    measures = [Measure(sample(17, seed=seed) * (1 + seed)) for seed in range(3)]
    start = sample(7, seed=9)
    points = ot.lp.free_support_barycenter(
        [measure.rows.numpy() for measure in measures],
        [measure.shares.numpy() for measure in measures],
        start.numpy(),
        numItermax=100,
    )
    ours = barycentre(measures, 7, generator=generator())
    assert cost(measures, ours) <= 1.05 * cost(measures, Measure(torch.from_numpy(points)))


# Behaviour


def test_every_step_costs_less():
    measures = [Measure(sample(23, seed=seed) + seed) for seed in range(3)]
    values = []
    for steps in range(1, 5):
        with pytest.warns(NumericalWarning, match=rf"still moves by .* after {steps} steps"):
            values.append(cost(measures, barycentre(measures, 5, generator=generator(), steps=steps, tolerance=0.0)))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


def test_is_a_fixed_point():
    """The gradient of the objective vanishes, so a descent would stay."""
    measures = [Measure(sample(23, seed=seed)) for seed in range(2)]
    leaf = barycentre(measures, 5, generator=generator()).points.requires_grad_()  # pyright: ignore
    sum(Wasserstein()(mu, Measure(leaf)) for mu in measures).backward()  # pyright: ignore
    assert leaf.grad.abs().max() < 1e-6


def test_same_generator_same_atoms():
    measures = [Measure(sample(23)), Measure(sample(17, seed=1))]
    first, second = (barycentre(measures, 5, generator=generator(3)).points for _ in range(2))
    assert torch.equal(first, second)  # pyright: ignore


def test_far_from_zero_in_single_precision():
    x, y = (100 + sample(11, seed=seed, dtype=torch.float32) for seed in range(2))
    found = barycentre([Measure(x), Measure(y)], 5, generator=generator())
    exact = barycentre([Measure(x.double()), Measure(y.double())], 5, generator=generator())
    assert found.rows.dtype == torch.float32
    torch.testing.assert_close(found.rows, exact.rows.float())


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 1)], ids=["numbers", "line", "images"])
def test_atoms_have_the_shape_of_the_points(shape: tuple[int, ...]):
    measures = [Measure(torch.randn(7, *shape, generator=generator(seed))) for seed in range(2)]
    assert barycentre(measures, 3, generator=generator()).points.shape == (3, *shape)  # pyright: ignore


def test_grouped_measures_have_one_a_group():
    flat = [Measure(sample(12), torch.rand(12, generator=generator()).double()), Measure(sample(12, seed=1))]
    members = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 1])
    grouped = [measure.conditioned(Grouping.of(members, 2)) for measure in flat]
    together = barycentre(grouped, 1, generator=generator())
    assert together.points.shape == (2, 1, 3)  # pyright: ignore
    for group in range(2):
        alone = [Measure(m.points[members == group], m.weights[members == group]) for m in flat]  # pyright: ignore
        torch.testing.assert_close(together.points[group], barycentre(alone, 1, generator=generator()).points)  # pyright: ignore
    assert barycentre(grouped, 4, generator=generator()).points.shape == (2, 4, 3)  # pyright: ignore


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measures": []}, "at least one measure, got none"),
        ({"count": 0}, "'count' must be >= 1, got 0"),
        ({"importance": [1.0]}, r"'importance' must be 2 nonnegative numbers with a positive sum, got \[1.0\]"),
        ({"importance": [1.0, -1.0]}, "'importance' must be 2 nonnegative numbers"),
        (
            {"measures": [Measure(torch.ones(3, 2)), Measure(torch.ones(3, 1))]},
            "'measures' differ in groups, or in shape",
        ),
        (
            {"measures": [Measure(torch.ones(3, 2)), Measure(torch.full((3, 2), torch.nan))]},
            r"'measures\[1\]' has points",
        ),
        ({"cap": 6}, "exceeds its 'cap' of 6 pairs"),
    ],
    ids=["none", "count", "lengths", "sign", "shape", "nan", "cap"],
)
def test_bad_input_is_refused(arguments: dict, message: str):
    given_ = {"measures": [Measure(sample(4)), Measure(sample(3))], "count": 2} | arguments
    with pytest.raises(InvalidInput, match=message):
        barycentre(**given_, generator=generator())


# Properties


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3), count=st.integers(1, 6), data=st.data())
def test_mean_and_cost(sizes: list[int], count: int, data: st.DataObject):
    measures = []
    for seed, n in enumerate(sizes):
        some = data.draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=n - 1, max_size=n - 1))
        measures.append(Measure(sample(n, 2, seed), torch.tensor([*some, 1.0], dtype=torch.float64)))
    found = barycentre(measures, count, generator=generator(), steps=300)
    means = [(mu.shares[:, None] * mu.rows).sum(0) for mu in measures]
    torch.testing.assert_close(found.rows.mean(0), torch.stack(means).mean(0))
    repeated = count > int((measures[0].weights > 0).sum())
    index = torch.multinomial(measures[0].shares, count, replacement=repeated, generator=generator())
    assert cost(measures, found) <= cost(measures, Measure(measures[0].rows[index])) + 1e-9
