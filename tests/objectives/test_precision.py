"""A problem in float64: everything that is computed and stored has that precision, and is what float32 gives, only finer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small import NETWORK, images, problem

from discrepancy import MMD, Gaussian, Sinkhorn, SlicedWasserstein
from discrepancy.embeddings import Features, Layers, LossGradient
from discrepancy.kernels import Median
from discrepancy.learning.gradients import MeanGradients
from experiments.config import build, read
from experiments.data import Digits
from experiments.experiment import Experiment, configured
from objectives import Fresh, Interpolated, Match, Pool, Queue, Siamese, SyntheticSet, Trained, Training, condense
from objectives.condensation import result
from objectives.methods import available
from objectives.solvers import Descent, GreedyMMD, Herding, Solver
from objectives.synthetic.bases import Bases
from objectives.synthetic.formation import Formation
from objectives.synthetic.frequencies import Frequencies
from objectives.synthetic.pixels import Pixels
from objectives.terms.penalties import CrossEntropy

FEATURES = Match(MMD(), via=Features())
LESSON = Training(steps=2, batch=5, lr=0.1)
LEARNED = Pixels(per_class=2, labels="soft", weights="learned", clip=True)

PROBLEMS: dict[str, dict[str, Any]] = {
    "fresh": {"objective": FEATURES, "context": Fresh(network=NETWORK, batch=5, augment=Siamese())},
    "pool": {"objective": FEATURES, "context": Pool(network=NETWORK, size=2)},
    "trained": {
        "objective": Match(MeanGradients(), via=LossGradient()),
        "context": Trained(network=NETWORK, training=Training(on="synthetic", steps=2), batch=5),
    },
    "queue": {"objective": FEATURES, "context": Queue(network=NETWORK, size=5, training=LESSON, batch=5)},
    "interpolated": {
        "objective": FEATURES,
        "context": Interpolated(network=NETWORK, size=1, training=LESSON, trained=1, batch=5),
    },
    "layers": {"objective": Match(MMD(), via=Layers())},
    "kernel": {"objective": Match(MMD(kernel=Gaussian(lengthscale=Median())), via=Features())},
    "sinkhorn": {"objective": Match(Sinkhorn(blur=Median(factor=0.5)), via=Features())},
    "sliced": {"objective": Match(SlicedWasserstein(directions=3), via=Features())},
    "learned": {"objective": FEATURES + CrossEntropy(), "synthetic": LEARNED},
    "formation": {"synthetic": Formation(per_class=1, clip=True)},
    "frequencies": {"synthetic": Frequencies(per_class=2)},
    "bases": {"synthetic": Bases(per_class=2, number=4)},
}


def solved(some: Any, dtype: torch.dtype, solver: Solver, **options: Any) -> tuple[Any, torch.Tensor]:
    run = solver.start(problem(images(), dtype=dtype, **{**some, **options}))
    losses = [run.advance().loss for _ in range(run.steps)]
    return run, torch.stack(losses)


@pytest.mark.parametrize("some", PROBLEMS.values(), ids=PROBLEMS.keys())
def test_descent_in_float64(some: dict[str, Any]):
    coarse, losses = solved(some, torch.float32, Descent(lr=0.1, momentum=0.5, steps=2))
    fine, exact = solved(some, torch.float64, Descent(lr=0.1, momentum=0.5, steps=2))
    assert {value.dtype for value in fine.parameters.values()} == {torch.float64}
    assert {value.dtype for value in coarse.parameters.values()} == {torch.float32}
    assert exact.dtype == torch.float64
    torch.testing.assert_close(losses.double(), exact, rtol=1e-3, atol=1e-5)
    assert not torch.equal(losses.double(), exact)


@pytest.mark.parametrize("solver", [Herding(), GreedyMMD()], ids=["herding", "greedy"])
def test_selection_in_float64(solver: Solver):
    data = images()
    form = Pixels(per_class=3, weights="learned" if isinstance(solver, GreedyMMD) else "equal")
    some = problem(data, FEATURES, context=Pool(network=NETWORK, size=1), synthetic=form, dtype=torch.float64)
    run = solver.start(some)
    for _ in range(run.steps):
        run.advance()
    assert {value.dtype for value in run.parameters.values()} == {torch.float64}
    made = result(some, run)
    assert run.chosen is not None
    assert torch.equal(made.points, data.train.points[run.chosen].double())


def test_the_artefact_keeps_float64(tmp_path: Path):
    made = condense(
        images(),
        FEATURES,
        context=Fresh(network=NETWORK, batch=5),
        per_class=2,
        steps=2,
        compile="never",
        dtype=torch.float64,
    )
    made.save(tmp_path / "set.safetensors")
    again = SyntheticSet.load(tmp_path / "set.safetensors")
    assert again.points.dtype == torch.float64
    assert torch.equal(again.points, made.points)
    assert again.stored_bytes >= 8 * again.points.numel()
    assert again.normalised.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_configuration_says_the_precision(dtype: torch.dtype):
    tree = configured(read(available()["dm"]), {"data": {"kind": Digits.kind}, "dtype": str(dtype)[6:]})
    assert build(Experiment, tree).problem(images()).runtime.dtype == dtype
