"""``condense compare``, as a person uses it, on the packaged digits."""

import contextlib
import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from discrepancy import MMD, EnergyDistance, Gaussian, Measure, Moments
from discrepancy.embeddings import Features
from discrepancy.kernels import Median
from discrepancy.networks import ConvNet
from experiments.cli import main
from experiments.compare import DEFAULT, compare, request_of
from experiments.compare.embedding import Embedded
from experiments.compare.request import ComparisonRequest, discrepancies_of, named_sets
from experiments.compare.sides import overlap, side_of
from experiments.config import build, dump
from experiments.data import Digits
from experiments.report import as_text
from experiments.report import comparison as report
from objectives import Match, condense
from objectives.data.labelled import LabelledData
from objectives.data.labels import Labels
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.solvers import Herding
from objectives.synthetic.artefact import SyntheticSet

QUICK = ["--quiet", "--resamples", "10", "--set", "permutations=19"]


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return Digits().load()


def artefact(data: LabelledData, per_class: int, train: bool = False) -> SyntheticSet:
    """So many random real examples of each class, of the test part, which is independent of the real side, or of it."""
    part = data.train if train else data.test
    assert part is not None
    rows = part.class_batch(rng(0, "test"), per_class)
    points, labels = part.points[rows].float(), part.labels.take(rows)
    weights = torch.ones(len(rows))
    return SyntheticSet(points, labels, weights, data.classes, data.normalisation, data.limits)


