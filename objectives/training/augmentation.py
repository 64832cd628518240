"""Differentiable Siamese augmentation: the same random transformation for the real and the synthetic side.

A draw is a table of numbers with one row a class (or one an image), made once on the CPU and handed to both sides; applying
it is a deterministic, differentiable function of the points.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part, check_choice

__all__ = ["Augmentation", "Chain", "Operation", "Siamese"]

Operation = Literal["colour", "crop", "cutout", "flip", "scale", "rotate"]

NUMBERS: Mapping[str, int] = {"colour": 3, "crop": 2, "cutout": 2, "flip": 1, "scale": 2, "rotate": 1}
"""How many uniform numbers each operation uses."""


class Augmentation(Part, family=True):
    """A random transformation of images that keeps their labels."""

    per: Literal["class", "image"]
    """Whether the images of a class share a row of the draws, or each has its own."""

    @abstractmethod
    def for_data(self, *, mirror: bool) -> "Augmentation":
        """This augmentation for data where a mirror image keeps its label, or (``mirror=False``: digits) does not."""

    @abstractmethod
    def draw(self, generator: torch.Generator, rows: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The random numbers of so many rows, on the CPU, for images of ``shape`` (C, H, W)."""

    @abstractmethod
    def draw_batch(self, generator: torch.Generator, images: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The same for training a network, a row an image: one operation for the whole batch, strengths for each image."""

    @abstractmethod
    def __call__(
        self, points: Float[Tensor, "n channels height width"], draws: Mapping[str, Tensor], rows: Int[Tensor, " n"]
    ) -> Float[Tensor, "n channels height width"]:
        """Image i transformed as row ``rows[i]`` of the draws says, differentiable in the points.

        ``rows`` is best on the CPU, where the draws are: elsewhere it has to be waited for.
        """


class Siamese(Augmentation, kind="siamese"):
    """Colour, crop, cutout, flip, scale and rotation, with the published ranges by default. For u uniform on [0, 1):

    =========  ======================================================================================================
    colour     x + (u - ½) ``brightness``; then the distance to the mean over channels times u ``saturation``; then
               the distance to the mean of the image times u + ``contrast``
    crop       a shift by a uniform whole number of pixels up to ``crop`` x side either way, zeros coming in
    cutout     a rectangle of ``cutout`` x side is set to zero, its centre uniform on the image
    flip       left and right exchanged if u < ``flip``
    scale      each side by a factor uniform on [1 / ``scale``, ``scale``], bilinear, zeros coming in
    rotate     by an angle uniform on ± ``rotate`` degrees about the centre, bilinear, zeros coming in
    =========  ======================================================================================================

    A grey image is its own mean over channels, so saturation leaves it as it is. Zero means zero in normalised units. A
    rotation is one in pixels, also where an image is not square. Scale and rotation interpolate, and can be
    differentiated once only.

    Args:
        operations: those to choose from; with ``mode="all"`` they follow each other in this order.
        mode: ``one`` operation, drawn for each row (as published), or ``all`` of them.

    References:
        Dataset Condensation with Differentiable Siamese Augmentation (Zhao & Bilen, 2021),
        https://arxiv.org/abs/2102.08259.
    """

    operations: tuple[Operation, ...] = get_args(Operation)
    mode: Literal["one", "all"] = "one"
    per: Literal["class", "image"] = "class"
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5
    crop: float = 0.125
    cutout: float = 0.5
    flip: float = 0.5
    scale: float = 1.2
    rotate: float = 15.0

    def __post_init__(self) -> None:
        known = get_args(Operation)
        if not self.operations or len(set(self.operations)) < len(self.operations) or set(self.operations) - set(known):
            raise InvalidInput(f"'operations' must be different names of {', '.join(known)}; got {self.operations}")
        check_choice("mode", self.mode, ("one", "all"))
        check_choice("per", self.per, ("class", "image"))
        for name in ("brightness", "saturation", "contrast", "crop", "rotate"):
            _check_range(name, getattr(self, name), 0, math.inf)
        _check_range("cutout", self.cutout, 0, 1)
        _check_range("flip", self.flip, 0, 1)
        _check_range("scale", self.scale, 1, math.inf)

    def for_data(self, *, mirror: bool) -> "Siamese":
        """Without ``flip`` where a mirror image does not keep its label."""
        if mirror or "flip" not in self.operations:
            return self
        kept = tuple(name for name in self.operations if name != "flip")
        if not kept:
            raise InvalidInput(
                "'flip' is the only operation, but mirroring changes the labels of these data; name others"
            )
        return replace(self, operations=kept)

    def draw(self, generator: torch.Generator, rows: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        if len(shape) != 3:
            raise InvalidInput(
                f"'{self.kind}' augments images of shape (C, H, W), got examples of shape {tuple(shape)}"
            )
        table = torch.rand(rows, 1 + sum(NUMBERS.values()), generator=generator)
        # All numbers are drawn, used or not, so that leaving out an operation changes nothing in the others.
        operation, *numbers = table.split([1, *NUMBERS.values()], 1)
        draws = {name: part for name, part in zip(NUMBERS, numbers, strict=True) if name in self.operations}
        return {"operation": (operation[:, 0] * len(self.operations)).long()} | draws

    def draw_batch(self, generator: torch.Generator, images: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        draws = self.draw(generator, images, shape)
        return draws | {"operation": draws["operation"][:1].expand(images)}

    def __call__(
        self, points: Float[Tensor, "n channels height width"], draws: Mapping[str, Tensor], rows: Int[Tensor, " n"]
    ) -> Float[Tensor, "n channels height width"]:
        if len(points) == 0:
            return points
        rows = rows.to(draws["operation"].device)
        if self.mode == "all":
            for name in self.operations:
                points = self._applied[name](self, points, draws[name][rows].to(points))
            return points
        chosen = draws["operation"][rows]
        sizes = chosen.bincount(minlength=len(self.operations)).tolist()
        order = chosen.argsort(stable=True)
        # The gradient of index_select is several times faster than that of indexing.
        parts = points.index_select(0, order.to(points.device)).split(sizes)
        applied = []
        for name, part, own in zip(self.operations, parts, rows[order].split(sizes), strict=True):
            applied.append(self._applied[name](self, part, draws[name][own].to(part)) if len(part) else part)
        return torch.cat(applied).index_select(0, order.argsort().to(points.device))

    def _colour(self, x: Tensor, numbers: Tensor) -> Tensor:
        """The three steps as one: with pixel means p and image mean m, KS x + K(1 - S) p + (1 - K) m + B."""
        u, v, w = numbers.unbind(1)
        numbers = torch.stack([(u - 0.5) * self.brightness, v * self.saturation, w + self.contrast])
        B, S, K = numbers[..., None, None, None]
        rest = (1 - K) * x.mean((1, 2, 3), keepdim=True) + B
        if x.shape[1] == 1:
            return torch.addcmul(rest, K, x)
        return torch.addcmul(torch.addcmul(rest, K * (1 - S), x.mean(1, keepdim=True)), K * S, x)

    def _crop(self, x: Tensor, numbers: Tensor) -> Tensor:
        down, across = numbers.unbind(1)
        n, channels, height, width = x.shape
        above, beside = int(height * self.crop + 0.5), int(width * self.crop + 0.5)
        row = torch.arange(height, device=x.device) + (down * (2 * above + 1)).long()[:, None]
        column = torch.arange(width, device=x.device) + (across * (2 * beside + 1)).long()[:, None]
        padded = functional.pad(x, (beside, beside, above, above))
        index = (row[:, :, None] * (width + 2 * beside) + column[:, None, :]).flatten(1)
        return padded.flatten(2).gather(2, index[:, None].expand(n, channels, -1)).unflatten(2, (height, width))

    def _cutout(self, x: Tensor, numbers: Tensor) -> Tensor:
        cut = []
        for side, u in zip(x.shape[2:], numbers.unbind(1), strict=True):
            size = int(side * self.cutout + 0.5)
            start = (u * (side + 1 - size % 2)).long()[:, None] - size // 2
            place = torch.arange(side, device=x.device)
            cut.append((place >= start) & (place < start + size))
        return x.masked_fill((cut[0][:, :, None] & cut[1][:, None, :])[:, None], 0)

    def _flip(self, x: Tensor, numbers: Tensor) -> Tensor:
        return torch.where((numbers < self.flip)[:, :, None, None], x.flip(3), x)

    def _scale(self, x: Tensor, numbers: Tensor) -> Tensor:
        least = 1 / self.scale
        across, down = (least + (self.scale - least) * numbers).unbind(1)
        zero = torch.zeros_like(across)
        return _affine(x, across, zero, zero, down)

    def _rotate(self, x: Tensor, numbers: Tensor) -> Tensor:
        angle = (2 * numbers[:, 0] - 1) * math.radians(self.rotate)
        height, width = x.shape[2:]
        return _affine(x, angle.cos(), -angle.sin() * height / width, angle.sin() * width / height, angle.cos())

    _applied: ClassVar[Mapping[Operation, Callable[..., Tensor]]] = {
        "colour": _colour,
        "crop": _crop,
        "cutout": _cutout,
        "flip": _flip,
        "scale": _scale,
        "rotate": _rotate,
    }


class Chain(Augmentation, kind="chain"):
    """One augmentation after the other, each with draws of its own: some operations always, and one of some others.

    Args:
        of: the augmentations in order, whose ``per`` is that of the chain.
    """

    of: tuple[Augmentation, ...]
    per: Literal["class", "image"] = "class"

    def __post_init__(self) -> None:
        check_choice("per", self.per, ("class", "image"))
        if not self.of:
            raise InvalidInput("'of' is empty; name at least one augmentation")
        for part in self.of:
            if part.per != self.per:
                raise InvalidInput(
                    f"'of' has '{part.kind}' with per: {part.per} in a chain with per: {self.per}; use one"
                )

    def for_data(self, *, mirror: bool) -> "Chain":
        return replace(self, of=tuple(part.for_data(mirror=mirror) for part in self.of))

    def draw(self, generator: torch.Generator, rows: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        return self._numbered([part.draw(generator, rows, shape) for part in self.of])

    def draw_batch(self, generator: torch.Generator, images: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        return self._numbered([part.draw_batch(generator, images, shape) for part in self.of])

    def __call__(
        self, points: Float[Tensor, "n channels height width"], draws: Mapping[str, Tensor], rows: Int[Tensor, " n"]
    ) -> Float[Tensor, "n channels height width"]:
        for number, part in enumerate(self.of):
            start = f"{number}."
            own = {name.removeprefix(start): value for name, value in draws.items() if name.startswith(start)}
            points = part(points, own, rows)
        return points

    def _numbered(self, draws: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {f"{number}.{name}": value for number, part in enumerate(draws) for name, value in part.items()}


def _affine(x: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    """Each image read at the positions (xx·x + xy·y, yx·x + yy·y), where its own corners are (±1, ±1)."""
    zero = torch.zeros_like(xx)
    theta = torch.stack([xx, xy, zero, yx, yy, zero], 1).unflatten(1, (2, 3))
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        rule = f">= {low}" if high == math.inf else f"between {low} and {high}"
        raise InvalidInput(f"'{name}' must be {rule} and finite, got {value}")
