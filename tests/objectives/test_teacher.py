"""A teacher's labels: softmax(logits / T) of networks run by hand, and what is stored and known of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from small import images, table
from torch import Tensor
from torch.nn import functional

from discrepancy import MMD
from discrepancy.errors import InvalidInput
from discrepancy.networks import MLP, ConvNet
from objectives.condensation import condense
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.rng import rng
from objectives.solvers import Random
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.formation import Formation
from objectives.synthetic.parameterisation import Parameterisation
from objectives.synthetic.pixels import Pixels
from objectives.teacher import HELD_OUT, Teacher
from objectives.terms.match import Match
from objectives.training.batch_gradient import PlainGradient
from objectives.training.trainer import NetworkTrainer, TrainingData
from objectives.training.training import Training

SMALL = Training(on="real", steps=3, batch=8, lr=0.1, momentum=0.9)
QUICK = Teacher(network=MLP(width=6, depth=1), rounds=2, training=SMALL)


def made(data: LabelledData, synthetic: Parameterisation | None = None) -> SyntheticSet:
    return condense(data, Match(MMD()), context=Pool(), synthetic=synthetic or Pixels(per_class=2), steps=2)


def by_hand(weights: dict[str, Tensor], x: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / T) of an MLP of one hidden layer, in numpy and float64."""
    w = {name: value.double().numpy() for name, value in weights.items()}
    hidden = np.maximum(x @ w["hidden1.weight"].T + w["hidden1.bias"], 0)
    logits = (hidden @ w["linear.weight"].T + w["linear.bias"]) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def files(folder: Path, data: LabelledData, count: int) -> list[dict[str, Tensor]]:
    """Weights of so many random networks, in files a0, a1, ..."""
    found = [MLP(width=6, depth=1).initial(rng(7, number), data.shape, data.count) for number in range(count)]
    for number, weights in enumerate(found):
        safetensors.torch.save_file(weights, folder / f"a{number}.safetensors")
    return found


# --- the labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("count", [1, 2])
def test_labels_are_the_mean_of_the_softmax_of_given_networks(tmp_path: Path, count: int, temperature: float) -> None:
    data = table()
    weights = files(tmp_path, data, count)
    paths = tuple(str(tmp_path / f"a{number}.safetensors") for number in range(count))
    teacher = Teacher(network=MLP(width=6, depth=1), weights=paths, temperature=temperature)
    synthetic = made(data)
    labelled = teacher.label(synthetic, data.train)
    x = (synthetic.points.double().numpy() - np.array(data.normalisation.mean)) / np.array(data.normalisation.std)
    wanted = np.mean([by_hand(one, x, temperature) for one in weights], axis=0)
    np.testing.assert_allclose(labelled.labelling.rows.numpy(), wanted, rtol=0, atol=1e-6)
    assert labelled.labelling.rows.dtype == torch.float32
    assert labelled.points.equal(synthetic.points)


def test_training_is_that_of_the_contexts(tmp_path: Path) -> None:
    data = images()
    network = ConvNet(width=4, depth=2)
    teacher = Teacher(network=network, number=2, rounds=2, training=SMALL)
    taught = teacher.taught(data.train, seed=5)
    kept = data.split(HELD_OUT, rng(5, "teacher", "held out"))
    for number, member in enumerate(taught.members):
        start = network.initial(rng(5, "teacher", number, "network"), data.shape, 3)
        network_trainer = NetworkTrainer(SMALL, start)
        for turn in range(2):
            training_data = TrainingData.of_real(kept.train, torch.device("cpu"))
            network_trainer.round(
                PlainGradient(network, "cross_entropy", 64), training_data, rng(5, "teacher", number, "train", turn)
            )
        assert all(network_trainer.parameters[name].equal(value) for name, value in member.parameters.items())
        assert not network_trainer.parameters["linear.weight"].equal(start["linear.weight"])
    assert not taught.members[0].parameters["linear.weight"].equal(taught.members[1].parameters["linear.weight"])


def test_it_learns() -> None:
    data = table(sizes=(40, 40, 40))
    taught = replace(QUICK, rounds=40, network=MLP(width=32)).taught(data.train)
    assert taught.accuracy(data.train) > QUICK.taught(data.train).accuracy(data.train)


