"""Scores from the command line to the table: networks learn them by squares, and so do the controls."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.networks import MLP
from experiments.cli import main
from experiments.compare.sides import side_of
from experiments.data import Npz
from experiments.evaluate import PROTOCOLS, NetworkEvaluator, Protocol, TrainingSet, comparison, evaluate
from experiments.export import export
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet
from objectives.training.mixing import CutMix

CONFIG = """
data: digits
synthetic: {kind: pixels, per_class: 1, labels: learned}
objective: {terms: {risk: {match: {kind: risk, learner: {kind: ridge, penalty: 0.1}}, by: none}}}
context: {kind: fresh, batch: all}
solver: {kind: descent, lr: 0.05, steps: 6, rates: {labels: 3.0}}
dtype: float64
"""
PROTOCOL = Protocol(network=MLP(width=8, depth=1), networks=2, epochs=5, batch=16, lr=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scores")
    (path / "config.yaml").write_text(CONFIG)
    assert main(["run", str(path / "config.yaml"), "--out", str(path / "run"), "--quiet"]) == 0
    return path


def made(folder: Path) -> SyntheticSet:
    return SyntheticSet.load(folder / "run" / "result.safetensors")


def data(mirror: bool = False) -> LabelledData:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 1, 4, 4, generator=generator), torch.arange(60) % 3
    return LabelledData.of(x[:40], y[:40], test=(x[40:], y[40:]), mirror=mirror)


def few(scores: bool = True, weights: Tensor | None = None) -> TrainingSet:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randn(6, 3, generator=generator)
    own = Labels("scores", labels) if scores else Labels("soft", labels.softmax(1))
    return TrainingSet(torch.randn(6, 1, 4, 4, generator=generator), own, weights)


# --- run, show, export, compare ---------------------------------------------------------------------------------------


def test_a_run_leaves_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = made(folder)
    assert read.labels is not None
    assert (read.labels.dtype, read.labels.shape, read.labelling.kind) == (torch.float64, (10, 10), "scores")
    assert read.numbers.tolist() == list(range(10))
    assert main(["show", str(folder / "run" / "result.safetensors")]) == 0
    assert "labels        scores" in capsys.readouterr().out
    with Image.open(folder / "run" / "result.png") as picture:
        assert picture.size > (50, 50)


def test_exported_scores_are_exact_and_no_distributions(folder: Path) -> None:
    read = made(folder)
    assert read.labels is not None
    export(read, folder / "a.npz")
    with np.load(folder / "a.npz") as arrays:
        assert np.array_equal(arrays["y"], read.labels.numpy())
    with pytest.raises(InvalidInput, match="must be distributions"):
        Npz(path=str(folder / "a.npz")).whole()
    export(read, folder / "images")
    rows = [line.split(",") for line in (folder / "images" / "labels.csv").read_text().splitlines()]
    assert rows[0] == ["file", *read.classes]
    assert [float(value) for value in rows[1][1:]] == pytest.approx(read.labels[0].tolist(), rel=1e-5)
    assert sorted(item.name for item in (folder / "images").iterdir() if item.is_dir()) == list("0123456789")


def test_compared_scores_leave_the_classes_of_points_alone(folder: Path) -> None:
    read = made(folder)
    scores = dataclasses.replace(read.labelling, values=-read.numbers[:, None] * torch.ones(10, 10))
    dataclasses.replace(read, labelling=scores).save(folder / "turned.safetensors")
    side = side_of("own", str(folder / "turned.safetensors"))
    assert [side.members(str(c))[0].tolist() for c in range(10)] == [[c] for c in range(10)]
    assert all(side.members(str(c))[1].tolist() == [1.0] for c in range(10))
    real = side_of("digits", "digits")
    turned = dataclasses.replace(real, classes=tuple(reversed(real.classes)))
    assert side.label_vectors(turned.classes)[3].tolist() == [-3.0] * 10


def test_labelled_discrepancies_of_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = made(folder)
    hard = folder / "hard.safetensors"
    read.hardened().save(hard)
    asked = ["compare", "digits", str(folder / "run" / "result.safetensors"), str(hard), "--by", "both"]
    assert main([*asked, "--discrepancies", "mmd,risk", "--resamples", "10", "--json", "--quiet"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    of = {(row["discrepancy"], row["set"], row["group"]): row["value"] for row in rows}
    groups = {group for _, _, group in of}
    assert len(groups) == 12
    assert all(of["mmd", "run", group] == of["mmd", "hard", group] for group in groups)
    assert of["risk", "run", "all"] < of["risk", "hard", "all"]


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_networks_learn_scores_by_squares(weighted: bool) -> None:
    """The descent as anyone would write it, with torch's optimiser, on the network of the library."""
    weights = torch.arange(1.0, 7.0) if weighted else None
    examples, own = few(weights=weights), dataclasses.replace(PROTOCOL, epochs=2)
    evaluator = NetworkEvaluator(data(), own, runtime=Runtime(3, compile="never")).suited(examples)
    parameters, _ = evaluator.trained(examples, 0)
    initial = own.network.initial(rng(3, "evaluate", 0, "network"), (1, 4, 4), 3)
    plain = {name: value.clone().requires_grad_() for name, value in initial.items()}
    optimiser = torch.optim.SGD(list(plain.values()), 0.05, momentum=0.9, weight_decay=5e-4)
    order, shares = rng(3, "evaluate", 0, "order"), torch.ones(6) if weights is None else weights / weights.mean()
    for _ in range(2):
        rows = torch.randperm(6, generator=order)
        answers = own.network(plain, examples.points[rows], ("logits",))["logits"]
        optimiser.zero_grad()
        (shares[rows] * (answers - examples.labels.rows[rows]).square().sum(1)).mean().backward()
        optimiser.step()
    for name, value in plain.items():
        torch.testing.assert_close(parameters[name], value, rtol=1e-4, atol=1e-6)


