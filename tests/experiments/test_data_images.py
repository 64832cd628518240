import itertools
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discrepancy.errors import DataWarning, InvalidInput
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
        (lambda: Image.new("1", (1 << 14, 1 << 13)), r"has 16384 x 8192 pixels, and at most 67,108,864 are read"),
    ],
    ids=["alpha", "palette-alpha", "16-bit", "size", "large"],
)
def test_refuses_by_name(folder: Path, image: Callable[[], Image.Image], message: str) -> None:
    put(image(), folder, "dog", "odd.png")
    with pytest.raises(InvalidInput, match=f"odd.png.*{message}" if "odd" not in message else message):
        Images(path=str(folder)).load()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deep_png(colour: int, channels: int) -> bytes:
    """An image of 7 x 5 with 16 bits a channel, which Pillow does not write."""
    rows = b"".join(b"\0" + RNG.bytes(7 * channels * 2) for _ in range(5))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("odd.png", deep_png(2, 3)),
        ("odd.png", deep_png(4, 2)),
        ("odd.png", deep_png(6, 4)),
        ("odd.ppm", b"P6 7 5 65535\n" + bytes(7 * 5 * 6)),
    ],
    ids=["colour", "grey-alpha", "colour-alpha", "ppm"],
)
def test_refuses_16_bits_a_channel_that_pillow_would_cut_to_8(folder: Path, name: str, content: bytes) -> None:
    (folder / "cat" / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=f"{name} has more than 8 bits a channel"):
        Images(path=str(folder)).load()


@pytest.mark.parametrize("ending", ["tif", "png", "webp"])
def test_refuses_several_pages(folder: Path, ending: str) -> None:
    pages = [Image.new("RGB", (7, 5), (60 * number, 0, 0)) for number in range(3)]
    pages[0].save(folder / "cat" / f"odd.{ending}", save_all=True, append_images=pages[1:])
    with pytest.raises(InvalidInput, match=rf"odd.{ending} has 3 pages or frames"):
        Images(path=str(folder)).load()


@pytest.mark.parametrize(
    "names", [("train", "test"), ("train", "val"), ("training", "testing"), ("Train", "Test")], ids="-".join
)
def test_parts_by_the_names_that_are_usual(tmp_path: Path, names: tuple[str, str]) -> None:
    for part, name, number in itertools.product(names, "01", range(2)):
        put(Image.fromarray(GREY + np.uint8(number)), tmp_path, part, name, f"{number}.png")
    data = Images(path=str(tmp_path)).load()
    assert data.test is not None
    assert (data.classes, len(data.train), len(data.test)) == (("0", "1"), 4, 4)


def test_what_is_left_out_is_named_once(tmp_path: Path) -> None:
    for part, name in itertools.product(("train", "test", "val", "raw"), "01"):
        put(Image.fromarray(GREY), tmp_path, part, name, "0.png")
    for name in ("a.txt", "b.csv", ".DS_Store"):
        (tmp_path / "train" / "0" / name).write_text("no image")
    with pytest.warns(
        DataWarning, match=r"left out are the folders 'raw', 'val' beside train and test; 2 files .*'0/a.txt'"
    ):
        data = Images(path=str(tmp_path)).load()
    assert data.test is not None
    assert (data.classes, len(data.train), len(data.test)) == (("0", "1"), 2, 2)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train/a", "Train/a"), "has the folders 'Train', 'train', which are the same part"),
        (("test/a", "val/a"), "has 'test', 'val' and no folder 'train'"),
        (("train/a", "dog"), "has the folder 'train' with classes in it beside 'dog'"),
    ],
    ids=["twice", "no-train", "train-and-class"],
)
def test_refuses_parts_that_cannot_be_told_from_classes(tmp_path: Path, folders: tuple[str, ...], message: str) -> None:
    for name in folders:
        put(Image.fromarray(GREY), tmp_path, name, "0.png")
    with pytest.raises(InvalidInput, match=message):
        Images(path=str(tmp_path)).load()


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        for number in range(5):
            put(Image.fromarray(GREY), tmp_path, name, f"{number}.png")
    assert Images(path=str(tmp_path)).load().classes == ("bus", "train")


def test_refuses_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "odd.png")
    with pytest.raises(InvalidInput, match=r"odd.png is not a regular file"):
        Images(path=str(folder)).load()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x89PNG\r\n\x1a\n", POSTSCRIPT], ids=["empty", "text", "truncated", "postscript"]
)
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