def test_the_statistics_of_batch_normalisation_are_averages_over_batches() -> None:
    data = images()
    network = ConvNet(width=3, depth=1, norm="batch")
    training = replace(SMALL, batch=10)
    (member,) = Teacher(network=network, rounds=1, training=training).taught(data.train, seed=1).members
    kept = data.split(HELD_OUT, rng(1, "teacher", "held out")).train
    order = torch.randperm(len(kept), generator=rng(1, "teacher", 0, "statistics"))
    x = data.normalisation.apply(kept.points)
    means, variances = [], []
    for rows in order[: len(order) // 10 * 10].split(10):
        maps = functional.conv2d(x[rows], member.parameters["conv1.weight"], padding=1)
        means.append(maps.mean((0, 2, 3)))
        variances.append(maps.transpose(0, 1).flatten(1).var(1))
    assert member.statistics is not None
    (mean, variance) = next(iter(member.statistics.values()))
    torch.testing.assert_close(mean, torch.stack(means).mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(variance, torch.stack(variances).mean(0), rtol=1e-5, atol=1e-6)


def test_a_teacher_with_batch_normalisation_looks_at_one_example_at_a_time(tmp_path: Path) -> None:
    data = images()
    teacher = Teacher(network=ConvNet(width=3, depth=1, norm="batch"), rounds=1, training=SMALL)
    taught = teacher.taught(data.train)
    together = taught(data.train.points[:5])
    alone = torch.cat([taught(data.train.points[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    taught.save(tmp_path / "t.safetensors")
    again = replace(teacher, weights=(str(tmp_path / "t.safetensors"),)).taught(data.train)
    assert again(data.train.points[:5]).equal(together)
    assert again.hash == taught.hash


# --- what is known and stored -----------------------------------------------------------------------------------------


def test_the_record_says_what_the_teacher_was(tmp_path: Path) -> None:
    data = LabelledData.of(
        table().train.points,
        table().train.labels.numbers,
        test=(table().train.points[:9], table().train.labels.numbers[:9]),
    )
    taught = QUICK.taught(data.train, data.test, seed=3)
    labelled = taught.label(made(data))
    about = labelled.record["teacher"]
    assert about["config"] == {
        "kind": "teacher",
        "network": {"kind": "mlp", "width": 6, "depth": 1},
        "number": 1,
        "training": SMALL.describe(),
        "rounds": 2,
        "weights": [],
        "temperature": 1.0,
    }
    assert about["seed"] == 3
    assert about["on"] == "9 test examples"
    right = (taught(data.train.points[:9]).argmax(1) == data.train.labels.numbers[:9]).double().mean()
    assert about["accuracy"] == float(right)
    taught.save(tmp_path / "t.safetensors")
    with safetensors.safe_open(tmp_path / "t.safetensors", "pt") as file:
        assert json.loads(file.metadata()["teacher"]) == about


def test_without_test_examples_it_is_judged_on_some_that_it_has_not_seen() -> None:
    data = table(sizes=(20, 30, 50))
    measured = QUICK.taught(data.train).measured
    assert measured is not None
    assert (measured.part, measured.examples) == ("held-out training", 10)


def test_the_same_seed_gives_the_same_teacher_and_another_another() -> None:
    data = table()
    first, again, other = (QUICK.taught(data.train, seed=seed) for seed in (0, 0, 1))
    assert first.hash == again.hash != other.hash


@pytest.mark.parametrize(
    ("form", "stored", "decoded"),
    [(Pixels(per_class=2), 6, 6), (Formation(per_class=1), 3, 12)],
    ids=["pixels", "formation"],
)
def test_the_labels_of_all_decoded_examples_are_stored(form: Parameterisation, stored: int, decoded: int) -> None:
    data = images()
    labelled = QUICK.label(made(data, form), data.train)
    assert labelled.stored_bytes == stored * 64 * 4 + decoded * 3 * 4
    assert made(data, form).stored_bytes == stored * (64 * 4 + 8)


def test_what_an_example_was_made_for_stays_known(tmp_path: Path) -> None:
    data = images()
    labelled = QUICK.label(QUICK.label(made(data), data.train), data.train, seed=1)
    labelled.save(tmp_path / "a.safetensors")
    read = SyntheticSet.load(tmp_path / "a.safetensors")
    assert read.labelling.rows.equal(labelled.labelling.rows)
    assert read.numbers.tolist() == [0, 0, 1, 1, 2, 2]
    assert read.labelling.kind == "teacher"
    hard = read.hardened()
    assert hard.labelling.rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert hard.labelling.kind == "hard"
    assert "teacher" not in hard.record
    assert set(safetensors.torch.load_file(tmp_path / "a.safetensors")) == {
        "points", "labels", "weights", "slots", "parameters/points",
    }  # fmt: skip


def test_condense_takes_a_teacher_and_selections_are_labelled_too() -> None:
    data = table()
    plain = condense(data, Match(MMD()), context=Pool(), solver=Random(), per_class=2, seed=4)
    labelled = condense(data, Match(MMD()), context=Pool(), solver=Random(), per_class=2, seed=4, teacher=QUICK)
    assert labelled.points.equal(plain.points)
    assert labelled.labelling.rows.equal(QUICK.taught(data.train, seed=4)(plain.points))
    assert plain.labelling.kind == "hard"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^'temperature' must be > 0 and finite, got 0\.0$"):
        Teacher(temperature=0.0)
    with pytest.raises(InvalidInput, match=r"^'number' must be at least 1, got 0$"):
        Teacher(number=0)
    with pytest.raises(InvalidInput, match=r"^'training' of a teacher must be on: real, got 'synthetic'$"):
        Teacher(training=Training(on="synthetic"))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    data = table()
    files(tmp_path, data, 1)
    path = str(tmp_path / "a0.safetensors")
    with pytest.raises(InvalidInput, match=r"does not hold the weights of this mlp: '\S+' has shape \(6,"):
        Teacher(network=MLP(width=7, depth=1), weights=(path,)).taught(data.train)
    with pytest.raises(InvalidInput, match=r"'hidden2.weight' is missing, and \d more such; give the 'network'"):
        Teacher(network=MLP(width=6, depth=2), weights=(path,)).taught(data.train)
    with pytest.raises(
        InvalidInput, match=r"^'weights' must be paths of safetensors files, got 'nowhere', where there is none"
    ):
        Teacher(weights=("nowhere",), network=MLP()).taught(data.train)
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(InvalidInput, match=r"which is not a safetensors file"):
        Teacher(weights=(str(tmp_path / "b.safetensors"),), network=MLP()).taught(data.train)


def test_a_network_that_does_not_fit_is_refused_before_anything_is_done() -> None:
    with pytest.raises(InvalidInput, match=r"a convnet needs examples of shape .*use an mlp"):
        condense(table(), Match(MMD()), context=Pool(), per_class=2, steps=10**9, teacher=Teacher())


def test_a_set_of_other_classes_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^the teacher knows 3 classes and the set has 2, or other ones"):
        QUICK.taught(table().train).label(made(table(sizes=(5, 6))))
