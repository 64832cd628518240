"""A folder of images, one sub-folder a class."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image, ImageOps

from discrepancy.errors import InvalidInput, out_of_memory
from discrepancy.parts import user_path
from experiments.data.base import Source, check_fraction, check_room, with_fixed_test
from experiments.data.layout import parts_of
from objectives.data.labelled import LabelledData
from objectives.data.pictures import MOST_PIXELS, check_picture, eight_bits

__all__ = ["Images"]

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
"""What Pillow may open a file as, whatever its name; its other readers start programs, or are little used."""


class Images(Source, kind="images"):
    """``FOLDER/CLASS/IMAGE``, or ``FOLDER/train/CLASS/IMAGE`` and ``FOLDER/test/CLASS/IMAGE``; sub-folders of a class too.

    The two parts may be called ``train`` or ``training`` and ``test`` or ``testing``, in any case; ``val``, ``valid`` or
    ``validation`` is the test part where there is no other. JPEG, PNG, PPM, BMP, TIFF and WebP are read, from files whose names
    end like those that torchvision reads. What is left out is named in one warning, but for files and folders whose names begin
    with a dot.

    Images are turned as their camera says, and become 8-bit grey or colour. Palettes and CMYK are converted; an alpha
    channel is dropped where it is opaque throughout. Transparent images, images of more than 8 bits a channel, of several
    pages or of more than 8,192 x 8,192 pixels, and files that are not images are refused by name.

    Args:
        path: the folder.
        size: crop every image in the middle to a square and resize it (bicubic); without it all must have one size.
        channels: 1 or 3; by default 1 if all the images are grey and 3 otherwise.
        fraction: of each class, held out for testing when there is no folder ``test``; always the same examples.
        mirror: whether the mirror image of an image has the same label.
    """

    paths: ClassVar[tuple[str, ...]] = ("path",)
    shorthand: ClassVar[str] = "path"

    path: str
    size: int | None = None
    channels: Literal[1, 3] | None = None
    fraction: float = 0.2
    mirror: bool = False

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        user_path("path", self.path)
        if self.size is not None and self.size < 1:
            raise InvalidInput(f"'size' must be at least 1 pixel, got {self.size}")

    def load(self) -> LabelledData:
        data = self.whole()
        try:
            return with_fixed_test(data, self.fraction) if data.test is None else data
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def whole(self) -> LabelledData:
        folder = user_path("path", self.path)
        if not folder.is_dir():
            raise InvalidInput(f"there is no folder {self.path}; correct the path")
        found = parts_of(folder)
        points = self._points([file for file, _ in found.train + found.test])
        labels = np.array([label for _, label in found.train + found.test])
        cut = len(found.train)
        try:
            return LabelledData.of(
                points[:cut],
                labels[:cut],
                test=(points[cut:], labels[cut:]) if found.test else None,
                name=folder.resolve().name,
                mirror=self.mirror,
            )
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def _points(self, files: Sequence[Path]) -> np.ndarray:
        """All the images as one array (n, C, H, W)."""
        first = self._image(files[0])
        count = len(files) * first.width * first.height * len(first.getbands())
        check_room(f"{self.path}: its {len(files)} images", count, "set 'size' to make them smaller")
        images = [first]
        for file in files[1:]:
            image = self._image(file)
            if image.size != first.size:
                raise InvalidInput(
                    f"{files[0]} has {first.width} x {first.height} pixels and {file} {image.width} x {image.height}; "
                    f"set 'size' to bring all the images to one size"
                )
            images.append(image)
        channels = self.channels or (1 if all(image.mode == "L" for image in images) else 3)
        mode = "L" if channels == 1 else "RGB"
        points = np.empty((len(images), first.height, first.width, channels), np.uint8)
        for row, image in zip(points, images, strict=True):
            row[...] = np.asarray(image.convert(mode)).reshape(row.shape)
        return np.ascontiguousarray(points.transpose(0, 3, 1, 2))

    def _image(self, file: Path) -> Image.Image:
        """The image as 8-bit grey or colour, and of the right size."""
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as opened:  # of Pillow
                check_picture(opened, str(file))
                image = ImageOps.exif_transpose(opened)
                image.load()
        except InvalidInput:
            raise
        except Image.DecompressionBombError:
            raise InvalidInput(
                f"{file} has too many pixels, at most {MOST_PIXELS:,} are read; make it smaller"
            ) from None
        except Exception as error:  # Pillow's decoders raise all sorts
            if out_of_memory(error):
                raise
            raise InvalidInput(
                f"{file} cannot be read as an image ({type(error).__name__}); replace or remove it"
            ) from None
        image = eight_bits(image, str(file))
        if self.size is None:
            return image
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.crop((left, top, left + side, top + side)).resize((self.size, self.size), Image.Resampling.BICUBIC)
