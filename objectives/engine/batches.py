"""The real examples of each draw; those that were chosen by a network's features are kept for its next steps.

What is kept is state: the network has moved on since, so the choice could not be made again. It goes into the checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from objectives.contexts import Context, Draw
from objectives.data.real import RealData
from objectives.data.sampling import Look
from objectives.rng import rng

__all__ = ["Batches"]


@dataclass(frozen=True, eq=False)
class Kept:
    """The steps of a network so far, the number of the latest one's batch, and its examples."""

    steps: int
    batch: int
    rows: Tensor


class Batches:
    """The real batches of a context's draws."""

    def __init__(self, context: Context, seed: int) -> None:
        self.context, self.seed, self.interval = context, seed, context.sampling.lasts
        self._kept: dict[int, Kept] = {}

    def rows(self, data: RealData, draw: Draw, look: Look) -> Tensor:
        """The numbers of the examples, on the CPU; ``look`` gives the features of examples at this draw."""
        context = self.context
        if context.batch == "all":
            return torch.cat(data.members)
        kept, interval = self._kept.get(draw.network), self.interval
        if kept is not None and kept.batch == draw.batch:
            return kept.rows
        steps = 0 if kept is None else kept.steps + 1
        if kept is None or interval is None or steps % interval == 0:
            rows = context.sampling.rows(data, context.batch, rng(self.seed, "batch", draw.batch), look)
        else:
            rows = kept.rows
        if interval is None or context.n_draws is not None:
            return rows
        if context.lasting is not None:
            self._kept.clear()
        self._kept[draw.network] = Kept(steps, draw.batch, rows)
        return rows

    def forget(self, oldest: int) -> None:
        """The networks before this one are not used again."""
        self._kept = {number: kept for number, kept in self._kept.items() if number >= oldest}

    def state(self) -> dict[int, dict[str, Any]]:
        """What is kept for each network."""
        return {number: dict(vars(kept)) for number, kept in self._kept.items()}

    def restore(self, state: Mapping[int, Mapping[str, Any]]) -> None:
        """Continue from a state."""
        self._kept = {number: Kept(kept["steps"], kept["batch"], kept["rows"].cpu()) for number, kept in state.items()}
