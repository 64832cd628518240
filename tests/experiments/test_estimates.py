"""The script that sets estimates beside what is taken: kernels of all pairs are part of what a dry run says."""

import pytest
import torch

from experiments.benchmarks.estimates import SLACK, is_near, main
from experiments.config import build
from experiments.experiment import Experiment, configured
from experiments.method import method_tree


def test_an_estimate_is_near_within_a_factor_or_some_bytes():
    assert is_near(100 << 20, 151 << 20)
    assert is_near(10 * SLACK, 15 * SLACK)
    assert not is_near(10 * SLACK, 16 * SLACK)
    assert not is_near(16 * SLACK, 10 * SLACK)
    assert is_near(0, SLACK)
    assert not is_near(0, SLACK + 1)


@pytest.mark.slow
def test_the_kernels_of_all_pairs_are_counted(capsys: pytest.CaptureFixture[str]):
    assert main(["kip", "--per-class", "50", "--steps", "1"]) == 0, capsys.readouterr()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["method", "kip"]


def test_gradients_by_the_weights_are_counted():
    """Of every class: what is compared is far more than what the examples need, where there are few of them."""
    tree = configured(method_tree("dc"), {"data": "digits", "synthetic": {"per_class": 1}, "compile": "never"})
    experiment = build(Experiment, tree)
    context = experiment.solver.start(experiment.problem()).bound_context
    assert context is not None
    network = context.context.network
    assert network is not None
    weights = network.initial(torch.Generator(), (1, 8, 8), 10)
    assert context.working_bytes > 10 * 8 * sum(value.nbytes for value in weights.values())
