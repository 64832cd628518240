"""Attacks: inside the ball, never worse with more steps, and equal to what can be worked out otherwise."""

import math

import pytest
import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.attacks import APGD, FGSM, PGD, Attack, Threat, UnitSpace, attacked
from objectives.attacks.apgd import _Climb, checkpoints, targeted_dlr
from objectives.attacks.base import Search
from objectives.attacks.threat import Norm
from tests.objectives.small import NETWORK, images, table, unchecked

EPS = 8 / 255
DATA = images()
SPACE = UnitSpace.of(DATA)
EVERY = [FGSM, PGD, APGD]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_and_examples(seed: int = 1) -> tuple:
    parameters = NETWORK.initial(generator(seed), (1, 8, 8), 3)
    units = SPACE.to_unit(DATA.train.normalised(torch.arange(31)))
    labels = torch.nn.functional.one_hot(DATA.train.labels.numbers, 3).float()

    def classify(unit: Tensor) -> Tensor:
        return 10 * NETWORK(parameters, SPACE.to_normalised(unit))["logits"]

    return classify, units, labels


def found_by(attack: Attack, *, stop: bool = False, seed: int = 0) -> tuple[Search, Tensor]:
    classify, units, labels = network_and_examples()
    return attacked(attack, classify, units, labels, SPACE.ball, generator(seed), stop=stop), units


def test_units_are_those_of_valid_values() -> None:
    units = SPACE.to_unit(DATA.train.normalised(torch.arange(31)))
    torch.testing.assert_close(units, DATA.train.rows(torch.arange(31)).points / 255, atol=1e-6, rtol=0)
    torch.testing.assert_close(SPACE.to_normalised(units), DATA.train.normalised(torch.arange(31)))
    unknown = UnitSpace.of(table())
    assert (unknown.low, unknown.high) == (-math.inf, math.inf)
    rows = torch.arange(5)
    torch.testing.assert_close(unknown.to_unit(table().train.normalised(rows)), table().train.rows(rows).points)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 1 / 255), ("linf", 0.3), ("l2", 0.1), ("l2", 2.0)])
def test_points_stay_within_the_ball_and_the_limits(kind: type[Attack], norm: Norm, eps: float) -> None:
    found, units = found_by(kind(eps=eps, norm=norm))
    moved = (found.points.double() - units.double()).flatten(1)
    size = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
    assert size.max() <= eps * (1 + 1e-6)
    assert size.max() >= 0.9 * eps
    assert 0 <= found.points.min() <= found.points.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_is_the_nearest_point_of_the_ball_for_each_coordinate_or_along_the_radius(norm: Norm) -> None:
    centre = torch.rand(50, 7, generator=generator())
    far = centre + torch.randn(50, 7, generator=generator(1))
    ball = SPACE.ball(Threat(norm, 0.25), centre)
    found = ball.projected(far).double()
    moved = (far - centre).double()
    if norm == "linf":
        by_hand = (centre.double() + moved.clamp(-0.25, 0.25)).clamp(0, 1)
    else:
        by_hand = (centre + moved * (0.25 / moved.norm(dim=1, keepdim=True)).clamp(max=1)).clamp(0, 1)
    torch.testing.assert_close(found, by_hand.double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(ball.projected(ball.projected(far)), ball.projected(far), atol=1e-7, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", [PGD, APGD])
def test_the_loss_never_falls_with_more_steps(kind: type[Attack], norm: Norm) -> None:
    options = {"step": 0.01} if kind is PGD else {}
    few, many = (found_by(kind(norm=norm, steps=steps, **options))[0].values for steps in (3, 12))
    if kind is PGD:
        assert bool((many >= few).all())
    classify, units, labels = network_and_examples()
    at_start = torch.nn.functional.cross_entropy(classify(units), labels, reduction="none")
    for found in (few, many):
        assert bool((found >= at_start - 1e-5).all())
    assert float(many.mean()) > float(at_start.mean())


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_classifier_is_moved_by_exactly_eps_times_the_dual_norm(kind: type[Attack], norm: Norm) -> None:
    """max over ‖δ‖ <= ε of w·(x + δ) is w·x + ε ‖w‖_1 for L∞ and w·x + ε ‖w‖_2 for L2."""
    w, x = torch.randn(6, generator=generator(3)), torch.randn(9, 6, generator=generator(4))
    space = UnitSpace(torch.zeros(1), torch.ones(1), -math.inf, math.inf)
    labels = torch.tensor([[1.0, 0.0]]).repeat(9, 1)

    def classify(points: Tensor) -> Tensor:
        score = points @ w
        return torch.stack([-score, score], 1)

    steps = {} if kind is FGSM else {"steps": 300}
    found = attacked(kind(eps=0.2, norm=norm, **steps), classify, x, labels, space.ball, generator())
    dual = w.abs().sum() if norm == "linf" else w.norm()
    # The path of PGD is 2.5 ε long, too short to come round to the best point of a sphere from the other side.
    exact = not (kind is PGD and norm == "l2")
    torch.testing.assert_close(found.points @ w, x @ w + 0.2 * dual, atol=1e-3 if exact else 0.04 * 0.2 * dual, rtol=0)


@pytest.mark.parametrize("attack", [PGD(eps=0.3, restarts=5, steps=40), APGD(eps=0.3, restarts=5)])
def test_in_two_dimensions_no_point_of_a_fine_grid_is_worse(attack: Attack) -> None:
    first, second = torch.randn(8, 2, generator=generator(5)), torch.randn(3, 8, generator=generator(6))

    def classify(points: Tensor) -> Tensor:
        return torch.tanh(3 * points @ first.T) @ second.T

    space = UnitSpace(torch.zeros(1), torch.ones(1), 0.0, 1.0)
    x = torch.rand(20, 2, generator=generator(7))
    labels = torch.eye(3)[torch.arange(20) % 3]
    found = attacked(attack, classify, x, labels, space.ball, generator())
    sides = torch.linspace(-0.3, 0.3, 121)
    grid = (x[:, None] + torch.cartesian_prod(sides, sides)).clamp(0, 1)
    values = torch.nn.functional.cross_entropy(
        classify(grid.reshape(-1, 2)), labels.repeat_interleave(121 * 121, 0), reduction="none"
    )
    best = values.reshape(20, -1).amax(1)
    assert bool((found.values >= best - 2e-3 * best.abs()).all())


def test_once_misclassified_is_enough_where_accuracy_is_asked_for() -> None:
    classify, units, labels = network_and_examples()
    for attack in (PGD(eps=0.1), APGD(eps=0.1)):
        found, _ = found_by(attack, stop=True)
        wrong = classify(found.points).argmax(1) != labels.argmax(1)
        assert torch.equal(wrong, found.won)
        assert wrong.float().mean() > (classify(units).argmax(1) != labels.argmax(1)).float().mean()


def test_the_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_the_targeted_ratio_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, -1.0, 0.5, 2.0]])
    found = targeted_dlr(logits, torch.eye(5)[[1]], torch.tensor([4]))
    torch.testing.assert_close(found, torch.tensor([-(1.0 - 2.0) / (3.0 - 0.5 * (1.0 + 0.5))]))


