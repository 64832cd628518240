"""Every packaged method on an accelerator: the CPU's values after three steps, and how often the host waits in a step.

Waits are counted in the second step, so that what is done once, at the start or the end, is not in the count.
"""

from functools import cache

import far
import pytest
import torch

from experiments.gpu.methods import METHODS, STEPLESS, apart, few_digits, short_run
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet

pytestmark = pytest.mark.cuda

WAITS = {
    "best": 0,
    "datadam": 0,
    "dc": 0,
    "dm": 0,
    "dream": 0,
    "dsa": 0,
    "idc": 0,
    "idm": 0,
    "m3d": 0,
    "group_dro": 0,
    "rome": 0,
    "guard": 0,
    "frepo": 1,  # whether the Cholesky factorisation succeeded
    "kip": 1,  # the same
    "ncfm": 1,  # the loss, for the scheduler ReduceLROnPlateau
    "sliced": 1,  # whether the real weights are equal, so that all slices share their levels
}
"""Host waits in one step."""

AT_MOST = {
    "cafe": 51,  # the accuracy of the network in training, after at most 50 rounds and once more
    "sinkhorn": 30,  # whether the potentials have converged, after each iteration
}
"""The same where the number depends on values."""

WHOLE = {
    "forgetting": 3,  # the predictions of each round of training
    "greedy_mmd": 80,  # of each class: two eigenvalue problems, which scipy solves for weights that are not negative
    "herding": 40,  # of each class and of each example: the best candidate
    "k_centre": 40,
    "kernel_thinning": 162,  # of each class: blocks of inner products, since halving is decided on the CPU
    "mfc": 70,  # of each class: its distances, since programs are solved on the CPU, and the examples that are added
    "random": 0,
    "ridge": 55,  # ranks, conditions, the penalties that are tried, and the record of findings
}
"""Host waits in a whole selection of two examples of each of ten classes, or a whole solution in closed form."""


@cache
def digits() -> LabelledData:
    return few_digits()


def waits() -> int:
    return sum(far.host_waits().values())


@pytest.fixture
def on_cpu(method: str) -> SyntheticSet:
    """Comes before the accelerator, whose pretence slows the CPU down."""
    return short_run(method, digits(), "cpu", steps=3)


@pytest.mark.parametrize("method", METHODS)
def test_values_are_those_of_the_cpu_and_the_host_waits_as_often_as_known(
    method: str, on_cpu: SyntheticSet, accelerator: torch.device
) -> None:
    counts = [waits()]
    made = short_run(method, digits(), accelerator, steps=3, on_step=lambda _: counts.append(waits()))
    counts.append(waits())
    assert apart(on_cpu, made) <= (1e-9 if accelerator.type == "far" else 1e-6)
    if accelerator.type != "far":
        return  # others do not count
    if method in WHOLE:
        assert counts[-1] - counts[0] == WHOLE[method]
        return
    assert len(counts) == 5
    found = counts[2] - counts[1]
    assert found == WAITS[method] if method in WAITS else found <= AT_MOST[method]


def test_every_method_has_a_figure() -> None:
    assert WAITS.keys() | AT_MOST.keys() | WHOLE.keys() == set(METHODS)
    assert set(STEPLESS) == WHOLE.keys()


def test_copies_to_the_device_of_three_steps_of_dm(pretended: torch.device) -> None:
    """Weights of the new network, real examples and draws, one by one: each of them is a wait on a GPU."""
    counts = []
    for steps in (1, 4):
        before = far.uploads()
        short_run("dm", digits(), pretended, steps=steps)
        counts.append(far.uploads() - before)
    assert counts[1] - counts[0] <= 79
