"""Selection: herding against a greedy loop in numpy, random subsets, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conformance import selected, trial
from small import NETWORK, images, problem, start, table

from discrepancy import MMD, Gaussian
from discrepancy.embeddings import Features, Layers
from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from discrepancy.reductions import Proportional
from objectives.condensation import result, solve
from objectives.contexts import Context, Fresh, Pool
from objectives.data.labelled import LabelledData
from objectives.data.real import RealData
from objectives.solvers import (
    ExactCover,
    Forgetting,
    GreedyMMD,
    Herding,
    KCentre,
    KernelThinning,
    Random,
    Solver,
    Solving,
)
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.objective import Summand
from objectives.terms.penalties import TotalVariation
from objectives.training.augmentation import Siamese
from objectives.training.training import Training


def finished(data: LabelledData, objective: Summand, solver: Solver, per_class: int, **options: Any) -> Solving:
    solving = start(data, objective, solver, synthetic=Pixels(per_class=per_class), **options)
    solve(solving)
    return solving


def chosen(solving: Solving) -> list[int]:
    assert solving.chosen is not None
    return solving.chosen.tolist()


def greedy(features: np.ndarray, count: int, target: np.ndarray | None = None) -> list[int]:
    """argmin over x of ‖mean - (sum of the chosen + x) / (t + 1)‖², without replacement (iCaRL, algorithm 4)."""
    mean, picked = features.mean(0) if target is None else target, []
    for t in range(count):
        costs = [
            np.inf if i in picked else ((mean - (features[picked].sum(0) + x) / (t + 1)) ** 2).sum()
            for i, x in enumerate(features)
        ]
        picked.append(int(np.argmin(costs)))
    return picked


def expected(data: RealData, features: np.ndarray, count: int) -> list[int]:
    rows: list[int] = []
    for members in data.members:
        rows += members[greedy(features[members.numpy()], count)].tolist()
    return rows


@pytest.mark.parametrize("count", [1, 4, 7])
def test_herding_of_points_is_the_greedy_loop(count: int) -> None:
    data = table()
    solving = finished(data, Match(MMD()), Herding(), count, context=Pool())
    features = data.normalisation.apply(data.train.points).double().numpy()
    assert chosen(solving) == expected(data.train, features, count)


def test_herding_of_features_is_the_greedy_loop() -> None:
    data = images()
    solving = finished(data, Match(MMD(), via=Features()), Herding(), 5, context=Pool(network=NETWORK, size=1))
    parameters = problem(data).engine(1).bound_context.initial(0)
    features = NETWORK(parameters, data.normalisation.apply(data.train.points), ("features",))["features"]
    assert chosen(solving) == expected(data.train, features.double().numpy(), 5)


@pytest.mark.conformance("herding")
def test_the_packaged_herding_is_the_greedy_loop_on_features() -> None:
    some = selected("herding")
    assert chosen(some.run) == expected(some.problem.data, some.features().numpy(), 4)


def test_herding_of_several_terms_and_layers_adds_them_up() -> None:
    data = images(sizes=(20, 5, 5))  # so that a share changes what is chosen
    objective = Match(MMD(), via=Layers(), layer_weights=(("layer2", 4.0),), weight=0.5) + Match(
        MMD(), reduce=Proportional(), weight=0.1
    ).named("pixels")
    solving = finished(data, objective, Herding(), 4, context=Pool(network=NETWORK, size=1))
    x = data.normalisation.apply(data.train.points)
    layers = NETWORK(problem(data).engine(1).bound_context.initial(0), x, ("layers",))
    rows: list[int] = []
    for members in data.train.members:
        share = len(members) / 30
        blocks = [layers["layer1"] * 0.5**0.5, layers["layer2"] * 2**0.5, x * (0.1 * share) ** 0.5]
        features = torch.cat([block.flatten(1).double() for block in blocks], 1)[members].numpy()
        rows += members[greedy(features, 4)].tolist()
    assert chosen(solving) == rows


def test_herding_with_a_gaussian_kernel() -> None:
    data = table()
    solving = finished(data, Match(MMD(kernel=Gaussian(lengthscale=2.0))), Herding(), 3, context=Pool())
    x = data.normalisation.apply(data.train.points).double().numpy()
    kernel = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / 8)
    rows: list[int] = []
    for members in (item.numpy() for item in data.train.members):
        picked: list[int] = []
        for _ in range(3):
            costs = {}
            for i in set(members.tolist()) - set(picked):
                some = [*picked, i]
                costs[i] = kernel[np.ix_(some, some)].mean() - 2 * kernel[np.ix_(members, some)].mean()
            picked.append(min(costs, key=costs.__getitem__))
        rows += picked
    assert chosen(solving) == rows


def test_herding_in_small_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = chosen(finished(table(), Match(MMD()), Herding(), 4, context=Pool()))
    monkeypatch.setattr("discrepancy.mean_embeddings.gains.CANDIDATES_BYTES", 600)
    assert chosen(finished(table(), Match(MMD()), Herding(), 4, context=Pool())) == whole


def test_herding_takes_no_example_twice() -> None:
    x = torch.zeros(12, 2)  # all examples alike, so that the first would win every time
    x[6:] = 1
    data = LabelledData.of(x, torch.arange(12) // 6)
    assert sorted(chosen(finished(data, Match(MMD()), Herding(), 6, context=Pool()))) == list(range(12))


def test_herding_beats_random_in_its_own_objective() -> None:
    data = images()
    values = []
    for solver in (Herding(), Random()):
        solving = finished(data, Match(MMD()), solver, 5, context=Pool())
        some = problem(data, Match(MMD()), context=Pool(), synthetic=Pixels(per_class=5))
        here = some.synthetic.decode({"points": solving.parameters["points"].requires_grad_(True)}, some.layout)
        values.append(float(some.engine(1).evaluate(here, 0).total))
    assert values[0] < 0.8 * values[1]


@pytest.mark.parametrize("solver", [Random(), Herding()], ids=lambda item: item.kind)
def test_distinct_examples_of_each_class_in_source_units(solver: Solver) -> None:
    data = images()
    some = problem(data, Match(MMD()), context=Pool(), synthetic=Pixels(per_class=7))
    solving = solver.start(some)
    solve(solving)
    rows, made = chosen(solving), result(some, solving)
    assert len(set(rows)) == 21
    assert data.train.labels.numbers[rows].tolist() == made.labelling.rows.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert made.points.equal(data.train.points[rows].float())  # exactly, also the 8-bit images
    assert made.record["chosen"] == rows
    torch.testing.assert_close(made.normalised, made.parameters["points"])


def test_random_follows_the_seed() -> None:
    made = [chosen(finished(images(), Match(MMD()), Random(), 5, seed=seed)) for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def test_random_takes_every_example_of_a_class_equally_often() -> None:
    data, counts = table(sizes=(4, 5)), torch.zeros(9)
    for seed in range(400):
        counts[chosen(finished(data, Match(MMD()), Random(), 2, seed=seed, context=Pool()))] += 1
    for members, share in zip(data.train.members, (2 / 4, 2 / 5), strict=True):
        assert float((counts[members] / 400 - share).abs().max()) < 5 * (share * (1 - share) / 400) ** 0.5


@pytest.mark.conformance("random")
def test_the_packaged_random_takes_every_pair_of_a_class_equally_often() -> None:
    some, counts = trial("random", ("synthetic.per_class=2",)), torch.zeros(33, 33)
    for seed in range(1000):
        solving = some.solver.start(replace(some.problem, runtime=replace(some.problem.runtime, seed=seed)))
        solve(solving)
        for first, second in torch.tensor(chosen(solving)).unflatten(0, (3, 2)).tolist():
            counts[first, second] += 1
    for members in some.problem.data.members:
        n = len(members)
        share = 1 / (n * (n - 1))  # of each ordered pair, drawn without replacement
        found = counts[members][:, members] / 1000
        assert float(found.diagonal().max()) == 0
        spread = (share * (1 - share) / 1000) ** 0.5
        assert float((found - share * (1 - torch.eye(n))).abs().max()) < 5 * spread
    assert int(counts.sum()) == 3000


def test_herding_resumes_class_by_class() -> None:
    whole = finished(table(), Match(MMD()), Herding(), 3, context=Pool())
    first = start(table(), Match(MMD()), Herding(), context=Pool(), synthetic=Pixels(per_class=3))
    first.advance()
    second = start(table(), Match(MMD()), Herding(), context=Pool(), synthetic=Pixels(per_class=3))
    second.restore(first.state())
    solve(second)
    assert chosen(second) == chosen(whole)


@pytest.mark.parametrize("solver", [Random(), Herding()], ids=lambda item: item.kind)
def test_a_class_with_too_few_examples(solver: Solver) -> None:
    message = (
        f"solver: {solver.kind} needs 8 examples of each class, but '0' of 'data' has 7; ask for at most 7 a class"
    )
    with pytest.raises(InvalidInput, match=message):
        start(images(), Match(MMD()), solver, context=Pool(), synthetic=Pixels(per_class=8))


@pytest.mark.parametrize(
    ("objective", "context", "message"),
    [
        (Match(MMD(), by="none"), Pool(), "term 'mmd' must be a match with by: class"),
        (Match(MMD()) + TotalVariation(), Pool(), "term 'total_variation' must be a match with by: class"),
        (Match(MMD()), Fresh(augment=Siamese()), "'herding' selects examples as they are; remove 'augment'"),
        (
            Match(MMD(), via=Features()),
            Fresh(network=ConvNet(width=8, depth=2, norm="batch")),
            "'herding' values one example at a time, but 'convnet' with batch normalisation is not pointwise",
        ),
    ],
    ids=["none", "penalty", "augment", "batch-norm"],
)
def test_herding_refuses(objective: Summand, context: Context, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        start(images(), objective, Herding(), context=context)


@pytest.mark.parametrize(
    "solver",
    [
        Random(),
        Herding(),
        KCentre(),
        ExactCover(time_limit=None),
        GreedyMMD(weights="equal"),
        KernelThinning(),
        Forgetting(rounds=2, training=Training(steps=5, batch=8)),
    ],
    ids=lambda solver: solver.kind,
)
def test_classes_share_so_many_examples_out(solver: Solver) -> None:
    data = images()
    context = Pool(network=NETWORK) if isinstance(solver, Forgetting) else Pool()
    match = Match(MMD(kernel=Gaussian(lengthscale=8.0)))
    solving = start(data, match, solver, synthetic=Pixels(examples=7), context=context)
    solve(solving)
    rows = chosen(solving)
    assert data.train.strata[rows].tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert len(set(rows)) == 7
    even = chosen(finished(data, match, solver, 3, context=context))
    if not isinstance(solver, KernelThinning | ExactCover):  # whose two examples need not be among their three
        assert rows == [row for place, row in enumerate(even) if place not in (5, 8)]
