"""Robust evaluation: attacks against what can be worked out, the checks that mark bad figures, and the command."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.networks import ConvNet
from experiments.commands.artefacts import evaluate
from experiments.data import Digits
from experiments.evaluate import Evaluation
from experiments.evaluate.protocol import Protocol
from experiments.evaluate.records import TrainingSet
from experiments.parser import command_parser
from experiments.report import as_text
from experiments.robust import RobustEvaluator, RobustProtocol, Suite, failed_checks
from experiments.robust import suite as suites
from experiments.robust.evaluator import calibration_error
from experiments.robust.suite import survivors
from objectives import condense
from objectives.attacks import PGD, Threat, UnitSpace
from objectives.attacks.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from objectives.data.labelled import LabelledData
from tests.objectives.small import images, table

THREATS = (Threat("linf", 0.0), Threat("linf", 0.05), Threat("linf", 0.2))
SUITE = Suite(THREATS, ("fgsm", "pgd", "apgd"), examples=30, corrupted=60, steps=5, restarts=1)
PROTOCOL = Protocol(network=ConvNet(width=8, depth=2), networks=2, epochs=40, lr=0.05, name="small")


@pytest.fixture(scope="module")
def evaluator() -> RobustEvaluator:
    return RobustEvaluator(Digits().load(), PROTOCOL, SUITE)


@pytest.fixture(scope="module")
def row(evaluator: RobustEvaluator) -> Evaluation:
    """Two networks, each trained on fifty real digits."""
    data = evaluator.data
    chosen = TrainingSet.of(data.train.rows(data.train.class_batch(torch.Generator().manual_seed(0), 5)), data)
    suited = evaluator.suited(chosen)
    scores = [suited.score(chosen, trial, lambda share: None) for trial in range(2)]
    return evaluation([robust for _, robust in scores], [accuracy for accuracy, _ in scores])


def evaluation(robust: list[dict[str, Any]], accuracies: list[float]) -> Evaluation:
    return Evaluation(
        accuracies=tuple(accuracies),
        robust=tuple(robust),
        protocol="small",
        protocol_hash="",
        examples=50,
        stored_bytes=0,
        epochs=40,
        steps=40,
        test_examples=360,
        validation=False,
        seed=0,
        seconds=0.0,
    )


def test_accuracy_falls_with_the_radius_and_with_the_strength_of_the_attack(row: Evaluation) -> None:
    for one, accuracy in zip(row.robust, row.accuracies, strict=True):
        attacks = one["attacks"]
        clean = attacks["linf 0"]["none"]
        assert abs(clean - accuracy) < 0.2  # on 30 of the 360 examples
        for name in SUITE.attacks:
            assert clean >= attacks["linf 0.05"][name] >= attacks["linf 0.2"][name]
        assert attacks["linf 0.05"]["fgsm"] >= attacks["linf 0.05"]["pgd"] >= attacks["linf 0.05"]["apgd"] - 0.02
        assert one["huge"] == 0.0
        assert one["examples"] == 30
    assert clean > 0.5 > attacks["linf 0.2"]["apgd"]
    assert row.robust[0]["transfer"] == {}
    assert row.robust[1]["transfer"]["linf 0.05"] >= row.robust[1]["attacks"]["linf 0.05"]["pgd"]
    assert failed_checks(row, SUITE) == ()


def test_corruptions_calibration_and_the_worst_class(row: Evaluation, evaluator: RobustEvaluator) -> None:
    for one, accuracy in zip(row.robust, row.accuracies, strict=True):
        assert {name: len(values) for name, values in one["corruptions"].items()} == dict.fromkeys(CORRUPTIONS, 5)
        assert one["corruptions"]["gaussian_blur"][4] < accuracy
        assert one["worst_class"] <= accuracy
        assert "worst_group" not in one


def test_each_row_is_the_same_again(row: Evaluation, evaluator: RobustEvaluator) -> None:
    data = evaluator.data
    chosen = TrainingSet.of(data.train.rows(data.train.class_batch(torch.Generator().manual_seed(0), 5)), data)
    assert evaluator.suited(chosen).score(chosen, 0, lambda share: None)[1] == row.robust[0]


def test_masked_gradients_are_seen() -> None:
    """A network that rounds its input has no gradient: steps of PGD go nowhere, and the figures must be marked."""
    suite = replace(SUITE, attacks=("fgsm", "pgd"))
    evaluator = RobustEvaluator(Digits().load(), PROTOCOL, suite)
    data = evaluator.data
    weights = data.train.class_means().flatten(1)

    def rounded(points: Tensor) -> Tensor:
        coarse = (points * 4).round() / 4
        return -torch.cdist(evaluator.space.to_normalised(coarse).flatten(1), weights)

    masked = evaluation([evaluator.under_attack(rounded, trial) for trial in range(2)], [0.8, 0.8])
    problems = failed_checks(masked, suite)
    assert any("in a ball in which all images can be made alike" in problem for problem in problems)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda one: one["attacks"]["linf 0.2"].update(pgd=0.9), "pgd leaves more at linf 0.2 than at linf 0.05"),
        (lambda one: one["attacks"]["linf 0.05"].update(apgd=0.9, pgd=0.2), "apgd leaves more than pgd at linf 0.05"),
        (lambda one: one.update(huge=0.2), "pgd leaves 20.0 % in a ball"),
        (lambda one: one["transfer"].update({"linf 0.05": 0.0}), "points found on another network leave less"),
    ],
)
def test_each_check_fires_alone(change: Any, problem: str) -> None:
    def one() -> dict[str, Any]:
        attacks = {
            "linf 0": {"none": 0.95},
            "linf 0.05": {"fgsm": 0.7, "pgd": 0.5, "apgd": 0.5},
            "linf 0.2": {"fgsm": 0.2, "pgd": 0.0, "apgd": 0.0},
        }
        return {"examples": 60, "attacks": attacks, "transfer": {"linf 0.05": 0.8}, "huge": 0.0}

    both = [one(), one()]
    assert failed_checks(evaluation(both, [0.9, 0.9]), SUITE) == ()
    for item in both:
        change(item)
    assert any(found.startswith(problem) for found in failed_checks(evaluation(both, [0.9, 0.9]), SUITE))


def test_the_calibration_error_by_hand() -> None:
    """Two bins: one prediction of 0.9 that is right, two of 0.6 of which one is right: (0.1 + |1 - 1.2|) / 3."""
    chances = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]], dtype=torch.float64)
    found = calibration_error(chances.log(), torch.tensor([0, 0, 0]))
    assert found == pytest.approx((0.1 + abs(1 - 1.2)) / 3, abs=1e-12)


def test_autoattack_is_no_weaker_and_leaves_the_global_random_numbers_alone() -> None:
    pytest.importorskip("pyautoattack")
    generator = torch.Generator().manual_seed(3)
    weights, bend = torch.randn(5, 64, generator=generator), torch.randn(64, 64, generator=generator) / 8
    x = torch.rand(40, 1, 8, 8, generator=generator)

    def classify(points: Tensor) -> Tensor:
        return torch.relu(points.flatten(1) @ bend + 0.1) @ weights.T

    labels = torch.eye(5)[classify(x).argmax(1)]
    space, threat = UnitSpace(torch.zeros(1), torch.ones(1), 0.0, 1.0), Threat("linf", 0.05)
    before, left = torch.random.get_rng_state(), {}
    for name in ("pgd", "apgd", "autoattack"):
        right, points = survivors(name, SUITE, threat, classify, x, labels, space, torch.Generator().manual_seed(1))
        assert (points - x).abs().max() <= 0.05 * (1 + 1e-6)
        assert torch.equal(right, classify(points).argmax(1) == labels.argmax(1))
        left[name] = int(right.sum())
    assert torch.equal(before, torch.random.get_rng_state())
    assert 0 < left["autoattack"] <= left["apgd"] + 1 <= left["pgd"] + 2 < 41


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_with_severity(name: Any) -> None:
    x = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    moved = [
        float((corrupted(x, name, severity, torch.Generator().manual_seed(1)) - x).square().mean())
        for severity in range(1, 6)
    ]
    assert moved == sorted(moved)
    assert moved[0] > 0
    again = corrupted(x, name, 3, torch.Generator().manual_seed(1))
    assert torch.equal(again, corrupted(x, name, 3, torch.Generator().manual_seed(1)))
    assert 0 <= again.min() <= again.max() <= 1


def test_corruptions_by_hand() -> None:
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    torch.testing.assert_close(corrupted(x, "gaussian_noise", 2, generator), (x + 0.06 * noise).clamp(0, 1))
    torch.testing.assert_close(corrupted(x, "brightness", 1, generator), 0.8 * x)
    mean = x.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(corrupted(x, "contrast", 1, generator), (0.75 * x + 0.25 * mean).clamp(0, 1))
    assert SEVERITIES["jpeg"] == (80, 65, 58, 50, 40)


def test_usual_radii_and_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    grey, colour, rows = images(), images(channels=3), table()

    def radii(data: LabelledData, *eps: float) -> list[str]:
        return [threat.name for threat in RobustProtocol(eps=eps).suite(data).threats]

    assert radii(grey) == ["linf 0", "linf 0.1", "linf 0.2", "linf 0.3"]
    assert radii(colour) == ["linf 0", "linf 1/255", "linf 2/255", "linf 4/255", "linf 8/255", "l2 128/255"]
    assert radii(rows, 0.5) == ["linf 0", "linf 0.5"]
    assert RobustProtocol(eps=(0.5,)).suite(rows).corrupted == 0
    with pytest.raises(InvalidInput, match="give --eps"):
        radii(rows)
    with pytest.raises(InvalidInput, match="give 8/255"):
        radii(grey, 8.0)
    with pytest.raises(InvalidInput, match="'eps' must be >= 0"):
        radii(grey, -0.1)
    with pytest.raises(InvalidInput, match="'attacks' must be any of fgsm, pgd, apgd, autoattack, got 'cw'"):
        RobustProtocol(attacks=("cw",))
    with pytest.raises(InvalidInput, match="'attacks' must be different ones, got pgd, pgd; name each once"):
        RobustProtocol(attacks=("pgd", "pgd"))
    with pytest.raises(InvalidInput, match=r"values in 0 \.\. 1$"):
        radii(grey, 1e30)  # too large in grey levels as well
    with pytest.raises(
        InvalidInput, match="'training' must be any of natural, adversarial, got 'adverserial'; did you mean"
    ):
        RobustProtocol(training=("adverserial",))
    monkeypatch.setattr(suites, "installed", lambda: False)
    with pytest.raises(InvalidInput, match=r"pip install 'discrepancy\[robust\]'"):
        RobustProtocol(attacks=("autoattack",))


def test_forward_passes_are_as_large_as_what_is_left(
    evaluator: RobustEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(*numbers: int) -> list[int]:
        return [evaluator._rows(torch.zeros(number, 1, 8, 8)) for number in numbers]

    assert rows(30, 29, 1) == [30, 29, 1]
    monkeypatch.setattr(type(evaluator.extractor), "compiled", True)
    assert rows(30, 9, 8, 2, 1) == [
        30,
        30,
        8,
        2,
        2,
    ]  # a half, a fourth and a sixteenth of 30: three pieces of code, not thirty
    monkeypatch.setattr(evaluator.extractor, "chunk", 7)
    assert rows(30, 3, 2, 1) == [7, 7, 2, 1]


def test_adversarial_training_is_on_the_largest_ball() -> None:
    protocols = RobustProtocol(training=("adversarial", "natural")).protocols(PROTOCOL, SUITE)
    assert protocols["adversarial"].attack == PGD(eps=0.2, steps=7)
    assert protocols["natural"] == PROTOCOL


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Digits()
    some = tuple(name for name in CORRUPTIONS if name != "jpeg")  # which takes longer than all the rest
    monkeypatch.setattr("experiments.robust.evaluator.CORRUPTIONS", some)
    from discrepancy import MMD
    from objectives import Match, Pixels

    made = condense(data.load(), Match(MMD()), synthetic=Pixels(per_class=1), steps=2)
    made.save(tmp_path / "set.safetensors")
    report = evaluate(
        tmp_path / "set.safetensors",
        data="digits",
        changes=["epochs=2", "network.width=8", "network.depth=2"],
        networks=2,
        controls=["random"],
        robust=True,
        eps=[0.1],
        attacked=20,
        quiet=True,
    )
    assert [table.name for table in report.tables].count("robust") == 2
    records = [record for item in report.tables if item.name == "robust" for record in item.records]
    assert {(record["training"], record["set"]) for record in records} == {
        (training, name) for training in ("natural", "adversarial") for name in ("condensed", "random")
    }
    assert all(record["attacked"] == 20 and record["n"] == 2 and math.isfinite(record["mean"]) for record in records)
    assert report.data["natural"]["rows"]["condensed"]["robust"][0]["attacks"]["linf 0.1"].keys() == {
        "fgsm",
        "pgd",
        "apgd",
    }
    json.dumps(report.data, allow_nan=False)
    text = as_text(report)
    assert "AutoAttack was not run" in text
    assert "adversarial training" in text
    assert report.pictures[-1].png.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": [0.1]}, "'--eps' is a setting of a robust evaluation; add --robust"),
        ({"attacked": 5}, "'--attacked' is a setting of a robust evaluation"),
        ({"robust": True, "protocol": "learner"}, "name a protocol that trains them, such as quick"),
        ({"robust": True, "attacked": 0}, "must be at least 1, got 0"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    from discrepancy import MMD
    from objectives import Match, Pixels

    made = condense(Digits().load(), Match(MMD()), synthetic=Pixels(per_class=1), steps=1)
    made.save(tmp_path / "set.safetensors")
    with pytest.raises(InvalidInput, match=message):
        evaluate(tmp_path / "set.safetensors", data="digits", quiet=True, **options)


@pytest.mark.parametrize(("written", "radii"), [("8/255", [8 / 255]), ("0.1, 2/255", [0.1, 2 / 255])])
def test_radii_on_the_command_line(written: str, radii: list[float]) -> None:
    assert command_parser().parse_args(["evaluate", "SET", "--robust", "--eps", written]).eps == radii


@pytest.mark.parametrize("written", ["8/0", "eight", "1/2/3"])
def test_radii_that_are_no_numbers(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_parser().parse_args(["evaluate", "SET", "--robust", "--eps", written])
    assert "should be numbers with commas between them" in capsys.readouterr().err
