"""The study of prediction with accuracy under attack as its target."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from predicting import NETWORK, digits
from scipy.stats import spearmanr
from torch.nn import functional

from experiments.cli import main
from experiments.config import build
from experiments.evaluate import TrainingSet
from experiments.evaluate.training import NetworkEvaluator
from experiments.studies import PredictionResult, RobustAccuracy, prediction_tree, run_prediction, running
from experiments.studies.folder import Lines
from experiments.studies.prediction import Prediction
from experiments.studies.targets import CleanAccuracy
from objectives.attacks import UnitSpace
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["digits"]

TINY: dict[str, Any] = {
    "data": "digits",
    "per_class": [2],
    "real": 9,
    "protocol": {"kind": "scratch", "network": NETWORK, "networks": 2, "epochs": 12, "lr": 0.05},
    "resamples": 20,
    "sets": {"random": {"kind": "random", "count": 3}, "noisy": {"kind": "noisy", "strengths": [0.5, 2.0], "count": 1}},
    "views": {"pixels": {"via": "identity"}},
    "by_class": {"mean": "mmd", "cover": {"kind": "covering_radius", "norm": "linf"}},
}
ROBUST = {"kind": "robust", "eps": 0.05, "attack": "fgsm", "examples": 50}


@dataclass(frozen=True)
class Ran:
    """A tiny study, its file and its folder."""

    study: Prediction
    result: PredictionResult
    file: Path
    out: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("study")
    file = folder / "tiny.yaml"
    file.write_text(json.dumps(TINY | {"target": ROBUST}), encoding="utf-8")
    study = build(Prediction, prediction_tree(str(file)))
    return Ran(study, run_prediction(study, folder / "out"), file, folder / "out")


def test_the_target_is_the_accuracy_after_one_step_by_the_sign_of_the_gradient(ran: Ran, digits: LabelledData) -> None:
    """FGSM written out, on the networks that the protocol trains with the seed of the study, and ρ by scipy. The sign of a
    gradient that is nearly zero depends on rounding, so one example of the 50 may differ."""
    study, result = ran.study, ran.result
    (size,) = result.findings.sizes
    assert digits.test is not None
    space, test = UnitSpace.of(digits), digits.test
    rows = test.class_batch(rng(seed := rng(0, "study", "accuracy").initial_seed(), "robust", "examples"), 5)
    x, y = digits.test.points[rows].float() / 16, digits.test.labels.numbers[rows]
    robust, clean = {}, {}
    for key in study.keys:
        made = TrainingSet.made(SyntheticSet.load(result.folder.set_file(key)), digits)
        evaluator = NetworkEvaluator(digits, study.protocol, runtime=Runtime(seed)).suited(made)
        robust[key], clean[key] = [], []
        for trial in range(2):
            parameters, _ = evaluator.checked(made, trial, lambda share: None)
            network = study.protocol.network

            def losses(unit: torch.Tensor, parameters: Any = parameters, network: Any = network) -> torch.Tensor:
                logits = network(parameters, space.to_normalised(unit), ("logits",))["logits"]
                return functional.cross_entropy(logits, y, reduction="none")

            def right(unit: torch.Tensor, parameters: Any = parameters, network: Any = network) -> torch.Tensor:
                return network(parameters, space.to_normalised(unit), ("logits",))["logits"].argmax(1) == y

            here = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(losses(here).sum(), here)
            moved = (x + 0.05 * slope.sign()).clamp(0, 1)
            robust[key].append(float((right(x) & right(moved)).double().mean()))
            clean[key].append(float(evaluator.accuracy(parameters, None)))
    assert size.accuracies.keys() == robust.keys()
    for key, values in size.accuracies.items():
        assert values == pytest.approx(robust[key], abs=1.01 / 50)
    means = [np.mean(size.accuracies[key]) for key in study.keys]
    assert np.mean(means) < np.mean(list(clean.values())) - 0.05
    for row in size.rows:
        values = size.values[row.pair]
        assert row.spearman == pytest.approx(spearmanr([-values[key] for key in study.keys], means).statistic)
    assert size.clean is not None
    assert size.clean.spearman == pytest.approx(spearmanr([np.mean(clean[key]) for key in study.keys], means).statistic)


def test_the_report_says_what_is_predicted_and_nothing_is_computed_twice(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("was computed again")

    for name in ("evaluate_each", "measured"):
        monkeypatch.setattr(running, name, never)
    words = ["study", "predict", str(ran.file), "--out", str(ran.out), "--quiet"]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 networks each, accuracy under fgsm in linf 0.05" in said
    assert "accuracy under fgsm in linf 0.05 on 50 test examples" in said
    assert "the accuracy without an attack has ρ =" in said
    page = (ran.out / "report.html").read_text(encoding="utf-8")
    assert "Which discrepancy predicts accuracy under fgsm in linf 0.05 on digits?" in page
    found = json.loads((ran.out / "report.json").read_text(encoding="utf-8"))
    assert found["target"] == "accuracy under fgsm in linf 0.05"
    (size,) = found["sizes"]
    assert size["clean"]["sets"] == len(Lines(ran.out / "accuracies.jsonl").read()) == size["sets"]
    assert main([*words, "--target", "accuracy"]) == 2
    assert "holds a study with another configuration: target" in capsys.readouterr().err


def test_without_a_target_the_configuration_is_as_it_was() -> None:
    study = build(Prediction, TINY)
    assert study.target == CleanAccuracy()
    assert build(Prediction, TINY | {"target": "accuracy"}) == study
    assert "target" not in running.kept(study)
    assert running.kept(build(Prediction, TINY | {"target": ROBUST}))["target"] == ROBUST


def test_attacks_whose_checks_fail_are_noted(ran: Ran) -> None:
    lines = Lines(ran.out / "accuracies.jsonl").read()
    target = ran.study.target
    assert target.described([line | {"problems": []} for line in lines])["warnings"] == ()
    lines[2]["problems"] = ["pgd leaves more", "so does fgsm"]
    (warning,) = target.described([lines[2], *({**line, "problems": []} for line in lines[3:])])["warnings"]
    count = len(lines) - 2
    assert (
        warning == f"checks of the attack fail on 1 of {count} sets; {lines[2]['set']}: pgd leaves more; so does fgsm"
    )


def test_radii_without_eps_are_the_smallest_usual_ones(digits: LabelledData) -> None:
    threats = RobustAccuracy().suite(digits).threats
    assert [(threat.norm, threat.eps) for threat in threats] == [("linf", 0.0), ("linf", 0.1)]
    suite = RobustAccuracy(eps=0.3, attack="pgd", examples=30).suite(digits)
    assert (suite.attacks, suite.examples, suite.corrupted, suite.threats[1].eps) == (("pgd",), 30, 0, 0.3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"kind": "robust", "attack": "pdg"}, "'attack' must be any of fgsm, pgd, apgd, autoattack, got 'pdg'; did you mean"),
        ({"kind": "accuracy", "eps": 0.1}, "target.eps: unknown key (known: none); kind: robust has it"),
        ({"kind": "robust", "eps": 0}, "for no attack use target: accuracy"),
        ({"kind": "robust", "examples": 0}, "'examples' must be at least 1"),
        ({"kind": "robust", "eps": 8}, "no two examples are further apart than 1"),
        ("robst", "did you mean 'robust'?"),
    ],
)  # fmt: skip
def test_mistakes(target: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(TINY | {"target": target}), encoding="utf-8")
    assert main(["study", "predict", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert message in capsys.readouterr().err


def test_tables_need_a_radius(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "table.npz", x=generator.normal(size=(60, 3)), y=np.arange(60) % 2)
    path = tmp_path / "tiny.yaml"
    tree = TINY | {"data": {"kind": "npz", "path": str(tmp_path / "table.npz")}, "target": "robust"}
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert main(["study", "predict", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "there is no usual radius for 'table'" in capsys.readouterr().err
    tree |= {"target": ROBUST, "protocol": TINY["protocol"] | {"network": {"kind": "mlp", "width": 8}, "epochs": 1}}
    path.write_text(json.dumps(tree), encoding="utf-8")  # the same folder, as nothing was computed
    assert main(["study", "predict", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert "checks of the attack" not in capsys.readouterr().out  # no ball makes points without limits alike
    path.write_text(json.dumps(tree | {"target": {**ROBUST, "eps": 0.1}}), encoding="utf-8")
    assert main(["study", "predict", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "target.eps: 0.05 -> 0.1" in capsys.readouterr().err
