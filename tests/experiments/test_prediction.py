"""Which discrepancy predicts accuracy: correlations against scipy and by hand, and the whole study in small.

Properties, by Hypothesis: with all counts one ρ and τ are scipy's, ties included; a resample is the sets written out as often
as they are counted.
"""

import csv
import json
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torch.nn import functional

from discrepancy import MMD, Discrepancy
from discrepancy.discrepancy import SampleDiscrepancy
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.networks import Network
from experiments.cli import main
from experiments.config import ConfigError, build, dump, read
from experiments.data import Digits
from experiments.report import as_text, save
from experiments.report.files import save_png
from experiments.report.progress import Advance, silent
from experiments.studies import prediction_tree, run_prediction, running, views
from experiments.studies.correlation import ceiling, interval, kendall, left_out, resamples, same_family, spearman
from experiments.studies.findings import found
from experiments.studies.folder import Lines
from experiments.studies.measuring import measured
from experiments.studies.prediction import Prediction, packaged
from experiments.studies.prediction_report import prediction_report
from experiments.studies.recipes import (
    Averaged,
    Blurred,
    Centres,
    Condensed,
    Mislabelled,
    Noise,
    Noisy,
    Random,
    Recipe,
    Task,
)
from experiments.studies.views import View, embedded
from objectives.data.labelled import LabelledData
from objectives.rng import rng

# --- correlations -------------------------------------------------------------------------------------------------------

FEW = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=9)


@settings(deadline=None, database=None)
@given(points=FEW)
def test_coefficients_are_scipys(points: list[tuple[int, int]]):
    x, y = np.array(points, dtype=float).T
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(spearman(x, y)[0])
        assert np.isnan(kendall(x, y)[0])
        return
    assert spearman(x, y)[0] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert kendall(x, y)[0] == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@settings(deadline=None, database=None)
@given(points=FEW, data=st.data())
def test_a_resample_is_the_sets_written_out(points: list[tuple[int, int]], data: st.DataObject):
    x, y = np.array(points, dtype=float).T
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(x), max_size=len(x)).filter(any)))
    rows = np.repeat(np.arange(len(x)), counts)
    for coefficient in (spearman, kendall):
        expected, got = coefficient(x[rows], y[rows])[0], coefficient(x, y, counts[None].astype(float))[0]
        assert got == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("coefficient", [spearman, kendall])
def test_perfect_and_reversed_order(coefficient: Any):
    x = np.array([1.0, 2.0, 5.0, 9.0])
    assert coefficient(x, np.exp(x))[0] == pytest.approx(1)
    assert coefficient(x, -np.exp(x))[0] == pytest.approx(-1)


def test_order_within_families_and_between_them():
    """Two families, each in the right order, but the family that is better has the larger values."""
    x = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    y = np.array([11.0, 12.0, 13.0, 1.0, 2.0, 3.0])
    families = list("aaabbb")
    assert kendall(x, y, pairs=same_family(families))[0] == pytest.approx(1)
    assert kendall(x, y)[0] == pytest.approx((6 - 9) / 15)
    assert np.isnan(kendall(x, y, pairs=same_family(list("abcdef")))[0])


def test_without_each_family():
    """Families b and c agree with y; a alone does not."""
    x = np.array([9.0, 8.0, 1.0, 2.0, 3.0, 4.0])
    y = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    found = left_out(x, y, list("aabbcc"))
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == pytest.approx(1)
    assert found["b"] == pytest.approx(stats.spearmanr(x[[0, 1, 4, 5]], y[[0, 1, 4, 5]]).statistic)
    assert left_out(x, y, ["a"] * 6) == {}


def test_resamples_draw_families_then_sets():
    families = list("aaaabbc")
    counts = resamples(families, 4000, np.random.default_rng(0))
    by_family = np.stack([counts[:, :4].sum(1) / 4, counts[:, 4:6].sum(1) / 2, counts[:, 6]], 1)
    torch.testing.assert_close(torch.tensor(by_family), torch.tensor(by_family).round())  # whole families
    assert (by_family.sum(1) == 3).all()
    assert counts.mean(0) == pytest.approx(np.ones(7), abs=0.1)
    assert ((counts[:, :4] > 0).sum(1) < 4).any()  # and within a family not every set


