"""The masses of the groups of a real batch whose examples have weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.examples import Examples, Grouped

__all__ = ["GroupMasses"]


@dataclass(eq=False)
class GroupMasses:
    """The mass of each of ``count`` groups, added up over the parts of a batch. Without weights there is nothing to add."""

    count: int
    by: Grouped
    mass: Tensor | None = field(default=None, init=False)

    def add(self, examples: Examples) -> None:
        """Add a part."""
        if examples.weights is not None:
            before = torch.zeros(self.count) if self.mass is None else self.mass
            self.mass = before.index_add(0, examples.numbers(self.by).cpu(), examples.weights.cpu().float())

    def check(self, name: str, classes: Sequence[str]) -> None:
        """Refuse a group in which no example has mass, which cannot be compared.

        Raises:
            InvalidInput: naming the term of this ``name`` and the group.
        """
        if self.mass is None or bool((self.mass > 0).all()):
            return
        group = int(self.mass.argmin())
        of = {
            "class": f"class '{classes[group]}'" if classes else "the data",
            "group": f"group {group}",
            "none": "the data",
        }
        raise InvalidInput(
            f"term '{name}' has no real example of {of[self.by]} with mass: its transform gives those in the batch the weight "
            "zero; take a larger 'batch', or 'all', or compare with by: none"
        )
