"""``condense compare``, as a person uses it, on the packaged digits."""

import contextlib
import csv
import io
import json
from pathlib import Path

import pytest
from comparing import QUICK, artefact, digits, folder, printed, row
from PIL import Image

from discrepancy import MMD, Gaussian, Measure
from discrepancy.embeddings import Features
from discrepancy.networks import ConvNet
from experiments.cli import main
from experiments.compare import DEFAULT
from experiments.compare.embedding import Embedded
from experiments.compare.sides import side_of
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime

__all__ = ["digits", "folder"]


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
