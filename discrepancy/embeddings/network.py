"""Embeddings that name what they take from the context's network."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from discrepancy.embeddings.base import Embedding, Taken
from discrepancy.sorts import Draws

__all__ = ["Features", "Layers", "Logits"]


class Features(Embedding, kind="features"):
    """The penultimate features, flat."""

    takes: ClassVar[frozenset[str]] = frozenset({"features"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor | Mapping[str, Tensor]:
        return taken["features"]


class Logits(Embedding, kind="logits"):
    """The outputs of the classifier."""

    takes: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor | Mapping[str, Tensor]:
        return taken["logits"]


class Layers(Embedding, kind="layers"):
    """The output of every block, as named blocks ``layer1``, ``layer2``, ..."""

    takes: ClassVar[frozenset[str]] = frozenset({"layers"})

    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor | Mapping[str, Tensor]:
        return {name: value for name, value in taken.items() if name.startswith("layer") and "." not in name}
