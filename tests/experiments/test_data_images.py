from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discrepancy.errors import InvalidInput
from experiments.data import Images

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def put(image: Image.Image, *path: Path | str) -> None:
    file = Path(*path)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five grey images."""
    for name in ("cat", "dog"):
        for number in range(5):
            put(Image.fromarray(GREY + np.uint8(number)), tmp_path, "set", name, f"{number}.png")
    return tmp_path / "set"


def test_grey_folders_stay_grey(folder: Path) -> None:
    data = Images(path=str(folder)).load()
    assert (data.name, data.classes, data.shape, data.train.per_class) == ("set", ("cat", "dog"), (1, 5, 7), (4, 4))
    assert data.test is not None
    assert len(data.test) == 2
    assert data.limits == (0.0, 255.0)


def test_every_pixel_and_label(tmp_path: Path) -> None:
    for part, name, value in (("train", "a", 1), ("train", "b", 2), ("test", "b", 3), ("test", "a", 4)):
        put(Image.fromarray(COLOUR + np.uint8(value)), tmp_path, part, name, "0.png")
    data = Images(path=str(tmp_path)).load()
    expected = COLOUR.transpose(2, 0, 1)
    np.testing.assert_array_equal(data.train.points, np.stack([expected + np.uint8(1), expected + np.uint8(2)]))
    assert data.test is not None
    np.testing.assert_array_equal(data.test.points, np.stack([expected + np.uint8(4), expected + np.uint8(3)]))
    assert data.test.labels.numbers.tolist() == [0, 1]


def test_sub_folders_of_a_class_count_and_hidden_files_do_not(folder: Path) -> None:
    put(Image.fromarray(GREY), folder, "cat", "deep", "x.png")
    put(Image.fromarray(COLOUR), folder, "cat", ".thumbnails", "x.png")
    (folder / "cat" / ".DS_Store").write_bytes(b"nothing")
    (folder / ".cache").mkdir()
    data = Images(path=str(folder)).load()
    assert data.test is not None
    assert (len(data.train) + len(data.test), data.shape) == (11, (1, 5, 7))


def test_colour_among_grey_makes_colour(folder: Path) -> None:
    put(Image.fromarray(COLOUR), folder, "cat", "x.png")
    assert Images(path=str(folder)).load().shape == (3, 5, 7)
    assert Images(path=str(folder), channels=1).load().shape == (1, 5, 7)


def palette() -> Image.Image:
    image = Image.new("P", (7, 5), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    return image


@pytest.mark.parametrize(
    ("image", "suffix", "first"),
    [
        (palette, "png", (10, 20, 30)),
        (lambda: Image.new("RGBA", (7, 5), (10, 20, 30, 255)), "png", (10, 20, 30)),
        (lambda: Image.new("LA", (7, 5), (10, 255)), "png", (10, 10, 10)),
        (lambda: Image.new("1", (7, 5), 1), "png", (255, 255, 255)),
        (lambda: Image.new("CMYK", (7, 5), (255, 0, 0, 0)), "tif", (0, 255, 255)),
    ],
    ids=["palette", "opaque-alpha", "opaque-grey-alpha", "bits", "cmyk"],
)
def test_converts(tmp_path: Path, image: Callable[[], Image.Image], suffix: str, first: tuple[int, ...]) -> None:
    put(Image.fromarray(COLOUR), tmp_path, "train", "b", f"0.{suffix}")
    put(image(), tmp_path, "train", "a", f"0.{suffix}")
    put(Image.fromarray(COLOUR), tmp_path, "test", "b", f"0.{suffix}")
    assert tuple(Images(path=str(tmp_path)).load().train.points[0, :, 0, 0].tolist()) == first


def test_turned_as_the_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    for part, name in (("train", "a"), ("train", "b"), ("test", "a")):
        (tmp_path / part / name).mkdir(parents=True)
        Image.fromarray(GREY).save(tmp_path / part / name / "0.png", exif=exif)
    np.testing.assert_array_equal(Images(path=str(tmp_path)).load().train.points[0, 0], np.rot90(GREY, -1))


def translucent_palette() -> Image.Image:
    image = palette()
    image.info["transparency"] = bytes([0, 100])
    return image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda: Image.new("RGBA", (7, 5), (10, 20, 30, 254)), "has transparent pixels; flatten it onto a background"),
        (translucent_palette, "has transparent pixels"),
        (lambda: Image.fromarray(GREY.astype(np.uint16) * 256), r"has more than 8 bits a channel \(mode I;16\)"),
        (lambda: Image.new("L", (8, 5)), r"0.png has 7 x 5 pixels and .*odd.png 8 x 5; set 'size'"),
    ],
    ids=["alpha", "palette-alpha", "16-bit", "size"],
)
def test_refuses_by_name(folder: Path, image: Callable[[], Image.Image], message: str) -> None:
    put(image(), folder, "dog", "odd.png")
    with pytest.raises(InvalidInput, match=f"odd.png.*{message}" if "odd" not in message else message):
        Images(path=str(folder)).load()


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"], ids=["empty", "text", "truncated"])
def test_refuses_what_is_no_image(folder: Path, content: bytes) -> None:
    (folder / "cat" / "odd.png").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"odd.png cannot be read as an image \(\w+\); replace or remove it"):
        Images(path=str(folder)).load()


def test_refuses_half_an_image(folder: Path) -> None:
    whole = (folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "odd.png").write_bytes(whole[: len(whole) - 30])
    with pytest.raises(InvalidInput, match=r"odd.png cannot be read as an image"):
        Images(path=str(folder)).load()


def test_size_crops_the_middle_and_resizes(tmp_path: Path) -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    put(Image.fromarray(wide), tmp_path, "train", "a", "0.png")
    put(Image.new("RGB", (9, 9)), tmp_path, "train", "b", "0.png")
    put(Image.new("RGB", (9, 9)), tmp_path, "test", "b", "0.png")
    data = Images(path=str(tmp_path), size=2).load()
    assert data.shape == (3, 2, 2)
    assert data.train.points[0].unique().tolist() == [200]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", "there is no folder none; correct the path"),
        ("set/cat", "has no folders of classes; it must hold FOLDER/CLASS/IMAGE"),
        ("one", "must have at least two classes"),
        ("empty", "dog holds no images; remove the folder or add some"),
    ],
)
def test_refuses_folders(folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str) -> None:
    monkeypatch.chdir(folder.parent)
    put(Image.fromarray(GREY), "one", "cat", "0.png")
    put(Image.fromarray(GREY), "empty", "cat", "0.png")
    Path("empty", "dog").mkdir()
    with pytest.raises(InvalidInput, match=message):
        Images(path=path).load()


@pytest.mark.parametrize(
    ("fields", "message"), [({"size": 0}, "'size' must be"), ({"fraction": 0.0}, "'fraction' must")]
)
def test_refuses_fields(fields: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Images(path="x", **fields)  # pyright: ignore[reportArgumentType]
