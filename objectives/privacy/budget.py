"""What a user states: the budget, the neighbours, the clipping, and where releases are written down."""

import math
from dataclasses import dataclass
from typing import get_args

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice, fits, shown, user_path
from objectives.privacy.gaussian import gaussian_mu
from objectives.privacy.ledger import Adjacency

__all__ = ["Privacy"]


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """(ε, δ)-differential privacy of the real data, with one example as the unit.

    What is condensed from is then one noisy vector, released once (:mod:`objectives.privacy.curator`). The budget is that of
    the data, over all the runs that name the same ledger: a later run may spend what an earlier one left.

    Args:
        epsilon: ε > 0.
        delta: δ, less than 1 / n.
        adjacency: ``add-remove``: a data set with an example more is a neighbour; ``replace-one``: one in which an example is
            another one, which needs twice the noise.
        clip: the root mean square of the lengths to which the statistics of an example are clipped, over all that is released;
            1, the default, changes nothing where they have the length one (via: normalised).
        share: the part of what is left of the budget that this run takes.
        ledger: the file in which releases are written down; None: none is kept, so this release is the only one that counts.

    Raises:
        InvalidInput: if a value is out of its range.

    Example:
        >>> from objectives import Privacy
        >>> Privacy(epsilon=1.0).adjacency
        'add-remove'
    """

    epsilon: float
    delta: float = 1e-5
    adjacency: Adjacency = "add-remove"
    clip: float = 1.0
    share: float = 1.0
    ledger: str | None = None

    def __post_init__(self) -> None:
        for name in ("epsilon", "delta", "clip", "share"):
            if not fits(getattr(self, name), float):
                raise InvalidInput(f"'{name}' must be a number, got {shown(getattr(self, name))}")
        if self.ledger is not None:
            user_path("ledger", self.ledger)
        for name in ("epsilon", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInput(f"'{name}' must be > 0 and finite, got {getattr(self, name)}")
        if not 0 < self.delta < 1:
            raise InvalidInput(f"'delta' must lie strictly between 0 and 1, got {self.delta}")
        if not 0 < self.share <= 1:
            raise InvalidInput(f"'share' must be > 0 and at most 1, got {self.share}")
        check_choice("adjacency", self.adjacency, get_args(Adjacency))
        _ = self.mu

    @property
    def mu(self) -> float:
        """μ of the whole budget."""
        return gaussian_mu(self.epsilon, self.delta)

    def check(self, examples: int) -> None:
        """Refuse a δ at which a mechanism that publishes one example at random would do.

        Raises:
            InvalidInput: naming the largest δ.
        """
        if self.delta >= 1 / examples:
            raise InvalidInput(
                f"'delta' is {self.delta:g}, and must be less than 1 / n = {1 / examples:.3g} for {examples:,} examples: with "
                "more, giving one of them away would count as private"
            )
