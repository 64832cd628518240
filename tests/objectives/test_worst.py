"""The supremum of a match over a ball around the real examples."""

from itertools import pairwise
from typing import Any

import far
import pytest
import torch
from gate import decoded, problem
from small import NETWORK, images, table

from discrepancy import MMD, EnergyDistance, Gaussian, MeanGradients, Risk, kernels
from discrepancy.embeddings import Features, Identity, LossGradient
from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from objectives.attacks import UnitSpace
from objectives.condensation import condense
from objectives.contexts import Fresh, Pool
from objectives.engine.runtime import Runtime
from objectives.solvers import Descent, Problem
from objectives.synthetic.pixels import Pixels
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


def each(term: Worst) -> torch.Tensor:
    """The value of every class."""
    some = problem(term)
    engine = some.engine(1)
    view = engine.view(decoded(some), 0, term.default_name)
    return engine.terms[term.default_name].value(view).detach()


def test_the_best_of_each_class_counts() -> None:
    """Long steps overshoot, some in one class and some in another; a sum over classes is largest where each of them is."""
    match = Match(MMD(kernel=Gaussian(lengthscale=3.0)), via=Features())
    values = [each(Worst(match, eps=0.3, step=0.25, steps=steps)) for steps in range(1, 7)]
    for fewer, more in pairwise(values):
        assert bool((more >= fewer * (1 - 1e-12)).all())


@pytest.mark.filterwarnings("ignore:batch normalisation of")  # six examples are few
def test_whole_batches_are_taken_together() -> None:
    """With the statistics of a batch no class stands on its own, so the sum over the classes is what never falls."""
    network = ConvNet(width=4, depth=1, norm="batch")
    values = []
    for steps in (1, 2, 3, 4):
        term = Worst(Match(MMD(), via=Features()), eps=0.3, step=0.2, steps=steps)
        some = problem(term, Fresh(network=network, batch=5))
        values.append(float(some.engine(1).evaluate(decoded(some), 0).total))
    assert values == sorted(values)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_where_both_sides_are_equal_there_is_a_supremum_too(norm: Any) -> None:
    """One example a class on either side, in one place: sup ‖δ‖² is d ε² or ε² in their units, and the slope there is zero."""
    data = table(sizes=(1, 1, 1))
    term = Worst(Match(MMD(), via=Identity()), eps=0.3, norm=norm, steps=10)
    some = Problem(
        data.train, term.as_objective(), Fresh(batch=1), Pixels(per_class=1, start="real"), Runtime(dtype=torch.float64)
    )
    here = decoded(some)
    scale = 1 / torch.tensor(data.normalisation.std, dtype=torch.float64)
    value = float(some.engine(1).evaluate(here, 0).total)
    if norm == "linf":
        assert value == pytest.approx(3 * float((0.3 * scale).square().sum()), rel=1e-6)
    else:
        assert 3 * 0.09 * float(scale.square().min()) < value <= 3 * 0.09 * float(scale.square().max()) * (1 + 1e-6)


def test_a_lengthscale_that_is_measured_is_one_number() -> None:
    term = Worst(Match(MMD(kernel=Gaussian(lengthscale=kernels.Median())), via=Features()), eps=0.1)
    some = problem(term)
    engine = some.engine(1)
    found = engine.terms["worst_mmd"].resolved["match"][""]
    assert isinstance(found.kernel.lengthscale, float)
    again = problem(Worst(Match(found, via=Features()), eps=0.1)).engine(1).evaluate(decoded(some), 0)
    torch.testing.assert_close(engine.evaluate(decoded(some), 0).total, again.total, rtol=1e-12, atol=0)


def test_autocast_changes_nothing() -> None:
    def condensed() -> torch.Tensor:
        objective = Worst(Match(MMD(kernel=Gaussian(lengthscale=3.0)), via=Features()), eps=0.05)
        context = Fresh(network=NETWORK, batch=4)
        return condense(images(), objective, context=context, per_class=1, steps=2, compile="never").points

    plain = condensed()
    with torch.autocast("cpu", torch.bfloat16):
        assert condensed().equal(plain)


@pytest.mark.cuda
def test_no_step_of_the_search_waits_for_the_device(pretended: torch.device) -> None:
    def waits(steps: int) -> int:
        term = Worst(Match(MMD(), via=Features()), steps=steps, restarts=2)
        runtime = Runtime(device=pretended, compile="never")
        some = Problem(
            images().train, term.as_objective(), Fresh(network=NETWORK, batch=5), Pixels(per_class=2), runtime
        )
        solving = Descent(steps=2).start(some)
        solving.advance()
        before = sum(far.host_waits().values())
        solving.advance()
        return sum(far.host_waits().values()) - before

    assert waits(6) == waits(1)


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
