import importlib.util
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from discrepancy.errors import InvalidInput
from experiments.data import Torchvision
from experiments.data.torchvision_sets import SETS, default_root

RNG = np.random.default_rng(0)


def write_idx(folder: Path, part: str, labels: np.ndarray) -> np.ndarray:
    """One part of MNIST as published: big-endian headers, then bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    images = RNG.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, *images.shape) + images.tobytes())
    content = struct.pack(">2i", 0x801, len(labels)) + labels.astype(np.uint8).tobytes()
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(content)
    return images


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    for module in ("mnist.download_and_extract_archive", "cifar.download_and_extract_archive", "svhn.download_url"):
        monkeypatch.setattr(f"torchvision.datasets.{module}", refuse)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_reads_a_folder_without_a_network(tmp_path: Path, offline: None, name: str) -> None:
    train = write_idx(tmp_path / name / "raw", "train", np.arange(20) % 10)
    test = write_idx(tmp_path / name / "raw", "t10k", np.arange(3))
    data = Torchvision(name=name, root=str(tmp_path)).load()
    assert (data.name, data.shape, data.count, data.limits) == (name, (1, 28, 28), 10, (0.0, 255.0))
    assert data.train.points.dtype == torch.uint8
    np.testing.assert_array_equal(data.train.points[:, 0], train)
    assert data.test is not None
    np.testing.assert_array_equal(data.test.points[:, 0], test)
    assert data.test.labels.numbers.tolist() == [0, 1, 2]
    assert data.mirror == (name == "FashionMNIST")


def test_published_units(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", "train", np.arange(10))
    write_idx(tmp_path / "MNIST" / "raw", "t10k", np.arange(3))
    data = Torchvision(name="mnist", root=str(tmp_path)).load()
    expected = (data.train.points / 255 - 0.1307) / 0.3081
    torch.testing.assert_close(data.normalisation.apply(data.train.points), expected)
    assert data.classes == tuple("0123456789")


class Fake:
    """Stands for a torchvision class with the arrays that it would have read."""

    classes = tuple(f"class {number}" for number in range(10))

    def __init__(self, root: str, download: bool, train: bool = True, split: str | None = None) -> None:
        n = 20 if train and split != "test" else 10
        self.data = np.arange(n * 3 * 32 * 32).astype(np.uint8).reshape(n, 32, 32, 3)
        self.targets = [number % 10 for number in range(n)]
        if split is not None:
            self.data, self.labels = self.data.transpose(0, 3, 1, 2), np.array(self.targets)


def test_cifar_has_its_channels_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "CIFAR10", Fake)
    data = Torchvision(name="cifar10").load()
    np.testing.assert_array_equal(data.train.points, Fake("", False).data.transpose(0, 3, 1, 2))
    assert data.classes == Fake.classes
    assert data.mirror


def test_svhn_is_read_by_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "SVHN", Fake)
    data = Torchvision(name="svhn").load()
    assert data.test is not None
    assert (data.shape, len(data.train), len(data.test), data.mirror) == ((3, 32, 32), 20, 10, False)
    assert data.classes == tuple("0123456789")


@pytest.mark.parametrize("name", SETS)
def test_one_clear_line_without_data_and_network(tmp_path: Path, offline: None, name: str) -> None:
    message = rf"'{name}' is not \(or not whole\) in {tmp_path} and could not .*no network.*\); .*DISCREPANCY_DATA"
    with pytest.raises(InvalidInput, match=message) as caught:
        Torchvision(name=name, root=str(tmp_path)).load()
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_named_with_its_set(tmp_path: Path, offline: None) -> None:
    write_idx(tmp_path / "MNIST" / "raw", "train", np.arange(10))
    write_idx(tmp_path / "MNIST" / "raw", "t10k", np.arange(3))
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InvalidInput, match=rf"'MNIST' in {tmp_path} is corrupted .*delete its folder"):
        Torchvision(name="MNIST", root=str(tmp_path)).load()


def test_a_root_that_cannot_be_made(tmp_path: Path, offline: None) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"could not be downloaded .*file"):
        Torchvision(name="MNIST", root=str(tmp_path / "file")).load()


@pytest.mark.parametrize("name", ["FashionMNIST", "fashion-mnist", "Fashion_MNIST", "FASHIONMNIST"])
def test_spelling_of_names(name: str) -> None:
    assert Torchvision(name=name) == Torchvision(name="FashionMNIST")


def test_refuses_an_unknown_name() -> None:
    with pytest.raises(InvalidInput, match=r"'name' must be one of MNIST, .*, got 'cifar11'; did you mean CIFAR10"):
        Torchvision(name="cifar11")


def test_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCREPANCY_DATA", "/some/where")
    assert default_root() == Path("/some/where")
    monkeypatch.delenv("DISCREPANCY_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_root() == Path("/cache/discrepancy")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == Path.home() / ".cache" / "discrepancy"


def test_the_environment_names_the_root(tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCREPANCY_DATA", str(tmp_path))
    with pytest.raises(InvalidInput, match=f"in {tmp_path} "):
        Torchvision(name="MNIST").load()


@pytest.fixture(scope="session")
def unpack(real_data: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("unpack", real_data / "unpack.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(real_data))
    specification.loader.exec_module(module)
    return module


@pytest.mark.data
@pytest.mark.parametrize(("name", "file"), [("MNIST", "mnist.npz"), ("FashionMNIST", "fashion_mnist.npz")])
def test_real_data_equal_the_arrays(
    real_data: Path, unpack: ModuleType, tmp_path: Path, offline: None, name: str, file: str
) -> None:
    unpack.idx(real_data / file, tmp_path / name / "raw")
    data = Torchvision(name=name, root=str(tmp_path)).load()
    with np.load(real_data / file) as arrays:
        np.testing.assert_array_equal(data.train.points[:, 0], arrays["x_train"].reshape(-1, 28, 28))
        np.testing.assert_array_equal(data.train.labels.numbers, arrays["y_train"])
    assert data.normalisation.apply(data.train.points).mean().abs() < 1e-3
