"""Pillow's images as 8-bit grey or colour, or one clear refusal; nothing is narrowed without a word."""

from PIL import Image

from discrepancy.errors import InvalidInput

__all__ = ["MOST_PIXELS", "check_picture", "eight_bits"]

MOST_PIXELS = 1 << 26
"""Pixels of the largest image that is decoded: 8,192 x 8,192."""

BITS_PER_SAMPLE = 258
"""The number of the TIFF tag."""


def check_picture(image: Image.Image, name: str) -> None:
    """Refuse, before anything is decoded, what :func:`eight_bits` does not take.

    Args:
        name: of the image, for messages.

    Raises:
        InvalidInput: for more than ``MOST_PIXELS`` pixels, more than 8 bits a channel, or several pages.
    """
    if image.width * image.height > MOST_PIXELS:
        raise InvalidInput(
            f"{name} has {image.width} x {image.height} pixels, and at most {MOST_PIXELS:,} are read; make it smaller"
        )
    if _deep(image):
        raise InvalidInput(
            f"{name} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits, or give arrays"
        )
    pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a camera's JPEG with previews behind it
    if pages > 1:
        raise InvalidInput(f"{name} has {pages} pages or frames; save each as an image of its own")


def eight_bits(image: Image.Image, name: str) -> Image.Image:
    """The image in mode L or RGB. Palettes, CMYK and single bits are converted; an alpha channel that is opaque throughout is
    dropped.

    Raises:
        InvalidInput: as :func:`check_picture`, and for transparent pixels.
    """
    check_picture(image, name)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
        if image.getchannel("A").getextrema()[0] < 255:  # pyright: ignore[reportOperatorIssue]
            raise InvalidInput(f"{name} has transparent pixels; flatten it onto a background first")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def _deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits. Pillow opens colour images of 16 bits as ones of 8 and drops the rest: how the
    file stores them is said by what its decoder is given."""
    if image.mode.startswith(("I", "F")):
        return True
    for tile in getattr(image, "tile", ()):
        stored = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(item, str) and ";16" in item for item in stored):
            return True
        if tile[0].startswith("ppm") and any(isinstance(item, int) and item > 255 for item in stored):
            return True
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, ())
    return any(count > 8 for count in (bits if isinstance(bits, tuple) else (bits,)))
