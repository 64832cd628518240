"""Confident learning: the rule by hand and by cleanlab, the folds, and what it finds on digits."""

import itertools
from typing import Any

import pytest
import torch

from discrepancy import MMD
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Linear
from discrepancy.networks import MLP
from experiments.data import Digits, Mislabelled
from objectives.contexts import Fresh
from objectives.data.subset import Subset
from objectives.rng import rng
from objectives.solvers import Descent
from objectives.teacher import Teacher
from objectives.terms.match import Match
from objectives.training.training import Training
from objectives.transforms import Confident, Reweighted
from objectives.transforms.confident import confident_classes, out_of_sample
from tests.objectives.small import NETWORK, images, start, table

CPU = torch.device("cpu")
TEACHER = Teacher(network=NETWORK, training=Training(on="real", steps=5, batch=10, lr=0.1), rounds=2)
PERCEPTRON = Teacher(
    network=MLP(width=64, depth=1),
    training=Training(on="real", epochs=1, batch=64, optimizer="adam", lr=0.005),
    rounds=20,
)

# Rounded rows of a random table in which the examples 1, 5, 9, 14 and 20 lean to another class than their label.
P = """
.69 .20 .11  .09 .02 .89  .00 .38 .62  .66 .21 .13  .11 .67 .22  .02 .89 .09  .67 .31 .02  .01 .82 .17
.31 .07 .62  .31 .68 .01  .07 .78 .15  .27 .00 .73  .58 .04 .38  .09 .79 .12  .92 .02 .06  .59 .20 .21
.04 .66 .30  .03 .04 .93  .71 .23 .06  .20 .66 .14  .02 .87 .11  .75 .01 .24  .18 .72 .10  .17 .20 .63
"""
TABLE = torch.tensor([float(text) for text in P.split()], dtype=torch.float64).reshape(24, 3)
LABELS = torch.arange(24) % 3


def joint(found: torch.Tensor, labels: torch.Tensor, classes: int) -> list[list[int]]:
    """C[i, j], the examples with label i and confident class j."""
    return [[int(((labels == i) & (found == j)).sum()) for j in range(classes)] for i in range(classes)]


def test_the_rule_by_hand() -> None:
    """t = (0.5, 0.6): the third example is above both thresholds, the fourth above none, the last below that of its most likely
    class."""
    p = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.5, 0.6], [0.45, 0.55], [0.54, 0.46], [0.36, 0.64]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    thresholds = [(0.7 + 0.3 + 0.5) / 3, (0.55 + 0.46 + 0.64) / 3]
    by_hand = []
    for row in p.tolist():
        above = [(value, label) for label, value in enumerate(row) if value >= thresholds[label]]
        by_hand.append(max(above)[1] if above else -1)
    assert by_hand == [0, 1, 1, 1, 0, 1]
    assert confident_classes(p, labels).tolist() == by_hand


def test_no_class_is_confident_below_all_thresholds() -> None:
    p = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])
    assert confident_classes(p, torch.tensor([0, 1, 2, 1])).tolist() == [0, 1, 2, -1]


def test_the_most_likely_class_does_not_count_below_its_threshold() -> None:
    """The last row leans to class 0, below t_0 = 0.95, and is above t_1 = 0.3."""
    p = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    assert confident_classes(p, torch.tensor([0, 0, 1, 1])).tolist() == [0, -1, -1, 1]


def test_no_class_is_confident_with_probability_zero() -> None:
    """No example is given class 2 at all, so t_2 = 0, and the last row is below t_0 = 0.75 and t_1 = 1 with the others."""
    p = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.6, 0.4, 0.0]])
    assert confident_classes(p, torch.tensor([0, 1, 2, 0])).tolist() == [0, 1, 0, -1]


def test_equal_probabilities_speak_for_the_label() -> None:
    assert confident_classes(torch.full((3, 2), 0.5), torch.tensor([0, 1, 1])).tolist() == [0, 1, 1]


def test_the_confident_joint_is_that_of_cleanlab() -> None:
    """Frozen: cleanlab 2.9.0, compute_confident_joint(labels, p, calibrate=False, return_indices_of_off_diagonals=True). It
    counts alike where the most likely class is above its threshold, as it is in all these rows."""
    found = confident_classes(TABLE, LABELS)
    assert joint(found, LABELS, 3) == [[5, 1, 0], [0, 7, 1], [1, 2, 5]]
    assert ((found >= 0) & (found != LABELS)).nonzero()[:, 0].tolist() == [1, 5, 9, 14, 20]


def test_probabilities_are_those_of_teachers_that_have_not_seen_the_example() -> None:
    data = images().train
    found = out_of_sample(data, TEACHER, 3, seed=4)
    torch.testing.assert_close(found.sum(1), torch.ones(31))
    # Each example's row is that of a teacher trained on two thirds of each class, without it.
    sizes, reproduced = [], torch.zeros(31, dtype=torch.bool)
    generator = rng(4, "transform", "confident")
    mixed = [members[torch.randperm(len(members), generator=generator)] for members in data.members]
    for fold in range(3):
        held = torch.cat([members[fold::3] for members in mixed]).sort().values
        rest = torch.tensor([number for number in range(31) if number not in held.tolist()])
        taught = TEACHER.taught(Subset(data, rest), Subset(data, held), seed=4)
        torch.testing.assert_close(found[held], taught(data.rows(held).points))
        sizes.append(len(held))
        assert not reproduced[held].any()
        reproduced[held] = True
    assert sizes == [12, 10, 9]
    assert bool(reproduced.all())


