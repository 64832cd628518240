"""Which real examples a step sees: random ones, or those that represent their class in the features of the current network."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.numerics.squared_distances import squared_distances
from discrepancy.parts import Part
from objectives.data.real import RealData

__all__ = ["ClusteredRows", "Look", "RandomRows", "Sampling", "centres", "nearest"]

TIE = 64
"""Distances count as equal if they differ by less than so many roundings of them and of the centre."""

Look = Callable[[Int[Tensor, " k"]], Float[Tensor, "k d"]]
"""The features of real examples, given by their numbers."""


class Sampling(Part, family=True):
    """How ``batch`` real examples of every class are chosen."""

    @property
    @abstractmethod
    def lasts(self) -> int | None:
        """Steps of a network for which a choice is kept, where it is made by features of all the real examples; None where
        features play no part and every step has its own."""

    @abstractmethod
    def rows(self, data: RealData, batch: int, generator: torch.Generator, look: Look) -> Int[Tensor, " b"]:
        """The numbers of the chosen examples, on the CPU, sorted by class; a class with fewer gives all that it has."""


class RandomRows(Sampling, kind="random"):
    """Uniformly and without replacement within each class, anew at every step."""

    @property
    def lasts(self) -> int | None:
        return None

    def rows(self, data: RealData, batch: int, generator: torch.Generator, look: Look) -> Int[Tensor, " b"]:
        return data.class_batch(generator, batch)


class ClusteredRows(Sampling, kind="clustered"):
    """Representative examples (DREAM): k-means divides each class, as the current network sees it, into as many clusters as the
    batch has examples, and each centre gives the example that is nearest to it.

    Made anew at the first step of a network and at every ``interval``-th one after it. All the examples are seen by the
    network for that, without augmentation: 22 % of the time of a run with DREAM's settings on CIFAR-10 (a processor's thread),
    where the clustering itself takes 3 %. A synthetic set that starts at real examples starts at such ones too, by the first
    network, not trained.

    The clustering is Lloyd's from random examples as centres, as in the published code, until nothing moves or ``iterations``
    are over: O(n k d) each for n examples of a class, k clusters and d features. Of 5,000 CIFAR-10 images, with 128 clusters
    and 2,048 features, nothing moves after 19; 10 come within 0.1 % of the sum of squares, and the start of k-means++, which
    takes longer than all of them, gains as little. A cluster that loses its examples keeps its centre. Two centres may have
    the same nearest example, which counts twice then.

    Args:
        interval: steps between two choices.
        iterations: of the clustering at most.

    References: DREAM: Efficient Dataset Distillation by Representative Matching (Liu et al., 2023),
    https://arxiv.org/abs/2302.14416.
    """

    interval: int = 10
    iterations: int = 20

    def __post_init__(self) -> None:
        for name in ("interval", "iterations"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"'{name}' must be at least 1, got {getattr(self, name)}")

    @property
    def lasts(self) -> int:
        return self.interval

    def rows(self, data: RealData, batch: int, generator: torch.Generator, look: Look) -> Int[Tensor, " b"]:
        chosen = []
        for members in data.members:
            # Drawn for every class, so that the size of one changes nothing in the others.
            start = torch.randperm(len(members), generator=generator)[:batch]
            if len(members) <= batch:
                chosen.append(members)
                continue
            points = look(members)
            points = points - points.mean(0)
            found = centres(points, points[start.to(points.device)], self.iterations)
            chosen.append(members[nearest(points, found).cpu()])
        return torch.cat(chosen)


def centres(points: Float[Tensor, "n d"], start: Float[Tensor, "k d"], iterations: int) -> Float[Tensor, "k d"]:
    """Lloyd's k-means: each point to its nearest centre, each centre to the mean of its points."""
    found, before = start, None
    for _ in range(iterations):
        owner = _owners(points, found)
        if before is not None and torch.equal(owner, before):
            break
        before, count = owner, torch.bincount(owner, minlength=len(found))[:, None]
        total = torch.zeros_like(found).index_add_(0, owner, points)
        found = torch.where(count > 0, total / count.clamp(min=1), found)
    return found


def nearest(points: Float[Tensor, "n d"], found: Float[Tensor, "k d"]) -> Int[Tensor, " k"]:
    """The point that is nearest to each centre; the first of those that are as near but for rounding, as the two of a pair."""
    apart = squared_distances(found, points)
    least = apart.min(1, keepdim=True).values
    rounding = TIE * torch.finfo(points.dtype).eps * (least + least.sqrt() * found.norm(dim=1, keepdim=True))
    return (apart <= least + rounding).int().argmax(1)


def _owners(points: Float[Tensor, "n d"], found: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """The nearest centre of each point: by expanded squares, and by exact ones where these may err about it."""
    sizes = found.square().sum(1)
    half = torch.addmm(0.5 * sizes[None], points, found.T, alpha=-1)
    least, owner = half.min(1)
    error = TIE * torch.finfo(points.dtype).eps * (points.square().sum(1) + sizes.max())
    unsure = ((half <= (least + error)[:, None]).sum(1) > 1).nonzero()[:, 0]
    if len(unsure):
        owner[unsure] = squared_distances(points[unsure], found).argmin(1)
    return owner
