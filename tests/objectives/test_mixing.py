"""CutMix: the published loop written out, mass that is kept, and where the rectangles fall.

Properties (Hypothesis): the masses keep their sum, and each pixel is the image's own or its partner's.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import NETWORK
from torch import Tensor
from torch.nn import functional

from discrepancy import InvalidInput
from objectives import CutMix, Training
from objectives.rng import rng
from objectives.training.batch_gradient import PlainGradient
from objectives.training.trainer import NetworkTrainer, TrainingData

GRADIENT = PlainGradient(NETWORK, "cross_entropy", 64)


def box(shape: tuple[int, int], kept: float, centre: tuple[int, int]) -> tuple[int, int, int, int]:
    """The rectangle of the published code, in its words: W and H are the first and the second side."""
    cut = np.sqrt(1.0 - kept)
    w, h = int(shape[0] * cut), int(shape[1] * cut)
    x, y = (
        np.clip([c - size // 2, c + size // 2], 0, side) for c, size, side in zip(centre, (w, h), shape, strict=True)
    )
    return int(x[0]), int(x[1]), int(y[0]), int(y[1])


def training_data(generator: torch.Generator, soft: bool) -> TrainingData:
    points, labels = torch.randn(9, 1, 8, 8, generator=generator), torch.arange(9) % 3
    mass = torch.rand(9, generator=generator) + 0.5
    distributions = torch.rand(9, 3, generator=generator).softmax(1)
    return TrainingData.of_tensors(points, distributions if soft else labels, mass, 3)


@given(seed=st.integers(0, 10**6), beta=st.sampled_from([0.2, 1.0, 3.0]), side=st.integers(1, 9))
def test_each_pixel_is_the_own_one_or_the_partners(seed: int, beta: float, side: int):
    generator = torch.Generator().manual_seed(seed)
    points, masses = torch.randn(5, 2, side, 7, generator=generator), torch.rand(5, 3, generator=generator)
    mix = CutMix(beta=beta, probability=1.0)
    draws = mix.draw(generator, 5, (2, side, 7))
    mixed, partner = mix.points(points, draws), draws["partner"]
    foreign = torch.zeros(side, 7, dtype=torch.bool)
    top, bottom, left, right = draws["box"].tolist()
    foreign[top:bottom, left:right] = True
    assert torch.equal(mixed, torch.where(foreign, points[partner], points))
    share = float(foreign.double().mean())
    torch.testing.assert_close(mix.masses(masses, draws), (1 - share) * masses + share * masses[partner])
    torch.testing.assert_close(mix.masses(masses, draws).sum(), masses.sum())


def test_rectangles_are_those_of_the_published_code():
    """λ uniform and a uniform centre: the mean share of the other image by that code's own words, 20,000 times."""
    chance, sides, mix = np.random.default_rng(0), (8, 12), CutMix(probability=1.0)
    edges = [box(sides, chance.beta(1, 1), (int(chance.integers(8)), int(chance.integers(12)))) for _ in range(20_000)]
    expected = np.array([(b - a) * (d - c) / 96 for a, b, c, d in edges])
    generator = torch.Generator().manual_seed(1)
    found = torch.stack([mix.draw(generator, 2, (1, *sides))["share"] for _ in range(20_000)]).numpy()
    assert found.mean() == pytest.approx(expected.mean(), abs=4 * np.hypot(found.std(), expected.std()) / 20_000**0.5)
    assert found.std() == pytest.approx(expected.std(), rel=0.03)


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0.0, 0.0), (0.5, 0.35, 0.5), (1.0, 0.8, 1.0)])
def test_the_probability_is_that_of_a_minibatch(probability: float, low: float, high: float):
    mix, generator = CutMix(probability=probability), torch.Generator().manual_seed(0)
    mixed = [float(mix.draw(generator, 4, (3, 16, 16))["share"]) > 0 for _ in range(500)]
    assert low <= np.mean(mixed) <= high


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_a_round_is_the_published_loss(soft: bool):
    """r CE(f(x~), y) + (1 - r) CE(f(x~), y'), which with weights is Σ r wᵢ CE(·, yᵢ) + (1 - r) wᵢ' CE(·, yᵢ') over Σ w."""
    training = Training(steps=3, batch=9, lr=0.05, mix=CutMix(probability=1.0))
    generator = torch.Generator().manual_seed(0)
    some, initial = training_data(generator, soft), NETWORK.initial(generator, (1, 8, 8), 3)
    network_trainer = NetworkTrainer(training, initial)
    network_trainer.round(GRADIENT, some, rng(0, "x"))

    everything, labels, weights = some.batch(torch.arange(9))
    order, theta = rng(0, "x"), {name: value.clone() for name, value in initial.items()}
    for _ in range(3):
        rows = torch.randperm(9, generator=order)
        draws = CutMix(probability=1.0).draw(order, 9, (1, 8, 8))
        top, bottom, left, right = draws["box"].tolist()
        points, partner = everything[rows].clone(), rows[draws["partner"]]
        points[:, :, top:bottom, left:right] = everything[partner][:, :, top:bottom, left:right]
        ratio = 1 - (bottom - top) * (right - left) / 64
        leaves = {name: value.clone().requires_grad_(True) for name, value in theta.items()}
        logits = NETWORK(leaves, points, ("logits",))["logits"]

        def surprise(of: Tensor, logits: Tensor = logits) -> Tensor:
            return (weights[of] * functional.cross_entropy(logits, labels[of], reduction="none")).sum()

        loss = (ratio * surprise(rows) + (1 - ratio) * surprise(partner)) / weights[rows].sum()
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        theta = {name: value - 0.05 * slope for (name, value), slope in zip(theta.items(), slopes, strict=True)}
    for name, value in network_trainer.parameters.items():
        torch.testing.assert_close(value, theta[name])


