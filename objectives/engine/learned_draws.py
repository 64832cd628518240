"""Discrepancies that are suprema have an adversary: parameters in the state of the run, which take one step of gradient ascent
in each step of the run.

min_S max_ψ  D_ψ(P, Q_S):   one backward pass gives both gradients; S descends, ψ ascends.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from discrepancy.discrepancy import Adversary

__all__ = ["LearnedDraws"]

Place = tuple[str, str]
"""A term and a block of it."""


class LearnedDraws:
    """The adversaries of an objective, each with an Adam of its own.

    Args:
        adversaries: by term and block.
        starts: where their parameters start: by term and block, then by name, with a leading axis of groups.
    """

    def __init__(self, adversaries: Mapping[Place, Adversary], starts: Mapping[Place, Mapping[str, Tensor]]) -> None:
        self.of_terms: dict[str, dict[str, dict[str, Tensor]]] = {}
        """Their parameters by term, by block and by name; they ask for gradients."""
        for term, block in adversaries:
            start = starts[term, block].items()
            own = {name: value.clone().requires_grad_(True) for name, value in start}
            self.of_terms.setdefault(term, {})[block] = own
        self._parameters = [self.of_terms[term][block] for term, block in adversaries]
        self._optimisers = [
            torch.optim.Adam(parameters.values(), lr=adversary.rate, maximize=True)
            for parameters, adversary in zip(self._parameters, adversaries.values(), strict=True)
        ]
        self.leaves = [value for parameters in self._parameters for value in parameters.values()]
        """All their parameters."""

    def __len__(self) -> int:
        return len(self._parameters)

    def ascend(self, gradients: Sequence[Sequence[Tensor | None]]) -> None:
        """One step of gradient ascent, given the gradients at the leaves: once, or once for every class."""
        for leaf, parts in zip(self.leaves, zip(*gradients, strict=True), strict=True):
            known = [part for part in parts if part is not None]
            leaf.grad = torch.stack(known).sum(0) if known else None
        for optimiser in self._optimisers:
            optimiser.step()

    def state(self) -> list[dict[str, Any]]:
        """Parameters and optimisers, to be restored."""
        return [
            {
                "parameters": {name: value.detach().clone() for name, value in parameters.items()},
                "optimiser": copy.deepcopy(optimiser.state_dict()),
            }
            for parameters, optimiser in zip(self._parameters, self._optimisers, strict=True)
        ]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Continue from a state."""
        for saved, parameters, optimiser in zip(state, self._parameters, self._optimisers, strict=True):
            with torch.no_grad():
                for name, value in parameters.items():
                    value.copy_(saved["parameters"][name])
            optimiser.load_state_dict(copy.deepcopy(dict(saved["optimiser"])))
