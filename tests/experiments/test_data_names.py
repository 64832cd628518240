from pathlib import Path

import pytest

from discrepancy.errors import InvalidInput
from experiments.data import Digits, Images, Npz, Source, Torchvision, source_named


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("digits", Digits()),
        ("fashion-mnist", Torchvision(name="FashionMNIST", root="/root")),
        ("cifar10", Torchvision(name="CIFAR10", root="/root")),
        ("CIFAR-100", Torchvision(name="CIFAR100", root="/root")),
        ("some/x.npz", Npz(path="some/x.npz")),
    ],
)
def test_names(text: str, source: Source) -> None:
    assert source_named(text, root="/root") == source


def test_folders(tmp_path: Path) -> None:
    assert source_named(str(tmp_path)) == Images(path=str(tmp_path))


def test_a_name_comes_before_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert source_named("digits") == Digits()
    assert source_named("./digits") == Images(path="./digits")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fashon-mnist",
            "no data called 'fashon-mnist'.*not one of digits, diabetes, MNIST, .*; did you mean FashionMNIST",
        ),
        ("digit", "did you mean digits"),
        ("some/where/else", "it is not a file or folder, .*; correct the name or the path"),
        (__file__, "is neither an .npz file nor a folder of images"),
    ],
    ids=["typo", "digit", "path", "other-file"],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        source_named(text)
