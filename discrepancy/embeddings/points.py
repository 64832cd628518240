"""Embeddings of the examples themselves."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.sorts import Draws

__all__ = ["Identity"]


class Identity(Embedding, kind="identity"):
    """φ(x) = x: raw examples, in normalised units."""

    takes: ClassVar[frozenset[str]] = frozenset({"points"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor | Mapping[str, Tensor]:
        return taken["points"]
