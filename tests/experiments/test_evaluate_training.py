"""The training of an evaluation is the loop of torch, written out."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from evaluating import SMALL, digits, few, trained
from torch import Tensor, nn
from torch.nn import functional

from discrepancy.errors import NumericalWarning
from discrepancy.networks import MLP, ConvNet
from experiments.evaluate import (
    PROTOCOLS,
    NetworkEvaluator,
    Protocol,
    TrainingSet,
    evaluate,
)
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.engine import extractor as extractor_room
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.training.augmentation import Siamese
from objectives.training.mixing import CutMix

__all__ = ["digits", "few"]


def modules(norm: Callable[[int], nn.Module] = lambda width: nn.GroupNorm(width, width)) -> nn.Sequential:
    """SMALL's network (8 x 8 grey images) out of torch's modules."""
    layers: list[nn.Module] = []
    for channels in (1, 5):
        layers += [nn.Conv2d(channels, 5, 3, padding=1, bias=False), norm(5), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(20, 10))


def loaded(module: nn.Sequential, parameters: dict[str, Tensor]) -> nn.Sequential:
    """The module with our parameters: in both, weights come in the order of the layers."""
    own = dict(module.named_parameters())
    names = [f"{part}{layer}.{what}" for layer in (1, 2) for part, what in PLACES] + ["linear.weight", "linear.bias"]
    with torch.no_grad():
        for parameter, name in zip(own.values(), names, strict=True):
            parameter.copy_(parameters[name])
    return module


PLACES = [("conv", "weight"), ("norm", "weight"), ("norm", "bias")]


def plainly(
    module: nn.Sequential,
    points: Tensor,
    targets: Tensor,
    protocol: Protocol,
    seed: int,
    weights: Tensor | None = None,
    forget: bool = True,
) -> nn.Sequential:
    """The protocol for network 0 as anyone would write it, with torch's own parts; the rate drops after E // 2 + 2 epochs."""
    initial = protocol.network.initial(rng(seed, "evaluate", 0, "network"), (1, 8, 8), 10)
    loaded(module, initial)
    order = rng(seed, "evaluate", 0, "order")
    lr, settings = protocol.lr, {"momentum": protocol.momentum, "weight_decay": protocol.weight_decay}
    optimiser = torch.optim.SGD(module.parameters(), lr=lr, **settings)
    weights = torch.ones(len(points)) if weights is None else weights / weights.mean()
    for epoch in range(protocol.epochs):
        for rows in torch.randperm(len(points), generator=order).split(protocol.batch):
            losses = functional.cross_entropy(module(points[rows]), targets[rows], reduction="none")
            optimiser.zero_grad()
            (losses * weights[rows]).mean().backward()
            optimiser.step()
        if epoch == (protocol.epochs - 1) // 2 + 1 and forget:
            optimiser = torch.optim.SGD(module.parameters(), lr=lr * protocol.drop, **settings)
    return module


def assert_same(module: nn.Sequential, parameters: dict[str, Tensor]) -> None:
    names = [f"{part}{layer}.{what}" for layer in (1, 2) for part, what in PLACES] + ["linear.weight", "linear.bias"]
    for (label, theirs), name in zip(module.named_parameters(), names, strict=True):
        torch.testing.assert_close(parameters[name], theirs.detach(), rtol=1e-4, atol=1e-5, msg=f"{name} ({label})")


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_is_the_loop_of_torch(
    few: TrainingSet, digits: LabelledData, generator: torch.Generator, soft: bool, weighted: bool
) -> None:
    """29 examples in batches of 13: the last has three."""
    labels = Labels("soft", torch.rand(29, 10, generator=generator).softmax(1)) if soft else few.labels
    weights = torch.rand(29, generator=generator) + 0.1 if weighted else None
    examples = TrainingSet(few.points, labels, weights)
    parameters, _ = trained(examples, digits, SMALL)
    assert_same(plainly(modules(), few.points, labels.rows, SMALL, 3, weights), parameters)


@pytest.mark.parametrize("fills", [False, True], ids=["eager", "of one shape"])
def test_chunks_change_nothing(
    few: TrainingSet, digits: LabelledData, monkeypatch: pytest.MonkeyPatch, fills: bool
) -> None:
    monkeypatch.setattr(extractor_room, "chunk_examples", lambda *_: 10)
    evaluator = NetworkEvaluator(digits, SMALL, runtime=Runtime(3, compile="never")).suited(few)
    evaluator.gradient.fills = fills
    assert evaluator.gradient.size(13) == 5  # 13 examples in chunks of at most 10 // 2
    parameters, _ = evaluator.trained(few, 0)
    assert_same(plainly(modules(), few.points, few.labels.rows, SMALL, 3), parameters)


def test_momentum_is_forgotten_at_the_drop(few: TrainingSet, digits: LabelledData) -> None:
    """With a drop to the same rate, forgetting is all that happens there."""
    protocol = dataclasses.replace(SMALL, drop=1.0)
    parameters, _ = trained(few, digits, protocol)
    assert_same(plainly(modules(), few.points, few.labels.rows, protocol, 3), parameters)
    with pytest.raises(AssertionError):
        assert_same(plainly(modules(), few.points, few.labels.rows, protocol, 3, forget=False), parameters)


