"""Data whose examples are divided into groups by clustering, for objectives that look at the worst group."""

from dataclasses import replace
from typing import Any

import torch
from sklearn.cluster import KMeans

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_least
from experiments.data.base import Source
from objectives.data.labelled import LabelledData

__all__ = ["Clustered"]


class Clustered(Source, kind="clustered"):
    """Another source whose training examples are divided into groups: k-means divides each class into ``clusters``, in
    normalised units. Group c · clusters + j is cluster j of class c, the clusters of a class by size, the largest first. A
    term ``by: group`` with ``reduce: max`` or ``cvar`` then looks at the worst clusters.

    The test examples go to the nearest centre of their class, so that an evaluation can tell the worst group.

    Args:
        of: the source; what this one is named after.
        clusters: of each class.
        seed: of the start of k-means.

    References: Group Distributionally Robust Dataset Distillation (Vahidian et al., ICLR 2025),
    https://arxiv.org/abs/2402.04676, which clusters the data and minimises the conditional value at risk over the clusters.
    """

    of: Source
    clusters: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check_least("clusters", self.clusters, 2)

    @property
    def original(self) -> Source:
        return self.of

    @property
    def title(self) -> str:
        return f"{self.of.title}-clustered"

    def at(self, root: str) -> Source:
        return replace(self, of=self.of.at(root))

    def load(self) -> LabelledData:
        data = self.of.load()
        if data.train.groups is not None:
            raise InvalidInput(f"'{data.name}' has groups of its own; use these (by: group), and leave 'clustered' out")
        data.train.require(self.clusters, f"'clustered' with {self.clusters} clusters a class")
        parts = [data.train] if data.test is None else [data.train, data.test]
        groups = [torch.zeros(len(part), dtype=torch.long) for part in parts]
        for label, rows in enumerate(data.train.members):
            means: Any = KMeans(self.clusters, n_init=3, random_state=self.seed)  # pyright: ignore[reportArgumentType]
            means.fit(data.train.normalised(rows).flatten(1).numpy())
            order = torch.bincount(torch.from_numpy(means.labels_).long(), minlength=self.clusters)
            place = order.argsort(descending=True, stable=True).argsort()
            for part, found in zip(parts, groups, strict=True):
                own = part.members[label]
                if len(own):
                    nearest = means.predict(part.normalised(own).flatten(1).numpy())
                    found[own] = label * self.clusters + place[torch.from_numpy(nearest).long()]
        return data.grouped(*groups)