def test_interval_of_resamples():
    values = np.arange(1001) / 1000
    assert interval(values, 0.9) == pytest.approx((0.05, 0.95))
    assert interval(np.where(values < 0.05, np.nan, values), 0.9) is not None
    assert interval(np.where(values < 0.2, np.nan, values), 0.9) is None


def test_ceiling_is_what_a_perfect_predictor_reaches():
    generator = np.random.default_rng(1)
    truth = generator.standard_normal(1000)
    for noise, networks in ((0.5, 3), (1.0, 3), (2.0, 8)):
        accuracies = truth[:, None] + noise * generator.standard_normal((len(truth), networks))
        reached = spearman(truth, accuracies.mean(1))[0]
        assert ceiling(accuracies) == pytest.approx(reached, abs=0.04)


def test_ceiling_without_noise_and_without_networks():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert ceiling(np.stack([x, x + 7], 1)) == pytest.approx(1)  # what all sets share is no noise
    assert ceiling(x[:, None]) is None
    assert ceiling(np.stack([x, -x], 1)) is None


# --- findings -----------------------------------------------------------------------------------------------------------


def lines(values: dict[str, float | None], reasons: dict[str, str] | None = None) -> list[dict[str, Any]]:
    return [{"values": values, "reasons": reasons or {}, "notes": [], "seconds": 1.0}]


ACCURACIES = {
    f"2/{family}/{i}": (0.1 * i + 0.01 * shift, 0.1 * i) for shift, family in enumerate("abc") for i in range(3)
}


def table() -> dict[tuple[str, str], list[dict[str, Any]]]:
    good = {key: -sum(values) for key, values in ACCURACIES.items()}
    half = dict(list(good.items())[:5]) | dict.fromkeys(list(good)[5:])
    none = dict.fromkeys(good)
    return {
        ("v", "bad"): lines({key: -value for key, value in good.items()}),
        ("v", "none"): lines(none, dict.fromkeys(good, "needs 2 points")),
        ("v", "good"): lines(good),
        ("v", "half"): lines(half, dict.fromkeys(list(good)[5:], "is singular")),
    }


def test_rows_are_sorted_and_say_what_is_missing():
    (size,) = found(ACCURACIES, table(), resamples=50).sizes
    assert [row.discrepancy for row in size.rows] == ["good", "half", "bad", "none"]
    good, half, bad, none = size.rows
    assert (good.spearman, bad.spearman) == pytest.approx((1, -1))
    assert good.left_out == pytest.approx({"a": 1, "b": 1, "c": 1})
    assert (good.sets, half.sets, none.sets) == (9, 5, 0)
    assert half.missing == {"is singular": 4}
    assert none.missing == {"needs 2 points": 9}
    assert math.isnan(none.spearman)
    assert none.spearman_interval is None


def test_comparison_with_the_reference_and_the_second():
    pairs = {name: ("v", name) for name in ("good", "half", "bad")}
    (size,) = found(ACCURACIES, table(), reference=pairs["bad"], resamples=50).sizes
    second, reference = size.comparisons
    assert (second.first, second.second, second.sets) == (pairs["good"], pairs["half"], 5)
    assert second.difference == pytest.approx(0)
    assert second.share == pytest.approx(0.5)
    assert (reference.second, reference.difference) == (pairs["bad"], pytest.approx(2))
    assert reference.share == pytest.approx(1)
    assert [row.above_reference for row in size.rows] == [1, 1, None, None]


