"""Evaluation: the training is that of torch's own modules and optimiser, and the record says what was done."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from discrepancy.errors import InvalidInput, NonFinite, NumericalWarning
from discrepancy.networks import MLP, ConvNet
from experiments.evaluate import (
    PROTOCOLS,
    Evaluation,
    NetworkEvaluator,
    Protocol,
    TrainingSet,
    comparison,
    control,
    evaluate,
    held_out,
    protocol_named,
)
from experiments.evaluate.comparison import herded
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.engine import extractor as extractor_room
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet
from objectives.training.augmentation import Siamese
from objectives.training.mixing import CutMix

SMALL = Protocol(network=ConvNet(width=5, depth=2), networks=2, epochs=7, batch=13, lr=0.05)


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    bunch = load_digits()
    points, labels = torch.tensor(bunch.images, dtype=torch.float32)[:, None], torch.tensor(bunch.target)
    return LabelledData.of(points[:600], labels[:600], test=(points[600:900], labels[600:900]), name="digits")


@pytest.fixture(scope="module")
def few(digits: LabelledData) -> TrainingSet:
    return TrainingSet(digits.normalisation.apply(digits.train.points[:29]), digits.train.labels.take(torch.arange(29)))


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


def trained(
    examples: TrainingSet, data: LabelledData, protocol: Protocol, seed: int = 3
) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, Tensor]] | None]:
    evaluator = NetworkEvaluator(data, protocol, runtime=Runtime(seed, compile="never")).suited(examples)
    parameters, statistics = evaluator.trained(examples, 0)
    return dict(parameters), statistics


def assert_same(module: nn.Sequential, parameters: dict[str, Tensor]) -> None:
    names = [f"{part}{layer}.{what}" for layer in (1, 2) for part, what in PLACES] + ["linear.weight", "linear.bias"]
    for (label, theirs), name in zip(module.named_parameters(), names, strict=True):
        torch.testing.assert_close(parameters[name], theirs.detach(), rtol=1e-4, atol=1e-5, msg=f"{name} ({label})")


# --- training -------------------------------------------------------------------------------------------------------------


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


# --- the record -----------------------------------------------------------------------------------------------------------


def test_record_and_progress(few: TrainingSet, digits: LabelledData) -> None:
    shares: list[float] = []
    found = evaluate(few, digits, SMALL, Runtime(seed=0), progress=shares.append)
    assert shares == pytest.approx([done / 14 for done in range(1, 15)])
    assert (found.n, found.examples, found.epochs, found.steps, found.test_examples) == (2, 29, 7, 21, 300)
    assert found.stored_bytes == 29 * 64 * 4 + 29 * 8
    assert found.protocol_hash == SMALL.hash
    assert found.mean == pytest.approx(sum(found.accuracies) / 2)
    assert found.std == pytest.approx(abs(found.accuracies[0] - found.accuracies[1]) / math.sqrt(2))
    assert found.as_dict()["std"] == found.std


def test_one_network_has_no_spread(few: TrainingSet, digits: LabelledData) -> None:
    found = evaluate(few, digits, dataclasses.replace(SMALL, networks=1), Runtime(seed=0))
    assert (found.n, found.std) == (1, 0.0)


def test_learns(digits: LabelledData) -> None:
    protocol = Protocol(network=ConvNet(width=16, depth=2), networks=1, epochs=60, lr=0.05, batch=64)
    assert evaluate(TrainingSet.of(digits.train.rows(), digits), digits, protocol, Runtime(seed=0)).mean > 0.9


def same(first: Evaluation, second: Evaluation) -> bool:
    return dataclasses.replace(first, seconds=0) == dataclasses.replace(second, seconds=0)


def test_seed_decides(few: TrainingSet, digits: LabelledData) -> None:
    first, again, other = (evaluate(few, digits, SMALL, Runtime(seed)) for seed in (0, 0, 1))
    assert same(first, again)
    assert first.accuracies != other.accuracies
    assert len(set(first.accuracies)) == 2  # and each network is another one


def test_no_global_random_numbers(few: TrainingSet, digits: LabelledData) -> None:
    before = torch.random.get_rng_state()
    evaluate(few, digits, dataclasses.replace(SMALL, augment=Siamese()), Runtime(seed=0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_loss_that_explodes_is_named(few: TrainingSet, digits: LabelledData) -> None:
    protocol = dataclasses.replace(SMALL, network=MLP(width=5), lr=1e30, epochs=30)
    with pytest.raises(NonFinite, match=r"network 0 of 2, epoch [0-3]: the training loss is (nan|inf); lower 'lr'"):
        evaluate(few, digits, protocol, Runtime(seed=0))


# --- validation and controls ----------------------------------------------------------------------------------------------


def test_validation_leaves_the_test_examples_alone(digits: LabelledData, few: TrainingSet) -> None:
    split = held_out(digits, 4)
    assert split.test is not None
    assert len(split.test) + len(split.train) == 600
    untested = dataclasses.replace(digits, test=None)
    found = evaluate(few, untested, SMALL, Runtime(seed=4), validation=True)
    assert found.validation
    assert found.test_examples == len(split.test)
    evaluator = NetworkEvaluator(untested, SMALL, runtime=Runtime(seed=4), validation=True)
    assert len(evaluator.real()) == len(split.train)


def test_random_control_draws_anew_for_each_network(digits: LabelledData, monkeypatch: pytest.MonkeyPatch) -> None:
    sets: list[TrainingSet] = []
    trained = NetworkEvaluator.trained

    def spy(self: NetworkEvaluator, examples: TrainingSet, *rest: Any) -> object:
        sets.append(examples)
        return trained(self, examples, *rest)

    monkeypatch.setattr(NetworkEvaluator, "trained", spy)
    counts = (3, 1, 2, 2, 2, 2, 2, 2, 2, 2)
    found = control("random", NetworkEvaluator(digits, SMALL), counts, 20)
    assert found.examples == 20
    assert [torch.bincount(part.labels.rows).tolist() for part in sets] == [list(counts)] * 2
    assert not torch.equal(sets[0].points, sets[1].points)


def test_random_control_refuses_what_is_not_there(digits: LabelledData) -> None:
    with pytest.raises(
        InvalidInput, match=r"needs 500 examples of class '0', but 'digits' has \d+; leave this control out"
    ):
        control("random", NetworkEvaluator(digits, SMALL), [500] + [1] * 9, 509)


def test_whole_control_keeps_to_the_steps_of_the_small_set(digits: LabelledData) -> None:
    protocol = dataclasses.replace(SMALL, epochs=101, networks=1, batch=100)
    found = control("whole", NetworkEvaluator(digits, protocol), [3] * 10, 30)
    assert (found.epochs, found.steps) == (16, 96)  # 101 steps of the small set, 6 a pass over 600
    assert found.protocol_hash != protocol.hash


def test_herding_chooses_distinct_examples_of_each_class(digits: LabelledData) -> None:
    evaluator = NetworkEvaluator(digits, SMALL)
    chosen = herded(digits.train, *evaluator.herding(), [3] * 10, evaluator.runtime)
    assert len(chosen.unique()) == 30
    assert torch.bincount(digits.train.labels.numbers[chosen]).tolist() == [3] * 10
    fewer = [3, 1, 0, 2] + [3] * 6
    kept = [row for label, count in enumerate(fewer) for row in chosen[3 * label : 3 * label + count].tolist()]
    assert herded(digits.train, *evaluator.herding(), fewer, evaluator.runtime).tolist() == kept
    found = control("herding", evaluator, fewer, 24)
    assert found.accuracies == evaluate(evaluator.real(torch.tensor(kept)), digits, SMALL).accuracies


def synthetic_of(digits: LabelledData) -> SyntheticSet:
    rows = torch.cat([members[:2] for members in digits.train.members])
    chosen = digits.train.rows(rows)
    return SyntheticSet(chosen.points, chosen.labels, torch.ones(20), digits.classes, digits.normalisation)


def test_comparison_puts_controls_beside(digits: LabelledData) -> None:
    notes: list[tuple[float, str]] = []
    found = comparison(
        synthetic_of(digits),
        NetworkEvaluator(digits, dataclasses.replace(SMALL, epochs=2)),
        on_progress=lambda done, name: notes.append((done, name)),
    )
    assert list(found.rows) == ["condensed", "random", "herding", "whole"]
    assert [row.examples for row in found.rows.values()] == [20, 20, 20, 600]
    assert notes[-1] == (1.0, "whole")
    assert [done for done, _ in notes] == sorted(done for done, _ in notes)
    assert found.as_dict()["rows"]["random"]["n"] == 2


def test_comparison_refuses_unknown_controls_and_other_classes(digits: LabelledData) -> None:
    with pytest.raises(InvalidInput, match="'controls' must be any of random, herding, whole, got 'k-means'"):
        comparison(synthetic_of(digits), NetworkEvaluator(digits, SMALL), controls=["k-means"])
    other = dataclasses.replace(synthetic_of(digits), classes=tuple("abcdefghij"))
    with pytest.raises(InvalidInput, match=r"has the classes a, b, c, d, \.\.\., but 'digits' has the classes 0, 1"):
        comparison(other, NetworkEvaluator(digits, SMALL))


# --- protocols ------------------------------------------------------------------------------------------------------------


def test_published_protocol() -> None:
    vico = PROTOCOLS["vico"]
    assert (vico.networks, vico.epochs, vico.batch, vico.lr, vico.momentum) == (20, 1001, 256, 0.01, 0.9)
    assert (vico.weight_decay, vico.network, vico.augment) == (5e-4, ConvNet(width=128, depth=3), Siamese())


CHANGES = {
    "network": ConvNet(width=127),
    "networks": 19,
    "epochs": 1000,
    "batch": 255,
    "lr": 0.02,
    "momentum": 0.8,
    "weight_decay": 4e-4,
    "drop": 0.2,
    "augment": Siamese(scale=1.3),
    "optimizer": "adamw",
    "milestones": (0.5,),
    "mix": CutMix(),
    "loss": "squared",
}


@pytest.mark.parametrize("field", CHANGES)
def test_hash_sees_every_field(field: str) -> None:
    vico = dataclasses.replace(PROTOCOLS["vico"], **({"momentum": 0.0} if field == "optimizer" else {}))
    changed = dataclasses.replace(vico, **{field: CHANGES[field]})
    assert changed.hash != vico.hash
    assert changed.title == "vico (changed)"
    assert set(CHANGES) == {item.name for item in dataclasses.fields(Protocol)} - {"name", "source"}


def test_hash_is_of_what_is_done() -> None:
    vico = PROTOCOLS["vico"]
    assert dataclasses.replace(vico, source="elsewhere").hash == vico.hash
    assert Protocol(lr=1).hash == Protocol(lr=1.0).hash
    assert len(vico.hash) == 12
    assert (
        Protocol(network=MLP(), networks=1, epochs=3).hash == "d1c2f8344695"
    )  # it stands in results: it may not drift
    assert (PROTOCOLS["quick"].hash, vico.hash) == ("f9acd2099421", "813bbd49f730")


def test_protocol_by_name_with_changes() -> None:
    changed = protocol_named("vico", ["epochs=11", "network.width=8"], 2)
    assert (changed.epochs, changed.network, changed.networks) == (11, ConvNet(width=8), 2)
    assert changed.augment == Siamese()
    with pytest.raises(
        InvalidInput, match=r"one of quick, vico, ncfm, table, or a YAML file, got 'vicco'; did you mean 'vico'\?"
    ):
        protocol_named("vicco")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "'epochs' must be >= 1, got 0"),
        ("networks", 0, "'networks' must be >= 1, got 0"),
        ("batch", -1, "'batch' must be >= 1, got -1"),
        ("lr", 0.0, "'lr' must be > 0 and finite, got 0.0"),
        ("drop", math.inf, "'drop' must be > 0 and finite, got inf"),
        ("momentum", 1.0, "'momentum' must be >= 0 and < 1, got 1.0"),
        ("weight_decay", -1.0, "'weight_decay' must be >= 0 and finite, got -1.0"),
        ("optimizer", "adamw", "'momentum' is 0.9, but adamw has none; set it to 0"),
        ("milestones", (0.5, 0.2), "'milestones' must be shares of the epochs that increase"),
        ("milestones", (1.0,), "'milestones' must be shares of the epochs that increase"),
    ],
)
def test_protocol_refuses(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Protocol(**{field: value})


# --- bad input ------------------------------------------------------------------------------------------------------------

POINTS, LABELS = torch.zeros(3, 1, 8, 8), Labels("hard", torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((POINTS[:0], LABELS.take(torch.arange(0))), "the training set is empty; give at least one example"),
        ((POINTS, LABELS.take(torch.arange(2))), "2 labels do not fit 3 training points"),
        ((POINTS, LABELS, torch.ones(4)), "4 weights do not fit 3 training points"),
        ((POINTS / 0, LABELS), "the points of the training set must be finite"),
        ((POINTS, Labels("soft", torch.full((3, 10), torch.nan))), "the labels of the training set must be finite"),
        ((POINTS, LABELS, torch.tensor([1.0, -1.0, 1.0])), "weights of the training set must be >= 0 and not all zero"),
        ((POINTS, LABELS, torch.zeros(3)), "weights of the training set must be >= 0 and not all zero"),
        (
            (POINTS, Labels("soft", torch.zeros(3, 10, dtype=torch.long))),
            "soft labels must be floating point numbers, got torch.int64",
        ),
        ((POINTS, Labels("hard", torch.zeros(3))), "must be whole numbers, one a class, got torch.float32"),
        ((POINTS, Labels("soft", torch.full((3, 10), 0.11))), "got values from 0.11 and sums up to 0.1 apart from 1"),
        (
            (POINTS, Labels("teacher", torch.tensor([[1.5, -0.5]] * 3))),
            "must be distributions, .* got values from -0.5",
        ),
    ],
    ids=[
        *("empty", "labels", "weights", "nan-points", "nan-labels", "negative", "massless"),
        *("integer-soft", "float-hard", "no-sum", "negative-soft"),
    ],
)
def test_training_set_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TrainingSet(*arguments)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (
            TrainingSet(torch.zeros(3, 1, 9, 9), LABELS),
            r"shape \(1, 9, 9\) do not fit 'digits', whose examples have shape",
        ),
        (
            TrainingSet(POINTS, Labels("hard", LABELS.rows + 10)),
            r"labels of the training set must lie in 0 \.\. 9, got 10 \.\. 10",
        ),
        (
            TrainingSet(POINTS, Labels("soft", torch.full((3, 9), 1 / 9))),
            "soft labels must have 10 columns, one a class, got 9",
        ),
    ],
    ids=["shape", "labels", "columns"],
)
def test_set_must_fit_the_data(examples: TrainingSet, message: str, digits: LabelledData) -> None:
    with pytest.raises(InvalidInput, match=message):
        evaluate(examples, digits, SMALL, Runtime(seed=0))


def test_needs_test_examples(few: TrainingSet, digits: LabelledData) -> None:
    with pytest.raises(InvalidInput, match="'digits' has no test examples; give it some, or use a validation split"):
        evaluate(few, dataclasses.replace(digits, test=None), SMALL, Runtime(seed=0))


def test_augmentation_needs_images(generator: torch.Generator) -> None:
    x, y = torch.randn(20, 4, generator=generator), torch.arange(20) % 2
    data = LabelledData.of(x, y, test=(x, y))
    protocol = Protocol(network=MLP(width=3), networks=1, epochs=1, augment=Siamese())
    with pytest.raises(InvalidInput, match=r"'augment' needs images \(C, H, W\); these examples have shape \(4,\)"):
        evaluate(TrainingSet(x, Labels("hard", y)), data, protocol, Runtime(seed=0))


# --- compiled -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:batch normalisation of")
@pytest.mark.compiled
def test_compiled_is_eager(few: TrainingSet, digits: LabelledData) -> None:
    protocol = dataclasses.replace(SMALL, network=ConvNet(width=5, depth=2, norm="batch"), networks=1)
    eager, fast = (
        NetworkEvaluator(digits, protocol, runtime=Runtime(seed=3, compile=policy)).suited(few)
        for policy in ("never", "always")
    )
    (slow, of_slow), (compiled, of_compiled) = (evaluator.trained(few, 0) for evaluator in (eager, fast))
    for name, value in slow.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)
    found, expected = fast.accuracy(compiled, of_compiled), eager.accuracy(slow, of_slow)
    assert found == pytest.approx(expected, abs=2 / 300)