def test_a_mixing_that_never_happens_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    some, initial = training_data(generator, False), NETWORK.initial(generator, (1, 8, 8), 3)
    plain, never = (
        NetworkTrainer(Training(steps=1, batch=9, mix=mix), initial) for mix in (None, CutMix(probability=0.0))
    )
    for network_trainer in (plain, never):
        network_trainer.round(GRADIENT, some, rng(0, "x"))
    for name, value in plain.parameters.items():
        torch.testing.assert_close(value, never.parameters[name])


@pytest.mark.parametrize(("epochs", "sizes"), [(1, [4, 4, 1]), (2, [4, 4, 1, 4, 4, 1])])
def test_an_epoch_passes_over_all_the_examples_once(epochs: int, sizes: list[int]):
    training = Training(epochs=epochs, batch=4)
    minibatches = list(training.minibatches(9, torch.Generator().manual_seed(0)))
    assert [len(rows) for rows in minibatches] == sizes
    for rows in torch.cat(minibatches).split(9):
        assert torch.equal(rows.sort().values, torch.arange(9))
    assert training.images(9) == 9 * epochs


def test_steps_are_all_of_one_size():
    training = Training(steps=5, batch=4)
    minibatches = list(training.minibatches(9, torch.Generator().manual_seed(0)))
    assert [len(rows) for rows in minibatches] == [4] * 5
    assert len(set(torch.cat(minibatches[:2]).tolist())) == 8
    assert (training.images(9), training.images(3)) == (20, 15)


def test_a_round_has_50_steps_unless_something_is_said():
    assert (Training().steps, Training().epochs) == (50, None)
    assert (Training(epochs=3).steps, Training(epochs=3).epochs) == (None, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CutMix(beta=0.0), "'beta' must be > 0 and finite, got 0.0"),
        (lambda: CutMix(probability=1.5), "'probability' must lie between 0 and 1, got 1.5"),
        (lambda: CutMix().draw(torch.Generator(), 3, (5,)), r"'cutmix' mixes images of shape \(C, H, W\)"),
        (lambda: Training(steps=3, epochs=2), "by 'steps' or by 'epochs', got 3 and 2; set one of them to null"),
        (lambda: Training(epochs=0), "'epochs' must be at least 1, got 0"),
    ],
)
def test_refused(make: Any, message: str):
    with pytest.raises(InvalidInput, match=message):
        make()
