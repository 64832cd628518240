"""What a run will cost: decoded examples pass through the network, and what they are decoded from is stored."""

import pytest

from discrepancy import MMD
from discrepancy.embeddings import Identity
from experiments.data import Digits
from experiments.experiment import Experiment
from experiments.plan import planned
from objectives.bases import Bases
from objectives.contexts import Pool
from objectives.formations import Formation
from objectives.frequencies import Frequencies
from objectives.objective import Match
from objectives.solvers import Descent
from objectives.synthetic import Parameterisation, Pixels


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
