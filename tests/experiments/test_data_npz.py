import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discrepancy.errors import InvalidInput
from experiments.data import Npz

X = np.random.default_rng(0).integers(0, 256, (23, 5, 7), dtype=np.uint8)
Y = np.arange(23) % 3


def saved(folder: Path, **arrays: Any) -> Npz:
    np.savez_compressed(folder / "some.npz", **arrays)
    return Npz(path=str(folder / "some.npz"))


def test_four_arrays(tmp_path: Path) -> None:
    data = saved(tmp_path, x_train=X, y_train=Y, x_test=X[:5], y_test=Y[:5]).load()
    assert (data.name, data.shape, len(data.train)) == ("some", (1, 5, 7), 23)
    assert data.test is not None
    np.testing.assert_array_equal(data.test.points[:, 0], X[:5])


@pytest.mark.parametrize("names", [("x", "y"), ("x_train", "y_train")], ids="-".join)
def test_a_part_of_one_pair_is_held_out(tmp_path: Path, names: tuple[str, str]) -> None:
    source = saved(tmp_path, **dict(zip(names, (X, Y), strict=True)))
    data = source.load()
    assert data.test is not None
    assert data.test.labels.numbers.bincount().tolist() == [2, 2, 1]  # a fifth of 8, 8 and 7
    assert data.train.per_class == (6, 6, 6)
    again = source.load()
    assert again.test is not None
    assert data.train.fingerprint() == again.train.fingerprint()
    assert data.test.fingerprint() == again.test.fingerprint()


def test_held_out_examples_have_no_part_in_the_normalisation(tmp_path: Path) -> None:
    data = saved(tmp_path, x=X, y=Y).load()
    assert data.normalisation.mean == pytest.approx((data.train.points.double().mean().item(),))


def test_fields_reach_the_data(tmp_path: Path) -> None:
    path = saved(
        tmp_path, x=X / 255.0, y=np.array(["b", "a", "c"])[Y], groups=Y, classes=np.array(["b", "a", "c"])
    ).path
    data = Npz(path=path, fraction=0.5, mirror=True, limits=(0.0, 1.0)).load()
    assert (data.classes, data.mirror, data.limits) == (("b", "a", "c"), True, (0.0, 1.0))
    assert data.train.groups is not None
    assert data.train.groups.tolist() == data.train.labels.numbers.tolist()
    assert data.train.per_class == (4, 4, 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": Y}, r"has no array 'x', only y; it must have x_train, y_train, x_test and y_test, or x and y"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "has no array 'y_test', only x_test, x_train, y_train"),
        ({"x_test": X, "y_test": Y}, "has no array 'x_train', only x_test, y_test"),
        ({"images": X, "labels": Y}, "has no array 'x', only images, labels"),
        ({"x": X, "y": np.array([{}] * 23)}, "holds pickled Python objects in array 'y', which are never read"),
        ({"x": X, "y": Y[:4]}, "some.npz: training data: 4 labels do not fit 23 points"),
        ({"x": X / 0.1 * np.nan, "y": Y}, "some.npz: training data: 805 values of the points are NaN"),
        ({"x_train": X, "y_train": Y, "x_test": X[:1], "y_test": [9]}, "some.npz: test data: labels contain '9'"),
        (
            {"x": X.astype(np.longdouble), "y": Y},
            "points must hold numbers of at most 64 bits .* got an array of float128",
        ),
        ({"x": X, "y": np.array(3)}, r"labels must have shape \(n,\), .* got \(\)"),
        (
            {"x": X, "y": Y, "classes": np.array("abc")},
            r"'classes' must be a list of names, got an array of shape \(\)",
        ),
        ({"x": X, "y": Y, "classes": np.arange(3.0)}, "'classes' must be a list of names, .* type float64"),
    ],
    ids=[
        "no-x",
        "no-y_test",
        "no-train",
        "other-names",
        "pickle",
        "length",
        "nan",
        "unseen",
        "long",
        "0-d",
        "text",
        "floats",
    ],
)
def test_refuses_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        saved(tmp_path, **arrays).load()


def test_arrays_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    source = saved(tmp_path, x=X, y=Y, extra=np.array([{}] * 23))
    assert len(source.load().train) == 18


def header(*shape: int) -> bytes:
    """The first bytes of an array of this shape, without its values."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_refuses_by_the_header_what_does_not_fit_into_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.npz", "w") as file:
        file.writestr("x.npy", header(10**12, 3))
        file.writestr("y.npy", header(10**12))
    with pytest.raises(InvalidInput, match=r"some.npz: its arrays need 2.98e\+04 GiB, and .* GiB are free"):
        Npz(path=str(tmp_path / "some.npz")).load()


def test_refuses_an_encrypted_file(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, x=X, y=Y).path)
    content = path.read_bytes()
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of each member, twice in a zip file
        parts = content.split(mark)
        content = mark.join(
            [parts[0], *(bytes([*p[: place - 4], p[place - 4] | 1, *p[place - 3 :]]) for p in parts[1:])]
        )
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"some.npz is encrypted \(array 'x'\)"):
        Npz(path=str(path)).load()


def test_refuses_a_pipe_and_a_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    for name in ("pipe.npz", "folder.npz"):
        with pytest.raises(InvalidInput, match=rf"{name} is not a file"):
            Npz(path=str(tmp_path / name)).load()


@pytest.mark.parametrize("path", ["~nobody-at-all/x.npz", "x\0.npz", "x" * 300 + ".npz"], ids=["user", "nul", "long"])
def test_refuses_what_can_be_no_path(path: str) -> None:
    with pytest.raises(InvalidInput, match=r"'path' (begins with|contains the character NUL|has a name of 304 bytes)"):
        Npz(path=path)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file .*none.npz; correct the path"):
        Npz(path=str(tmp_path / "none.npz")).load()


@pytest.mark.parametrize("keep", [0, 1, 100, -30])
def test_refuses_a_truncated_file(tmp_path: Path, keep: int) -> None:
    path = Path(saved(tmp_path, x=X, y=Y).path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidInput, match=r"some.npz (cannot be read as an npz file|holds pickled Python objects)"):
        Npz(path=str(path)).load()


def test_refuses_a_damaged_array(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, x=X, y=Y).path)
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(
        InvalidInput, match=r"some.npz cannot be read as an npz file \(\w+ in array 'x'\); it is truncated"
    ):
        Npz(path=str(path)).load()


def test_refuses_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.save(path.with_suffix(".npy"), np.array([{}]), allow_pickle=True)
    path.with_suffix(".npy").rename(path)
    with pytest.raises(InvalidInput, match=r"evil.npz holds a single array and no names"):
        Npz(path=str(path)).load()
    path.write_bytes(pickle.dumps([X, Y]))
    with pytest.raises(InvalidInput, match=r"evil.npz cannot be read as an npz file \(a pickle, which is never read\)"):
        Npz(path=str(path)).load()


def test_refuses_a_single_array(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(InvalidInput, match=r"one.npz holds a single array and no names; write it with numpy.savez"):
        Npz(path=str(tmp_path / "one.npz")).load()


def test_refuses_a_fraction_of_everything() -> None:
    with pytest.raises(InvalidInput, match="'fraction' must lie strictly between 0 and 1, got 1"):
        Npz(path="x.npz", fraction=1.0)