def test_mixed_scores_are_those_of_the_mixed_examples() -> None:
    """Mixing (x, y) with weights w: the mixed weight r w + (1 - r) w', and the mean of the two scores under it."""
    plan = dataclasses.replace(PROTOCOL, mix=CutMix(probability=1.0), loss="squared", epochs=1, momentum=0.0)
    plan = dataclasses.replace(plan, weight_decay=0.0)
    examples = few(weights=torch.arange(1.0, 7.0))
    evaluator = NetworkEvaluator(data(), plan, runtime=Runtime(3, compile="never")).suited(examples)
    parameters, _ = evaluator.trained(examples, 0)
    rows = torch.randperm(6, generator=rng(3, "evaluate", 0, "order"))
    draws = CutMix(probability=1.0).draw(rng(3, "evaluate", 0, "mix"), 6, (1, 4, 4))
    share, partner = float(draws["share"]), draws["partner"]
    weights, scores = torch.arange(1.0, 7.0)[rows] / 3.5, examples.labels.rows[rows]
    mixed = (1 - share) * weights + share * weights[partner]
    both = (1 - share) * weights[:, None] * scores + share * (weights[:, None] * scores)[partner]
    initial = plan.network.initial(rng(3, "evaluate", 0, "network"), (1, 4, 4), 3)
    leaves = {name: value.requires_grad_() for name, value in initial.items()}
    answers = plan.network(leaves, CutMix().points(examples.points[rows], draws))["logits"]
    (mixed * (answers - both / mixed[:, None]).square().sum(1)).mean().backward()
    for name, value in leaves.items():
        assert value.grad is not None
        torch.testing.assert_close(parameters[name], value.detach() - 0.05 * value.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("scores", "loss"), [(True, "squared"), (False, "cross_entropy")])
