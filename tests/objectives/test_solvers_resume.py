"""A descent that goes on from its state takes the same steps."""

import io
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small import NETWORK, images, start, table, unchecked
from solving import DM, FEATURES, PIXELS, STORED, advanced, assert_equal

from discrepancy.errors import InvalidInput
from objectives.contexts import Context, Fresh, Pool
from objectives.solvers import Descent, Solving
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.terms.penalties import CrossEntropy, TotalVariation
from objectives.training.augmentation import Siamese

RESUMED: dict[str, tuple[Descent, Context, Parameterisation]] = {
    "sgd": (Descent(lr=0.5, momentum=0.5, steps=6), DM, Pixels(per_class=2)),
    "adam": (Descent(optimizer="adam", lr=0.05, steps=6), DM, Pixels(per_class=2)),
    "cosine": (
        Descent(lr=0.5, momentum=0.9, scheduler="cosineannealinglr", scheduler_options=(("T_max", 6),), steps=6),
        DM,
        Pixels(per_class=2),
    ),
    "cycle": (
        Descent(
            lr=0.1,
            momentum=0.9,
            scheduler="onecyclelr",
            scheduler_options=(("max_lr", 0.5), ("total_steps", 6)),
            steps=6,
        ),
        DM,
        Pixels(per_class=2),
    ),
    "plateau": (
        Descent(lr=0.5, scheduler="reducelronplateau", scheduler_options=(("patience", 0),), steps=6),
        DM,
        Pixels(per_class=2),
    ),
    "per-class": (Descent(lr=0.5, momentum=0.5, steps=6, update="per_class"), DM, Pixels(per_class=2)),
    "shared-state": (
        Descent(optimizer="adamw", lr=0.05, steps=6, update="per_class_shared_state"),
        DM,
        Pixels(per_class=2),
    ),
    "labels-and-weights": (
        Descent(lr=0.2, momentum=0.5, rates=(("labels", 0.1), ("weights", 0.3)), steps=6),
        DM,
        Pixels(per_class=2, labels="soft", weights="learned", clip=True),
    ),
    "pool": (
        Descent(lr=0.5, momentum=0.5, steps=6),
        Pool(network=NETWORK, size=2, augment=Siamese(), augmentations=2),
        Pixels(per_class=2, start="class-mean"),
    ),
} | {
    f"{form}-{update}": (
        Descent(lr=lr, momentum=0.5, rates=(("labels", 0.1), ("weights", 0.3)), steps=6, update=update),
        DM,
        replace(synthetic, labels="soft", weights="learned"),
    )
    for form, (synthetic, lr) in STORED.items()
    for update in ("joint", "per_class", "per_class_shared_state")
    if not (synthetic.shared and update == "per_class")
}


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("case", RESUMED)
def test_three_and_three_steps_equal_six_bit_for_bit(case: str) -> None:
    solver, context, synthetic = RESUMED[case]
    objective = FEATURES + 0.1 * TotalVariation() + 0.1 * CrossEntropy()

    def begin() -> Solving:
        return start(images(), objective, solver, context=context, synthetic=synthetic)

    whole, first = advanced(begin(), 6), advanced(begin(), 3)
    saved = through_a_file(first.state())
    second = begin()
    second.restore(saved)
    assert second.step == 3
    advanced(second, 3)
    assert_equal(second.parameters, whole.parameters)
    for name, value in begin().parameters.items():
        assert not value.equal(whole.parameters[name]), f"'{name}' did not move"


def test_a_state_does_not_change_when_the_run_goes_on() -> None:
    solver = Descent(optimizer="adam", lr=0.05, steps=6)
    first = advanced(start(images(), FEATURES, solver), 2)
    state = first.state()
    advanced(first, 4)
    for _ in range(2):  # nor when another run goes on from it
        second = start(images(), FEATURES, solver)
        second.restore(state)
        assert_equal(advanced(second, 4).parameters, first.parameters)


def test_a_state_of_other_shapes_is_refused() -> None:
    state = start(images(), FEATURES).state()
    other = start(images(), FEATURES, synthetic=Pixels(per_class=3))
    with pytest.raises(
        InvalidInput, match=r"'state' has parameters of shapes \{'points': \(6, 1, 8, 8\)\}, but this run has"
    ):
        other.restore(state)


def test_the_same_seed_gives_the_same_set_and_another_gives_another() -> None:
    made = [advanced(start(images(), FEATURES, context=DM, seed=seed), 3).parameters for seed in (0, 0, 5)]
    assert_equal(made[0], made[1])
    assert not made[0]["points"].equal(made[2]["points"])


def test_no_global_generator_is_touched() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with unchecked():  # the checks themselves draw from Python's generator
        advanced(start(images(), FEATURES, context=DM), 2)
        advanced(start(table(), PIXELS, context=Fresh(batch=4), synthetic=Pixels(start="noise")), 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
