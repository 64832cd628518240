"""What an attack is: ascent on a loss within a ball around each example."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part
from objectives.attacks.threat import Ball, Norm, Threat

__all__ = ["Attack", "Classify", "Found", "Losses", "attacked", "cross_entropies"]

Classify = Callable[[Tensor], Tensor]
"""Points in the units of the threat -> logits (n, c), differentiable in the points."""

Losses = Callable[[Float[Tensor, "n c"], Float[Tensor, "n c"]], Float[Tensor, " n"]]
"""Logits and labels as rows -> what the attacker maximises, for each example."""


def cross_entropies(logits: Float[Tensor, "n c"], labels: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """-Σ_k y_k log softmax(z)_k."""
    return -(labels * functional.log_softmax(logits, 1)).sum(1)


class Attack(Part, family=True):
    """max over ‖δ‖ <= ε of a loss of f(x + δ), approximately, for each example of a batch on its own.

    The point that is returned is the best of all that were visited, the example itself included, so that more steps never
    lower the loss. It lies in the ball and within the limits of valid values.

    Args:
        eps: ε, for values in [0, 1]; 8/255 is 0.0314.
        norm: ``linf`` or ``l2``.
    """

    shorthand: ClassVar[str] = "eps"
    eps: float
    norm: Norm

    @property
    def threat(self) -> Threat:
        """The ball; its construction refuses an impossible one."""
        return Threat(self.norm, self.eps)

    @property
    @abstractmethod
    def passes(self) -> int:
        """Forward passes of each example, a backward pass counted as two."""

    @abstractmethod
    def ascend(
        self,
        classify: Classify,
        labels: Float[Tensor, "n c"],
        ball: Ball,
        generator: torch.Generator,
        *,
        losses: Losses,
        stop: bool,
    ) -> "Found":
        """The best points in the balls.

        Args:
            classify: the network.
            labels: as rows.
            generator: of random starts.
            losses: what is maximised.
            stop: leave an example once it is misclassified.
        """


class Found:
    """The best point of each ball so far: one that is misclassified where ``stop`` is set and there is one, else that of the
    largest loss. A loss that is NaN is no improvement."""

    def __init__(self, ball: Ball, *, stop: bool) -> None:
        n = len(ball.centre)
        self.stop, device = stop, ball.centre.device
        self.points = ball.centre.detach().clone()
        self.values = torch.full((n,), -torch.inf, device=device, dtype=ball.centre.dtype)
        self.won = torch.zeros(n, dtype=torch.bool, device=device)

    def offer(
        self, rows: Tensor, points: Float[Tensor, "k ..."], values: Float[Tensor, " k"], won: Bool[Tensor, " k"]
    ) -> None:
        """Take what is better of points of the balls with these numbers."""
        if not self.stop:  # then rows are all of them, and nothing has to be waited for
            better = values > self.values
            column = better.reshape(-1, *[1] * (points.ndim - 1))
            self.points = torch.where(column, points.detach(), self.points)
            self.values = torch.where(better, values.detach(), self.values)
            return
        better = ((values > self.values[rows]) & (won | ~self.won[rows])) | (won & ~self.won[rows])
        chosen = rows[better]
        self.points[chosen], self.values[chosen] = points.detach()[better], values.detach()[better]
        self.won[rows] |= won

    @property
    def active(self) -> Tensor:
        """The numbers of the balls that are still searched."""
        return (~self.won).nonzero()[:, 0] if self.stop else torch.arange(len(self.won), device=self.won.device)


def attacked(
    attack: Attack,
    classify: Classify,
    points: Float[Tensor, "n ..."],
    labels: Tensor,
    ball_of: Callable[[Threat, Tensor], Ball],
    generator: torch.Generator,
    *,
    losses: Losses = cross_entropies,
    stop: bool = False,
) -> Found:
    """The points of an attack on examples in the units of its threat; no gradient reaches them.

    Raises:
        InvalidInput: for labels of another number than the points.
    """
    if len(labels) != len(points):
        raise InvalidInput(f"{len(labels)} labels do not fit {len(points)} points; there must be one a point")
    with torch.enable_grad():
        return attack.ascend(
            classify, labels, ball_of(attack.threat, points.detach()), generator, losses=losses, stop=stop
        )