def test_the_same_generator_gives_the_same_points_and_the_global_one_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    for attack in (PGD(restarts=2, steps=3), APGD(steps=5)):
        first, second, other = (found_by(attack, seed=seed)[0].points for seed in (0, 0, 1))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_radius_is_no_attack() -> None:
    for kind in EVERY:
        found, units = found_by(kind(eps=0.0))
        assert torch.equal(found.points, units)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": -0.1}, "'eps' must be >= 0"),
        ({"eps": math.nan}, "'eps' must be >= 0"),
        ({"norm": "l3"}, "'norm' must be one of linf, l2"),
    ],
)
def test_impossible_threats_are_refused(kind: type[Attack], changes: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message), unchecked():
        kind(**changes)


def test_a_radius_in_the_units_of_bytes_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"give 8/255 = 0\.03137"):
        found_by(PGD(eps=8.0))
    found_by(PGD(eps=8.0, norm="l2", steps=1))  # two images of 64 pixels are up to 8 apart


def test_the_targeted_ratio_of_few_classes_is_the_difference() -> None:
    logits = torch.tensor([[3.0, 1.0, -1.0]])
    assert targeted_dlr(logits, torch.eye(3)[[1]], torch.tensor([0])).tolist() == [2.0]


def test_a_network_whose_loss_is_nan_leaves_the_points() -> None:
    found = attacked(
        PGD(steps=2),
        lambda x: x.flatten(1)[:, :3] * math.nan,
        torch.rand(4, 5),
        torch.eye(4)[:, :3],
        SPACE.ball,
        generator(),
    )
    assert bool(torch.isfinite(found.points).all())


@pytest.mark.parametrize("aim", ["loss", "targets"])
def test_apgd_is_as_strong_as_that_of_its_authors(aim: str) -> None:
    """On a trained-like network whose accuracy under attack is neither 0 nor 1, the two differ by no more than 3 of 120."""
    autoattack = pytest.importorskip("pyautoattack")
    weights = torch.randn(5, 64, generator=generator(11))
    bend = torch.randn(64, 64, generator=generator(12)) / 8

    class Model(torch.nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return torch.relu(points.flatten(1) @ bend + 0.1) @ weights.T

    model = Model()
    x = torch.rand(120, 1, 8, 8, generator=generator(13))
    y = model(x).argmax(1)
    eps = 0.06
    with torch.random.fork_rng(devices=[]):
        name = {"loss": "apgd-ce", "targets": "apgd-t"}[aim]
        theirs = autoattack.AutoAttack(model, attacks=[name], eps=eps, norm="Linf", seed=0, version="custom")
        if aim == "targets":
            theirs.apgd_targeted.n_target_classes = 4
        adversarial = theirs.run_standard_evaluation(x, y)[0]
    survived_theirs = int((model(adversarial).argmax(1) == y).sum())
    space = UnitSpace(torch.zeros(1), torch.ones(1), 0.0, 1.0)
    ours = attacked(APGD(eps=eps, aim=aim, classes=4), model, x, torch.eye(5)[y], space.ball, generator(), stop=True)
    survived = int((~ours.won).sum())
    assert 5 < survived < 115
    assert abs(survived - survived_theirs) <= 3


def test_steps_are_halved_where_too_few_of_them_helped() -> None:
    """Of four steps, the first ball's raised the loss three times, the second's twice, and the third's never: these two go back
    to their best points with half the size."""
    state = _Climb(torch.zeros(3, 1), 0.4)
    losses = [[0.0, 0.0, 1.0], [1.0, 1.0, 0.5], [2.0, 0.5, 0.4], [3.0, 2.0, 0.3], [2.5, 1.5, 0.2]]
    for place, values in enumerate(losses):
        state.seen(torch.tensor(values), torch.full((3, 1), float(place)))
        state.move(torch.full((3, 1), place + 1.0))
    state.checkpoint()
    torch.testing.assert_close(state.size, torch.tensor([0.4, 0.2, 0.2]))
    assert state.x.flatten().tolist() == [5.0, 3.0, 0.0]
    assert state.gradient.flatten().tolist() == [4.0, 3.0, 0.0]
    state.checkpoint()  # at once: neither the size nor the best loss of the first ball has changed since then
    torch.testing.assert_close(state.size, torch.tensor([0.2, 0.2, 0.2]))
