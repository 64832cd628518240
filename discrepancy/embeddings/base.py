"""Embeddings: what of an example is compared. φ maps each example to features, point by point.

An embedding of a network does not own it. It names what it *takes* from the context's network (``"features"``,
``"layers"``, ``"logits"``), which is computed once a step and shared by every term; ``"points"`` are the examples themselves.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from discrepancy.arrays import are_tensors
from discrepancy.discrepancy import Draws
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure
from discrepancy.networks.base import Forward, NetworkParameters
from discrepancy.parts import Part, explain_failures, shown

__all__ = ["Embedding", "Taken"]

SINGLE = frozenset({"points", "features", "logits", "jacobian"})
"""The names of what is one tensor, where ``layers``, ``activations`` and ``gradient`` are several."""

Taken = Mapping[str, Tensor]
"""What a context offers for a batch of examples: ``"points"``, and what was taken from its network, each with n rows."""


class Embedding(Part, family=True):
    """An embedding φ: it maps what a context offers of n examples to features ``(n, *shape)``, or to named blocks of them.

    Example:
        >>> from discrepancy import embeddings
        >>> embedding: embeddings.Embedding = embeddings.Features()
        >>> sorted(embedding.takes), embedding.averages
        (['features'], False)
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        explain_failures(cls, _check)

    @property
    @abstractmethod
    def takes(self) -> frozenset[str]:
        """The names it needs among ``points``, ``features``, ``layers``, ``activations``, ``logits``, ``jacobian`` and
        ``gradient``."""

    averages: ClassVar[bool] = False
    """Whether the mean over a measure is made at once, by ``mean_of``, and features of single examples never are."""

    def mean_of(self, network: Forward, parameters: NetworkParameters, measure: Measure) -> Mapping[str, Tensor]:
        """The mean of φ over a flat, labelled measure of examples, by block, where the embedding ``averages``."""
        raise Unsupported(f"'{self.kind}' embeds examples one by one; call it")

    @property
    def resolved(self) -> bool:
        """Whether every data-dependent constant is a number."""
        return True

    def resolve(self, sample: Measure) -> "Embedding":
        """This embedding with its data-dependent constants turned into numbers, from a flat sample of the real side.

        The sample's blocks are what was taken of it; a sample of one tensor is taken as ``points``.
        """
        return self

    def draw(self, generator: torch.Generator, shapes: Mapping[str, tuple[int, ...]]) -> Draws:
        """The random parts of one context, given the shape (of one example) of everything it takes."""
        return None

    @abstractmethod
    def __call__(self, taken: Taken, draws: Draws = None) -> Tensor | Mapping[str, Tensor]:
        """The features of n examples."""


def _check(embedding: Embedding, taken: Any = None, *rest: Any, **named: Any) -> None:
    if not are_tensors(taken):
        raise InvalidInput(f"'{embedding.kind}' embeds tensors by name, such as {{'points': x}}, got {shown(taken)}")
    missing = sorted((embedding.takes & SINGLE) - taken.keys())
    if missing:
        raise InvalidInput(f"'{embedding.kind}' takes '{missing[0]}', got {', '.join(taken) or 'nothing'}")
