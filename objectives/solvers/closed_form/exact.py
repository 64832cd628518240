"""Points, or labels, from which ridge regression learns given weights on the features of an embedding that can be undone."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.embeddings.base import Embedding
from discrepancy.embeddings.invertible import Within, invertible
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.learning.recovery import (
    Root,
    conditioned,
    duals,
    features_of,
    labels_for,
    nearest_solution,
    reachable,
    turned,
)
from objectives.engine.extractor import Extractor
from objectives.synthetic.parameterisation import Parameterisation

__all__ = ["MISSED", "Exact", "Space", "relative"]

ROUNDING = 16 * torch.finfo(torch.float64).eps
"""Of the size of what is subtracted."""

MISSED = 1e-9
"""The share of the norm of W from which on it is said that W is missed."""


@dataclass(frozen=True, eq=False)
class Space:
    """The embedding of one draw, in float64, both ways."""

    embedding: Embedding
    extractor: Extractor
    draws: Mapping[str, Tensor] | None
    parameters: Mapping[str, Tensor]

    def features(self, points: Float[Tensor, "m ..."]) -> Float[Tensor, "m p"]:
        exact = points.double()
        taken = {"points": exact} | self.extractor(self.parameters, exact, eager=True)
        found = self.embedding(taken, self.draws)
        assert isinstance(found, Tensor)
        return found.flatten(1)

    def points(
        self, features: Float[Tensor, "m p"], nearest: bool, near: Float[Tensor, "m ..."] | None
    ) -> tuple[Float[Tensor, "m ..."], float]:
        shape, network = self.extractor.shape, self.extractor.network
        start = None if near is None else near.flatten(1)
        found = invertible(self.embedding).preimage(
            features, Within(shape, self.draws, network, self.parameters, nearest, start)
        )
        return found.points.reshape(-1, *shape), found.condition


class Exact:
    """Points, or labels, from which these weights (c, p) and this offset (c,) are learned, with this penalty over the sum of
    the points. With an offset, ``centre`` is the mean of the real features.

    Attributes:
        scale: t, where the features are those for t W.
        condition: of the embedding, as it was undone, by which an error of features may have grown in the points.
        missed: the share of W that no points with these labels give.
    """

    def __init__(
        self,
        space: Space,
        weights: Float[Tensor, "c p"],
        offset: Float[Tensor, " c"] | None = None,
        centre: Float[Tensor, " p"] | None = None,
        *,
        penalty: float = 0.0,
        root: Root = "large",
        nearest: bool = False,
    ) -> None:
        self.space, self.weights, self.offset, self.centre = space, weights, offset, centre
        self.penalty, self.nearest = penalty, nearest
        self.root: Root = root
        self.scale, self.condition, self.missed = 1.0, 1.0, 0.0

    @property
    def table(self) -> Float[Tensor, "c q"]:
        """The weights and, where there is one, the offset as a last column."""
        return self.weights if self.offset is None else torch.cat([self.weights, self.offset[:, None]], 1)

    def learned_from(self, points: Tensor, labels: Tensor) -> tuple[Float[Tensor, "c q"], float]:
        """The :attr:`table` that is learned, and by how much a relative error of the wanted features may have grown in it: in
        undoing the embedding, times in the regression."""
        features = self.space.features(points)
        if self.offset is None:
            found, condition = conditioned(features, labels, self.penalty)
            return found, self.condition * condition
        place, level = features.mean(0), labels.mean(0)
        found, condition = conditioned(features - place, labels - level, self.penalty)
        return torch.cat([found, (level - found @ place)[:, None]], 1), self.condition * condition

    def condensed(self, points: Tensor, labels: Tensor, synthetic: Parameterisation) -> tuple[Tensor, Tensor]:
        """Points, and their labels, near points at the start; labels that are learned are predictions of the weights, unless
        the points are noise."""
        given = self.space.features(points)
        if synthetic.labels == "learned" and synthetic.start != "noise":
            labels = self.labels(given)
        centred = labels if self.offset is None else labels - labels.mean(0)
        start = given if self.offset is None else given - given.mean(0)
        nearest = reachable(self.weights, centred)
        self.missed = float(relative(nearest - self.weights, self.weights))
        if self.missed > MISSED:
            rank, count = int(torch.linalg.matrix_rank(centred)), len(self.weights)
            few = len(labels) < count
            warnings.warn(
                f"the labels of the {len(labels)} synthetic examples have rank {rank}, from which not all weights are learned: "
                f"the nearest miss them by {self.missed:.2g} of their norm; use "
                f"{f'at least {count} examples' if few else 'labels: learned'}",
                NumericalWarning,
                stacklevel=2,
            )
        dual = duals(self.weights, centred, turned(start, self.penalty))
        features = self._reached(dual)
        if self.offset is not None:
            features = features + self._mean(labels)
        near = None if synthetic.start == "noise" else points
        found, self.condition = self.space.points(features, self.nearest, near)
        return found, labels / self.scale if synthetic.labels == "learned" else labels

    def labels(self, given: Float[Tensor, "m p"]) -> Float[Tensor, "m c"]:
        """Those with which points of these features are learned from best: for no penalty, the predictions of the weights."""
        if self.offset is None:
            return labels_for(given, self.weights, self.penalty)
        mean = given.mean(0)
        return labels_for(given - mean, self.weights, self.penalty) + self.weights @ mean + self.offset

    def _reached(self, dual: Tensor) -> Tensor:
        """Φ with E(Φ) = t D, of a size that the embedding reaches."""
        while True:
            features = features_of(self.scale * dual, self.penalty, self.root)
            excess = invertible(self.space.embedding).excess(features)
            if excess <= 1 + 1e-12:
                return features
            if self.offset is not None:
                raise InvalidInput(
                    f"'{self.space.embedding.kind}' reaches features of a bounded size only, which with an 'intercept' cannot "
                    "be divided; use a ridge without one"
                )
            if self.penalty and self.root == "large":
                raise InvalidInput(
                    f"features are {excess:.2g} times as large as '{self.space.embedding.kind}' reaches; use root: small, "
                    "whose features vanish with the penalty, or no penalty on the synthetic side"
                )
            self.scale *= 1 / excess if self.penalty else excess

    def _mean(self, labels: Tensor) -> Float[Tensor, " p"]:
        """μ with W μ + b = mean of the labels: the nearest to the mean of the real features."""
        assert self.offset is not None
        assert self.centre is not None
        level, place = labels.mean(0), self.weights @ self.centre
        size = level.norm() + self.offset.norm() + self.weights.norm() * self.centre.norm()
        return self.centre + nearest_solution(self.weights, level - self.offset - place, ROUNDING * float(size))


def relative(difference: Tensor, whole: Tensor) -> Tensor:
    """‖difference‖ / ‖whole‖, or ‖difference‖ where the whole is zero."""
    norm = whole.norm()
    return difference.norm() / torch.where(norm > 0, norm, 1.0)
