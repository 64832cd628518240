"""What is compared: a data set as points in their own units, from a source or an artefact."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from experiments.config.mistakes import suggestion
from experiments.data import Npz, Source, source_named
from objectives.data.labelled import Examples, Normalisation
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["PARTS", "Side", "overlap", "side_of"]

PARTS = ("train", "test", "all")
"""What may follow the name of a source, as in ``mnist:test``. A source without a test set of its own is taken whole."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the data sets, in memory and in its own units.

    Args:
        sampled: whether its examples are draws from a population; those of an artefact are made or chosen.
        labels: class numbers ``(n,)``, distributions or scores ``(n, c)``, targets ``(n, k)`` in their own units, or None.
        weights: ``(n,)``; None where all are equal.
        numbers: ``(n,)``, the class of each example where the labels are scores, which share no point out.
    """

    name: str
    points: Tensor
    labels: Tensor | None
    weights: Tensor | None
    classes: tuple[str, ...]
    normalisation: Normalisation
    limits: tuple[float, float] | None
    sampled: bool
    target_units: Normalisation | None = None
    numbers: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.points.shape[1:])

    def members(self, name: str | None) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"]]:
        """The points of a class (all of them for None) and their weights; a distribution over classes shares its point out."""
        weights = torch.ones(len(self)) if self.weights is None else self.weights.float()
        if name is not None and self.labels is not None and self.classes:
            place = self.classes.index(name) if name in self.classes else -1
            classes = self.labels if self.numbers is None else self.numbers
            belongs = classes[:, place] if classes.ndim == 2 else (classes == place)
            weights = weights * (belongs.float() if place >= 0 else 0.0)
        rows = (weights > 0).nonzero()[:, 0]
        return rows, weights[rows]

    def label_vectors(self, real: "Side") -> Float[Tensor, "n c"]:
        """The labels as distributions over the classes of the real side, or scores of these, or targets in its normalised
        units."""
        assert self.labels is not None
        labels, classes = self.labels, real.classes
        if real.target_units is not None:
            return real.target_units.apply(labels)
        vectors = labels.float() if labels.ndim == 2 else torch.nn.functional.one_hot(labels, len(self.classes)).float()
        none = vectors.new_zeros(len(self))
        known = dict(zip(self.classes, vectors.unbind(1), strict=True))
        return torch.stack([known.get(name, none) for name in classes], 1)

    @cached_property
    def fingerprint(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of points, labels and weights."""
        digest = hashlib.sha256()
        for tensor in (self.points, self.labels, self.weights):
            if tensor is not None:
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)};".encode())
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:12]


def side_of(name: str, what: str | Source, root: str | None = None) -> Side:
    """The data set that a word names: ``FILE.safetensors``, or a source as in :func:`source_named`, with ``:train``, ``:test``
    or ``:all`` behind it where a part is meant.

    Raises:
        InvalidInput: if there is nothing of that name, or not that part.
    """
    if isinstance(what, str) and what.endswith(".safetensors"):
        return _of_artefact(name, SyntheticSet.load(what))
    part = None
    if isinstance(what, str):
        before, colon, behind = what.rpartition(":")
        if colon and before and not Path(what).exists():
            if behind not in PARTS:
                raise InvalidInput(
                    f"'{what}' names the part '{behind}'{suggestion(behind, PARTS)}; it must be one of {', '.join(PARTS)}"
                )
            what, part = before, behind
    source = source_named(what, root) if isinstance(what, str) else what
    data = source.load() if part in ("train", "test") else source.whole()
    if part == "test" and data.test is None:
        raise InvalidInput(f"'{what}' has no test set; leave ':test' out")
    parts = {"train": [data.train], "test": [data.test], "all": [data.train, data.test]}[part or "train"]
    examples = [item for item in parts if item is not None]
    labels = [found for item in examples if (found := _labels(item, examples)) is not None]
    return Side(
        name,
        torch.cat([item.points for item in examples]),
        torch.cat(labels) if labels else None,
        None,
        data.classes,
        data.normalisation,
        source.limits if isinstance(source, Npz) and not labels else data.limits,  # bare points state no scale
        True,
        data.target_units,
    )


def _of_artefact(name: str, found: SyntheticSet) -> Side:
    labels, units = found.labels, found.target_units
    if labels is not None and units is not None:
        labels = labels.reshape(len(labels), -1)
    return Side(
        name,
        found.points,
        labels,
        found.weights,
        found.classes,
        found.normalisation,
        found.limits,
        False,
        units,
        found.numbers if found.scores else None,
    )


def _labels(part: Examples, parts: Sequence[Examples]) -> Tensor | None:
    if part.targets is not None:
        return part.targets
    return part.labels if any(item.soft is None for item in parts) or part.soft is None else part.soft


def overlap(a: Side, b: Side) -> float:
    """The share of the examples of the smaller of the two that are, value by value, in the other one too."""
    small, large = (a, b) if len(a) < len(b) else (b, a)
    known = set(_hashes(large))
    return sum(key in known for key in _hashes(small)) / len(small)


def _hashes(side: Side) -> list[bytes]:
    return [
        hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        for part in side.points.split(1024)
        for row in part.flatten(1).float().numpy()
    ]
