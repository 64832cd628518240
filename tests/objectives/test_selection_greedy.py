"""Herding by running sums against comparing subsets, and greedy MMD: the choice in numpy, the weights against a quadratic
programme.

Properties (Hypothesis): the weights are optimal for any Gram matrix (2 conditions), of any rank.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from conformance import selected
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from small import NETWORK, images, problem, start, table

from discrepancy import MMD, Gaussian, Measure
from discrepancy.embeddings import Features, Layers
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Energy, Kernel, Laplace, Linear, Polynomial
from discrepancy.mean_embeddings.gains import Compared
from discrepancy.transport import Sinkhorn
from objectives.condensation import result, solve
from objectives.contexts import Fresh, Pool
from objectives.data.labelled import LabelledData
from objectives.solvers import GreedyMMD, Herding
from objectives.solvers.selection.greedy import lowering, weighted
from objectives.solvers.selection.quadratic import Quadratic, simplex_minimum
from objectives.synthetic.pixels import Pixels
from objectives.terms.bound import Candidates
from objectives.terms.match import Match
from objectives.terms.objective import Summand

KERNELS = {
    "linear": Linear(),
    "gaussian": Gaussian(lengthscale=2.0),
    "laplace": Laplace(lengthscale=2.0),
    "energy": Energy(),
    "polynomial": Polynomial(power=2),
}
WEIGHTED = Pixels(per_class=4, weights="learned")


def cloud(n: int, d: int, seed: int = 0, **options: Any) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **options)


def candidates(discrepancy: MMD, points: torch.Tensor, real: torch.Tensor | None = None) -> Candidates:
    summary = discrepancy.summarise(Measure(points if real is None else real).as_groups())
    return Candidates(Measure(points), discrepancy, summary, None, 1.0)


def gram(kernel: Kernel, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """k(xᵢ, yⱼ), written out."""
    distances = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    return {
        "linear": x @ y.T,
        "gaussian": np.exp(-(distances**2) / 8),
        "laplace": np.exp(-distances / 2),
        "energy": -distances,
        "polynomial": (x @ y.T + 1) ** 2,
    }[kernel.kind]


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize(("root", "estimator"), [(False, "v"), (True, "v"), (False, "u")], ids=["v", "root", "u"])
def test_running_sums_give_the_value_of_each_subset(kernel: Kernel, root: bool, estimator: Any) -> None:
    discrepancy = MMD(kernel=kernel, root=root, estimator=estimator)
    match = candidates(discrepancy, 3 + cloud(23, 3, dtype=torch.float64), cloud(31, 3, 1, dtype=torch.float64))
    running = discrepancy.gains(match.summary, match.features)
    compared = Compared(discrepancy, match.summary, match.features, None)
    for candidate in (5, 22, 0, 11):
        torch.testing.assert_close(running.after(), compared.after(), rtol=1e-9, atol=1e-9)
        running.take(candidate)
        compared.take(candidate)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_running_sums_in_small_blocks_are_the_same(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def values() -> torch.Tensor:
        match = candidates(MMD(kernel=kernel), cloud(23, 3, dtype=torch.float64))
        gains = MMD(kernel=kernel).gains(match.summary, match.features)
        gains.take(4)
        return gains.after()

    whole = values()
    monkeypatch.setattr("discrepancy.numerics.distances.BLOCK_BYTES", {"cpu": 200})
    torch.testing.assert_close(values(), whole)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_of_equal_examples_the_first_is_taken(kernel: Kernel) -> None:
    few = 100 + cloud(4, 7)
    order = torch.tensor([0, 1, 1, 0, 2, 1, 3, 2, 0, 3, 3])
    data = LabelledData.of(torch.cat([few[order], few[:2]]), torch.tensor([0] * len(order) + [1, 1]))
    solving = start(data, Match(MMD(kernel=kernel)), Herding(), context=Pool(), synthetic=Pixels(per_class=2))
    solve(solving)
    assert solving.chosen is not None
    first = int(solving.chosen[0])
    assert first == order.tolist().index(int(order[first]))


def test_candidates_are_measured_against_the_batch_of_the_context() -> None:
    data = table()
    some = problem(data, Match(MMD(kernel=Gaussian(lengthscale=2.0))), context=Fresh(batch=4))
    (match,) = some.engine(1).real_side.candidates(data.train.members[1], 1)
    torch.testing.assert_close(match.summary.real.shares[0][:5], torch.tensor([0.25] * 4).double())
    whole = problem(data, Match(MMD(kernel=Gaussian(lengthscale=2.0))), context=Fresh(batch="all"))
    (match,) = whole.engine(1).real_side.candidates(data.train.members[1], 1)
    assert len(match.summary.real) == len(data.train.members[1])


# --- weights ----------------------------------------------------------------------------------------------------------


def programme(matrix: np.ndarray) -> float:
    """min of ⟨w, G w⟩ over the simplex, by sequential quadratic programming from the barycentre."""
    m = len(matrix)
    found = optimize.minimize(
        lambda w: w @ matrix @ w,
        np.full(m, 1 / m),
        jac=lambda w: 2 * matrix @ w,
        bounds=[(0, 1)] * m,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(m)},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return float(found.fun)


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 9), rank=st.integers(1, 9), seed=st.integers(0, 10**6), log_scale=st.integers(-6, 6))
def test_the_weights_satisfy_the_conditions_of_the_minimum(m: int, rank: int, seed: int, log_scale: int) -> None:
    """2 (G w)ᵢ equals its smallest value wherever wᵢ > 0, and w is a distribution."""
    root = 10.0**log_scale * (0.5 + cloud(m, rank, seed, dtype=torch.float64))
    matrix = root @ root.mT
    w = simplex_minimum(matrix)
    slope, scale = matrix @ w, matrix.diagonal().mean()
    assert float(w.min()) >= 0
    assert float(w.sum()) == pytest.approx(1, abs=1e-12)
    assert float((slope - slope.min())[w > 1e-9].max()) <= 1e-7 * float(scale)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_the_weights_are_those_of_a_quadratic_programme(kernel: Kernel) -> None:
    points = 2 + cloud(29, 3, dtype=torch.float64)
    form, x, some = (
        Quadratic([candidates(MMD(kernel=kernel), points)]),
        points.numpy(),
        torch.tensor([3, 17, 8, 28, 11]),
    )
    few = x[some.numpy()]
    means = gram(kernel, x, few).mean(0)
    matrix = gram(kernel, few, few) - means[:, None] - means[None] + gram(kernel, x, x).mean()
    w = form.optimal(some)
    assert float(form.value(some, w)) == pytest.approx(programme(matrix), rel=1e-5, abs=1e-9)
    assert float(form.value(some, w)) == pytest.approx(float(w.numpy() @ matrix @ w.numpy()), rel=1e-9, abs=1e-12)


def stepwise(k: np.ndarray, means: np.ndarray, own: float, count: int) -> tuple[list[int], np.ndarray, list[float]]:
    """Every candidate tried, each with the best step towards it on a fine line search; then a quadratic programme."""
    chosen: list[int] = []
    w, values = np.zeros(len(k)), []

    def value(v: np.ndarray) -> float:
        return float(own - 2 * v @ means + v @ k @ v)

    for _ in range(count):
        best = {}
        for i in set(range(len(k))) - set(chosen):
            e = np.eye(len(k))[i]
            steps = [1.0] if not chosen else np.linspace(0, 1, 2001)
            best[i] = min(value((1 - t) * w + t * e) for t in steps)
        chosen.append(min(best, key=best.__getitem__))
        matrix = k - means[:, None] - means[None] + own
        root = np.linalg.cholesky(matrix[np.ix_(chosen, chosen)] + 1e-13 * np.eye(len(chosen))).T
        u, _ = optimize.nnls(np.vstack([root, np.ones(len(chosen))]), np.r_[np.zeros(len(chosen)), 1.0])
        w = np.zeros(len(k))
        w[chosen] = u / u.sum()
        values.append(value(w))
    return chosen, w[chosen], values


@pytest.mark.parametrize("kernel", [Linear(), Gaussian(lengthscale=2.0)], ids=lambda item: item.kind)
def test_greedy_mmd_is_the_loop_over_candidates_and_never_rises(kernel: Kernel) -> None:
    points = 2 + cloud(17, 5, dtype=torch.float64)
    x = points.numpy()
    k = gram(kernel, x, x)
    chosen, w, values = stepwise(k, k.mean(0), k.mean(), 5)
    form = Quadratic([candidates(MMD(kernel=kernel), points)])
    found = weighted(form, 5)
    assert found.weights is not None
    assert found.rows.tolist() == chosen
    np.testing.assert_allclose(found.weights.numpy() / 5, w, atol=1e-6)
    reached = [float(weighted(form, t).value) for t in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(reached, values, rtol=1e-6)
    assert all(later <= before + 1e-12 for before, later in pairwise(reached))


@pytest.mark.conformance("greedy_mmd")
def test_the_packaged_method_is_that_loop_on_features() -> None:
    some = selected("greedy_mmd")
    x, rows, weights = some.features().numpy(), [], []
    for members in (item.numpy() for item in some.problem.data.members):
        k = x[members] @ x[members].T
        chosen, w, _ = stepwise(k, k.mean(0), k.mean(), 4)
        rows += members[chosen].tolist()
        weights += (4 * w).tolist()
    assert some.run.chosen.tolist() == rows
    np.testing.assert_allclose(some.run.parameters["weights"].exp().numpy(), weights, atol=1e-5)


@pytest.mark.parametrize("weights", [[1.0], [0.2, 0.8], [0.98, 0.02]])
def test_a_step_towards_a_candidate_is_the_best_on_its_line(weights: list[float]) -> None:
    x = cloud(13, 3, dtype=torch.float64).numpy()
    x[[0, 5]] *= 6  # a mixture so far off that whole steps are best
    k = gram(Gaussian(lengthscale=2.0), x, x)
    form = Quadratic([candidates(MMD(kernel=Gaussian(lengthscale=2.0)), torch.from_numpy(x))])
    w = np.zeros(13)
    w[[0, 5][: len(weights)]] = weights
    here = w @ k @ w - 2 * w @ k.mean(0)
    expected = []
    for i in range(13):
        mixed = [(1 - t) * w + t * np.eye(13)[i] for t in np.linspace(0, 1, 4001)]
        expected.append(here - min(v @ k @ v - 2 * v @ k.mean(0) for v in mixed))
    found = lowering(form, torch.tensor([0, 5][: len(weights)]), torch.tensor(weights, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def finished(data: LabelledData, objective: Summand, solver: GreedyMMD, **options: Any) -> Any:
    solving = start(data, objective, solver, synthetic=options.pop("synthetic", WEIGHTED), **options)
    solve(solving)
    return solving


def test_the_set_carries_the_weights_with_mean_one_in_each_class() -> None:
    data, objective = images(sizes=(6, 40, 5)), Match(MMD(), via=Features())
    context = Pool(network=NETWORK, size=1)
    some = problem(data, objective, context=context, synthetic=WEIGHTED)
    solving = GreedyMMD().start(some)
    solve(solving)
    made = result(some, solving)
    assert made.weights.shape == (12,)
    assert not bool((made.weights == made.weights[0]).all())
    torch.testing.assert_close(made.weights.unflatten(0, (3, 4)).mean(1), torch.ones(3))
    assert made.points.equal(data.train.points[solving.chosen].float())


def test_optimal_weights_reach_less_than_equal_ones() -> None:
    data, objective, context = images(), Match(MMD(), via=Features()), Pool(network=NETWORK, size=1)
    reached = []
    for solver in (GreedyMMD(), GreedyMMD(weights="equal")):
        some = problem(data, objective, context=context, synthetic=WEIGHTED)
        solving = solver.start(some)
        solve(solving)
        leaves = {name: value.requires_grad_(True) for name, value in solving.parameters.items()}
        reached.append(float(some.engine(1).evaluate(some.synthetic.decode(leaves, some.layout), 0).total))
    assert reached[0] < 0.9 * reached[1]


def test_with_equal_weights_it_is_herding() -> None:
    options: dict[str, Any] = {"context": Pool(network=NETWORK, size=1), "synthetic": Pixels(per_class=5)}
    objective = Match(MMD(kernel=Gaussian(lengthscale=3.0)), via=Layers(), weight=0.5) + Match(MMD()).named("pixels")
    first = finished(images(), objective, GreedyMMD(weights="equal"), **options)
    second = start(images(), objective, Herding(), **options)
    solve(second)
    assert second.chosen is not None
    assert first.chosen.equal(second.chosen)


def test_examples_that_cannot_help_have_no_weight() -> None:
    x = torch.tensor([[0.0], [-1.0], [1.0], [0.0], [0.0], [0.0]])
    data = LabelledData.of(torch.cat([x, x + 5]), torch.arange(12) // 6)
    solving = finished(
        data, Match(MMD()), GreedyMMD(), context=Pool(), synthetic=Pixels(per_class=3, weights="learned")
    )
    weights = solving.parameters["weights"].exp()
    assert solving.chosen.tolist()[:1] == [0]
    torch.testing.assert_close(weights[:3].sum(), torch.tensor(3.0))
    assert bool(torch.isfinite(solving.parameters["weights"]).all())


def test_it_resumes_class_by_class_with_its_weights() -> None:
    whole = finished(table(), Match(MMD()), GreedyMMD(), context=Pool())
    first = start(table(), Match(MMD()), GreedyMMD(), context=Pool(), synthetic=WEIGHTED)
    first.advance()
    second = start(table(), Match(MMD()), GreedyMMD(), context=Pool(), synthetic=WEIGHTED)
    second.restore(first.state())
    solve(second)
    assert second.chosen is not None
    assert second.chosen.equal(whole.chosen)
    assert second.parameters["weights"].equal(whole.parameters["weights"])


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (Match(Sinkhorn(blur=0.5)), {}, "needs a kernel, but term 'sinkhorn' matches 'sinkhorn'; match mmd"),
        (Match(MMD(root=True)), {}, "adds squared MMDs up; set 'root' of term 'mmd' to false"),
        (Match(MMD(), weight=-1.0), {}, "needs weights >= 0, got a negative one in term 'mmd'"),
        (Match(MMD(), by="none"), {}, "term 'mmd' must be a match with by: class"),
        (Match(MMD()), {"synthetic": Pixels(per_class=2)}, r"set synthetic: \{weights: learned\}"),
        (Match(MMD()), {"synthetic": Pixels(per_class=8, weights="learned")}, "ask for at most 7 a class"),
    ],
    ids=["discrepancy", "root", "negative", "by", "weights", "too-many"],
)
def test_what_greedy_mmd_refuses(objective: Summand, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        start(table(), objective, GreedyMMD(), context=Pool(), **{"synthetic": WEIGHTED, **options})
