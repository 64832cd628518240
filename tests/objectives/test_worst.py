"""The supremum of a match over a ball around the real examples."""

from typing import Any

import pytest
import torch
from gate import decoded, problem
from small import NETWORK, images

from discrepancy import MMD, EnergyDistance, Gaussian, MeanGradients, Risk
from discrepancy.embeddings import Features, Identity, LossGradient
from discrepancy.errors import InvalidInput
from objectives.attacks import UnitSpace
from objectives.contexts import Fresh, Pool
from objectives.solvers import Descent
from objectives.terms.match import Match
from objectives.terms.worst import Worst
from objectives.training.augmentation import Siamese
from objectives.transforms import Corrupted

SPACE = UnitSpace.of(images(), dtype=torch.float64)


@pytest.mark.parametrize("via", [Identity(), Features()], ids=["points", "features"])
def test_without_a_ball_it_is_the_match(via: Any) -> None:
    match = Match(MMD(kernel=Gaussian(lengthscale=20.0)), via=via)
    for context in (None, Fresh(network=NETWORK, batch=5, augment=Siamese())):
        plain, worst = problem(match, context), problem(Worst(match, eps=0.0), context)
        expected, found = (some.engine(1).evaluate(decoded(some), 0) for some in (plain, worst))
        torch.testing.assert_close(found.total, expected.total, rtol=1e-8, atol=0)
        torch.testing.assert_close(found.gradients["points"], expected.gradients["points"], rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_supremum_of_a_difference_of_means(norm: Any) -> None:
    """In units u of values 0 .. 1, with one scale s: sup ‖s (ū + δ̄ - m)‖² is s² Σ_j (|ū_j - m_j| + ε)² for L∞ and
    s² (‖ū - m‖ + ε)² for L2, where no point leaves the range of values."""
    eps = 0.01
    some = problem(Worst(Match(MMD(), via=Identity()), eps=eps, norm=norm, steps=30, restarts=2))
    here, engine = decoded(some), some.engine(1)
    batch = engine.real_batch(engine.real_side.at(0))
    units = SPACE.to_unit(some.data.normalised(batch, dtype=torch.float64)).flatten(1)
    mine = SPACE.to_unit(here.points).flatten(1)
    least, most, scale = torch.zeros(()), torch.zeros(()), float(SPACE.scale) ** 2
    for label in range(3):
        own = units[batch.labels.numbers == label]
        apart = own.mean(0) - mine[some.slots == label].mean(0)
        free = ((own > eps) & (own < 1 - eps)).all(0)  # pixels of which none meets the limits
        if norm == "linf":
            most = most + scale * (apart.abs() + eps).square().sum()
            least = least + scale * torch.where(free, apart.abs() + eps, apart.abs()).square().sum()
        else:
            most = most + scale * (apart.norm() + eps).square()
            least = least + scale * (apart.norm() + 0.97 * eps * bool(free.float().mean() > 0.9)).square()
    value = engine.evaluate(here, 0).total
    assert float(least.detach()) * (1 - 1e-9) <= float(value) <= float(most.detach()) * (1 + 1e-9)
    plain = problem(Match(MMD(), via=Identity()))
    assert float(value) > float(plain.engine(1).evaluate(decoded(plain), 0).total)


def test_more_steps_and_starts_are_never_worse() -> None:
    values = []
    for steps, restarts in ((1, 1), (3, 1), (9, 1), (9, 3)):
        term = Worst(Match(MMD(), via=Features()), eps=0.05, step=0.01, steps=steps, restarts=restarts)
        some = problem(term)
        values.append(float(some.engine(1).evaluate(decoded(some), 0).total))
    assert values == sorted(values)
    assert values[0] < values[2]


def test_points_stay_in_the_ball_and_the_limits() -> None:
    some = problem(Worst(Match(EnergyDistance(), via=Features()), eps=0.07, steps=4, restarts=2))
    engine = some.engine(1)
    view = engine.view(decoded(some), 0, "worst_energy_distance")
    examples = engine.real_batch(view.at)
    moved = SPACE.to_unit(engine.terms["worst_energy_distance"].worst_points(view, examples))
    assert float((moved - examples.points / 255).abs().max()) <= 0.07 * (1 + 1e-6)
    assert -1e-12 <= float(moved.min()) <= float(moved.max()) <= 1 + 1e-12


def test_the_gradient_is_that_at_the_worst_points() -> None:
    some = problem(Worst(Match(MMD(kernel=Gaussian(lengthscale=30.0)), via=Features()), eps=0.02, steps=20))
    engine, here = some.engine(1), decoded(some)
    view = engine.view(here, 0, "worst_mmd")
    bound = engine.terms["worst_mmd"]
    examples = engine.real_batch(view.at)
    fixed = bound.worst_points(view, examples)
    with torch.no_grad():
        summary = bound._summaries(bound._real(view, examples, fixed), view)
    value = bound._against(summary, bound._synthetic(view, view.taken, view.synthetic.weights), view).sum()
    found = engine.evaluate(here, 0)
    torch.testing.assert_close(found.total, value.detach())
    torch.testing.assert_close(found.gradients["points"], torch.autograd.grad(value, here.points)[0])


def test_it_descends_and_continues_bit_for_bit() -> None:
    def solving() -> Any:
        objective = Match(MMD(), via=Features()) + 0.5 * Worst(Match(MMD(), via=Features()), eps=0.05, restarts=2)
        return Descent(lr=0.02, steps=6).start(problem(objective, Pool(network=NETWORK, size=1)))

    whole, first, second = solving(), solving(), solving()
    losses = [float(whole.advance().loss) for _ in range(6)]
    assert losses[-1] < losses[0]
    for _ in range(3):
        first.advance()
    second.restore(first.state())
    for _ in range(3):
        second.advance()
    assert torch.equal(whole.parameters["points"], second.parameters["points"])


def test_its_passes_are_counted_and_are_those_that_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    term = Worst(Match(MMD(), via=Features()), eps=0.05, steps=3, restarts=2)
    some, plain = problem(term), problem(Match(MMD(), via=Features()))
    contexts = [one.engine(10).bound_context for one in (some, plain)]
    real = contexts[0].real_examples
    assert contexts[0].images(10, 6) - contexts[1].images(10, 6) == 10 * real * (1 + 2 * 10)
    counted, network = [0], type(NETWORK)
    forward = network.__call__

    def counting(self: Any, parameters: Any, points: Any, *rest: Any) -> Any:
        counted[0] += len(points) == real
        return forward(self, parameters, points, *rest)

    engine = some.engine(1)
    monkeypatch.setattr(network, "__call__", counting)
    engine.evaluate(decoded(some), 0)
    assert counted[0] == 1 + 2 * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Worst(Match(Risk(), by="none")), "'risk' must be symmetric"),
        (lambda: Worst(Match(MMD(estimator="u"))), "'mmd' must be symmetric"),
        (lambda: Worst(Match(MeanGradients(), via=LossGradient())), "symmetric|cannot differentiate 'loss_gradient'"),
        (lambda: Worst(Match(MMD(), transform=Corrupted())), "leave the 'transform'"),
        (lambda: Worst(Match(MMD()), eps=-1.0), "'eps' must be >= 0"),
        (lambda: Worst(Match(MMD()), steps=0), "'steps' must be at least 1"),
        (lambda: problem(Worst(Match(MMD()), eps=8.0)).engine(1), "give 8/255"),
        (
            lambda: Descent(update="per_class").start(problem(Worst(Match(MMD())))),
            "a supremum over the whole real batch; use",
        ),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()
