"""Real sides that are changed before they are embedded."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from discrepancy import MMD, EnergyDistance
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Linear
from objectives.attacks import PGD, UnitSpace, attacked
from objectives.attacks.corruptions import corrupted
from objectives.contexts import Fresh, Pool
from objectives.data.in_memory import InMemory
from objectives.data.labelled import LabelledData
from objectives.data.units import moved_by, moved_type
from objectives.rng import rng
from objectives.solvers import Descent, Herding
from objectives.teacher import Teacher
from objectives.terms.match import Match
from objectives.training.training import Training
from objectives.transforms import Adversarial, Corrupted, Reweighted
from tests.objectives.small import NETWORK, images, start, table

DATA = images()
TEACHER = Teacher(network=NETWORK, training=Training(on="real", steps=5, batch=10, lr=0.1), rounds=2)
ADVERSARIAL = Adversarial(attack=PGD(eps=20 / 255, steps=3), teacher=TEACHER)
CPU = torch.device("cpu")


def features(transform: Any = None, **options: Any) -> Match:
    return Match(MMD(kernel=Linear()), via=Features(), transform=transform, **options)


def test_attacked_examples_are_those_of_the_attack_on_the_teacher() -> None:
    changed = ADVERSARIAL.applied(DATA.train, 7, CPU)
    taught = TEACHER.taught(DATA.train, seed=7)
    space = UnitSpace.of(DATA)
    units = DATA.train.rows().points.float() / 255

    def classify(points: Tensor) -> Tensor:
        return taught.logits(taught.members[0], space.to_normalised(points))

    labels = torch.eye(3)[DATA.train.labels.numbers]
    generator = rng(7, "transform", "adversarial", 0)
    found = attacked(ADVERSARIAL.attack, classify, units, labels, space.ball, generator)
    points = changed.rows().points
    assert points.dtype == torch.uint8
    moved = points.int() - DATA.train.rows().points.int()
    assert int(moved.abs().max()) == 20
    assert float((points.float() / 255 - found.points).abs().max()) <= 1 / 255 + 1e-6
    assert torch.equal(changed.rows(torch.tensor([4, 2])).points, points[[4, 2]])
    assert torch.equal(changed.labels.numbers, DATA.train.labels.numbers)
    accuracy = float((taught(points).argmax(1) == DATA.train.labels.numbers).double().mean())
    assert accuracy < taught.accuracy(DATA.train)


def test_bytes_are_rounded_towards_where_they_were() -> None:
    points = torch.tensor([[10, 10, 10, 10]], dtype=torch.uint8)
    moved = torch.tensor([[0.9, -0.9, 7.9999995, -8.0]])
    assert moved_by(points, moved, torch.uint8, (0, 255)).tolist() == [[10, 10, 18, 2]]
    assert moved_by(points, moved, torch.uint8, (5, 15)).tolist() == [[10, 10, 15, 5]]
    assert moved_by(points.double(), moved, torch.float64, None).tolist()[0][0] == pytest.approx(10.9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rounding_moves_a_float_farther(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(10_000, 3, generator=generator, dtype=dtype)
    moves = 8 / 255 * (2 * torch.rand(10_000, 3, generator=generator) - 1)
    found = moved_by(points, moves, dtype, None)
    assert bool(((found.double() - points.double()).abs() <= moves.double().abs()).all())
    torch.testing.assert_close(found, points + moves.to(dtype), rtol=0, atol=2e-7)
    inside = moved_by(points, 3 * moves, dtype, (0.0, 1.0))
    assert 0 <= float(inside.min()) < float(inside.max()) <= 1


def test_small_moves_of_coarse_whole_numbers_are_not_lost() -> None:
    """Of digits, whose pixels are 0 .. 16, half a grey level was rounded to nothing."""
    bytes_ = torch.zeros(1, 1, dtype=torch.uint8)
    assert moved_type(bytes_, 8 / 255 * 255) == torch.uint8
    assert moved_type(bytes_, 8 / 255 * 16) == torch.float32
    assert moved_type(bytes_.double(), 0.1) == torch.float64
    coarse = LabelledData.of(
        DATA.train.rows().points // 16, DATA.train.labels.numbers, normalisation=DATA.normalisation, limits=(0, 16)
    )
    transform = Adversarial(attack=PGD(eps=8 / 255, steps=3), teacher=TEACHER)
    moved = transform.applied(coarse.train, 0, CPU).rows().points - coarse.train.rows().points.float()
    assert float(moved.abs().max()) == pytest.approx(8 / 255 * 16, rel=1e-5)
    assert float((moved.abs() > 0.5).float().mean()) > 0.5
    noisy = Corrupted(severity=1).applied(coarse.train, 0, CPU).rows().points - coarse.train.rows().points.float()
    assert float(noisy.std()) == pytest.approx(0.04 * 16, rel=0.3)


def test_corrupted_examples_are_those_of_the_corruption() -> None:
    transform = Corrupted(corruption="gaussian_noise", severity=2)
    points = transform.applied(DATA.train, 3, CPU).rows().points
    units = DATA.train.rows().points.float() / 255
    by_hand = corrupted(units, "gaussian_noise", 2, rng(3, "transform", "gaussian_noise", 0))
    assert float((points.float() / 255 - by_hand).abs().max()) <= 1 / 255 + 1e-6
    assert not torch.equal(points, DATA.train.rows().points)


def test_a_match_compares_with_the_changed_examples() -> None:
    """The same value as on data that hold the changed examples themselves."""
    for transform in (ADVERSARIAL, Corrupted(corruption="brightness", severity=4)):
        changed = transform.applied(DATA.train, 0, CPU)
        spec = DATA.train.spec
        held = LabelledData(InMemory(spec, changed.rows()))
        for context in (Fresh(network=NETWORK, batch=5), Pool(network=NETWORK, size=2)):
            options: dict[str, Any] = {"context": context, "solver": Descent(lr=0.5, steps=3)}
            by_transform = start(DATA, features(transform), **options)
            by_data = start(held, features(), **options)
            plain = start(DATA, features(), **options)
            first, _, third = (solving.advance() for solving in (by_transform, by_data, plain))
            # The synthetic sets begin at examples of their own data, so only the real side can be compared.
            assert first.loss != third.loss
            at, there = (solving.engine.real_side.at(0).summaries["mmd"][""] for solving in (by_transform, by_data))
            torch.testing.assert_close(at.mean, there.mean)


def test_terms_with_and_without_a_transform_share_one_objective() -> None:
    both = features().named("plain") + 0.5 * features(Corrupted(severity=5)).named("noisy")
    solving = start(DATA, both, Descent(lr=0.5, steps=2))
    record = solving.advance()
    alone = start(DATA, features(), Descent(lr=0.5, steps=2)).advance()
    assert record.terms["plain"] == pytest.approx(float(alone.terms["mmd"]), rel=1e-6)
    assert record.terms["noisy"] != record.terms["plain"] * 0.5


def test_continuing_is_bit_for_bit() -> None:
    def solving() -> Any:
        return start(DATA, features(ADVERSARIAL), Descent(lr=0.5, steps=4), context=Fresh(network=NETWORK, batch=4))

    whole, first, second = solving(), solving(), solving()
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        first.advance()
    second.restore(first.state())
    for _ in range(2):
        second.advance()
    assert torch.equal(whole.parameters["points"], second.parameters["points"])


def test_an_attacked_example_costs_its_passes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    ascend = PGD.ascend
    monkeypatch.setattr(PGD, "ascend", lambda self, *rest, **named: calls.append(1) or ascend(self, *rest, **named))
    solving = start(DATA, features(ADVERSARIAL), Descent(lr=0.5, steps=4), context=Fresh(network=NETWORK, batch=4))
    assert not calls  # not before the first step, so that a dry run is quick
    for _ in range(4):
        solving.advance()
    assert len(calls) == 1


def test_the_passes_of_a_transform_are_counted() -> None:
    options: dict[str, Any] = {"context": Fresh(network=NETWORK, batch=5), "solver": Descent(steps=10)}
    plain, changed = start(DATA, features(), **options), start(DATA, features(ADVERSARIAL), **options)
    difference = changed.bound_context.images(10, 6) - plain.bound_context.images(10, 6)
    assert difference == TEACHER.passes(31) + 31 * ADVERSARIAL.attack.passes
    two = start(DATA, features().named("a") + features(ADVERSARIAL).named("b"), **options)
    assert two.bound_context.images(10, 6) - changed.bound_context.images(10, 6) == 10 * 15


def test_equal_shares_make_the_mean_of_the_group_means() -> None:
    groups = torch.tensor([0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1] * 3)[:31]
    data = images(groups=groups)
    match = Match(MMD(kernel=Linear()), by="none", transform=Reweighted(by="group"))
    solving = start(data, match, context=Fresh(batch="all"))
    solving.advance()
    points = data.train.normalised(torch.arange(31)).flatten(1).double()
    found = solving.engine.real_side.at(0).summaries["mmd"][""].mean[0]
    torch.testing.assert_close(found, 0.5 * (points[groups == 0].mean(0) + points[groups == 1].mean(0)))


def test_given_shares_by_class() -> None:
    shares = {"0": 3.0, "2": 0.0}
    data = images()
    names = data.classes
    transform = Reweighted(by="class", shares=tuple((names[int(k)], v) for k, v in shares.items()))
    weights = transform.applied(data.train, 0, CPU).rows().weights
    assert weights is not None
    numbers = data.train.labels.numbers
    mass = torch.stack([weights[numbers == c].sum() for c in range(3)])
    torch.testing.assert_close(mass / mass.sum(), torch.tensor([0.75, 0.25, 0.0]))


def test_a_selection_is_compared_with_the_changed_side() -> None:
    match = Match(EnergyDistance(), transform=Corrupted(corruption="brightness", severity=5))
    chosen = start(DATA, match, Herding(), context=Fresh(batch="all"))
    plain = start(DATA, Match(EnergyDistance()), Herding(), context=Fresh(batch="all"))
    while chosen.step < chosen.steps:
        chosen.advance()
    while plain.step < plain.steps:
        plain.advance()
    brightness = [DATA.train.rows(solving.state()["chosen"]).points.double().mean() for solving in (chosen, plain)]
    assert brightness[0] < brightness[1]


class Closed(InMemory):
    """A real side that gives no examples away."""

    def require_rows(self, what: str) -> None:
        raise InvalidInput(f"{what} needs single examples, and this real side gives none away")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: start(table(), Match(MMD(), transform=Corrupted())), "needs images of 1 or 3 channels"),
        (lambda: start(DATA, Match(MMD(), transform=Reweighted())), "has no groups; use by: class"),
        (
            lambda: start(DATA, Match(MMD(), transform=Reweighted(by="class", shares=(("zero", 1.0),)))),
            "'shares' name 'zero'",
        ),
        (
            lambda: start(DATA, Match(MMD(), transform=Adversarial(attack=PGD(eps=8.0)))),
            "give 8/255",
        ),
        (lambda: Corrupted(severity=6), "'severity' must be 1, 2, 3, 4 or 5"),
        (lambda: Reweighted(shares=(("0", -1.0),)), "'shares' must be >= 0"),
        (
            lambda: Corrupted().applied(Closed(DATA.train.spec, DATA.train.rows()), 0, CPU),
            "a transform of the real side needs single examples",
        ),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


@pytest.fixture(autouse=True)
def _untouched_global_numbers() -> Iterator[None]:
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_of_a_part_that_is_empty_stay_finite() -> None:
    data = images(groups=torch.tensor([0, 2] * 16)[:31])
    weights = Reweighted().applied(data.train, 0, CPU).rows().weights
    assert weights is not None
    assert bool(torch.isfinite(weights).all())
    assert math.isclose(float(weights.mean()), 1.0, rel_tol=1e-5)
