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
    ],
    ids=["no-x", "no-y_test", "no-train", "other-names", "pickle", "length", "nan", "unseen"],
)
def test_refuses_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        saved(tmp_path, **arrays).load()


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
    with pytest.raises(InvalidInput, match=r"evil.npz holds pickled Python objects, which are never read"):
        Npz(path=str(path)).load()


def test_refuses_a_single_array(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(InvalidInput, match=r"one.npz has no array 'x', only \(a single array\)"):
        Npz(path=str(tmp_path / "one.npz")).load()


def test_refuses_a_fraction_of_everything() -> None:
    with pytest.raises(InvalidInput, match="'fraction' must lie strictly between 0 and 1, got 1"):
        Npz(path="x.npz", fraction=1.0)