def test_sizes_are_not_mixed():
    """Within each size the order is perfect, though the larger size has the larger values everywhere."""
    accuracies = {f"{size}/a/{i}": (0.1 * size + 0.01 * i,) for size in (1, 2) for i in range(4)}
    values = {key: 10.0 * int(key[0]) - int(key[-1]) for key in accuracies}
    sizes = found(accuracies, {("v", "d"): lines(values)}, resamples=10).sizes
    assert [(size.per_class, size.rows[0].sets) for size in sizes] == [(1, 4), (2, 4)]
    assert [size.rows[0].spearman for size in sizes] == pytest.approx([1, 1])


def test_report_as_text_csv_and_pictures(tmp_path: Path):
    findings = found(ACCURACIES, table(), reference=("v", "half"), resamples=50)
    report = prediction_report(findings, rows=1)
    text = as_text(report)
    assert "2 a class: 9 sets of 3 families, 2 networks each" in text
    assert "half" in text  # the reference is shown even beyond the rows that were asked for
    assert "missing: half of 4 sets in v: is singular" in text
    assert "missing: none of 9 sets in v: needs 2 points" in text
    save(report, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["discrepancy"] for row in rows] == ["good", "half", "bad", "none"]
    assert float(rows[2]["spearman"]) == pytest.approx(-1)
    assert rows[3]["spearman"] == ""
    assert [picture.name for picture in report.pictures] == ["correlations", "scatter"]
    for drawn in report.pictures:
        save_png(drawn.png, tmp_path / f"{drawn.name}.png")
        with Image.open(tmp_path / f"{drawn.name}.png") as picture:
            assert len(picture.convert("L").getcolors() or []) > 10
    json.dumps(findings.as_dict(), allow_nan=False)


# --- recipes ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return Digits().load()


CONDENSED = {
    "kind": "condensed",
    "objective": {"terms": {"pixels": {"match": "mmd", "via": "identity"}}},
    "context": {"kind": "fresh", "batch": 9},
    "count": 2,
}
RECIPES = [
    Random(count=2),
    Noise(count=2),
    Noisy(strengths=(0.5, 2.0), count=1),
    Blurred(strengths=(1.0,)),
    Averaged(strengths=(2.0, 5.0)),
    Mislabelled(strengths=(0.3,)),
    Centres(),
    Centres(nearest=True),
    build(Recipe, CONDENSED | {"stages": [0, 2, 5]}),
    build(Recipe, CONDENSED | {"solver": "herding"}),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.kind}-{len(recipe.runs)}")
def test_recipes_keep_their_promises(recipe: Recipe, digits: LabelledData):
    names = [name for run in recipe.runs for name in run]
    assert len(set(names)) == len(names)
    made = list(recipe.make(0, Task(digits.train, 3, seed=5)))
    again = list(recipe.make(0, Task(digits.train, 3, seed=5)))
    other = list(recipe.make(0, Task(digits.train, 3, seed=6)))
    assert len(made) == len(recipe.runs[0])
    for first, second, third in zip(made, again, other, strict=True):
        assert first.points.shape == (30, 1, 8, 8)
        torch.testing.assert_close(first.labels, torch.arange(10).repeat_interleave(3))
        torch.testing.assert_close(first.points, second.points, rtol=0, atol=0)
        if not (isinstance(recipe, Condensed) and recipe.solver.kind == "herding"):  # which has no chance in pixels
            assert not torch.equal(first.points, third.points)


def test_what_recipes_make(digits: LabelledData):
    task = Task(digits.train, 3, seed=5)
    real = task.real()
    noisy = Noisy(strengths=(2.0,)).points(task, 2.0)
    assert (noisy - real).std().item() == pytest.approx(2, abs=0.1)
    wrong = (Mislabelled().points(task, 0.2) != real).flatten(1).any(1)
    assert int(wrong.sum()) == 6
    everything = digits.normalisation.apply(digits.train.points).flatten(1)
    whose = digits.train.labels.numbers[torch.cdist(Mislabelled().points(task, 1.0).flatten(1), everything).argmin(1)]
    assert (whose != torch.arange(10).repeat_interleave(3)).all()
    sharp, soft = Blurred().points(task, 0.1), Blurred().points(task, 3.0)
    torch.testing.assert_close(sharp, real)
    assert soft.flatten(1).var(1).mean() < 0.3 * real.flatten(1).var(1).mean()
    nearest = Centres(nearest=True).points(task).flatten(1)
    assert torch.cdist(nearest, everything).min(1).values.max() < 1e-2
    centres = Centres().points(Task(digits.train, 1, seed=5))  # one centre is the mean of the class
    torch.testing.assert_close(centres, digits.train.class_means().float(), rtol=1e-4, atol=1e-4)


