"""A backbone of torchvision with weights from a file, as the embedding of a run on the command line."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from experiments.cli import main
from objectives.artefact import SyntheticSet


def run(out: Path, network: str) -> int:
    options = ["--set", f"context.network={network}", "--set", "context.batch=4", "--set", "solver.lr=1e-9"]
    return main(["run", "dm", "--data", "digits", "--per-class", "1", "--steps", "2", *options, "--out", str(out)])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(resnet18().state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_a_layer_of_a_backbone_is_matched(tmp_path: Path, weights: Path):
    network = f"{{kind: backbone, module: resnet18, weights: {weights}, layer: layer1, side: 32}}"
    assert run(tmp_path / "run", network) == 0
    made = SyntheticSet.load(tmp_path / "run" / "result.safetensors")
    assert made.record["config"]["context"]["network"]["layer"] == "layer1"
    assert made.record["config"]["context"]["network"]["weights"] == str(weights)
    assert made.points.isfinite().all()


def test_a_typo_in_the_layer(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]):
    network = f"{{kind: backbone, module: resnet18, weights: {weights}, layer: layr1, side: 32}}"
    assert run(tmp_path / "run", network) == 2
    assert "'layr1', did you mean 'layer1'?" in capsys.readouterr().err
