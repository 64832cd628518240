"""Mixing: training examples that are made of two, with labels in proportion."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part

__all__ = ["CutMix", "Mixing"]


class Mixing(Part, family=True):
    """A random map of a minibatch to another: of points, and of their masses, that is label distributions times weights."""

    @abstractmethod
    def draw(self, generator: torch.Generator, images: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The random numbers of a minibatch of so many examples of ``shape``, on the CPU."""

    @abstractmethod
    def points(self, points: Float[Tensor, "n ..."], draws: Mapping[str, Tensor]) -> Float[Tensor, "n ..."]:
        """The mixed points."""

    @abstractmethod
    def masses(self, masses: Float[Tensor, "n c"], draws: Mapping[str, Tensor]) -> Float[Tensor, "n c"]:
        """The masses of the mixed points, whose sum is that of the masses."""


class CutMix(Mixing, kind="cutmix"):
    """With probability ``probability``, one rectangle of every image of a minibatch comes from another one of the minibatch:

        λ ~ Beta(``beta``, ``beta``), a rectangle of the share 1 - λ, its centre uniform on the image, cut off at the border;
        y ← r y + (1 - r) y', where 1 - r is the share of what is left of it.

    The rectangle is the same for the whole minibatch, and the images are paired by a permutation, in which an image may meet
    itself. Where examples have weights, those of the two are mixed like their labels.

    Args:
        beta: both parameters of λ's distribution; 1 is the uniform one.
        probability: of mixing a minibatch.

    References: CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features (Yun et al., 2019),
    https://arxiv.org/abs/1905.04899.
    """

    beta: float = 1.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise InvalidInput(f"'beta' must be > 0 and finite, got {self.beta}")
        if not 0 <= self.probability <= 1:
            raise InvalidInput(f"'probability' must lie between 0 and 1, got {self.probability}")

    def draw(self, generator: torch.Generator, images: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        if len(shape) != 3:
            raise InvalidInput(f"'{self.kind}' mixes images of shape (C, H, W), got examples of shape {tuple(shape)}")
        chance, u, *centre = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        kept = float(special.betaincinv(self.beta, self.beta, u)) if chance < self.probability else 1.0
        edges = []
        for side, place in zip(shape[1:], centre, strict=True):
            half, middle = int(side * math.sqrt(1 - kept)) // 2, int(side * place)
            edges += [max(middle - half, 0), min(middle + half, side)]
        area = (edges[1] - edges[0]) * (edges[3] - edges[2])
        return {
            "partner": torch.randperm(images, generator=generator),
            "box": torch.tensor(edges),
            "share": torch.tensor(area / (shape[1] * shape[2]), dtype=torch.float64),
        }

    def points(
        self, points: Float[Tensor, "n channels height width"], draws: Mapping[str, Tensor]
    ) -> Float[Tensor, "n channels height width"]:
        top, bottom, left, right = draws["box"].tolist()
        partner, mixed = draws["partner"].to(points.device), points.clone()
        mixed[:, :, top:bottom, left:right] = points[partner, :, top:bottom, left:right]
        return mixed

    def masses(self, masses: Float[Tensor, "n c"], draws: Mapping[str, Tensor]) -> Float[Tensor, "n c"]:
        share = float(draws["share"])
        return (1 - share) * masses + share * masses[draws["partner"].to(masses.device)]
