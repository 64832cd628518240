"""Regression from the command line to the table of errors, on scikit-learn's diabetes."""

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score, root_mean_squared_error

from discrepancy.errors import InvalidInput
from discrepancy.networks import MLP
from experiments.cli import main
from experiments.data import Diabetes, Npz, source_named
from experiments.evaluate import NetworkEvaluator, Protocol, TrainingSet, comparison, evaluate
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.synthetic.artefact import SyntheticSet

CONFIG = """
data: diabetes
synthetic: {kind: pixels, examples: 6, labels: learned}
objective: {terms: {risk: {match: {kind: risk, learner: {kind: ridge, penalty: 0.1}}, by: none}}}
context: {kind: fresh, batch: all}
solver: {kind: descent, lr: 0.05, steps: 6, rates: {labels: 0.1}}
"""
PROTOCOL = Protocol(network=MLP(width=8, depth=1), networks=2, epochs=5, batch=16, lr=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("targets")
    (path / "config.yaml").write_text(CONFIG)
    assert main(["run", str(path / "config.yaml"), "--out", str(path / "run"), "--quiet"]) == 0
    return path


# --- data -------------------------------------------------------------------------------------------------------------


def test_diabetes_is_that_of_scikit_learn() -> None:
    data, (x, y) = Diabetes().load(), load_diabetes(return_X_y=True)
    assert data.test is not None
    assert (len(data.train), len(data.test), data.shape) == (354, 88, (10,))
    together = torch.cat([torch.cat([part.points, part.labels.rows], 1) for part in (data.train, data.test)])
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, np.column_stack([x, y]).tolist()))
    assert data.normalisation.mean == pytest.approx(data.train.points.mean(0).tolist(), abs=1e-9)
    assert source_named("diabetes") == Diabetes()


