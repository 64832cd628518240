"""Memory that runs out is said to have run out, in one sentence; no file is blamed for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image

from discrepancy.errors import NonFinite, out_of_memory
from experiments.cli import main
from experiments.data import Images, Npz, Torchvision
from experiments.folder import RunFolder
from objectives.synthetic.artefact import SyntheticSet


def too_much_of_torch(*_: Any, **__: Any) -> Any:
    return torch.empty(1 << 55)


def too_much_of_numpy(*_: Any, **__: Any) -> Any:
    return np.empty(1 << 58)


def on_a_gpu(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB")


def by_the_system(*_: Any, **__: Any) -> Any:
    raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize(
    ("happens", "amount"),
    [
        (too_much_of_torch, "144115188075855872 bytes"),
        (too_much_of_numpy, "2.00 EiB"),
        (on_a_gpu, "2.00 GiB"),
        (by_the_system, ""),
    ],
    ids=["torch", "numpy", "gpu", "system"],
)
def test_a_command_says_what_to_lower(happens: Callable[..., Any], amount: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.commands.running.run_experiment", happens)
    assert main(["run", "dm", "--data", "digits", "--out", str(tmp_path / "run"), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"condense: out of memory{f', when {amount} more were asked for' if amount else ''}; use fewer"
    )
    assert len(said.splitlines()) == 1


def test_other_errors_are_no_want_of_memory():
    for error in (ValueError("no such file"), NonFinite("out of memory"), RuntimeError("mat1 and mat2 differ")):
        assert out_of_memory(error) is None


def test_no_file_is_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image, arrays, artefact = tmp_path / "imgs" / "a" / "1.png", tmp_path / "x.npz", tmp_path / "x.safetensors"
    image.parent.mkdir(parents=True)
    Image.new("L", (4, 4)).save(image)
    np.savez(arrays, x=np.zeros((3, 2)))
    for name in ("checkpoint.pt", artefact.name):
        (tmp_path / name).write_bytes(b"anything")
    readers = "torchvision.datasets.MNIST", "PIL.Image.open", "numpy.lib.format.read_array", "torch.load"
    for name in (*readers, "safetensors.safe_open"):
        monkeypatch.setattr(name, by_the_system)
    monkeypatch.setattr(safetensors.torch, "load_file", by_the_system)
    attempts: list[Callable[[], object]] = [
        Torchvision(name="MNIST", root=str(tmp_path)).load,
        Images(path=str(tmp_path / "imgs")).load,
        Npz(path=str(arrays)).load,
        lambda: RunFolder(tmp_path).load(torch.device("cpu")),
        lambda: SyntheticSet.load(artefact),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match="Cannot allocate memory"):
            attempt()
