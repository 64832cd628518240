"""Reductions over single examples: of the risk of real ones, and of the penalties of synthetic ones."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from discrepancy import MMD, KernelRidge, Risk, kernels
from discrepancy.errors import InvalidInput
from discrepancy.reductions import CVaR, Max, Reduction, Sum
from experiments.config import build, dump
from experiments.experiment import Experiment, configured
from experiments.method import method_tree
from objectives.contexts import Fresh
from objectives.solvers import Descent
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
from objectives.terms.objective import Term
from objectives.terms.penalties import CrossEntropy, LabelMargin, TotalVariation
from objectives.terms.penalty import Penalised, Penalty
from objectives.terms.smoothness import Curvature, InputGradient, Jacobian
from tests.objectives.small import NETWORK, decoded, images, problem, start

WORST = CVaR(fraction=0.4)


def tail(values: Tensor, mass: Tensor, fraction: float) -> Tensor:
    """The mean of the worst share of the mass; the example at the edge counts in part."""
    left, total = fraction, values.new_zeros(())
    for place in values.detach().argsort(descending=True).tolist():
        part = min(left, float(mass[place] / mass.sum()))
        total, left = total + part * values[place], left - part
    return total / fraction


# --- the risk of real examples ------------------------------------------------------------------------------------------


def test_kip_with_the_worst_fifth() -> None:
    """--set objective.terms.risk.match.reduce='{kind: cvar, fraction: 0.2}': the tail in place of the mean."""
    tree = method_tree("kip")
    setting = "objective.terms.risk.match.reduce={kind: cvar, fraction: 0.2}"
    made = build(Experiment, configured(tree, {"data": {"kind": "digits"}}, [setting]))
    term = dict(made.objective.terms)["risk"]
    assert isinstance(term, Match)
    assert isinstance(term.match, Risk)
    assert term.match.reduce == CVaR(fraction=0.2)
    assert build(Experiment, dump(made)) == made


@pytest.mark.parametrize("reduce", [CVaR(fraction=0.2), Max()], ids=["cvar", "max"])
def test_a_term_is_the_tail_of_the_errors_of_its_real_batch(reduce: Reduction) -> None:
    """Kernel ridge regression by torch.linalg.solve, on all 31 real images, by hand, with the gradient."""
    learner = KernelRidge(kernel=kernels.Gaussian(lengthscale=9.0), penalty=1e-3, centred=True)
    match = Match(Risk(learner=learner, reduce=reduce), by="none", weight=0.5)
    some = problem(images(), match, context=Fresh(batch="all"), dtype=torch.float64)
    engine, here = some.engine(4), decoded(some)
    values = engine.evaluate(here, 0)
    real = some.data.normalised(torch.arange(31), dtype=torch.float64).flatten(1)
    targets = functional.one_hot(some.data.labels.numbers, 3).double() - 1 / 3
    points = here.points.detach().requires_grad_()
    flat = points.flatten(1)
    gram, cross = (torch.exp(-torch.cdist(side, flat).square() / (2 * 81.0)) for side in (flat, real))
    own = functional.one_hot(here.slots, 3).double() - 1 / 3
    weights = torch.linalg.solve(gram + 6 * 1e-3 * torch.eye(6, dtype=torch.float64), own)
    errors = (cross @ weights - targets).square().sum(1)
    by_hand = 0.5 * (tail(errors, torch.ones(31).double(), 0.2) if isinstance(reduce, CVaR) else errors.max())
    torch.testing.assert_close(values.total, by_hand.detach(), rtol=1e-9, atol=0)
    (slope,) = torch.autograd.grad(by_hand, [points])
    torch.testing.assert_close(values.gradients["points"], slope, rtol=1e-6, atol=1e-9)
    assert float(slope.abs().max()) > 1e-4


def test_descent_lowers_the_worst_errors() -> None:
    learner = KernelRidge(kernel=kernels.Gaussian(lengthscale=9.0), penalty=1e-3)
    match = Match(Risk(learner=learner, reduce=WORST), by="none")
    solving = start(images(), match, Descent(optimizer="adam", lr=0.05, steps=20), context=Fresh(batch="all"))
    losses = [float(solving.advance().loss) for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]


def test_labels_are_not_solved_for_a_tail() -> None:
    match = Match(Risk(learner=KernelRidge(), reduce=WORST), by="none")
    with pytest.raises(InvalidInput, match="solve_labels"):
        start(images(), match, Descent(solve_labels=True, steps=2), synthetic=Pixels(per_class=2, labels="learned"))


def test_a_match_without_values_of_single_examples_has_no_such_field() -> None:
    with pytest.raises(Exception, match="reduce: unknown key"):
        build(Term, {"match": {"kind": "mmd", "reduce": "max"}})


# --- penalties of synthetic examples --------------------------------------------------------------------------------------

LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0], [0.3, 0.1, 0.2], [2.0, 0.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 0, 2, 0])


@pytest.mark.parametrize("reduce", [WORST, Max()], ids=["cvar", "max"])
def test_a_penalty_is_the_tail_over_the_synthetic_examples(reduce: Reduction) -> None:
    term = Penalised(CrossEntropy(), reduce=reduce, weight=2.0)
    some = problem(images(), term, context=Fresh(network=NETWORK, batch=5), dtype=torch.float64)
    engine, here = some.engine(4), decoded(some)
    values, points = engine.evaluate(here, 0), here.points.detach().requires_grad_()
    logits = NETWORK(engine.real_side.at(0).parameters, points)["logits"]
    losses = functional.cross_entropy(logits, here.slots, reduction="none")
    by_hand = 2 * (tail(losses, torch.ones(6).double(), 0.4) if isinstance(reduce, CVaR) else losses.max())
    torch.testing.assert_close(values.total, by_hand.detach(), rtol=1e-9, atol=0)
    (slope,) = torch.autograd.grad(by_hand, [points])
    torch.testing.assert_close(values.gradients["points"], slope, rtol=1e-7, atol=1e-10)
    touched = values.gradients["points"].flatten(1).abs().amax(1) > 0
    assert int(touched.sum()) == (3 if isinstance(reduce, CVaR) else 1)  # 0.4 of six are two and two fifths


@pytest.mark.parametrize("only", [None, 2], ids=["whole", "class"])
def test_by_class_the_tails_of_the_classes_are_added_up(only: int | None) -> None:
    term = Penalised(CrossEntropy(), by="class", reduce=WORST)
    assert term.separable
    some = problem(images(), term, context=Fresh(network=NETWORK, batch=5), synthetic=Pixels(per_class=4))
    engine, here = some.engine(4), decoded(some)
    logits = NETWORK(engine.real_side.at(0).parameters, here.points.detach())["logits"]
    losses = functional.cross_entropy(logits, here.slots, reduction="none")
    labels = [0, 1, 2] if only is None else [only]
    expected = sum((tail(losses[here.slots == c], torch.ones(4), 0.4) for c in labels), torch.zeros(()))
    rows = here if only is None else here.rows((here.slots == only).nonzero()[:, 0])
    torch.testing.assert_close(engine.evaluate(rows, 0, only).total, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("penalty", [InputGradient(), Jacobian(), Curvature(step=0.5)], ids=lambda item: item.kind)
def test_penalties_that_differentiate_the_network_have_tails_too(penalty: Penalty) -> None:
    """The largest value is that of the penalty of one example alone."""
    some = problem(images(), Penalised(penalty, reduce=Max()), context=Fresh(network=NETWORK, batch=5))
    whole = problem(images(), penalty, context=Fresh(network=NETWORK, batch=5))
    engine, here = some.engine(4), decoded(some)
    alone = [whole.engine(4).evaluate(here.rows(torch.tensor([row])), 0).total for row in range(6)]
    torch.testing.assert_close(engine.evaluate(here, 0).total, torch.stack(alone).max(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("penalty", [CrossEntropy(), LabelMargin(), TotalVariation()], ids=lambda item: item.kind)
def test_a_penalty_is_the_average_of_its_values(penalty: Penalty) -> None:
    points = torch.arange(2 * 4 * 9, dtype=torch.float64).reshape(4, 2, 3, 3).sin()
    weights, labels = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64), LOGITS.softmax(1).flip(1)
    taken: Any = {"points": points, "logits": LOGITS}
    values = torch.stack(
        [penalty({k: v[i : i + 1] for k, v in taken.items()}, labels[i : i + 1], weights[:1]) for i in range(4)]
    )
    torch.testing.assert_close(penalty.values(taken, labels), values)
    torch.testing.assert_close(penalty(taken, labels, weights), (weights * values).sum() / weights.sum())


def test_a_tail_is_not_a_sum_over_classes() -> None:
    term = Penalised(CrossEntropy(), reduce=Max())
    assert not term.separable
    with pytest.raises(InvalidInput, match="by: none and reduce: max"):
        start(images(), term, Descent(update="per_class", steps=1), context=Fresh(network=NETWORK, batch=5))


@pytest.mark.parametrize("reduce", [Max(), CVaR(fraction=0.5)], ids=lambda item: item.kind)
def test_there_is_no_worst_group_of_the_whole(reduce: Reduction) -> None:
    with pytest.raises(InvalidInput, match=f"'reduce: {reduce.kind}' is over groups, and 'by: none' compares the"):
        Match(MMD(), by="none", reduce=reduce)
    assert not Match(MMD(), by="class", reduce=reduce).separable


class WholeSet(Penalty, kind="of_the_whole_set_by_test"):
    """A penalty that has no value for a single example: the squared mean of all the points."""

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"points"})

    def __call__(self, taken: Any, labels: Tensor, weights: Tensor) -> Tensor:
        return taken["points"].mean().square()


def test_what_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'of_the_whole_set_by_test' has no values of single examples, so 'reduce'"):
        Penalised(WholeSet(), reduce=WORST)
    with pytest.raises(
        InvalidInput, match="'reduce' of a penalty is over examples, which count by their mass, got 'sum'"
    ):
        Penalised(CrossEntropy(), reduce=Sum())
    assert Penalised(WholeSet()).reduce.kind == "proportional"


def test_it_is_written_and_read() -> None:
    term = build(Term, {"penalty": "cross_entropy", "reduce": {"kind": "cvar", "fraction": 0.4}})
    assert term == Penalised(CrossEntropy(), reduce=WORST)
    assert build(Term, dump(term)) == term
