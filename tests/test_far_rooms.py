"""What is around the methods, on an accelerator: discrepancies, a run with its folder, evaluation, comparison, study."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import far
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._pytree import tree_map_only

from discrepancy import Discrepancy, Measure
from experiments.cli import main

sys.path.insert(0, str(Path(__file__).with_name("discrepancy")))

from contract import DiscrepancyContract, claims
from test_parts import contract_classes

pytestmark = pytest.mark.cuda

NETWORK = {"kind": "convnet", "width": 4, "depth": 2}
SMALL = ["--set", "context.network.width=4", "--set", "context.network.depth=2"]
TIMES = ("seconds", "peak_bytes", "device")

# --- discrepancies ------------------------------------------------------------------------------------------------------------


def instances() -> dict[str, tuple[DiscrepancyContract, Discrepancy]]:
    """Every instance under the contract, once."""
    found: dict[Discrepancy, tuple[str, DiscrepancyContract]] = {}
    for contract in sorted(contract_classes(), key=lambda cls: (cls.__module__, cls.__qualname__)):
        for name, discrepancy in getattr(contract, "instances", {}).items():
            found.setdefault(discrepancy, (f"{contract.__name__}-{name}", contract()))
    return {name: (contract, discrepancy) for discrepancy, (name, contract) in found.items()}


INSTANCES = instances()


def value_and_gradient(contract: Any, discrepancy: Discrepancy, device: torch.device | str) -> list[Tensor]:
    """D(mu, nu), and its gradient by the points of nu where there is one."""

    def moved(tree: Any) -> Any:
        return tree_map_only(Tensor, lambda tensor: tensor.to(device), tree)

    mu, nu = (
        Measure(moved(side.points), moved(side.weights), moved(side.labels))
        for side in (contract.sample(7, 1), contract.sample(5, 2, shift=0.5))
    )
    if "differentiable" not in claims(discrepancy):
        return [discrepancy(mu, nu, moved(contract.draws(discrepancy))).cpu()]
    leaves = {name: points.requires_grad_() for name, points in nu.tensors.items()}
    value = discrepancy(mu, nu, moved(contract.draws(discrepancy)))
    return [value.detach().cpu(), *(grad.cpu() for grad in torch.autograd.grad(value, list(leaves.values())))]


@pytest.mark.parametrize("name", INSTANCES)
def test_a_discrepancy_has_the_cpus_value_and_gradient(name: str, accelerator: torch.device) -> None:
    on_cpu, there = (value_and_gradient(*INSTANCES[name], device) for device in ("cpu", accelerator))
    torch.testing.assert_close(there, on_cpu, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["TestMMD-linear", "TestMoments-mean", "TestCharacteristicFunction-plain"])
def test_checking_two_measures_waits_once_for_each(name: str, pretended: torch.device) -> None:
    before = sum(far.host_waits().values())
    value_and_gradient(*INSTANCES[name], pretended)
    assert sum(far.host_waits().values()) - before == 2 + 2  # and the value and the gradient are copied


# --- commands -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets to be looked at, made on the CPU."""
    path = tmp_path_factory.mktemp("sets")
    for words in (["dm", "--steps", "3", *SMALL], ["frepo", "--steps", "3", *SMALL], ["ridge"]):
        assert main(condensing(*words, device="cpu", out=path / words[0])) == 0
    return path


def condensing(method: str, *words: str, device: torch.device | str, out: Path) -> list[str]:
    common = ["--data", "digits", "--per-class", "1", "--set", "compile=never", "--set", "dtype=float64", "--quiet"]
    return ["run", method, *words, *common, "--device", str(device), "--out", str(out)]