def test_the_loop_of_ncfm_written_out(few: TrainingSet, digits: LabelledData) -> None:
    """AdamW, rates halved while it goes on, a rectangle of another example and its label by what is left of the first."""
    changes = {"optimizer": "adamw", "momentum": 0.0, "milestones": (0.4, 0.6), "drop": 0.5, "mix": CutMix()}
    protocol = dataclasses.replace(SMALL, **changes)
    module = loaded(modules(), protocol.network.initial(rng(3, "evaluate", 0, "network"), (1, 8, 8), 10))
    order, mixing = (rng(3, "evaluate", 0, name) for name in ("order", "mix"))
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.05, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 4], gamma=0.5)
    mixed = 0
    for _ in range(7):
        for rows in torch.randperm(29, generator=order).split(13):
            points, labels = few.points[rows].clone(), few.labels.rows[rows]
            draws = CutMix().draw(mixing, len(rows), (1, 8, 8))
            (top, bottom, left, right), other = draws["box"].tolist(), draws["partner"]
            points[:, :, top:bottom, left:right] = few.points[rows][other][:, :, top:bottom, left:right]
            kept = 1 - (bottom - top) * (right - left) / 64
            mixed += kept < 1
            logits = module(points)
            loss = kept * functional.cross_entropy(logits, labels)
            loss = loss + (1 - kept) * functional.cross_entropy(logits, labels[other])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    assert 3 < mixed < 18
    parameters, _ = trained(few, digits, protocol)
    assert_same(module, parameters)


def test_the_protocol_ncfm() -> None:
    ncfm = PROTOCOLS["ncfm"]
    assert (ncfm.networks, ncfm.epochs, ncfm.batch, ncfm.optimizer) == (10, 2000, 128, "adamw")
    rates = {epoch: ncfm.rate(epoch) for epoch in (0, 399, 400, 800, 1199, 1200, 1600, 1999)}
    halvings = {epoch: round(math.log2(1e-3 / rate)) for epoch, rate in rates.items()}
    assert halvings == {0: 0, 399: 0, 400: 1, 800: 2, 1199: 2, 1200: 3, 1600: 4, 1999: 4}


@pytest.mark.parametrize(("published", "index"), [(1000, 501), (300, 151), (7, 4)])
def test_rate_drops_after_the_published_epoch(published: int, index: int) -> None:
    """The published loop runs over range(E + 1) and drops the rate at the end of epoch E // 2 + 1, counted from zero."""
    assert Protocol(epochs=published + 1).full_rate_epochs == index + 1


def test_batch_statistics_of_few_examples_are_warned_of(few: TrainingSet, digits: LabelledData) -> None:
    network = ConvNet(width=5, depth=2, norm="batch")
    protocol = dataclasses.replace(SMALL, network=network, networks=1, epochs=1)
    with pytest.warns(NumericalWarning, match="from a batch of 13 examples, which are few .*; use norm: instance"):
        evaluate(few, digits, protocol, Runtime(seed=0))


@pytest.mark.filterwarnings("ignore:batch normalisation of")
def test_batch_norm_takes_true_batches_and_running_statistics(few: TrainingSet, digits: LabelledData) -> None:
    protocol = dataclasses.replace(SMALL, network=ConvNet(width=5, depth=2, norm="batch"))
    module = plainly(modules(nn.BatchNorm2d), few.points, few.labels.rows, protocol, 3)
    parameters, statistics = trained(few, digits, protocol)
    assert_same(module, parameters)
    assert statistics is not None
    for layer, norm in enumerate((part for part in module if isinstance(part, nn.BatchNorm2d)), 1):
        torch.testing.assert_close(statistics[f"layer{layer}"][0], norm.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(statistics[f"layer{layer}"][1], norm.running_var, rtol=1e-4, atol=1e-5)
    assert digits.test is not None
    with torch.no_grad():
        logits = module.eval()(digits.normalisation.apply(digits.test.points))
    found = evaluate(few, digits, dataclasses.replace(protocol, networks=1), Runtime(seed=3)).mean
    assert found == pytest.approx(float((logits.argmax(1) == digits.test.labels.numbers).double().mean()), abs=1 / 300)


def test_weight_zero_is_absence(few: TrainingSet, digits: LabelledData) -> None:
    """In one batch with every example, only the divisor, which the scaling of the weights undoes, knows of the others."""
    protocol = dataclasses.replace(SMALL, batch=29)
    weights = torch.cat([torch.ones(20), torch.zeros(9)])
    whole, _ = trained(TrainingSet(few.points, few.labels, weights), digits, protocol)
    part, _ = trained(TrainingSet(few.points[:20], few.labels.take(torch.arange(20))), digits, protocol)
    for name, value in whole.items():
        torch.testing.assert_close(value, part[name], rtol=1e-4, atol=1e-5)


def test_augmentation_is_drawn_anew_for_every_batch(few: TrainingSet, digits: LabelledData) -> None:
    seen = []

    class Watched(Siamese):
        def draw_batch(self, generator: torch.Generator, images: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
            seen.append(super().draw_batch(generator, images, shape))
            return seen[-1]

    trained(few, digits, dataclasses.replace(SMALL, augment=Watched(), epochs=2))
    assert [len(draws["crop"]) for draws in seen] == [13, 13, 3] * 2
    assert all(len(draws["operation"].unique()) == 1 for draws in seen)
    assert len({int(draws["operation"][0]) for draws in seen}) > 1
    assert len(seen[0]["crop"].unique(dim=0)) == 13
    assert all("flip" not in draws for draws in seen)  # a mirrored digit is none


def test_data_stay_as_they_are_until_a_batch_is_made(generator: torch.Generator) -> None:
    points = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    data = LabelledData.of(points, torch.arange(40) % 2, test=(points, torch.arange(40) % 2))
    real = TrainingSet.of(data.train.rows(), data)
    assert real.points.dtype == torch.uint8
    network = MLP(width=3, depth=1)
    protocol = Protocol(network=network, networks=1, epochs=3, batch=16)
    normalised = TrainingSet(data.normalisation.apply(points), data.train.labels)
    for name, value in trained(real, data, protocol)[0].items():
        torch.testing.assert_close(value, trained(normalised, data, protocol)[0][name], rtol=0, atol=0)
