"""The library's own hybrid: the loss and the steps of m3d (test_method_m3d.py has both), and labels of a teacher that is
trained on the real data."""

import pytest
import torch
from conformance import loaded
from torch.nn import functional

from discrepancy.networks import ConvNet
from experiments.config import build
from experiments.experiment import Experiment, configured
from experiments.method import method_tree
from objectives.condensation import result, solve
from objectives.data.real import RealData

SMALL = (
    "context.network.width=4",
    "teacher.network.width=4",
    "solver.steps=2",
    "teacher.training.steps=3",
    "device=cpu",
)


def experiment(name: str, *settings: str) -> Experiment:
    loaded.add(name)
    return build(
        Experiment, configured(method_tree(name), {"data": {"kind": "digits"}, "synthetic": {"per_class": 2}}, settings)
    )


@pytest.mark.conformance("best")
def test_only_the_labels_are_not_those_of_m3d():
    best, m3d = experiment("best"), experiment("m3d", "context.network.width=32", "solver.steps=600")
    for part in ("synthetic", "objective", "context", "solver"):
        assert getattr(best, part) == getattr(m3d, part)
    assert m3d.teacher is None


@pytest.mark.conformance("best")
def test_every_cell_gets_the_teachers_softmax():
    """Twenty rounds of plain descent, at a fifth of the rate from the twelfth on and a fifth of that from the eighteenth, and
    the softmax of the logits of what came of them for each of the four cells of an image."""
    some = experiment("best", *SMALL)
    problem = some.problem()
    data, teacher = problem.data, some.teacher
    assert isinstance(data, RealData)
    assert teacher is not None
    assert isinstance(teacher.network, ConvNet)
    training = teacher.training
    assert (training.momentum, training.weight_decay, training.augment, training.mix) == (0, 0, None, None)
    assert [
        training.lr * training.decay ** sum(m <= turn for m in training.milestones) for turn in (0, 11, 12, 18)
    ] == (pytest.approx([0.02, 0.02, 0.004, 0.0008]))
    solving = some.solver.start(problem)
    solve(solving)
    plain, taught = result(problem, solving), teacher.taught(data, seed=problem.runtime.seed)
    labelled = taught.label(plain)
    (member,) = taught.members
    x = data.normalisation.apply(labelled.points)
    logits = teacher.network(member.parameters, x, ("logits",))["logits"]
    assert labelled.labels is not None
    torch.testing.assert_close(labelled.labels, functional.softmax(logits, -1))
    assert len(labelled) == 4 * 20
    torch.testing.assert_close(labelled.points, plain.points)
