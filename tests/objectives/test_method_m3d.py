"""M3D as its paper and the surviving copies of its code write it."""

from collections.abc import Mapping

import pytest
import torch
from conformance import PRECISE, Sight, same_turns, trial
from torch import Tensor
from torch.nn import functional

SETTINGS = pytest.mark.parametrize("settings", [("context.augment=null",), ()], ids=["plain", "augmented"])


def kernel(sight: Sight, x: Tensor, y: Tensor) -> Tensor:
    """Σ over k = -2 ... 2 of exp(-‖x - y‖² / (b 2ᵏ)), with b the one number that the run has measured."""
    length = sight.trial.engine.resolved["features"]["match"][""].kernel.lengthscale
    squares = (x[:, None] - y[None]).square().sum(2)
    return torch.stack([(-squares / (2 * length**2 * 2.0**k)).exp() for k in range(-2, 3)]).sum(0)


def four_of_one(images: Tensor) -> Tensor:
    """The four quarters of each image, at the full size; those of an image follow each other."""
    half = images.shape[-1] // 2
    cells = [images[..., i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
    grown = [functional.interpolate(cell, images.shape[2:], mode="bilinear") for cell in cells]
    return torch.stack(grown, 1).flatten(0, 1)


def discrepancy_of_class(sight: Sight, parameters: Mapping[str, Tensor], label: int) -> Tensor:
    """mean k(s, s') - 2 mean k(s, t) + mean k(t, t') over the features of a class, with pixels from 0 to 1."""
    problem = sight.trial.problem
    images = four_of_one(parameters["images"][problem.slots == label])
    mean, std = (
        torch.tensor(values, dtype=images.dtype).reshape(-1, 1, 1) / 255
        for values in (problem.data.normalisation.mean, problem.data.normalisation.std)
    )
    mine = sight.augmented((images - mean) / std, label)
    real = sight.augmented(sight.real(label), label)
    s, t = (sight.outputs(x, "features")["features"] for x in (mine, real))
    return kernel(sight, s, s).mean() - 2 * kernel(sight, s, t).mean() + kernel(sight, t, t).mean()


@pytest.mark.conformance("m3d")
@PRECISE
@SETTINGS
def test_three_rounds_of_classes(dtype: torch.dtype, settings: tuple[str, ...]):
    some = trial("m3d", (*settings, "context.keep=2"), dtype=dtype)
    same_turns(some, discrepancy_of_class)
    images = some.run.parameters["images"]
    assert float(images.min()) == 0.0
    assert float(images.max()) == 1.0


def test_a_network_serves_for_five_steps():
    some = trial("m3d", ("solver.steps=11",))
    numbers = [some.engine.context.at(step, 0).network for step in range(11)]
    assert numbers == [0] * 5 + [1] * 5 + [2]


def test_the_length_is_that_of_the_features():
    """b is near the mean squared distance of two real points, from which the released code takes it."""
    some = trial("m3d", ("context.augment=null", "context.batch=13"))
    sight = some.sight()
    features = sight.outputs(torch.cat([sight.real(label) for label in sight.classes]), "features")["features"]
    squares = (features[:, None] - features[None]).square().sum(2)
    mean = squares.sum() / (len(features) ** 2 - len(features))
    length = some.run.resolved["features"]["match"][""].kernel.lengthscale
    assert 2 * length**2 == pytest.approx(float(mean), rel=0.15)