def test_stages_are_those_of_one_descent(digits: LabelledData):
    recipe = build(Recipe, CONDENSED | {"stages": [0, 3]})
    start, end = recipe.make(0, Task(digits.train, 2, seed=1))
    assert not torch.equal(start.points, end.points)
    alone = build(Recipe, CONDENSED | {"solver": {"kind": "descent", "steps": 3}})
    torch.testing.assert_close(next(alone.make(0, Task(digits.train, 2, seed=1))).points, end.points)


# --- views and values ---------------------------------------------------------------------------------------------------


def test_values_are_those_of_the_one_call(digits: LabelledData):
    """The mean over draws and classes of D(real, set), as discrepancy(mu, nu) has it."""
    sets = {f"2/random/{i}": next(Random().make(0, Task(digits.train, 2, seed=i))) for i in range(3)}
    real = digits.train.class_batch(torch.Generator().manual_seed(0), 7)
    view = build(View, {"via": {"kind": "random_fourier", "features": 64, "lengthscale": 5.0}, "n_draws": 2})
    draws = embedded(view, digits, real, sets, seed=3, device=torch.device("cpu"))
    found = measured(MMD(), draws, "class", names=list(sets), seed=0).values
    for key in sets:
        expected = torch.stack([MMD()(sides.both("class")[0], sides.both("class")[1][key]).mean() for sides in draws])
        assert found[key] == pytest.approx(expected.mean().item(), rel=1e-5)
    whole = measured(MMD(), draws, "whole", names=["2/random/0"], seed=0).values
    assert whole["2/random/0"] == pytest.approx(
        np.mean([MMD()(sides.real, sides.sets["2/random/0"]).item() for sides in draws]), rel=1e-4
    )
    assert not torch.equal(draws[0].real.rows, draws[1].real.rows)


class Fussy(SampleDiscrepancy, kind="fussy_by_test"):
    """Refuses single points, is infinite far away, and warns."""

    @property
    def tags(self):
        return frozenset()

    def constants(self, real, draws):
        return {}

    def compare_groups(self, summary, synthetic, draws):
        import warnings

        warnings.warn("repaired", NumericalWarning, stacklevel=2)
        if len(synthetic) < 2:
            raise InvalidInput("needs 2 points,\ngot 1")
        size = synthetic.rows.abs().amax((1, 2))
        return torch.where(size > 8, torch.inf, size)


Discrepancy.members.pop("fussy_by_test")


def test_what_cannot_be_computed_is_said(digits: LabelledData):
    sets = {
        "one": next(Random().make(0, Task(digits.train, 1, seed=0))),
        "two": next(Random().make(0, Task(digits.train, 2, seed=0))),
        "far": next(Noisy(strengths=(20.0,)).make(0, Task(digits.train, 2, seed=0))),
    }
    draws = embedded(View(), digits, torch.arange(100), sets, seed=0, device=torch.device("cpu"))
    result = measured(Fussy(), draws, "class", names=list(sets), seed=0)
    assert result.values["two"] is not None
    assert (result.values["one"], result.values["far"]) == (None, None)
    assert result.reasons == {"one": "needs 2 points, got 1", "far": "the value is inf"}
    assert result.notes == ("repaired",)


