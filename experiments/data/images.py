"""A folder of images, one sub-folder a class."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image, ImageOps

from discrepancy.errors import InvalidInput, out_of_memory
from experiments.data.base import Source, check_fraction, with_fixed_test
from objectives.data.labelled import LabelledData

__all__ = ["Images"]


class Images(Source, kind="images"):
    """``FOLDER/CLASS/IMAGE``, or ``FOLDER/train/CLASS/IMAGE`` and ``FOLDER/test/CLASS/IMAGE``; sub-folders of a class too.

    Images are turned as their camera says, and become 8-bit grey or colour. Palettes and CMYK are converted; an alpha
    channel is dropped where it is opaque throughout. Transparent images, images of more than 8 bits a channel and files that
    are no images are refused by name. Files and folders whose names begin with a dot are left out.

    Args:
        path: the folder.
        size: crop every image in the middle to a square and resize it (bicubic); without it all must have one size.
        channels: 1 or 3; by default 1 if all the images are grey and 3 otherwise.
        fraction: of each class, held out for testing when there is no folder ``test``; always the same examples.
        mirror: whether the mirror image of an image has the same label.
    """

    shorthand: ClassVar[str] = "path"

    path: str
    size: int | None = None
    channels: Literal[1, 3] | None = None
    fraction: float = 0.2
    mirror: bool = False

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        if self.size is not None and self.size < 1:
            raise InvalidInput(f"'size' must be at least 1 pixel, got {self.size}")

    def load(self) -> LabelledData:
        data = self.whole()
        try:
            return with_fixed_test(data, self.fraction) if data.test is None else data
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def whole(self) -> LabelledData:
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder {self.path}; correct the path")
        divided = (folder / "train").is_dir()
        train = _listing(folder / "train" if divided else folder)
        test = _listing(folder / "test") if divided and (folder / "test").is_dir() else []
        points = self._points([file for file, _ in train + test])
        labels = np.array([label for _, label in train + test])
        cut = len(train)
        try:
            return LabelledData.of(
                points[:cut],
                labels[:cut],
                test=(points[cut:], labels[cut:]) if test else None,
                name=folder.resolve().name,
                mirror=self.mirror,
            )
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def _points(self, files: Sequence[Path]) -> np.ndarray:
        """All the images as one array (n, C, H, W)."""
        images = [self._image(file) for file in files]
        for file, image in zip(files, images, strict=True):
            if image.size != images[0].size:
                raise InvalidInput(
                    f"{files[0]} has {images[0].width} x {images[0].height} pixels and {file} {image.width} x {image.height}; "
                    f"set 'size' to bring all the images to one size"
                )
        channels = self.channels or (1 if all(image.mode == "L" for image in images) else 3)
        mode = "L" if channels == 1 else "RGB"
        width, height = images[0].size
        points = np.empty((len(images), height, width, channels), np.uint8)
        for row, image in zip(points, images, strict=True):
            row[...] = np.asarray(image.convert(mode)).reshape(row.shape)
        return np.ascontiguousarray(points.transpose(0, 3, 1, 2))

    def _image(self, file: Path) -> Image.Image:
        """The image as 8-bit grey or colour, and of the right size."""
        try:
            with Image.open(file) as opened:
                image = ImageOps.exif_transpose(opened)
                image.load()
        except Exception as error:  # Pillow's decoders raise all sorts
            if out_of_memory(error):
                raise
            raise InvalidInput(
                f"{file} cannot be read as an image ({type(error).__name__}); replace or remove it"
            ) from None
        if image.mode.startswith(("I", "F")):
            raise InvalidInput(f"{file} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
            if image.getchannel("A").getextrema()[0] < 255:  # pyright: ignore[reportOperatorIssue]
                raise InvalidInput(f"{file} has transparent pixels; flatten it onto a background first")
        image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        if self.size is None:
            return image
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.crop((left, top, left + side, top + side)).resize((self.size, self.size), Image.Resampling.BICUBIC)


def _listing(folder: Path) -> list[tuple[Path, str]]:
    """Every file with its class, sorted, so that the order does not depend on the file system."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise InvalidInput(f"{folder} has no folders of classes; it must hold FOLDER/CLASS/IMAGE")
    found = []
    for entry in classes:
        files = sorted(
            file
            for file in entry.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(entry).parts)
        )
        if not files:
            raise InvalidInput(f"{entry} holds no images; remove the folder or add some")
        found += [(file, entry.name) for file in files]
    return found