def test_an_npz_with_targets_is_a_regression(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.linspace(0.5, 2, 20)
    np.savez(tmp_path / "a.npz", x=x, targets=y)
    data = Npz(path=str(tmp_path / "a.npz"), fraction=0.25).load()
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (15, 5)
    assert data.target_units is not None
    assert data.target_units.mean == pytest.approx((float(data.train.labels.rows.mean()),))
    np.savez(tmp_path / "b.npz", x_train=x, targets_train=y, x_test=x[:4], targets_test=y[:4])
    assert len(Npz(path=str(tmp_path / "b.npz")).load().test or ()) == 4
    np.savez(tmp_path / "c.npz", x=x, targets=y, y=y)
    with pytest.raises(InvalidInput, match="has both classes, 'y', and 'targets'"):
        Npz(path=str(tmp_path / "c.npz")).load()


# --- run, show, export, compare ---------------------------------------------------------------------------------------


def test_a_run_leaves_targets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = SyntheticSet.load(folder / "run" / "result.safetensors")
    assert read.labels is not None
    assert (read.labels.shape, read.labelling.kind) == ((6,), "targets")
    assert 25 < float(read.labels.mean()) < 346
    assert main(["show", str(folder / "run" / "result.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "targets" in shown
    assert "none" in shown
    assert main(["run", "--out", str(folder / "run"), "--resume", "--quiet"]) == 0


def test_half_and_half_is_the_whole(folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    from experiments import run as room
    from experiments.config import build, read
    from experiments.experiment import Experiment
    from experiments.folder import RunFolder

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        if progress.step == 3:  # pyright: ignore[reportAttributeAccessIssue]
            raise Stop

    experiment = build(Experiment, read(folder / "config.yaml"))
    with pytest.raises(Stop):
        room.run(experiment, RunFolder(Path(out)), checkpoint_every=1, on_progress=stop)
    assert main(["run", "--out", out, "--resume", "--quiet"]) == 0
    whole, halves = (SyntheticSet.load(place / "result.safetensors") for place in (folder / "run", Path(out)))
    assert whole.labels is not None
    assert halves.labels is not None
    assert whole.labels.equal(halves.labels)
    assert whole.points.equal(halves.points)


def test_a_plan_counts_targets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(folder / "config.yaml"), "--examples", "9", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stored_bytes"] == 9 * 11 * 4


def test_export_and_back(folder: Path, tmp_path: Path) -> None:
    assert main(["export", str(folder / "run" / "result.safetensors"), str(tmp_path / "a.npz")]) == 0
    read = SyntheticSet.load(folder / "run" / "result.safetensors")
    assert read.labels is not None
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays) == {"x", "targets", "weights"}
        np.testing.assert_array_equal(arrays["targets"], read.labels.numpy())
    assert len(Npz(path=str(tmp_path / "a.npz")).whole().train) == 6


def test_compare_looks_at_targets_and_not_at_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = str(folder / "run" / "result.safetensors")
    given = ["compare", "diabetes", artefact, "--discrepancies", "mean,joint_mmd", "--resamples", "10", "--quiet"]
    assert main([*given, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {(row["discrepancy"], row["group"]) for row in rows} == {("mean", "all"), ("joint_mmd", "all")}
    data, read = Diabetes().load(), SyntheticSet.load(artefact)
    x, s = (data.normalisation.apply(points).double() for points in (data.train.points, read.points))
    y = data.train.label_vectors(torch.arange(len(x)))
    assert y is not None
    own = read.labelling.vectors(1)
    assert own is not None
    wanted = (x.T @ y.double() / len(x) - s.T @ own.double() / len(s)).square().sum()
    (found,) = (row["estimate"] for row in rows if row["discrepancy"] == "joint_mmd")
    assert found == pytest.approx(float(wanted), rel=0.05, abs=0.02)
    assert main([*given, "--by", "class"]) == 2
    assert "has targets and no classes" in capsys.readouterr().err


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_errors_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(40, 3, generator=generator), torch.randn(40, 2, generator=generator)
    y = 50 + 7 * x[:, :2] + noise
    data = LabelledData.with_targets(x[:30], y[:30], test=(x[30:], y[30:]))
    examples = TrainingSet.of(data.train.rows(), data)
    evaluator = NetworkEvaluator(data, PROTOCOL, runtime=Runtime(compile="never")).suited(examples)
    parameters, statistics = evaluator.trained(examples, 0)
    assert data.target_units is not None
    answers = PROTOCOL.network(parameters, data.normalisation.apply(x[30:]))["logits"].detach()
    predicted = data.target_units.invert(answers.double()).numpy()
    rmse, explained = evaluator.errors(parameters, statistics)
    assert rmse == pytest.approx(root_mean_squared_error(y[30:].numpy(), predicted), rel=1e-6)
    assert explained == pytest.approx(r2_score(y[30:].numpy(), predicted), rel=1e-6)


def test_training_is_on_the_squared_error_of_standardised_targets() -> None:
    data = Diabetes().load()
    protocol = Protocol(
        network=MLP(width=4, depth=1), networks=1, epochs=1, batch=1000, lr=0.1, momentum=0.0, weight_decay=0.0
    )
    examples = TrainingSet.of(data.train.rows(), data)
    evaluator = NetworkEvaluator(data, protocol, runtime=Runtime(compile="never")).suited(examples)
    parameters, _ = evaluator.trained(examples, 0)
    from objectives.rng import rng

    start = protocol.network.initial(rng(0, "evaluate", 0, "network"), (10,), 1)
    leaves = {name: value.requires_grad_(True) for name, value in start.items()}
    targets = data.train.label_vectors(torch.arange(len(data.train)))
    assert targets is not None
    answers = protocol.network(leaves, data.normalisation.apply(data.train.points))["logits"]
    (answers - targets).square().sum(1).mean().backward()
    for name, value in leaves.items():
        assert value.grad is not None
        torch.testing.assert_close(parameters[name], value - 0.1 * value.grad, rtol=1e-4, atol=1e-6)


def test_a_table_of_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = str(folder / "run" / "result.safetensors")
    small = [
        "--protocol",
        "table",
        "--set",
        "epochs=4",
        "--networks",
        "2",
        "--controls",
        "random,herding,whole",
        "--quiet",
    ]
    assert main(["evaluate", artefact, *small]) == 0
    heading, *rows = capsys.readouterr().out.split("\n")
    assert heading.split() == ["set", "examples", "labels", "test", "RMSE", "std", "R²", "n", "stored", "time"]
    assert [row.split()[:3] for row in rows[:4]] == [
        ["condensed", "6", "targets"],
        ["random", "6", "targets"],
        ["herding", "6", "targets"],
        ["whole", "354", "targets"],
    ]
    plain = ["evaluate", artefact, *small[:-3], "--quiet", "--controls", "none", "--json"]
    assert main([*plain, "--validation"]) == 2
    assert "made from are validation examples of 'diabetes'; condense with 'condense run" in capsys.readouterr().err
    assert main(plain) == 0
    row = json.loads(capsys.readouterr().out)["rows"]["condensed"]
    assert row["mean"] == pytest.approx(fmean(row["rmse"]))
    assert "accuracies" not in row
    assert row["test_examples"] == 88


def test_sets_of_another_sort_are_refused(folder: Path) -> None:
    data, read = Diabetes().load(), SyntheticSet.load(folder / "run" / "result.safetensors")
    classed = LabelledData.of(data.train.points, [0, 1] * 177, test=(data.train.points[:2], [0, 1]))
    with pytest.raises(InvalidInput, match=r"the set has no classes, but 'data' has the classes 0, 1; name the data"):
        comparison(read, NetworkEvaluator(classed, PROTOCOL), controls=())
    with pytest.raises(InvalidInput, match=r"the labels of the training set, hard, are not those of 'diabetes'"):
        evaluate(TrainingSet.of(classed.train.rows(), classed), data, PROTOCOL, Runtime(seed=0))
    bare = LabelledData.unlabelled(data.train.points)
    with pytest.raises(InvalidInput, match=r"no network can be trained on it and evaluated; .* condense compare"):
        comparison(read, NetworkEvaluator(bare, PROTOCOL), controls=())


def test_counting_by_class_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["run", str(folder / "config.yaml"), "--dry-run"]
    assert main([*plain, "--set", "synthetic.examples=null"]) == 2
    assert (
        "'diabetes' has no classes; say how many examples there are to be, with 'examples'" in capsys.readouterr().err
    )
    assert main([*plain, "--set", "objective.terms.risk.by=class"]) == 2
    assert "term 'risk' is by: class, which needs classes, but 'diabetes' has targets" in capsys.readouterr().err
    assert main([*plain, "--set", "synthetic.exampels=3"]) == 2
    assert "synthetic.exampels: unknown key; did you mean 'examples'" in capsys.readouterr().err