def test_gradients_are_those_of_the_mean_loss_of_each_class(digits: LabelledData, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "GRADIENT_POINTS", 4)  # so that a class takes several parts
    sets = {"a": next(Random().make(0, Task(digits.train, 3, seed=0)))}
    rows = digits.train.class_batch(torch.Generator().manual_seed(0), 9)
    view = build(View, {"via": "features", "network": NETWORK})
    (sides,) = embedded(view, digits, rows, sets, seed=3, device=torch.device("cpu"))
    real, synthetic = sides.both("gradients")
    assert set(real.tensors) == set(synthetic["a"].tensors) == {"conv1.weight", "conv2.weight", "linear.weight"}
    network = build(Network, NETWORK)
    parameters = network.initial(rng(3, "network", 0), digits.shape, 10, affine=False)
    parameters = {name: value.requires_grad_() for name, value in parameters.items()}
    members = rows[digits.train.labels.numbers[rows] == 7]
    logits = network(parameters, digits.normalisation.apply(digits.train.points[members]))["logits"]
    functional.cross_entropy(logits, torch.full((9,), 7)).backward()
    for name, points in real.tensors.items():
        torch.testing.assert_close(points[7, 0], parameters[name].grad, rtol=1e-4, atol=1e-6)


def test_views_refuse_what_has_no_network():
    with pytest.raises(ConfigError, match="'via' takes 'features' of a network; give 'network' or 'trained'"):
        build(View, {"via": "features"})
    with pytest.raises(ConfigError, match="must not have batch normalisation"):
        build(View, {"via": "features", "network": {"kind": "convnet", "norm": "batch"}})


# --- the whole study ----------------------------------------------------------------------------------------------------

NETWORK = {"kind": "convnet", "width": 4, "depth": 2}
TINY: dict[str, Any] = {
    "data": "digits",
    "per_class": [1, 2],
    "real": 9,
    "protocol": {"kind": "scratch", "network": NETWORK, "networks": 2, "epochs": 3},
    "reference": {"view": "network", "discrepancy": "mean"},
    "resamples": 20,
    "sets": {
        "random": {"kind": "random", "count": 3},
        "noise": {"kind": "noise", "count": 1},
        "dm": CONDENSED | {"context": {"kind": "fresh", "batch": 5}, "stages": [1, 2], "count": 1},
    },
    "views": {
        "pixels": {"via": "identity"},
        "network": {"via": "features", "network": NETWORK, "n_draws": 2},
        "trained": {
            "via": "features",
            "trained": {"kind": "scratch", "network": NETWORK, "networks": 1, "epochs": 1},
        },
    },
    "by_class": {"mean": "mmd", "gaussian": {"kind": "mmd", "kernel": {"kind": "gaussian", "lengthscale": "median"}}},
    "whole": {"mean_of_all": "mmd"},
}


def write(tree: dict[str, Any], path: Path) -> str:
    path.write_text(json.dumps(tree), encoding="utf-8")  # JSON is YAML
    return str(path)


@pytest.fixture
def study(tmp_path: Path) -> Any:
    """A function that runs the tiny study, changed as it is told, in one folder."""

    def run(*arguments: str, **changes: Any) -> int:
        file = write(TINY | changes, tmp_path / "tiny.yaml")
        return main(["study", "predict", file, "--out", str(tmp_path / "out"), "--quiet", *arguments])

    return run


