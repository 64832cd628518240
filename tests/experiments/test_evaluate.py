"""Evaluations: what the record says, validation, controls, and sets that do not fit."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from evaluating import SMALL, digits, few

from discrepancy.errors import InvalidInput, NonFinite
from discrepancy.networks import MLP, ConvNet
from experiments.evaluate import (
    Evaluation,
    NetworkEvaluator,
    Protocol,
    TrainingSet,
    comparison,
    control,
    evaluate,
    held_out,
)
from experiments.evaluate.comparison import herded
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.engine.runtime import Runtime
from objectives.synthetic.artefact import SyntheticSet
from objectives.training.augmentation import Siamese

__all__ = ["digits", "few"]


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
    with pytest.raises(InvalidInput, match="'controls' must be any of random, herding, whole, matched, got 'k-means'"):
        comparison(synthetic_of(digits), NetworkEvaluator(digits, SMALL), controls=["k-means"])
    other = dataclasses.replace(synthetic_of(digits), classes=tuple("abcdefghij"))
    with pytest.raises(InvalidInput, match=r"has the classes a, b, c, d, \.\.\., but 'digits' has the classes 0, 1"):
        comparison(other, NetworkEvaluator(digits, SMALL))


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


def test_a_network_whose_outputs_are_nan_recognises_nothing(few: TrainingSet, digits: LabelledData) -> None:
    protocol = dataclasses.replace(SMALL, networks=1, epochs=1)
    evaluator = NetworkEvaluator(digits, protocol, runtime=Runtime(seed=3)).suited(few)
    parameters, statistics = evaluator.trained(few, 0)
    broken = {name: torch.full_like(value, torch.nan) for name, value in parameters.items()}
    assert evaluator.accuracy(parameters, statistics) > 0
    assert evaluator.accuracy(broken, statistics) == 0


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
