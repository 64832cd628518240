"""What a run will cost: decoded examples pass through the network, and what they are decoded from is stored."""

import pytest

from discrepancy import MMD, MeanGradients
from discrepancy.embeddings import Identity, Logits, LossGradient
from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from experiments.benchmarks.estimates import SLACK
from experiments.config import build
from experiments.data import Digits
from experiments.experiment import Experiment, configured
from experiments.method import method_tree
from experiments.plan import planned
from objectives.contexts import Pool
from objectives.solvers import Descent, Forgetting, Herding, Solver
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match
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


def test_an_exact_solution_counts_its_moments():
    """Six matrices of d + c numbers a side, and a part of the features, in float64."""
    context = {"network": {"width": 64}}
    tree = configured(method_tree("ridge"), {"data": "digits", "context": context}, (), "fcnn")
    plan, moments = planned(build(Experiment, tree)), 8 * (6 * 74**2 + 3 * 4096 * 64)
    assert moments <= plan.memory_bytes < moments + SLACK
    assert plan.steps == 1
