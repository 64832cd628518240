"""What a run will cost: decoded examples pass through the network, and what they are decoded from is stored."""

from typing import Any

import pytest
import torch

import experiments.plan as plan_module
from discrepancy import MMD, MeanGradients
from discrepancy.embeddings import Features, Identity, Logits, LossGradient
from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from experiments.benchmarks.estimates import SLACK
from experiments.config import build
from experiments.data import Digits
from experiments.experiment import Experiment, configured
from experiments.method import method_tree
from experiments.plan import planned
from objectives.contexts import Fresh, Pool, Queue
from objectives.solvers import Descent, Forgetting, Herding, Solver
from objectives.solvers.closed_form.closed_form import Solved
from objectives.solvers.descent import Update, _Descending
from objectives.solvers.selection.base import WithinClasses
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.teacher import Teacher
from objectives.terms.match import Match
from objectives.training.trainer import NetworkTrainer
from objectives.training.training import Training


@pytest.mark.parametrize(
    ("synthetic", "examples", "stored_bytes"),
    [
        (Pixels(per_class=3), 30, 30 * (64 * 4 + 8)),
        (Formation(per_class=3), 120, 30 * (64 * 4 + 8)),
        (Frequencies(per_class=3, keep=5), 30, 30 * (25 * 4 + 8)),
        (Bases(per_class=3, number=7), 30, 7 * 64 * 4 + 30 * (7 * 4 + 8)),
    ],
    ids=lambda item: getattr(item, "kind", ""),
)
def test_decoded_examples_and_stored_bytes(synthetic: Parameterisation, examples: int, stored_bytes: int) -> None:
    objective = Match(MMD(), via=Identity()).as_objective()
    experiment = Experiment(
        data=Digits(),
        objective=objective,
        context=Pool(size=1),
        solver=Descent(steps=5),
        synthetic=synthetic,
        device="cpu",
    )
    plan, real = planned(experiment), len(experiment.data.load().train)
    assert (plan.examples, plan.stored_bytes) == (examples, stored_bytes)
    assert plan.forward_passes == real + 5 * 3 * examples


def test_forgetting_trains_and_looks_at_everything_in_every_round():
    """3 · 5 minibatches of 8 and a look at all, in each of 4 rounds; the network is the context's, though no term takes it."""
    experiment = Experiment(
        data=Digits(),
        objective=Match(MMD(), via=Identity()).as_objective(),
        context=Pool(size=1, network=ConvNet(width=4)),
        solver=Forgetting(rounds=4, training=Training(steps=5, batch=8)),
        synthetic=Pixels(per_class=1),
        device="cpu",
    )
    data = experiment.data.load()
    plan = planned(experiment, data)
    assert plan.forward_passes == 4 * (3 * 5 * 8 + len(data.train))
    assert plan.multiplications == plan.forward_passes * ConvNet(width=4).multiplications(data.shape, data.count)
    assert plan.seconds > 0


@pytest.mark.parametrize(
    ("solver", "objective", "message"),
    [
        (Herding(), Match(MMD(), via=Identity(), by="none"), "'herding' selects within classes"),
        (Descent(steps=1, update="per_class"), Match(MMD(), via=Identity(), by="none"), "'update' is per_class"),
        (Forgetting(rounds=2), Match(MMD(), via=Identity(), by="class"), "give the context a 'network'"),
    ],
    ids=["herding", "per_class", "forgetting"],
)
def test_what_a_solver_refuses_is_refused_by_the_plan(solver: Solver, objective: Match, message: str):
    experiment = Experiment(
        data=Digits(), objective=objective.as_objective(), context=Pool(size=1), solver=solver, device="cpu"
    )
    with pytest.raises(InvalidInput, match=message):
        planned(experiment)


def test_a_gradient_is_timed_through_the_network():
    """A term that takes a gradient takes no output of the network, and costs as many passes as one that does."""
    context = Pool(size=1, network=ConvNet(width=16), batch=32)
    plans = [
        planned(
            Experiment(
                data=Digits(),
                objective=match.as_objective(),
                context=context,
                solver=Descent(steps=50),
                synthetic=Pixels(per_class=2),
                device="cpu",
            )
        )
        for match in (Match(MMD(), via=Logits(), by="class"), Match(MeanGradients(), via=LossGradient(), by="class"))
    ]
    assert plans[1].multiplications >= plans[0].multiplications
    assert plans[1].seconds > plans[0].seconds / 5


