"""Every packaged method on an accelerator: the CPU's values after four steps, and how often the host waits in three of them.

The count is the difference between a run of four steps and one of one step, so that what is done once is not in it.
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
    "frepo": 3,  # whether the Cholesky factorisation succeeded
    "kip": 3,  # the same
    "ncfm": 3,  # the loss, for the scheduler ReduceLROnPlateau
    "sliced": 3,  # whether the real weights are equal, so that all slices share their levels
}
"""Host waits in three steps."""

AT_MOST = {
    "cafe": 153,  # the accuracy of the network in training, after at most 50 rounds and once more
    "sinkhorn": 60,  # whether the potentials have converged, after each iteration
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


@pytest.fixture
def on_cpu(method: str) -> SyntheticSet:
    """Comes before the accelerator, whose pretence slows the CPU down."""
    return short_run(method, digits(), "cpu", steps=4)


@cache
def run(method: str, device: torch.device, steps: int) -> tuple[SyntheticSet, int]:
    """The set, and how often the host waited."""
    before = sum(far.host_waits().values())
    made = short_run(method, digits(), device, steps=steps)
    return made, sum(far.host_waits().values()) - before


@pytest.mark.parametrize("method", METHODS)
def test_values_are_those_of_the_cpu(method: str, on_cpu: SyntheticSet, accelerator: torch.device) -> None:
    found, _ = run(method, accelerator, 4)
    assert apart(on_cpu, found) <= (1e-9 if accelerator.type == "far" else 1e-6)


def test_every_method_has_a_figure() -> None:
    assert WAITS.keys() | AT_MOST.keys() | WHOLE.keys() == set(METHODS)
    assert set(STEPLESS) == WHOLE.keys()


@pytest.mark.parametrize("method", [*WAITS, *AT_MOST])
def test_host_waits_of_three_steps(method: str, pretended: torch.device) -> None:
    found = run(method, pretended, 4)[1] - run(method, pretended, 1)[1]
    assert found == WAITS[method] if method in WAITS else found <= AT_MOST[method]


@pytest.mark.parametrize("method", STEPLESS)
def test_host_waits_of_a_whole_selection(method: str, pretended: torch.device) -> None:
    assert run(method, pretended, 4)[1] == WHOLE[method]


def test_copies_to_the_device_of_three_steps_of_dm(pretended: torch.device) -> None:
    """Weights of the new network, real examples and draws, one by one: each of them is a wait on a GPU."""
    counts = []
    for steps in (1, 4):
        before = far.uploads()
        short_run("dm", digits(), pretended, steps=steps)
        counts.append(far.uploads() - before)
    assert counts[1] - counts[0] <= 79
