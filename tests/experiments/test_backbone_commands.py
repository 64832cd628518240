"""A backbone of torchvision with weights from a file, as the embedding of a run on the command line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torchvision.models import resnet18

from experiments.cli import main
from experiments.data import Digits
from objectives import LabelledData
from objectives.synthetic.artefact import SyntheticSet


def run(out: Path, network: str) -> int:
    still = ["--set=context.batch=all", "--set=context.augment=null", "--set=solver.lr=1e-9", "--steps=1"]
    command = ["run", "dm", "--data", "digits", "--per-class", "1", *still, f"--set=context.network={network}"]
    return main([*command, "--quiet", "--out", str(out)])


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(resnet18().state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture(scope="module")
def digits() -> LabelledData:
    return Digits().load()


@torch.no_grad()
def features(weights: Path, points: Tensor) -> Tensor:
    """The output of ``layer1`` of torchvision's own module, of grey images in normalised units."""
    module = resnet18().eval()
    module.load_state_dict(load_file(weights))
    kept: list[Tensor] = []
    module.layer1.register_forward_hook(lambda layer, inputs, output: kept.append(output.flatten(1)))
    for part in points.split(200):
        module(functional.interpolate(part.expand(-1, 3, -1, -1), (32, 32), mode="bilinear"))
    return torch.cat(kept).double()


def test_a_layer_of_a_backbone_is_matched(tmp_path: Path, weights: Path, digits: LabelledData):
    """Σ_c ‖mean of the real features - the synthetic ones‖², with torchvision's own module and hook."""
    network = f"{{kind: backbone, module: resnet18, weights: {weights}, layer: layer1, side: 32}}"
    assert run(tmp_path / "run", network) == 0
    made = SyntheticSet.load(tmp_path / "run" / "result.safetensors")
    real, synthetic = (
        features(weights, digits.normalisation.apply(points)) for points in (digits.train.points, made.points)
    )
    means = torch.stack([real[digits.train.labels.numbers == label].mean(0) for label in made.numbers])
    found = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["loss"]
    assert found == pytest.approx(float((means - synthetic).square().sum()), rel=1e-4)


def test_a_typo_in_the_layer(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]):
    network = f"{{kind: backbone, module: resnet18, weights: {weights}, layer: layr1, side: 32}}"
    assert run(tmp_path / "run", network) == 2
    assert "'layr1', did you mean 'layer1'?" in capsys.readouterr().err