def test_the_study_leaves_a_report_and_computes_nothing_twice(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert study("--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert [(size["per_class"], size["sets"]) for size in first["sizes"]] == [(1, 6), (2, 6)]
    assert {(row["view"], row["discrepancy"]) for row in first["sizes"][0]["rows"]} == {
        (view, name) for view in TINY["views"] for name in ("mean", "gaussian", "mean_of_all")
    }
    out = tmp_path / "out"
    assert len(list(out.glob("sets/*/*/*.safetensors"))) == 12
    for name in ("report.json", "report.html", "correlations.csv", "correlations.png", "scatter.png"):
        assert (out / name).stat().st_size > 100

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("was computed again")

    for name in ("evaluate", "embedded", "measured"):
        monkeypatch.setattr(running, name, never)
    monkeypatch.setattr(Digits, "load", never)
    assert study("--json") == 0
    assert json.loads(capsys.readouterr().out) == first


def test_an_interrupted_study_goes_on(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """Stopped at every stage in turn, with a line cut off, it ends with the same values as one that was left alone."""
    calls = {"evaluate": 2, "measured": 1}
    for name, most in calls.items():
        original, made = getattr(running, name), []

        def stop(*arguments: Any, original: Any = original, made: list[int] = made, most: int = most, **options: Any):
            made.append(1)
            if len(made) > most:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(running, name, stop)
            assert study("--set", "views.pixels.n_draws=1") == 130
    assert "the same command continues" in capsys.readouterr().err
    values = tmp_path / "out" / "values.jsonl"
    with values.open("a", encoding="utf-8") as file:
        file.write('{"view": "net')
    assert study("--json") == 0
    resumed = json.loads(capsys.readouterr().out)
    assert len(Lines(tmp_path / "out" / "accuracies.jsonl").read()) == 12
    (tmp_path / "out").rename(tmp_path / "before")
    assert study("--json") == 0
    alone = json.loads(capsys.readouterr().out)
    for tree in (resumed, alone):
        del tree["training_seconds"]
        for size in tree["sizes"]:
            for row in size["rows"]:
                del row["seconds"]
    assert resumed == alone


def test_a_study_may_grow_and_not_change(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    assert study(whole={}, per_class=[1]) == 0
    assert study(per_class=[1], confidence=0.5) == 0
    assert len(Lines(tmp_path / "out" / "values.jsonl").read()) == 9
    more = TINY["sets"] | {"centres": {"kind": "centres", "count": 1}}
    assert study(sets=more) == 0
    trained = [line["set"] for line in Lines(tmp_path / "out" / "accuracies.jsonl").read()]
    assert len(trained) == len(set(trained)) == 14
    capsys.readouterr()
    assert study(sets=more, real=8) == 2
    error = capsys.readouterr().err
    assert "real: 9 -> 8" in error
    assert "holds a study with another configuration" in error
    assert study(sets=more, seed=1) == 2
    assert study(sets={"random": TINY["sets"]["random"]}) == 2
    assert "sets.centres" in capsys.readouterr().err


def test_gradients_are_compared_where_there_is_a_network(study: Any, tmp_path: Path):
    views = {name: TINY["views"][name] for name in ("pixels", "network")}
    gradients = {"cosine": "mean_gradients", "mse": {"kind": "mean_gradients", "form": "mse"}}
    changes = {"sets": {"random": {"kind": "random", "count": 4}}, "by_class": {"mean": "mmd"}, "whole": {}}
    assert study(views=views, gradients=gradients, per_class=[1], **changes) == 0
    found = {(line["view"], line["discrepancy"]): line for line in Lines(tmp_path / "out" / "values.jsonl").read()}
    assert found.keys() == {("pixels", "mean"), ("network", "mean"), ("network", "cosine"), ("network", "mse")}
    assert all(value > 0 for line in found.values() for value in line["values"].values())


def test_validation_leaves_the_test_examples(study: Any, tmp_path: Path):
    assert study(validation=True, per_class=[1]) == 0
    about = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert (about["part"], about["examples"]) == ("validation", 143)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": {"a": "randm"}}, "unknown kind 'randm' of recipe; did you mean 'random'?"),
        ({"by_class": {"a": "mmdd"}}, "unknown kind 'mmdd' of discrepancy; did you mean 'mmd'?"),
        ({"per_klass": [1]}, "unknown key; did you mean 'per_class'?"),
        ({"per_class": [1, 1]}, "'per_class' must be different sizes"),
        ({"sets": {"a/b": "random"}}, "'sets' has the name 'a/b'"),
        ({"whole": {"mean": "mmd"}}, "two discrepancies are named 'mean'; rename one"),
        (
            {"reference": {"view": "x", "discrepancy": "mean"}},
            "'reference' is 'mean' in view 'x', which is not computed",
        ),
        ({"views": {"pixels": {"without": ["gausian"]}}}, "is not the name of a discrepancy; did you mean 'gaussian'?"),
        ({"sets": {"a": CONDENSED | {"solver": "herding", "stages": [1]}}}, "'stages' has no meaning for the solver"),
        ({"sets": {"a": {"kind": "noisy", "strengths": [-1.0]}}}, "'strengths' must be > 0, got -1"),
    ],
)
def test_mistakes_of_a_configuration(changes: dict[str, Any], message: str, study: Any, tmp_path: Path, capsys):
    assert study(**changes) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_packaged_study_is_written_and_read_alike(capsys: pytest.CaptureFixture[str]):
    packaged_study = build(Prediction, read(packaged()))
    assert build(Prediction, dump(packaged_study)) == packaged_study
    assert hash(packaged_study) == hash(build(Prediction, read(packaged())))
    families = len(packaged_study.sets)
    assert families >= 8
    assert 35 <= len(packaged_study.keys) <= 60
    assert main(["study", "predict", "--data", "digits", "--show"]) == 0
    assert "data: {kind: digits}" in capsys.readouterr().out


def test_the_packaged_study_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """All of the packaged discrepancies, in three of its views, on few sets of three of the digits."""
    data, arrays = Digits().load(), {}
    for name, part in (("train", data.train), ("test", data.test)):
        assert part is not None
        few = part.labels.numbers < 3
        arrays |= {f"x_{name}": part.points[few].numpy(), f"y_{name}": part.labels.numbers[few].numpy()}
    np.savez(tmp_path / "three.npz", **arrays)
    tree = read(packaged())
    tree["views"] = {name: tree["views"][name] for name in ("pixels", "network", "trained_logits")}
    small = {"kind": "convnet", "width": 4, "depth": 2}
    tree |= {
        "data": {"kind": "npz", "path": str(tmp_path / "three.npz")},
        "per_class": [4],
        "real": 8,
        "resamples": 20,
        "protocol": {"kind": "scratch", "network": small, "networks": 1, "epochs": 1},
        "sets": {"random": {"kind": "random", "count": 2}, "noisy": {"kind": "noisy", "strengths": [1.0, 3.0]}},
    }
    for view in tree["views"].values():
        view["n_draws"] = 1
        if "network" in view:
            view["network"] = small
        if "trained" in view:
            view["trained"] |= {"network": small}
    assert main(["study", "predict", write(tree, tmp_path / "a.yaml"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    measured_lines = Lines(tmp_path / "out" / "values.jsonl").read()
    assert {(line["view"], line["discrepancy"]) for line in measured_lines} == set(build(Prediction, tree).pairs)
    for line in measured_lines:
        pair = (line["view"], line["discrepancy"], line["reasons"])
        assert all(value is not None for value in line["values"].values()), pair
    assert "sets of 2 families" in capsys.readouterr().out


def test_the_study_from_python(tmp_path: Path):
    file = write(TINY | {"per_class": [1]}, tmp_path / "tiny.yaml")
    study = build(
        Prediction, prediction_tree(file, seed=3, changes=["views={pixels: {via: identity}}", "reference=null"])
    )
    seen: list[str] = []

    def progress(title: str, total: int) -> AbstractContextManager[Advance]:
        seen.append(title)
        return silent(title, total)

    result = run_prediction(study, tmp_path / "out", progress=progress)
    assert seen == ["making sets", "training networks", "comparing sets"]
    (size,) = result.findings.sizes
    assert {row.pair for row in size.rows} == {("pixels", name) for name in ("mean", "gaussian", "mean_of_all")}
    assert all(file.stat().st_size > 100 for file in result.files)
    assert len(result.report(rows=1).tables[0].rows) == 1
    assert len(result.report(rows=0).tables[0].rows) == 3
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
