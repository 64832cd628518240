"""Corruptions of images by chance, each at five severities, by torchvision's transforms, and by Pillow's JPEG.

The parameters are near those of the corruptions of Hendrycks and Dietterich ("Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", 2019) where these have a counterpart. The images are not those of CIFAR-10-C.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corrupted"]

Corruption = Literal["gaussian_noise", "gaussian_blur", "brightness", "contrast", "jpeg"]

CORRUPTIONS: Sequence[Corruption] = get_args(Corruption)

SEVERITIES: Mapping[Corruption, tuple[float, ...]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "brightness": (0.8, 0.65, 0.5, 0.4, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "jpeg": (80, 65, 58, 50, 40),
}
"""The standard deviation of noise added to values in 0 .. 1; that of a Gaussian filter, in pixels, of 5 x 5; the factor of all
values; the factor of the distance to the mean grey value; the quality of the JPEG file."""

APPLIED: Mapping[Corruption, Callable[[Tensor, float], Tensor]] = {
    "gaussian_blur": lambda images, sigma: functional.gaussian_blur(images, [5, 5], [sigma, sigma]),
    "brightness": functional.adjust_brightness,
    "contrast": functional.adjust_contrast,
}


def corrupted(
    images: Float[Tensor, "n channels height width"], name: Corruption, severity: int, generator: torch.Generator
) -> Float[Tensor, "n channels height width"]:
    """Images with values in 0 .. 1, each corrupted.

    Args:
        severity: 1 to 5.
        generator: of the noise, which is drawn on the CPU.

    Raises:
        InvalidInput: if the corruption is unknown, the severity is none of 1 to 5, or these are not images of 1 or 3 channels.
    """
    check_choice("corruption", name, CORRUPTIONS)
    if severity not in range(1, 6):
        raise InvalidInput(f"'severity' must be 1, 2, 3, 4 or 5, got {severity}")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InvalidInput(
            f"'{name}' corrupts images of 1 or 3 channels, got examples of shape {tuple(images.shape[1:])}"
        )
    parameter = SEVERITIES[name][severity - 1]
    if name == "gaussian_noise":
        noise = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
        return (images + parameter * noise).clamp(0, 1)
    if name == "jpeg":
        return torch.stack([_as_jpeg(image, int(parameter)) for image in images.cpu()]).to(images)
    return APPLIED[name](images, parameter).clamp(0, 1)


def _as_jpeg(image: Float[Tensor, "channels height width"], quality: int) -> Float[Tensor, "channels height width"]:
    """What is read back of an image that is written as a JPEG file."""
    file = io.BytesIO()
    functional.to_pil_image(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        return functional.pil_to_tensor(read) / 255
