"""What is compared: a data set as points in their own units, from a source or an artefact."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from experiments.config.mistakes import suggestion
from experiments.data import Source, is_described, source_named
from objectives.data.fingerprint import row_hashes
from objectives.data.labels import Labels
from objectives.data.units import Normalisation
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["PARTS", "Side", "overlap", "side_of"]

PARTS = ("train", "test", "all")
"""What may follow the name of a source, as in ``mnist:test``. A source without a test set of its own is taken whole."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the data sets, in memory and in its own units.

    Args:
        sampled: whether its examples are draws from a population; those of a set with weights, or of an artefact, are made or
            chosen.
        labels: of any kind.
        weights: ``(n,)``; None where all are equal.
    """

    name: str
    points: Tensor
    labels: Labels
    weights: Tensor | None
    classes: tuple[str, ...]
    normalisation: Normalisation
    limits: tuple[float, float] | None
    sampled: bool

    def __len__(self) -> int:
        return len(self.points)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.points.shape[1:])

    def members(self, name: str | None) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"]]:
        """The points of a class (all of them for None) and their weights.

        A probability of the class multiplies the weight of its point; points with scores belong to the class that they were
        made for."""
        weights = torch.ones(len(self)) if self.weights is None else self.weights.float()
        if name is not None and self.labels.of_classes:
            place = self.classes.index(name) if name in self.classes else -1
            if self.labels.kind in ("soft", "teacher"):
                belongs = self.labels.rows[:, place].float()
            else:
                belongs = (self.labels.numbers == place).float()
            weights = weights * (belongs if place >= 0 else 0.0)
        rows = (weights > 0).nonzero()[:, 0]
        return rows, weights[rows]

    @property
    def in_range(self) -> "Side":
        """The same side, compared in values from 0 to 1 in place of normalised ones.

        Raises:
            InvalidInput: where the limits of the values are not known.
        """
        if self.limits is None:
            raise InvalidInput(
                f"'units' is range, but the limits of the values of '{self.name}' are not known; use normalised"
            )
        low, high = self.limits
        return replace(self, normalisation=Normalisation((low,), (high - low,)))

    @property
    def target_units(self) -> Normalisation | None:
        return self.labels.units

    def label_vectors(self, classes: Sequence[str], units: Normalisation | None = None) -> Float[Tensor, "n c"]:
        """The labels as distributions over these classes, or scores of these; or targets in these units."""
        if units is not None:
            return units.apply(self.labels.rows)
        found = self.labels.vectors(len(self.classes))
        assert found is not None
        vectors = found.float()
        none = vectors.new_zeros(len(self))
        known = dict(zip(self.classes, vectors.unbind(1), strict=True))
        return torch.stack([known.get(name, none) for name in classes], 1)

    @cached_property
    def fingerprint(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of points, labels and weights."""
        digest = hashlib.sha256()
        for tensor in (self.points, self.labels.values, self.weights):
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
        whole = behind not in PARTS if is_described(what) else Path(what).exists()
        if colon and before and not whole:
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
    examples, weights = [item.rows() for item in parts if item is not None], source.weights()
    if weights is not None and (len(examples) > 1 or part == "test" or len(weights) != len(examples[0])):
        raise InvalidInput(
            f"'{what}' has 'weights' that do not fit its examples; give one a training example, and no test part"
        )
    labels = _joined([item.labels for item in examples])
    return Side(
        name,
        torch.cat([item.points for item in examples]),
        labels,
        weights,
        data.classes,
        data.normalisation,
        source.known_limits(data),
        weights is None,
    )


def _of_artefact(name: str, found: SyntheticSet) -> Side:
    return Side(
        name,
        found.points,
        found.labelling,
        found.weights,
        found.classes,
        found.normalisation,
        found.limits,
        False,
    )


def _joined(parts: Sequence[Labels]) -> Labels:
    """The labels of several parts together: class numbers, unless all of them have distributions."""
    if not parts[0].given:
        return parts[0]
    if parts[0].of_classes and any(part.kind != parts[0].kind for part in parts):
        return Labels("hard", torch.cat([part.numbers for part in parts]))
    return replace(parts[0], values=torch.cat([part.rows for part in parts]))


def overlap(a: Side, b: Side) -> float:
    """The share of the examples of the smaller of the two that are in the other one too, in whatever type."""
    small, large = (a, b) if len(a) < len(b) else (b, a)
    known = set(row_hashes(large.points))
    return sum(row in known for row in row_hashes(small.points)) / len(small)