def test_clean_digits_lose_next_to_nothing() -> None:
    weights = Confident(teacher=PERCEPTRON).applied(Digits().load().train, 0, CPU).rows().weights
    assert weights is not None
    assert int((weights == 0).sum()) <= 20  # of 1,437; measured 4


def test_mislabelled_digits_are_found() -> None:
    """Of 574 wrong labels among 1,437."""
    data = Mislabelled(of=Digits(), share=0.4).load().train
    wrong = data.labels.numbers != Digits().load().train.labels.numbers
    side = Confident(teacher=PERCEPTRON).applied(data, 0, CPU)
    left_out = side.rows().weights == 0
    hits = int((left_out & wrong).sum())
    assert int(wrong.sum()) == 574
    assert hits / int(left_out.sum()) > 0.8  # precision; measured 0.91
    assert hits / 574 > 0.8  # recall; measured 0.88
    chosen = torch.tensor([5, 3, 900])
    weights = side.rows(chosen).weights
    assert weights is not None
    assert torch.equal(weights, (~left_out[chosen]).float())
    assert torch.equal(side.rows(chosen).points, data.rows(chosen).points)


def half_of_the_first_class(monkeypatch: pytest.MonkeyPatch, calls: list[Any] | None = None) -> Confident:
    """A transform that leaves out the first four of the seven examples of class 0, without training anything."""

    def fixed(data: Any, *rest: Any) -> torch.Tensor:
        if calls is not None:
            calls.append(rest)
        found = torch.eye(3)[data.labels.numbers]
        found[data.members[0][:4]] = torch.eye(3)[1]
        return found

    monkeypatch.setattr("objectives.transforms.confident.out_of_sample", fixed)
    return Confident(teacher=TEACHER)


def test_a_match_compares_with_the_mean_of_the_examples_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    data, transform = images(), half_of_the_first_class(monkeypatch)
    solving = start(data, Match(MMD(kernel=Linear()), transform=transform), context=Fresh(batch="all"))
    solving.advance()
    found = solving.engine.real_side.at(0).summaries["mmd"][""].mean
    points = data.train.normalised(torch.arange(31)).flatten(1).double()
    first, second, third = data.train.members
    expected = torch.stack([points[rows].mean(0) for rows in (first[4:], second, third)])
    torch.testing.assert_close(found, expected)


def test_a_batch_without_an_example_that_counts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    match = Match(MMD(), transform=half_of_the_first_class(monkeypatch))
    solving = start(images(), match, Descent(steps=50), context=Fresh(batch=1))
    steps = iter(solving.advance, None)
    with pytest.raises(InvalidInput, match=r"term 'mmd' has no real example of class '0' with mass: .* larger 'batch'"):
        list(itertools.islice(steps, 50))
    whole = Reweighted(by="class", shares=(("1", 0.0),))
    with pytest.raises(InvalidInput, match="no real example of class '1' with mass"):
        start(images(), Match(MMD(kernel=Linear()), transform=whole)).advance()


def test_it_is_made_once_and_not_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    match = Match(MMD(), transform=half_of_the_first_class(monkeypatch, calls))
    solving = start(images(), match, Descent(lr=0.5, steps=3), context=Fresh(batch="all"), seed=6)
    assert not calls
    for _ in range(3):
        solving.advance()
    assert calls == [(TEACHER, 3, 6, CPU)]


def test_the_passes_of_the_teachers_are_counted() -> None:
    transform, data = Confident(teacher=TEACHER), images().train
    sizes = [31 - 12, 31 - 10, 31 - 9]
    assert transform.passes(data) == sum(TEACHER.passes(size) for size in sizes) + 2 * 31
    epochs = Teacher(network=NETWORK, training=Training(on="real", epochs=1, batch=10, lr=0.1), rounds=2, number=2)
    assert Confident(teacher=epochs).passes(data) == sum(3 * 2 * 2 * size for size in sizes) + 2 * 2 * 31


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Confident(folds=1), "'folds' must be at least 2"),
        (lambda: Confident(teacher=Teacher(weights=("own.safetensors",))), "has weights, but it is trained without"),
        (
            lambda: Confident(folds=8).applied(images().train, 0, CPU),
            r"'confident' with 8 folds needs 8 examples of each class, .*; ask for at most \d folds$",
        ),
        (lambda: Confident().applied(table().train, 0, CPU), "convnet"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


def test_a_class_that_would_vanish_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fixed(data: Any, *rest: Any) -> torch.Tensor:
        found = torch.eye(3)[data.labels.numbers]
        found[data.members[0]] = torch.tensor([0.4, 0.6, 0.0])
        found[data.members[1]] = torch.tensor([0.4, 0.5, 0.1])
        return found

    monkeypatch.setattr("objectives.transforms.confident.out_of_sample", fixed)
    with pytest.raises(InvalidInput, match="all the 7 examples of class '0' look mislabelled to the teacher"):
        Confident(teacher=TEACHER).applied(images().train, 0, CPU).rows()
