"""Three steps of every packaged method on digits give the numbers that they have always given, to 1e-5.

Each set is known by two numbers of its points: their norm, and their inner product with cos(0), cos(1), cos(2), ... Where a
change of the values is meant, ``python tests/experiments/test_three_steps.py`` writes the numbers anew.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experiments.benchmarks.same_values import GROUPED, METHODS, NETWORK, SETTINGS, STEPLESS
from experiments.cli import main as condense
from objectives.methods import available

KNOWN = Path(__file__).with_name("three_steps.json")


def numbers_of(method: str, folder: Path) -> dict[str, float]:
    """The two numbers of a short run in float64."""
    data = "{kind: clustered, of: digits}" if method in GROUPED else "digits"
    words = ["run", method, "--data", data, "--per-class", "2", *SETTINGS.get(method, NETWORK)]
    words += [] if method in STEPLESS else ["--steps", "3"]
    words += ["--set", "dtype=float64", "--set", "compile=never", "--device", "cpu", "--quiet", "--out", str(folder)]
    assert condense(words) == 0
    points = load_file(folder / "result.safetensors")["points"].double().flatten()
    return {
        "norm": float(points.norm()),
        "inner": float(points @ torch.arange(len(points), dtype=torch.float64).cos()),
    }


def known() -> dict[str, Any]:
    return json.loads(KNOWN.read_text(encoding="utf-8"))


def test_every_packaged_method_is_run() -> None:
    assert set(METHODS) == set(available()) == set(known())


@pytest.mark.parametrize("method", METHODS)
def test_three_steps_give_the_numbers_that_they_always_gave(method: str, tmp_path: Path) -> None:
    found, expected = numbers_of(method, tmp_path / "run"), known()[method]
    assert abs(found["norm"] - expected["norm"]) <= 1e-5 * expected["norm"]
    assert abs(found["inner"] - expected["inner"]) <= 1e-5 * expected["norm"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = {name: numbers_of(name, Path(folder, name)) for name in METHODS}
    KNOWN.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    sys.exit()
