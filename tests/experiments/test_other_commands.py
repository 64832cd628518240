"""The commands besides run: evaluate, show, export, methods, kinds; and parts of the user's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commanding import TINY, finished, run, template
from PIL import Image

from experiments.cli import main
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["finished", "template"]


def test_evaluate_beside_controls(finished: Path, capsys: pytest.CaptureFixture[str]):
    small = ["--set", "network.width=4", "--set", "epochs=3", "--networks", "2", "--quiet"]
    assert main(["evaluate", str(finished / "result.safetensors"), "--controls", "random,herding,whole", *small]) == 0
    table = capsys.readouterr().out
    for name in ("condensed", "random", "herding", "whole"):
        assert name in table
    assert main(["evaluate", str(finished / "result.safetensors"), "--controls", "none", "--json", *small]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["rows"]) == ["condensed"]
    assert found["rows"]["condensed"]["n"] == 2
    assert len(found["protocol"]["hash"]) == 12


def test_show_prints_a_method_that_run_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", "dm"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert (
        main(["run", str(tmp_path / "mine.yaml"), *TINY, "--steps", "2", "--out", str(tmp_path / "run"), "--quiet"])
        == 0
    )


def test_show_describes_an_artefact(finished: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert main(["show", str(finished / "result.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "1x8x8" in shown
    assert "siamese" in shown


def test_methods_and_kinds_are_listed(capsys: pytest.CaptureFixture[str]):
    assert main(["methods"]) == 0
    assert "Distribution matching" in capsys.readouterr().out
    assert main(["kinds", "solver"]) == 0
    listed = capsys.readouterr().out
    assert "herding" in listed
    assert "convnet" not in listed
    assert main(["kinds", "--json"]) == 0
    assert {"kernel", "discrepancy", "context"} <= json.loads(capsys.readouterr().out).keys()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "--step"], ["methods"]], ids=" ".join)
def test_names_are_listed_without_torch(arguments: list[str]):
    code = f"""
import sys
from experiments.cli import main
try:
    main({arguments})
except SystemExit:
    pass
print({{"torch", "matplotlib", "numpy", "scipy"}} & sys.modules.keys(), file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr.endswith("set()\n")


@pytest.mark.slow
def test_every_kind_is_known_in_a_new_process():
    code = """
import importlib, pkgutil
from discrepancy.discrepancy import Discrepancy
from experiments.config import known
from experiments.config.hints import kinds_of
assert "sliced_wasserstein" in kinds_of(Discrepancy)
from objectives.synthetic.parameterisation import Parameterisation
assert "bases" in kinds_of(Parameterisation)
names = lambda: {(family, kind.kind) for family, kinds in known().items() for kind in kinds}
first = names()
for package in ("discrepancy", "objectives", "experiments"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
assert len(first) > 100
assert names() == first, names() - first
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_export_to_images_and_npz(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    artefact = str(finished / "result.safetensors")
    synthetic = SyntheticSet.load(artefact)
    assert main(["export", artefact, str(tmp_path / "images")]) == 0
    files = sorted((tmp_path / "images").rglob("*.png"))
    assert len(files) == 10
    assert {path.parent.name for path in files} == set(synthetic.classes)
    with Image.open(files[3]) as image:
        shown = np.asarray(image).astype(float)
    expected = (synthetic.points[3, 0] / 16 * 255).round().clamp(0, 255).numpy()
    np.testing.assert_array_equal(shown, expected)
    assert main(["export", artefact, str(tmp_path / "set.npz")]) == 0
    with np.load(tmp_path / "set.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["x"], synthetic.points.numpy())
        assert arrays["y"].tolist() == list(range(10))
    assert main(["export", artefact, str(tmp_path / "images")]) == 2
    assert "is not an empty folder" in capsys.readouterr().err


def test_a_folder_with_packages_of_the_users_own(tmp_path: Path):
    for name in ("experiments", "objectives", "discrepancy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")
    script = Path(sys.executable).with_name("condense")
    found = subprocess.run([script, "methods"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "herding" in found.stdout


def test_parts_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.py").write_text(
        "from discrepancy.kernels import Kernel, Linear\n"
        "from objectives import Penalty\n"
        "class Small(Penalty, kind='small_by_test'):\n"
        "    takes = frozenset({'points'})\n"
        "    def __call__(self, taken, labels, weights):\n"
        "        return taken['points'].square().mean()\n"
    )
    change = "objective.terms.small={penalty: small_by_test, weight: 0.5}"
    folder = tmp_path / "run"
    arguments = [
        "--import",
        str(tmp_path / "mine.py"),
        "--set",
        change,
        "--steps",
        "2",
        "--quiet",
        "--out",
        str(folder),
    ]
    assert run(*arguments) == 0
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert set(line["terms"]) == {"features", "small"}


def test_the_version_of_the_environment_does_not_leak_into_the_artefact(finished: Path):
    assert os.environ["HOME"] not in json.dumps(dict(SyntheticSet.load(finished / "result.safetensors").record))
