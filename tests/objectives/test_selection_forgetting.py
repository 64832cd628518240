"""Forgetting events: counted by hand, on a case where it is known what is forgotten, resumed, and refused."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from conformance import trial
from small import NETWORK, images, start, table, unchecked

from discrepancy import MMD
from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from objectives.condensation import solve
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.solvers import Forgetting
from objectives.solvers.selection.forgetting import ranked
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.training.training import Training

TRAINING = Training(steps=5, batch=8, lr=0.05, momentum=0.5)


def begun(data: LabelledData, count: int = 3, **options: Any) -> Any:
    solver = Forgetting(**{"rounds": 6, "training": TRAINING, **options})
    context = Pool(network=NETWORK, size=1)
    return start(data, Match(MMD()), solver, context=context, synthetic=Pixels(per_class=count))


def test_events_are_the_transitions_from_right_to_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    data, solving = images(), begun(images())
    answers = torch.randint(0, 3, (6, 31), generator=torch.Generator().manual_seed(1))
    answers[:, 4] = (data.train.labels.numbers[4] + 1) % 3  # never right
    answers[:, 9] = data.train.labels.numbers[9]  # always
    rows = iter(answers)
    monkeypatch.setattr(solving, "_predictions", lambda parameters: next(rows))
    solve(solving)
    right = (answers == data.train.labels.numbers).numpy()
    events = [sum(bool(a and not b) for a, b in pairwise(seen)) for seen in right.T]
    assert solving.state()["events"].tolist() == events
    counts = [99 if not seen.any() else event for seen, event in zip(right.T, events, strict=True)]
    expected: list[int] = []
    for members in data.train.members:
        expected += sorted(members.tolist(), key=lambda i: (-counts[i], i))[:3]
    assert solving.chosen.tolist() == expected
    assert 4 in expected


@pytest.mark.conformance("forgetting")
def test_the_packaged_method_counts_what_its_network_forgets() -> None:
    """Right and wrong by the logits of the network after each round, whose training has tests of its own."""
    small = ("synthetic.per_class=4", "solver.rounds=20", "solver.training.steps=3", "solver.training.batch=8")
    some = trial("forgetting", (*small, "solver.training.lr=0.5"), dtype=torch.float32)
    data, network, right = some.problem.data, some.problem.context.network, []
    assert network is not None
    while some.run.step < 20:
        some.run.advance()
        points = data.normalised(torch.arange(len(data)))
        logits = network(some.run.trainer.parameters, points, ("logits",))
        right.append((logits["logits"].argmax(1) == data.strata).tolist())
    events = [sum(a and not b for a, b in pairwise(seen)) for seen in zip(*right, strict=True)]
    never = [not any(seen) for seen in zip(*right, strict=True)]
    expected: list[int] = []
    for members in data.members:
        expected += sorted(members.tolist(), key=lambda i: (-99 if never[i] else -events[i], i))[:4]
    assert some.run.chosen.tolist() == expected
    assert len(set(events)) > 2


def test_most_and_least() -> None:
    events, learned = torch.tensor([0, 3, 1, 0, 2]), torch.tensor([True, True, True, False, True])
    assert ranked(events, learned, most=True).argsort(stable=True).tolist() == [3, 1, 4, 2, 0]
    assert ranked(events, learned, most=False).argsort(stable=True).tolist() == [0, 2, 4, 1, 3]


def test_examples_with_the_wrong_label_are_forgotten_most() -> None:
    """Two clear classes with three labels exchanged in each: a network that learns the rest cannot keep them."""
    y = torch.arange(60) // 30
    x = torch.zeros(60, 1, 8, 8)
    x[y == 1] = 1
    x += 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    wrong = torch.tensor([3, 11, 20, 31, 42, 55])
    labels = y.clone()
    labels[wrong] = 1 - labels[wrong]
    data = LabelledData.of(x, labels)
    gentle = Training(steps=10, batch=20, lr=0.02)
    most = begun(data, rounds=8, training=gentle)
    least = begun(data, rounds=8, training=gentle, choose="least")
    for solving in (most, least):
        solve(solving)
    assert sorted(most.chosen.tolist()) == wrong.tolist()
    assert not set(least.chosen.tolist()) & set(wrong.tolist())


def test_distinct_examples_of_each_class() -> None:
    data, solving = images(sizes=(7, 40, 11)), begun(images(sizes=(7, 40, 11)), count=5)
    solve(solving)
    assert len(set(solving.chosen.tolist())) == 15
    assert data.train.labels.numbers[solving.chosen].tolist() == [0] * 5 + [1] * 5 + [2] * 5


def test_the_same_seed_gives_the_same_and_it_resumes_round_by_round() -> None:
    whole, again, first = (begun(images()) for _ in range(3))
    solve(whole)
    solve(again)
    for _ in range(4):
        first.advance()
    saved = first.state()
    first.advance()  # leaves the state alone
    second = begun(images())
    second.restore(saved)
    solve(second)
    for solving in (again, second):
        assert solving.chosen.equal(whole.chosen)
        assert solving.state()["events"].equal(whole.state()["events"])
        trained = whole.state()["trainer"]["parameters"]
        assert all(value.equal(trained[name]) for name, value in solving.state()["trainer"]["parameters"].items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 1}, "'rounds' must be at least 2, so that something can be forgotten, got 1"),
        ({"training": Training(on="synthetic")}, "'training' of forgetting must be on: real"),
        ({"choose": "some"}, "'choose' must be one of most, least; got 'some'"),
    ],
    ids=["rounds", "on", "choose"],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with unchecked(), pytest.raises(InvalidInput, match=message):
        Forgetting(**options)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (None, "'forgetting' trains the context's network, but it has none; give the context a 'network'"),
        (ConvNet(width=8, depth=2, norm="batch"), "'convnet' with batch normalisation is not pointwise"),
    ],
    ids=["none", "batch-norm"],
)
def test_networks_that_do_not_do(network: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        start(images(), Match(MMD()), Forgetting(), context=Pool(network=network, batch=5))


def test_too_few_examples() -> None:
    with pytest.raises(InvalidInput, match="solver: forgetting needs 8 examples of each class"):
        begun(images(), count=8)


def test_rows_of_numbers_need_a_network_for_them() -> None:
    with pytest.raises(InvalidInput):
        begun(table())
