"""Kernel thinning against its definition in loops: halving, the best set, exchanges; and better than random on average."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from conformance import selected
from small import NETWORK, images, start, table

from discrepancy import MMD, Gaussian, Measure
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Energy
from objectives.condensation import solve
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.rng import rng
from objectives.solvers import KernelThinning, Random
from objectives.solvers.selection.quadratic import Quadratic
from objectives.solvers.selection.thinning import best, halved, refined, split
from objectives.synthetic.pixels import Pixels
from objectives.terms.bound import Candidates
from objectives.terms.match import Match


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def form(points: torch.Tensor, discrepancy: MMD | None = None) -> Quadratic:
    discrepancy = discrepancy or MMD(kernel=Gaussian(lengthscale=1.5))
    summary = discrepancy.summarise(Measure(points).as_groups())
    return Quadratic([Candidates(Measure(points), discrepancy, summary, None, 1.0)])


def gaussian(x: np.ndarray) -> np.ndarray:
    return np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / (2 * 1.5**2))


def one_halving(k: np.ndarray, draws: np.ndarray, multiplier: float) -> tuple[list[int], list[int]]:
    """The walk with its function ψ = Σ over the right half - Σ over the left, evaluated anew for every pair."""
    left: list[int] = []
    right: list[int] = []
    variance = 0.0
    for i, draw in enumerate(draws):
        x, y = 2 * i, 2 * i + 1
        square = k[x, x] + k[y, y] - 2 * k[x, y]
        a = max(math.sqrt(square) * math.sqrt(variance) * math.sqrt(multiplier), square)
        alpha = (k[right, x] - k[right, y]).sum() - (k[left, x] - k[left, y]).sum()
        variance += square * max(0.0, 1 + (square - 2 * a) * variance / a**2)
        plus = draw <= 0.5 * (1 - alpha / a)
        right.append(x if plus else y)
        left.append(y if plus else x)
    return left, right


@pytest.mark.parametrize("block", [3, 256])
@pytest.mark.parametrize("multiplier", [1.5, 7.3])
def test_a_halving_is_the_walk_written_out(block: int, multiplier: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objectives.solvers.selection.thinning.BLOCK_PAIRS", block)
    points = cloud(258, 2)
    sets = torch.randperm(258, generator=torch.Generator().manual_seed(1)).unflatten(0, (3, 86))
    draws = torch.rand(3, 43, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = halved(form(points), sets, draws, multiplier)
    for s in range(3):
        k = gaussian(points[sets[s]].numpy())
        left, right = one_halving(k, draws[s].numpy(), multiplier)
        assert found[2 * s].tolist() == sets[s][left].tolist()
        assert found[2 * s + 1].tolist() == sets[s][right].tolist()


def test_a_split_is_a_partition_into_sets_of_one_size() -> None:
    sets = split(form(cloud(48, 3)), torch.arange(48), 4, 0.5, torch.Generator().manual_seed(0))
    assert sets.shape == (16, 3)
    assert sorted(sets.flatten().tolist()) == list(range(48))


def mmd(k: np.ndarray, rows: list[int]) -> float:
    return float(k.mean() - 2 * k[:, rows].mean() + k[np.ix_(rows, rows)].mean())


def exchanged(k: np.ndarray, rows: list[int]) -> list[int]:
    """Each example in turn is exchanged for the best one that is not in the set."""
    rows = list(rows)
    for place in range(len(rows)):
        others = rows[:place] + rows[place + 1 :]
        values = {i: mmd(k, [*others, i]) for i in range(len(k)) if i not in others}
        rows[place] = min(values, key=values.__getitem__)
    return rows


@pytest.mark.conformance("kernel_thinning")
def test_the_packaged_method_written_out() -> None:
    """Algorithms 1, 1a and 1b: classes of 9, 11 and 13 are halved twice to sets of 2, the best one of which is refined."""
    some = selected("kernel_thinning", ("synthetic.per_class=2",))
    x = some.features().numpy()
    apart = np.linalg.norm(x[:, None] - x[None], axis=-1)
    length = np.median(apart[np.triu_indices(len(x), 1)])  # the median heuristic, over all the classes
    gram, expected = np.exp(-(apart**2) / (2 * length**2)), []
    for label, members in enumerate(item.numpy() for item in some.problem.data.members):
        k = gram[np.ix_(members, members)]
        generator = rng(some.problem.runtime.seed, "thinning", label)
        order = torch.randperm(len(k), generator=generator).tolist()
        n, rounds = 8, 2
        sets = [order[:n]]
        for j in range(rounds):
            draws = torch.rand(len(sets), n >> (j + 1), generator=generator, dtype=torch.float64).numpy()
            multiplier = 2 * math.log(2 * n * rounds / (0.5 * 2**j))
            n_draws = zip(sets, draws.reshape(len(sets), -1)[:, : len(sets[0]) // 2], strict=True)
            sets = [
                [rows[i] for i in half]
                for rows, uniform in n_draws
                for half in one_halving(k[np.ix_(rows, rows)], uniform, multiplier)
            ]
        first = min([order[:2], *sets], key=lambda rows: mmd(k, rows))
        expected += members[exchanged(k, first)].tolist()
    assert some.run.chosen.tolist() == expected


@pytest.mark.parametrize("linear", [False, True], ids=["gaussian", "linear"])
def test_the_best_set_and_its_exchanges_are_those_of_the_loop(linear: bool) -> None:
    points = cloud(41, 2)
    k = (points @ points.mT).numpy() if linear else gaussian(points.numpy())
    here = form(points, MMD() if linear else None)
    sets = torch.randperm(41, generator=torch.Generator().manual_seed(3))[:40].unflatten(0, (8, 5))
    chosen = best(here, sets).tolist()
    assert mmd(k, chosen) == min(mmd(k, rows) for rows in sets.tolist())
    expected, before = exchanged(k, chosen), mmd(k, chosen)
    found = refined(here, torch.tensor(chosen))
    assert found.rows.tolist() == expected
    assert float(found.value) == pytest.approx(mmd(k, expected), abs=1e-12)
    assert mmd(k, expected) < before


@pytest.mark.parametrize(
    "discrepancy",
    [MMD(kernel=Gaussian(lengthscale=1.5)), MMD(), MMD(kernel=Energy())],
    ids=lambda item: item.kernel.kind,
)
def test_the_split_alone_beats_random_halves_on_average(discrepancy: MMD) -> None:
    values: dict[str, list[float]] = {"split": [], "random": []}
    for seed in range(12):
        here, generator = form(cloud(128, 2, seed), discrepancy), torch.Generator().manual_seed(seed)
        order = torch.randperm(128, generator=generator)
        equal = torch.full((8,), 1 / 8, dtype=torch.float64)
        sets = split(here, order, 4, 0.5, generator)
        values["split"] += [float(here.value(rows, equal)) for rows in sets]
        values["random"] += [float(here.value(rows, equal)) for rows in order.unflatten(0, (16, 8))]
    assert np.mean(values["split"]) < 0.9 * np.mean(values["random"])


def test_thinning_beats_random_in_its_objective() -> None:
    data, objective = table(sizes=(70, 50, 41), features=3), Match(MMD(kernel=Gaussian(lengthscale=2.0)))
    reached: dict[str, list[float]] = {"kernel_thinning": [], "random": []}
    for solver in (KernelThinning(), Random()):
        for seed in range(5):
            solving = start(data, objective, solver, context=Pool(), synthetic=Pixels(per_class=6), seed=seed)
            solve(solving)
            assert solving.chosen is not None
            x = data.normalisation.apply(data.train.points).double()
            for rows, members in zip(solving.chosen.unflatten(0, (3, 6)), data.train.members, strict=True):
                value = objective.match(Measure(x[members]), Measure(x[rows]))
                reached[solver.kind].append(float(value))
    assert np.mean(reached["kernel_thinning"]) < 0.3 * np.mean(reached["random"])


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_any_size_of_any_class(count: int) -> None:
    data = images(sizes=(7, 40, 11))
    objective, context = Match(MMD(), via=Features()), Pool(network=NETWORK, size=1)
    solving = start(data, objective, KernelThinning(), context=context, synthetic=Pixels(per_class=count))
    solve(solving)
    assert solving.chosen is not None
    rows = solving.chosen
    assert len(set(rows.tolist())) == 3 * count
    assert data.train.labels.numbers[rows].tolist() == [0] * count + [1] * count + [2] * count


def thinned(seed: int, **options: Any) -> Any:
    solving = start(table(), Match(MMD()), KernelThinning(), context=Pool(), synthetic=Pixels(per_class=3), seed=seed)
    solve(solving)
    return solving


def test_it_follows_the_seed_and_resumes_class_by_class() -> None:
    whole = thinned(1)
    first = start(table(), Match(MMD()), KernelThinning(), context=Pool(), synthetic=Pixels(per_class=3), seed=1)
    first.advance()
    second = start(table(), Match(MMD()), KernelThinning(), context=Pool(), synthetic=Pixels(per_class=3), seed=1)
    second.restore(first.state())
    solve(second)
    assert second.chosen is not None
    assert second.chosen.equal(whole.chosen)
    assert any(not thinned(seed).chosen.equal(whole.chosen) for seed in (2, 3, 4))


def test_equal_examples_do_no_harm() -> None:
    x = torch.zeros(12, 2)
    x[6:] = 1
    solving = start(
        LabelledData.of(x, torch.arange(12) // 6),
        Match(MMD()),
        KernelThinning(),
        context=Pool(),
        synthetic=Pixels(per_class=3),
    )
    solve(solving)
    assert solving.chosen is not None
    assert len(set(solving.chosen.tolist())) == 6


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_a_failure_probability_is_one(delta: float) -> None:
    with pytest.raises(InvalidInput, match=r"'delta' must lie in \(0, 1\), got"):
        KernelThinning(delta=delta)


def test_too_few_examples() -> None:
    with pytest.raises(InvalidInput, match="solver: kernel_thinning needs 8 examples of each class"):
        start(images(), Match(MMD()), KernelThinning(), context=Pool(), synthetic=Pixels(per_class=8))