def test_an_exact_solution_counts_its_moments(monkeypatch: pytest.MonkeyPatch):
    """Seven matrices of d + c numbers a side, and eight copies of a part of the features, in float64; nothing is solved."""
    context = {"network": {"width": 64}}
    tree = configured(method_tree("ridge"), {"data": "digits", "context": context}, (), "fcnn")
    monkeypatch.setattr(Solved, "advance", never)
    experiment = build(Experiment, tree)
    plan, held = planned(experiment), 8 * (7 * 74**2 + 8 * 74 * len(experiment.data.load().train))
    assert held <= plan.memory_bytes < held + SLACK
    assert plan.steps == 1
    assert plan.seconds > 0


def never(*arguments: object) -> None:
    raise AssertionError("a dry run does not do this")


def of_digits(solver: Solver, **changes: Any) -> Experiment:
    network = ConvNet(width=4)
    settings: dict[str, Any] = {
        "data": Digits(),
        "objective": Match(MMD(), via=Features()).as_objective(),
        "context": Fresh(network=network, batch=4),
        "synthetic": Pixels(per_class=2),
        "device": "cpu",
    }
    return Experiment(solver=solver, **{**settings, **changes})


def seconds_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed takes a second."""

    def took(action: Any, device: object) -> float:
        action()
        return 1.0

    monkeypatch.setattr(plan_module, "_took", took)


def test_a_selection_tries_a_part_of_the_classes(monkeypatch: pytest.MonkeyPatch):
    chosen, advance = list[int](), WithinClasses.advance
    monkeypatch.setattr(WithinClasses, "advance", lambda self: (chosen.append(self.step), advance(self))[1])
    seconds_of_steps(monkeypatch)
    assert (
        planned(of_digits(Herding())).seconds == 1 + 1 + 9
    )  # the start, the first class, and one like each of the others
    assert chosen == [0]


def test_steps_that_take_long_are_not_tried(monkeypatch: pytest.MonkeyPatch):
    """Two steps of 1,000 are tried though they take some seconds; of 4 they are not."""
    monkeypatch.setattr(plan_module, "SHORT_SECONDS", 0.0)
    assert planned(of_digits(Descent(steps=1000))).seconds > 0
    monkeypatch.setattr(_Descending, "advance", never)
    assert planned(of_digits(Descent(steps=4))).seconds > 0
    with pytest.raises(AssertionError, match="a dry run does not do this"):
        planned(of_digits(Descent(steps=1000)))


def test_a_class_at_a_time_holds_the_graphs_of_one_class():
    updates: tuple[Update, ...] = ("joint", "per_class", "per_class_shared_state")
    for update, held in zip(updates, (400, 40, 40), strict=True):
        experiment = of_digits(Descent(steps=1, update=update), synthetic=Pixels(per_class=40))
        context = experiment.solver.start(experiment.problem()).bound_context
        assert context is not None
        assert context.working_bytes == held * context.graph_bytes


def test_networks_that_join_later_are_counted():
    """A queue grows to its size: each network is its weights, their gradients and the momentum of both."""
    training = Training(steps=1, batch=8, momentum=0.9)
    later = []
    for steps in (1, 200):
        queue = Queue(network=ConvNet(width=4), size=50, first=2, every=3, trained_after=2, training=training, batch=4)
        experiment = of_digits(Descent(steps=steps), context=queue)
        solving = experiment.solver.start(experiment.problem())
        solving.advance()
        later.append(solving.later_bytes)
    weights = ConvNet(width=4).initial(torch.Generator(), (1, 8, 8), 10)
    assert later[0] == 0
    assert later[1] == 48 * 3 * sum(value.nbytes for value in weights.values())


def test_a_teacher_is_timed_by_its_minibatches(monkeypatch: pytest.MonkeyPatch):
    """Four minibatches take as long as the time of five less that of one: here nothing at all, or as much as they are."""
    made = Teacher(network=ConvNet(width=4), training=Training(steps=30, batch=8), number=2, rounds=5)
    data, rounds = Digits().load().train, []
    monkeypatch.setattr(NetworkTrainer, "round", lambda self, *rest: rounds.append(self.plan.steps))
    monkeypatch.setattr(plan_module, "_took", lambda action, device: (action(), float(rounds[-1]))[1])
    assert plan_module._seconds_of(made, data, torch.device("cpu")) == 2 * 5 * 30
    assert rounds == [1, 1, 5]
