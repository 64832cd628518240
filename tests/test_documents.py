"""What the documents show is run."""

import re
from pathlib import Path

import pytest
import torch

from discrepancy import Discrepancy, MeanDiscrepancy, Measure
from experiments.config import build, known, read
from experiments.config.files import parse_value
from experiments.data import Digits
from experiments.experiment import Experiment, configured
from objectives import SyntheticSet
from objectives.methods import available

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.S | re.M)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    code, _ = blocks("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert SyntheticSet.load("digits.safetensors").points.shape == (50, 1, 8, 8)


def test_the_exact_example_of_the_readme_is_exact_and_short():
    _, code = blocks("README.md", "python")
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert code.count("assert") == 2
    assert len([line for line in code.splitlines() if line]) <= 20
    assert float(names["noise"].std()) > 100


def test_the_configuration_of_the_readme_is_the_method_dm():
    (text,) = blocks("README.md", "yaml")
    shown, method = parse_value(text), read(available()["dm"])
    data = {"data": {"kind": Digits.kind}}
    del method["method"]
    assert build(Experiment, configured(shown, data)) == build(Experiment, configured(method, data))


def test_the_discrepancy_of_the_contributing_guide_works():
    code = next(block for block in blocks("CONTRIBUTING.md", "python") if "MeanVariance(MeanDiscrepancy" in block)
    names = {"MeanDiscrepancy": MeanDiscrepancy, "torch": torch, "__name__": __name__}
    try:
        exec(compile(code, "CONTRIBUTING.md", "exec"), names)
        x = torch.tensor([[0.0], [2.0]])
        value = names["MeanVariance"]()(Measure(x), Measure(x + 1))
        assert value.item() == pytest.approx(1.0**2 + (5.0 - 2.0) ** 2)
        assert len(code.splitlines()) <= 20
    finally:
        Discrepancy.members.pop("mean_variance", None)


def test_every_kind_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for family in (
        "discrepancy",
        "kernel",
        "length",
        "learner",
        "embedding",
        "network",
        "context",
        "penalty",
        "reduction",
        "parameterisation",
        "training",
        "watch",
        "mixing",
        "sampling",
        "augmentation",
        "solver",
    ):
        for kind in known()[family]:
            assert "_by_test" in kind.kind or f"`{kind.kind}`" in text, f"{family} {kind.kind} has no row in README.md"
    (methods,) = (line for line in text.splitlines() if line.startswith("| method | `"))
    assert set(re.findall(r"`(\w+)`", methods)) == set(available())
