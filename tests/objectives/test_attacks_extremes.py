"""Attacks where numbers are extreme: radii near the rounding, slopes near zero, logits far apart, NaN, few classes."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from objectives.attacks import APGD, FGSM, PGD, Attack, Ball, Threat, UnitSpace, attacked
from objectives.attacks.base import Classify, Search
from objectives.attacks.threat import Norm

SPACE = UnitSpace(torch.zeros(1), torch.ones(1), 0.0, 1.0)
EPS = 0.2
NORMS: tuple[Norm, ...] = ("linf", "l2")
EVERY: list[Attack] = [
    attack
    for norm in NORMS
    for attack in (
        FGSM(eps=EPS, norm=norm),
        PGD(eps=EPS, norm=norm, steps=10, restarts=3),
        APGD(eps=EPS, norm=norm, steps=20),
        APGD(eps=EPS, norm=norm, steps=20, aim="targets"),
    )
]
WEIGHTS = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
POINTS = torch.rand(7, 6, generator=torch.Generator().manual_seed(2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(points: Tensor) -> Tensor:
    return (points - 0.5) @ WEIGHTS.T.to(points)


LABELS = linear(POINTS).argmax(1)


def names(attack: Attack) -> str:
    return f"{attack.kind}-{getattr(attack, 'aim', 'loss')}-{attack.norm}"


def sizes(moved: Tensor, norm: Norm) -> Tensor:
    flat = moved.double().flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


def found_by(
    attack: Attack, classify: Classify, points: Tensor = POINTS, labels: Tensor = LABELS, *, stop: bool = False
) -> Search:
    """The search, after a look at what holds for every attack on every network."""
    rows = functional.one_hot(labels, classify(points).shape[1]).to(points)
    found = attacked(attack, classify, points, rows, SPACE.ball, generator(3), stop=stop)
    assert bool(torch.isfinite(found.points).all())
    assert float(sizes(found.points.double() - points.double(), attack.norm).max()) <= EPS * (1 + 1e-6)
    assert 0 <= float(found.points.min()) <= float(found.points.max()) <= 1
    before, after = (functional.cross_entropy(classify(x), labels, reduction="none") for x in (points, found.points))
    kept = found.won if stop else torch.zeros_like(found.won)
    assert bool((before.isnan() | kept | (after >= before - 1e-5 * before.abs())).all())
    return found


# --- within the ball --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 3, 784, 3072])
def test_no_rounding_leads_out_of_the_ball(norm: Norm, dtype: torch.dtype, d: int) -> None:
    """Radii down to the distance of neighbouring float32; centres in the middle, near the limits, on them, and of bytes."""
    uniform = torch.rand(32, d, generator=generator(1), dtype=dtype)
    centres = (uniform, 1e-3 * uniform, 1 - 1e-3 * uniform, (uniform > 0.5).to(dtype), (uniform * 255).round() / 255)
    noise = torch.randn(32, d, generator=generator(2), dtype=dtype)
    for eps in (1e-8, 1e-6, 1e-4, 0.01, 1 / 255, 8 / 255, 0.3, 1.0):
        for centre in centres:
            ball = SPACE.ball(Threat(norm, eps), centre)
            for far in (centre + 2 * eps * noise, centre - 3 * eps * uniform, ball.random(generator(3))):
                found = ball.projected(far)
                assert float(sizes(found.double() - centre.double(), norm).max()) <= eps * (1 + 1e-6)
                assert 0 <= float(found.min()) <= float(found.max()) <= 1
                assert torch.equal(ball.projected(found), found)


@pytest.mark.parametrize("eps", [1e-3, 0.5, 30.0])
def test_no_rounding_leads_out_of_the_ball_of_many_pixels(eps: float) -> None:
    """In float32 the length of half a million small differences is wrong by 1e-5 of it."""
    centre = torch.rand(2, 500_000, generator=generator(1))
    found = Ball(Threat("l2", eps), centre, 0.0, 1.0).projected((centre > 0.5).float())
    assert float(sizes(found.double() - centre.double(), "l2").max()) <= eps * (1 + 1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_rounding_leads_out_of_the_ball_far_from_zero(norm: Norm) -> None:
    for scale in (1e2, 1e4, 1e6):
        centre = scale * torch.randn(32, 30, generator=generator(1))
        found = Ball(Threat(norm, 0.3), centre).projected(centre + torch.randn(32, 30, generator=generator(2)))
        assert float(sizes(found.double() - centre.double(), norm).max()) <= 0.3 * (1 + 1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_centre_beyond_the_limits_keeps_its_ball(norm: Norm) -> None:
    """As of an augmented training image that is brighter than white."""
    centre = torch.full((4, 3), 1.3)
    ball = SPACE.ball(Threat(norm, 0.1), centre)
    for found in (ball.projected(centre), ball.random(generator()), ball.projected(centre + 1)):
        assert float(sizes(found.double() - centre.double(), norm).max()) <= 0.1 * (1 + 1e-6)
        assert float(found.max()) <= 1.3


@pytest.mark.parametrize("scale", [1e-42, 1e-25, 1.0, 1e25, 1e38])
def test_a_step_has_its_length_whatever_the_size_of_the_slope(scale: float) -> None:
    slope = scale * torch.tensor([[1.0, -2.0, 2.0]])
    centre = torch.zeros(1, 3)
    torch.testing.assert_close(
        Ball(Threat("l2", 1.0), centre).uphill(slope, 0.3), torch.tensor([[0.1, -0.2, 0.2]]), rtol=2e-3, atol=0
    )
    signs = Ball(Threat("linf", 1.0), centre).uphill(slope, 0.3)
    torch.testing.assert_close(signs, torch.tensor([[0.3, -0.3, 0.3]]))


@pytest.mark.parametrize("norm", NORMS)
def test_slopes_that_are_no_numbers_do_no_harm(norm: Norm) -> None:
    ball = Ball(Threat(norm, 1.0), torch.zeros(3, 2))
    slope = torch.tensor([[math.nan, 3.0], [math.inf, 1.0], [0.0, 0.0]])
    found = ball.uphill(slope, 0.5)
    assert bool(torch.isfinite(found).all())
    assert found[0].tolist() == [0.0, 0.5]
    assert float(found[1, 0]) == 0.5
    assert found[2].tolist() == [0.0, 0.0]


# --- networks that are hard to attack ---------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", EVERY, ids=names)
@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e4, 1e30])
def test_flat_and_steep_networks(attack: Attack, stop: bool, scale: float) -> None:
    labels = torch.zeros_like(LABELS) if scale == 0 else LABELS
    found = found_by(attack, lambda x: scale * linear(x), labels=labels, stop=stop)
    if scale == 0:
        assert torch.equal(found.points, POINTS)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_logits_far_apart_do_not_hide_from_targets(classes: int) -> None:
    """Of a linear network the least margin in the ball is known, and it has no scale; the slope of the
    cross-entropy is zero where the logits are far apart."""

    def classify(points: Tensor) -> Tensor:
        return 1e4 * linear(points)[:, :classes]

    labels = classify(POINTS).argmax(1)
    found = found_by(APGD(eps=EPS, steps=20, aim="targets"), classify, labels=labels, stop=True)
    inside = (POINTS - EPS).clamp(0, 1), (POINTS + EPS).clamp(0, 1)
    apart = WEIGHTS[labels][:, None] - WEIGHTS[None, :classes]
    least = torch.where(apart > 0, inside[0][:, None], inside[1][:, None]).sub(0.5).mul(apart).sum(2)
    assert torch.equal(found.won, (least < 0).any(1))
    assert int(found.won.sum()) > int(found_by(FGSM(eps=EPS), classify, labels=labels, stop=True).won.sum())


@pytest.mark.parametrize("attack", EVERY, ids=names)
def test_regions_where_a_network_is_not_defined(attack: Attack) -> None:
    """NaN is no larger loss; where accuracy is asked for, it is a failure of the network, of whatever class the example is."""
    for hole in (math.nan, math.inf):

        def classify(points: Tensor, hole: float = hole) -> Tensor:
            return torch.where(points[:, :1] > 0.6, hole, 1.0) * linear(points)

        defined = classify(POINTS).isfinite().all(1)
        assert 0 < int(defined.sum()) < 7
        found = found_by(attack, classify)
        assert bool(classify(found.points)[defined].isfinite().all())
        stopped = found_by(attack, classify, stop=True)
        broken = classify(stopped.points).isnan().any(1)
        assert torch.equal(stopped.won, broken | (classify(stopped.points).argmax(1) != LABELS))
    nowhere = found_by(attack, lambda x: math.nan * linear(x), stop=True)
    assert bool(nowhere.won.all())
    assert torch.equal(nowhere.points, POINTS)


@pytest.mark.parametrize("attack", EVERY, ids=names)
def test_one_example_and_another_precision(attack: Attack) -> None:
    alone = found_by(attack, linear, POINTS[:1], LABELS[:1])
    assert alone.points.shape == (1, 6)
    double = found_by(attack, linear, POINTS.double(), LABELS)
    assert double.points.dtype == torch.float64
    assert float(double.values.mean()) == pytest.approx(float(found_by(attack, linear).values.mean()), rel=0.02)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", [PGD, APGD])
def test_more_starts_are_never_worse(kind: type[Attack], norm: Norm) -> None:
    def classify(points: Tensor) -> Tensor:
        return torch.sin(7 * linear(points))

    values = [found_by(kind(eps=EPS, norm=norm, steps=5, restarts=count), classify).values for count in (1, 2, 4)]
    assert bool((values[0] <= values[1]).all())
    assert bool((values[1] <= values[2]).all())
    assert float(values[2].sum()) > float(values[0].sum())


@pytest.mark.parametrize(
    "attack", [PGD(eps=0.3, norm="l2", restarts=8, steps=60), APGD(eps=0.3, norm="l2", restarts=8)]
)
@pytest.mark.parametrize("where", ["inside", "in a corner"])
def test_no_point_of_a_disc_is_worse(attack: Attack, where: str) -> None:
    first, second = torch.randn(8, 2, generator=generator(5)), torch.randn(3, 8, generator=generator(6))

    def classify(points: Tensor) -> Tensor:
        return torch.tanh(3 * points @ first.T.to(points)) @ second.T.to(points)

    x = torch.rand(12, 2, generator=generator(7))
    x = x if where == "inside" else (x > 0.5).float()
    labels = torch.arange(12) % 3
    rows = functional.one_hot(labels, 3).float()
    found = attacked(attack, classify, x, rows, SPACE.ball, generator())
    angles, radii = torch.linspace(0, 2 * math.pi, 361), torch.linspace(0, 0.3, 41)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    disc = (radii[:, None, None] * circle).reshape(-1, 2)
    grid = (x[:, None] + disc).clamp(0, 1)  # nearer to the centre than before
    flat = functional.cross_entropy(
        classify(grid.reshape(-1, 2)), labels.repeat_interleave(len(disc)), reduction="none"
    )
    best = flat.reshape(12, -1).amax(1)
    assert bool((found.values >= best - 2e-3 * best.abs()).all())