def test_the_record_says_what_was_learned_and_how(scores: bool, loss: str) -> None:
    found = evaluate(few(scores), data(), PROTOCOL, Runtime(seed=0))
    assert (found.labels, found.loss) == ("scores" if scores else "soft", loss)
    assert (found.protocol_hash == PROTOCOL.hash) is not scores
    assert found.protocol_hash == dataclasses.replace(PROTOCOL, loss="squared" if scores else "auto").hash
    assert found.as_dict()["loss"] == loss


def test_distributions_can_be_learned_by_squares_too() -> None:
    squared = dataclasses.replace(PROTOCOL, loss="squared")
    found = evaluate(few(scores=False), data(), squared, Runtime(seed=0))
    assert (found.labels, found.loss, found.protocol_hash) == ("soft", "squared", squared.hash)


def test_a_cross_entropy_of_scores_is_refused_with_what_to_do() -> None:
    own = dataclasses.replace(PROTOCOL, loss="cross_entropy")
    with pytest.raises(
        InvalidInput, match=r"the labels are scores, which have none; set loss: squared, or .* hard labels"
    ):
        evaluate(few(), data(), own, Runtime(seed=0))
    with pytest.raises(InvalidInput, match="scores must have 3 columns, one a class, got 2"):
        evaluate(
            dataclasses.replace(few(), labels=Labels("scores", torch.zeros(6, 2))), data(), PROTOCOL, Runtime(seed=0)
        )


def test_targets_have_no_cross_entropy() -> None:
    own = dataclasses.replace(PROTOCOL, loss="cross_entropy")
    with pytest.raises(InvalidInput, match=r"but the labels are targets, which have none; set loss: squared$"):
        own.learning("targets")
    assert own.learning("hard") is own


def test_hashes_of_before_stay() -> None:
    assert (PROTOCOLS["quick"].hash, PROTOCOLS["vico"].hash) == ("f9acd2099421", "813bbd49f730")
    assert dataclasses.replace(PROTOCOLS["quick"], loss="auto").hash == "f9acd2099421"
    assert dataclasses.replace(PROTOCOLS["quick"], loss="squared").title == "quick (changed)"


def test_the_controls_learn_as_the_set_does(folder: Path) -> None:
    from experiments.data import Digits

    found = comparison(made(folder), NetworkEvaluator(Digits().load(), PROTOCOL))
    assert {name: (row.labels, row.loss) for name, row in found.rows.items()} == {
        "condensed": ("scores", "squared"),
        **dict.fromkeys(("random", "herding", "whole"), ("hard", "squared")),
    }
    assert found.protocol.loss == "squared"
    assert len({found.rows[name].protocol_hash for name in ("condensed", "random", "herding")}) == 1


# --- the command ------------------------------------------------------------------------------------------------------


def evaluated(folder: Path, *more: str) -> list[str]:
    path = str(folder / "run" / "result.safetensors")
    small = ["--set", "networks=1", "--set", "epochs=3", "--set", "network.width=8", "--controls", "random"]
    return ["evaluate", path, "--quiet", *small, *more]


def test_the_table_says_that_scores_were_learned_by_squares(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(evaluated(folder)) == 0
    shown = capsys.readouterr().out
    assert "the labels are scores and not probabilities: every network was trained with the squared loss" in shown
    assert main(evaluated(folder, "--labels", "hard", "--json")) == 0
    rows: dict[str, Any] = json.loads(capsys.readouterr().out)["rows"]
    assert {name: (row["labels"], row["loss"]) for name, row in rows.items()} == dict.fromkeys(
        ("condensed", "random"), ("hard", "cross_entropy")
    )


def test_a_stated_cross_entropy_is_refused_on_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluated(folder, "--set", "loss=cross_entropy")) == 2
    assert "the labels are scores, which have none" in capsys.readouterr().err
    assert main(evaluated(folder, "--set", "loss=mse")) == 2
    assert "cross_entropy" in capsys.readouterr().err