@pytest.fixture(scope="module")
def folder(digits: LabelledData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sets")
    (path / "four").mkdir()
    artefact(digits, 4).save(path / "four" / "result.safetensors")
    artefact(digits, 1).save(path / "one.safetensors")
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["compare", *map(str, arguments), *QUICK, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def row(found: dict[str, Any], **wanted: str) -> dict[str, Any]:
    (one,) = [row for row in found["rows"] if all(row[key] == value for key, value in wanted.items())]
    return one


# --- the command ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder that a comparison of two sets by all the default discrepancies leaves, and what it prints and says."""
    out, said, wrong = tmp_path_factory.mktemp("compared"), io.StringIO(), io.StringIO()
    sets = [str(folder / "four" / "result.safetensors"), str(folder / "one.safetensors")]
    files = ["--out", str(out / "out"), "--report", str(out / "rows.csv")]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        assert main(["compare", "digits", *sets, *files, *QUICK]) == 0
    return out, said.getvalue(), wrong.getvalue()


def test_table_files_and_picture(compared: tuple[Path, str, str]):
    folder, said, wrong = compared
    out = folder / "out"
    assert wrong == ""
    table = said.splitlines()
    assert table[0].split()[:3] == ["discrepancy", "set", "group"]
    for name in (
        *DEFAULT,
        "four",
        "one",
        "class mean",
        "as close as",
        "in closed form and by simulation",
    ):
        assert name in said
    assert "class 3" not in said
    assert len(table[1:]) > len(DEFAULT) * 2 * 2
    found = json.loads((out / "comparison.json").read_text())
    rows = list(csv.DictReader((folder / "rows.csv").read_text().splitlines()))
    assert (out / "comparison.csv").read_text() == (folder / "rows.csv").read_text()
    assert len(rows) == len(found["rows"]) == len(DEFAULT) * 2 * (10 + 2)
    assert float(rows[0]["estimate"]) == found["rows"][0]["estimate"]
    assert rows[0]["yardstick_closed"] == "True"
    with Image.open(out / "comparison.png") as picture:
        assert min(picture.size) > 500


def test_four_real_examples_a_class_are_as_close_as_four(compared: tuple[Path, str, str]):
    found = json.loads((compared[0] / "out" / "comparison.json").read_text())
    for name in ("mmd", "mean", "energy_distance", "sliced_wasserstein", "moments"):
        size = row(found, discrepancy=name, set="four", group="classes")["yardstick"]
        assert 2.5 < size["k"] < 6.5, name
        assert size["low"] < size["k"] < size["high"]
    first = row(found, discrepancy="mmd", set="four", group="class 3")
    assert first["low"] < first["estimate"] < first["high"]
    assert first["estimate"] < first["value"]
    assert (first["real"], first["examples"], first["p"]) == (147, 4, None)
    radius = row(found, discrepancy="covering_radius", set="four", group="classes")
    assert radius["low"] is None
    assert radius["estimate"] == radius["value"] > 0
    assert any("supremum" in note and "and 8 more" in note for note in found["notes"])


def test_the_estimate_is_that_of_the_library(folder: Path, digits: LabelledData, capsys):
    """MMD with estimator "u" of one class, in normalised units."""
    found = printed(
        capsys,
        "digits",
        folder / "one.safetensors",
        "--by",
        "class",
        "--discrepancies",
        "{mmd: {kernel: {gaussian: {lengthscale: 7}}}}",
    )
    one = artefact(digits, 1)
    real = digits.normalisation.apply(digits.train.points[digits.train.labels.numbers == 5]).flatten(1)
    some = one.normalised[one.labels == 5].flatten(1)
    for estimator, name in (("u", "estimate"), ("v", "value")):
        truth = MMD(kernel=Gaussian(lengthscale=7.0), estimator=estimator)(Measure(real), Measure(some))
        assert row(found, discrepancy="mmd", group="class 5")[name] == pytest.approx(float(truth), rel=1e-4)
    assert found["resolved"]["mmd"]["kernel"]["lengthscale"] == 7.0


def test_the_same_seed_gives_the_same_rows_and_a_file_says_the_same_as_options(folder: Path, tmp_path: Path, capsys):
    four = folder / "four" / "result.safetensors"
    options = [
        "--discrepancies",
        "moments,mmd",
        "--via",
        "features",
        "--network",
        "{kind: convnet, width: 4, depth: 2}",
    ]
    options += ["--by", "none", "--seed", "3"]
    first = printed(capsys, "digits", four, *options)
    again = printed(capsys, "digits", four, *options)
    assert first["rows"] == again["rows"]
    (tmp_path / "asked.yaml").write_text(
        f"real: digits\nsets: ['{four}']\ndiscrepancies: [moments, mmd]\nvia: features\n"
        "network: {kind: convnet, width: 4, depth: 2}\nby: none\nseed: 3\n"
    )
    written = printed(capsys, tmp_path / "asked.yaml")
    assert written["rows"] == first["rows"]
    assert written["hash"] == first["hash"]
    assert len(first["hash"]) == 12
    assert printed(capsys, "digits", four, *options[:-1], "4")["rows"] != first["rows"]


def test_networks_are_averaged_and_layers_added(folder: Path, capsys: pytest.CaptureFixture[str]):
    one = folder / "one.safetensors"
    options = ["--network", "{kind: convnet, width: 4, depth: 2}", "--by", "none", "--discrepancies", "mean"]
    single = printed(capsys, "digits", one, "--via", "features", *options)
    several = printed(capsys, "digits", one, "--via", "features", "--networks", "3", *options)
    real, side = side_of("digits", "digits"), side_of("one", str(one))
    of_each = []
    for number in range(3):
        embedded = Embedded(real, Features(), ConvNet(width=4, depth=2), number, Runtime(seed=0))
        measures = (Measure(embedded.features(item)[""]) for item in (real, side))
        of_each.append(float(MMD(estimator="u")(*measures)))
    assert single["rows"][0]["estimate"] == pytest.approx(of_each[0], rel=1e-3)
    assert several["rows"][0]["estimate"] == pytest.approx(sum(of_each) / 3, rel=1e-3)
    layers = printed(capsys, "digits", one, "--via", "layers", *options)
    assert layers["rows"][0]["estimate"] > single["rows"][0]["estimate"]
    assert 5 < layers["rows"][0]["yardstick"]["k"] < 40  # ten examples, one of each class


def test_frequencies_are_shared_by_both_sides(folder: Path, capsys: pytest.CaptureFixture[str]):
    via = "{kind: random_fourier, features: 4096, lengthscale: {median: 1}}"
    one = folder / "one.safetensors"
    found = printed(capsys, "digits", one, "--by", "none", "--discrepancies", "mean", "--via", via)
    direct = printed(capsys, "digits", one, "--by", "none", "--discrepancies", "mmd")
    assert found["rows"][0]["estimate"] == pytest.approx(direct["rows"][0]["estimate"], rel=0.15)


# --- data sets ----------------------------------------------------------------------------------------------------------------


def test_only_independent_samples_have_p_values(folder: Path, tmp_path: Path, digits: LabelledData, capsys):
    some = artefact(digits, 20, train=True)
    np.savez(tmp_path / "copies.npz", x=some.points.numpy(), y=some.numbers.numpy())
    arguments = ["digits:test", folder / "one.safetensors", tmp_path / "copies.npz", "--by", "none"]
    found = printed(capsys, "digits", *arguments, "--discrepancies", "energy_distance")
    assert 0 < row(found, set="digits:test")["p"] <= 1
    assert row(found, set="one")["p"] is None
    assert row(found, set="copies")["p"] is None
    forced = printed(capsys, "digits", *arguments, "--discrepancies", "energy_distance", "--independent")
    assert row(forced, set="copies")["p"] is not None
    assert any("'one' is a set that was made" in note for note in forced["notes"])
    refused = printed(capsys, "digits", *arguments, "--discrepancies", "energy_distance", "--no-independent")
    assert all(row["p"] is None for row in refused["rows"])


@pytest.mark.parametrize("what", ["itself", "copy in float32", "part", "herded"])
def test_what_shares_examples_with_the_real_side_is_measured_as_it_is(
    what: str, tmp_path: Path, digits: LabelledData, capsys
):
    """No correction for a finite real side, which would make the distance of a set from itself negative, and no interval."""
    points, labels = digits.train.points, digits.train.labels.numbers
    kept = torch.arange(0, len(points), 3 if what == "part" else 1)
    other = tmp_path / "set.safetensors"
    if what == "herded":
        condense(digits, Match(MMD(), by="class"), solver=Herding(), per_class=2).save(other)
        kept = torch.tensor(SyntheticSet.load(other).record["chosen"])
    elif what != "itself":
        other = tmp_path / "set.npz"
        np.savez(other, x=points[kept].float().numpy(), y=labels[kept].numpy())
    found = printed(
        capsys, "digits", "digits" if what == "itself" else other, "--by", "none", "--discrepancies", "mean,moments"
    )
    units = digits.normalisation.apply(points).flatten(1)
    truth = float(MMD()(Measure(units), Measure(units[kept])))
    mean, moments = found["rows"]
    assert mean["estimate"] == mean["value"] == pytest.approx(truth, rel=1e-3, abs=1e-6)
    assert moments["estimate"] == moments["value"] >= 0
    assert all(found[key] is None for found in (mean, moments) for key in ("low", "high", "error", "p"))
    assert (mean["yardstick"]["k"] or 1e9) > (1.5 if what == "herded" else 100)
    assert any(
        "100% of the examples are in both, so the values are those of the two sets as" in n for n in found["notes"]
    )


def test_the_points_of_a_test_are_dealt_out_in_units_of_both_sides(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    """Units of the real side alone would put small samples of many features apart where nothing differs."""
    values = np.random.default_rng(0).standard_t(3, size=(39, 8))
    for name, rows, names in (("a", slice(0, 24), ["u", "v"]), ("b", slice(24, 39), ["v", "w"])):
        np.savez(tmp_path / f"{name}.npz", x=values[rows], y=np.arange(39)[rows] % 2, classes=names)
    dealt: list[Measure] = []

    def spy(discrepancy: object, real: Measure, other: Measure, *_: object) -> float:
        dealt.append(Measure.merged([real, other]))
        assert (len(real), len(other)) == (24, 15)
        return 1.0

    monkeypatch.setattr("experiments.compare.comparing.p_value", spy)
    sets = [tmp_path / "a.npz", tmp_path / "b.npz", "--by", "none"]
    printed(capsys, *sets, "--discrepancies", "mean,joint_mmd")
    for pooled in dealt:
        points = pooled.tensors[""].double()
        torch.testing.assert_close(points.mean(0), torch.zeros(8).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(points.std(0, correction=0), torch.ones(8).double(), atol=1e-6, rtol=0)
    labels = dealt[1].labels
    assert labels is not None
    assert labels.sum(0).tolist() == [12.0, 12.0 + 8.0, 7.0]  # the classes u, v and w of both
    printed(capsys, *sets, "--discrepancies", "mean", "--via", "layers", "--network", "{kind: mlp, width: 4, depth: 2}")
    assert len(dealt[2].tensors) > 1


def test_a_file_without_a_test_part_is_taken_whole(tmp_path: Path, digits: LabelledData, capsys):
    some = artefact(digits, 2, train=True)
    np.savez(tmp_path / "two.npz", x=some.points.numpy(), y=some.numbers.numpy())
    side = side_of("two", str(tmp_path / "two.npz"))
    assert len(side) == 20
    assert len(side_of("two", f"{tmp_path / 'two.npz'}:train")) == 10
    assert len(side_of("all", "digits:all")) == 1797
    assert overlap(side, side_of("digits", "digits")) == 1.0
    assert overlap(side, side_of("digits", "digits:test")) == 0.0


def test_points_without_labels_are_compared_without_classes(tmp_path: Path, digits: LabelledData, capsys):
    np.savez(tmp_path / "bare.npz", x=digits.train.points[:50].numpy())
    found = printed(capsys, "digits", tmp_path / "bare.npz", "--discrepancies", "mean")
    assert [row["group"] for row in found["rows"]] == ["all"]
    assert "'bare' has no labels, so only the whole sets are compared" in found["notes"]


def test_soft_labels_share_a_point_out(tmp_path: Path, digits: LabelledData, capsys):
    """A point that is half a 3 and half an 8 counts half in each class; two points of weight 1/2 do as one."""
    hard = artefact(digits, 3)
    rows = torch.nn.functional.one_hot(hard.numbers, 10).float()
    soft = replace(hard, labelling=Labels("soft", rows))
    halved = replace(
        hard,
        points=torch.cat([hard.points, hard.points]),
        labelling=Labels("hard", torch.cat([hard.numbers, hard.numbers])),
        weights=torch.full((60,), 0.5),
    )
    blurred = rows.clone()
    blurred[hard.numbers == 3] = 0.5 * (torch.eye(10)[3] + torch.eye(10)[8])
    sets = {"hard": hard, "soft": soft, "halved": halved, "blurred": replace(soft, labelling=Labels("soft", blurred))}
    for name, item in sets.items():
        item.save(tmp_path / f"{name}.safetensors")
    files = [tmp_path / f"{name}.safetensors" for name in sets]
    found = printed(capsys, "digits", *files, "--by", "class", "--discrepancies", "energy_distance")
    for group in ("class 3", "classes"):
        values = [row(found, set=name, group=group)["estimate"] for name in ("hard", "soft", "halved")]
        assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    assert row(found, set="blurred", group="class 8")["examples"] == 6
    assert row(found, set="blurred", group="class 3")["estimate"] == pytest.approx(
        row(found, set="hard", group="class 3")["estimate"], rel=1e-5
    )


def test_classes_are_matched_by_name(tmp_path: Path, digits: LabelledData, capsys):
    """The same set with its classes numbered the other way round, and one without a class."""
    some = artefact(digits, 3)
    turned = Labels("hard", 9 - some.numbers)
    replace(some, labelling=turned, classes=some.classes[::-1]).save(tmp_path / "turned.safetensors")
    some.save(tmp_path / "plain.safetensors")
    kept = some.numbers != 7
    labels = Labels("hard", some.numbers[kept])
    lacking = replace(some, points=some.points[kept], labelling=labels, weights=some.weights[kept])
    lacking.save(tmp_path / "lacking.safetensors")
    files = [tmp_path / f"{name}.safetensors" for name in ("turned", "plain", "lacking")]
    found = printed(capsys, "digits", *files, "--by", "class", "--discrepancies", "mean")
    turned, plain = ([row["estimate"] for row in found["rows"] if row["set"] == name] for name in ("turned", "plain"))
    assert turned == plain
    assert row(found, set="lacking", group="class 7")["estimate"] is None
    assert row(found, set="lacking", group="classes")["estimate"] is None
    assert (
        row(found, set="lacking", group="class 6")["estimate"] == row(found, set="plain", group="class 6")["estimate"]
    )
    assert any("class 7 of 'lacking': there is no example" in note for note in found["notes"])


def test_a_cap_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("experiments.compare.estimates.CAPS", {"wasserstein": 50})
    found = printed(capsys, "digits", folder / "one.safetensors", "--by", "none", "--discrepancies", "wasserstein")
    assert "wasserstein, all: 50 random points of the 1,437 of 'digits'" in found["notes"]
    assert found["rows"][0]["estimate"] > 0


def test_what_looks_at_labels_compares_everything_at_once(folder: Path, capsys: pytest.CaptureFixture[str]):
    found = printed(capsys, "digits", folder / "one.safetensors", "--by", "class", "--discrepancies", "joint_mmd,mean")
    assert [row["group"] for row in found["rows"] if row["discrepancy"] == "joint_mmd"] == ["all"]
    assert row(found, discrepancy="mean", group="classes")


# --- mistakes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "name the real data set and at least one other"),
        ([], "name the real data set and at least one other"),
        (["digits", "digits:tset"], "names the part 'tset'; did you mean 'test'?"),
        (["digits", "nowhere.safetensors"], "'nowhere.safetensors' is not a file"),
        (["digits", "minst"], "did you mean MNIST?"),
        (["digits", "digits:test", "--discrepancies", "mdm"], "unknown kind 'mdm' of discrepancy; did you mean 'mmd'?"),
        (["digits", "digits:test", "--discrepancies", "{mmd: {kernel: gausian}}"], "mmd.kernel: unknown kind 'gausian'"),
        (["digits", "digits:test", "--discrepancies", "mmd,mmd"], "'discrepancies' name 'mmd' twice"),
        (["digits", "digits:test", "--discrepancies", "{mmd: ["], "'discrepancies' cannot be read as YAML"),
        (["digits", "digits:test", "--by", "klass"], "by: expected one of 'class', 'none', 'both', got 'klass'"),
        (["digits", "digits:test", "--via", "featurs"], "via: unknown kind 'featurs' of embedding; did you mean 'features'?"),
        (["digits", "digits:test", "--via", "{kind: ["], "'--via' cannot be read as YAML"),
        (["digits", "digits:test", "--networks", "2"], "'identity' takes nothing of a network; use 1"),
        (["digits", "digits:test", "--resamples", "2"], "'resamples' must be at least 10, got 2"),
        (["digits", "digits:test", "--set", "confidence=95"], "'confidence' must lie strictly between 0 and 1"),
        (["digits", "digits:test", "--set", "colour=3"], "colour: unknown key"),
        (["digits", "digits:test", "--device", "cuda:99x"], "'device'"),
        (["digits", "digits:test", "--via", "features", "--network", "{kind: convnet, norm: batch}"], "choose another 'norm'"),
        (["digits", "table.npz"], "examples of 'table' have shape (3,), those of 'digits' (1, 8, 8)"),
        (["digits", "bytes.npz"], "values of 'bytes' lie in 0 .. 255, those of 'digits' in 0 .. 16"),
        (["digits", "letters.npz"], "'letters' has the class 'a', which 'digits' has not"),
        (["digits", "bare.npz", "--by", "class"], "'bare' has no labels, so it has no classes"),
        (["digits", "bare.npz", "--discrepancies", "joint_mmd"], "'joint_mmd' looks at labels, and 'bare' has none"),
        (["weighted.safetensors", "digits"], "put it behind"),
        (["single.npz", "digits", "--by", "none", "--discrepancies", "mmd"], "the median rule needs at least 2 real points"),
        (["single.npz", "digits", "--by", "none", "--discrepancies", "energy_distance"], "it needs 2 real points, got 1"),
    ],
    ids=lambda value: "-".join(value[1:])[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_gets_one_clear_line_and_status_2(arguments, message, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = digits.train.points[:20].numpy(), digits.train.labels.numbers[:20].numpy()
    np.savez("table.npz", x=x[:, 0, 0, :3], y=y)
    np.savez("bytes.npz", x=x * 16, y=y)
    np.savez("letters.npz", x=x.astype(np.float32), y=np.array(["a", "b"] * 10))
    np.savez("bare.npz", x=x)
    np.savez("single.npz", x=x[:1])
    replace(artefact(digits, 1), weights=torch.arange(10) + 1.0).save("weighted.safetensors")
    assert main(["compare", *arguments, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) <= 2


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.compare.comparing.Embedded", stop)
    assert main(["compare", "digits", "digits:test", *QUICK]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_too_little_memory_is_said_before_anything_is_held(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("objectives.engine.runtime.available_bytes", lambda device: 1000)
    assert main(["compare", "digits", "digits:test", *QUICK]) == 2
    assert "GiB are free; take fewer features" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    assert main(["compare", "digits", "digits:test", "--out", str(tmp_path / "file" / "out")]) == 1
    assert "cannot be made (Not a directory); name another folder" in capsys.readouterr().err


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]):
    assert (
        main(["compare", "digits", "digits:test", "--by", "none", "--discrepancies", "mean", "--resamples", "10"]) == 0
    )
    captured = capsys.readouterr()
    assert "comparing (%): 100/100" in captured.err
    assert "mean" in captured.out


# --- configurations -----------------------------------------------------------------------------------------------------------


def test_ways_to_write_discrepancies():
    wanted = MMD(kernel=Gaussian(lengthscale=Median()))
    for written in ("mmd", ["mmd"], "[mmd]", {"mmd": None}):
        (found,) = request_of({"real": "digits", "sets": ["digits:test"], "discrepancies": written}).discrepancies
        assert found == ("mmd", wanted)
    written = "{near: mmd, energy_distance: {root: true}, m: {kind: moments}, g: {mmd: {kernel: linear}}}"
    found = dict(request_of({"real": "digits", "sets": ["digits:test"], "discrepancies": written}).discrepancies)
    assert found == {"near": MMD(), "energy_distance": EnergyDistance(root=True), "m": Moments(), "g": MMD()}
    assert [*discrepancies_of([{"mmd": {"root": True}}, "mean"])] == ["mmd", "mean"]
    assert [name for name, _ in request_of({"real": "digits", "sets": "digits:test"}).discrepancies] == [*DEFAULT]


def test_a_survey_reads_back_equal():
    request = request_of(
        {"real": {"kind": "digits"}, "sets": {"t": "digits:test", "d": {"kind": "digits"}}, "via": "features"}
    )
    assert build(ComparisonRequest, dump(request)) == request
    assert replace(request, seed=1).hash != request.hash
    assert replace(request, device="cpu").hash == request.hash


def test_names_of_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    sets = ["runs/dm/result.safetensors", "a.npz", "mnist:test", "b/a.npz", "mnist", "mnist"]
    assert [*named_sets(sets, "mnist")] == ["dm", "a", "mnist:test", "b/a.npz", "mnist-2", "mnist-3"]


def test_the_python_call(folder: Path):
    seen: list[float] = []
    request = request_of(
        {
            "real": "digits",
            "sets": {"one": str(folder / "one.safetensors")},
            "discrepancies": "mean",
            "by": "none",
            "resamples": 10,
        }
    )
    answer = compare(request, lambda done, note: seen.append(done))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    (only,) = answer.rows
    assert only.size is not None
    assert math.isfinite(only.size.k)
    assert "1,437 examples; intervals" in as_text(report.comparison_report(answer))
    json.dumps(answer.as_dict(), allow_nan=False)


def test_members_of_a_class_keep_their_weights(folder: Path):
    side = side_of("four", str(folder / "four" / "result.safetensors"))
    rows, weights = replace(side, weights=torch.arange(40.0)).members("3")
    assert rows.tolist() == weights.tolist() == [12, 13, 14, 15]


def test_a_picture_of_estimates_below_zero_and_of_none(folder: Path):
    request = request_of(
        {"real": "digits", "sets": {"$a_b$": "digits:test"}, "discrepancies": "mean,covering_radius", "resamples": 10}
        | {"permutations": 19}
    )
    answer = compare(request)
    low = replace(answer.rows[-1], discrepancy="mean", group="all", estimate=-0.1)
    rows = [replace(row, estimate=None) if row.discrepancy == "covering_radius" else row for row in answer.rows]
    rows = [low if row.discrepancy == "mean" and row.group == "all" else row for row in rows]
    figure = report.drawn(replace(answer, rows=tuple(rows)))
    figure.canvas.draw()
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "10" in texts