def printed(words: list[str], device: torch.device | str, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command prints as JSON, without times and places."""
    capsys.readouterr()
    assert main([*words, "--device", str(device), "--json", "--quiet"]) == 0
    return without_times(json.loads(capsys.readouterr().out))


def without_times(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: without_times(value) for key, value in tree.items() if not any(word in key for word in TIMES)}
    return [without_times(value) for value in tree] if isinstance(tree, list) else tree


def near(tree: Any, tolerance: float) -> Any:
    """The same with numbers that need not be equal; with an infinite tolerance any number will do."""
    if isinstance(tree, dict):
        return {key: near(value, tolerance) for key, value in tree.items()}
    if isinstance(tree, list):
        return [near(value, tolerance) for value in tree]
    return pytest.approx(tree, rel=tolerance, abs=tolerance) if isinstance(tree, float) else tree


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "dm", "--protocol", "quick", "--networks", "1", "--set", "epochs=2", "--controls", "random"],
        ["evaluate", "frepo", "--protocol", "learner", "--networks", "1"],
        ["evaluate", "ridge", "--protocol", "learner"],
        ["compare", "dm", "--discrepancies", "mmd,mean,moments,sliced_wasserstein", "--by", "none"],
        [
            "compare",
            "dm",
            "--discrepancies",
            "mean",
            "--by",
            "class",
            "--via",
            "features",
            "--network",
            json.dumps(NETWORK),
        ],
    ],
    ids=["by networks", "by kernel ridge", "by ridge", "points", "features"],
)
def test_a_table_is_that_of_the_cpu(
    words: list[str], folder: Path, accelerator: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    command, name, *options = words
    made = str(folder / name / "result.safetensors")
    if command == "compare":
        words = ["compare", "digits", made, *options, "--set", "resamples=10", "--set", "permutations=19"]
    else:
        words = ["evaluate", made, *options]
    found, expected = (printed(words, device, capsys) for device in (accelerator, "cpu"))
    assert found == near(expected, 3e-6 if accelerator.type == "far" else 0.1)  # a GPU trains networks in TF32


STUDY = {
    "data": "digits",
    "per_class": [1],
    "real": 5,
    "protocol": {"kind": "scratch", "network": NETWORK, "networks": 1, "epochs": 1},
    "resamples": 20,
    "sets": {
        "random": {"kind": "random", "count": 2},
        "noise": {"kind": "noise", "count": 1},
        "dm": {
            "kind": "condensed",
            "objective": {"terms": {"features": {"match": "mmd", "via": "features"}}},
            "context": {"kind": "fresh", "batch": 5, "network": NETWORK},
            "stages": [3],
            "count": 1,
        },
    },
    "views": {"network": {"via": "features", "network": NETWORK, "n_draws": 1}},
    "by_class": {"mean": "mmd"},
    "whole": {"moments": "moments"},
}


def test_a_study_is_that_of_the_cpu(
    tmp_path: Path, accelerator: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(STUDY), encoding="utf-8")  # JSON is YAML
    found, expected = (
        printed(["study", "predict", str(file), "--out", str(tmp_path / name)], device, capsys)
        for name, device in (("there", accelerator), ("cpu", "cpu"))
    )
    assert found == near(expected, 1e-6 if accelerator.type == "far" else math.inf)  # correlations of four sets jump


@pytest.mark.parametrize("method", ["dm", "dc", "ncfm"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    method: str, tmp_path: Path, accelerator: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optimiser, scheduler and networks in training go through a file and back to the accelerator."""
    from experiments import folder as folders

    small = [*SMALL, "--steps", "4", "--checkpoint-every", "2"]
    if method == "ncfm":
        small += [word for n in ("trained=1", "size=1", "training.steps=2") for word in ("--set", f"context.{n}")]
    assert main(condensing(method, *small, device=accelerator, out=tmp_path / "whole")) == 0
    saved = folders.RunFolder.save

    def stop(self: Any, *arguments: Any) -> None:
        saved(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders.RunFolder, "save", stop)
        assert main(condensing(method, *small, device=accelerator, out=tmp_path / "parts")) != 0
    assert not (tmp_path / "parts" / "result.safetensors").exists()
    assert main([*condensing(method, *small, device=accelerator, out=tmp_path / "parts"), "--resume"]) == 0
    whole, parts = (load_file(tmp_path / name / "result.safetensors") for name in ("whole", "parts"))
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)
