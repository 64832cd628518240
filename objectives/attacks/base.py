"""What an attack is: ascent on a loss within a ball around each example."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part
from objectives.attacks.threat import Ball, Norm, Threat
from objectives.data.labels import predicted_classes

__all__ = ["Attack", "Classify", "Losses", "Search", "attacked", "cross_entropies"]

Classify = Callable[[Tensor], Tensor]
"""Points in the units of the threat -> logits (n, c), differentiable in the points."""

Losses = Callable[[Float[Tensor, "n c"], Float[Tensor, "n c"]], Float[Tensor, " n"]]
"""Logits and labels as rows -> what the attacker maximises, for each example."""


def cross_entropies(logits: Float[Tensor, "n c"], labels: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """-Σ_k y_k log softmax(z)_k."""
    return -(labels * functional.log_softmax(logits, 1)).sum(1)


class Attack(Part, family=True):
    """max over ‖δ‖ <= ε of a loss of f(x + δ), approximately, for each example of a batch on its own.

    The point that is returned is the best of all that were visited, the example itself included, so that more starts, or more
    steps of one size, never lower the loss. It lies in the ball and within the limits of valid values.

    The cross-entropy of float32 logits that are some hundred apart has no slope, so that none but a random start may find a
    larger one. The loss of :class:`~objectives.attacks.apgd.APGD` with ``aim: targets`` does not depend on their scale.

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
    def ascend(self, search: "Search", generator: torch.Generator) -> None:
        """Offer points of the balls to the search; ``generator`` is that of random starts."""


class Search:
    """The search for the best point of each ball: one that is misclassified where ``stop`` is set and there is one, else that
    of the largest loss. A loss that is NaN is no improvement, and an example whose logits are NaN is misclassified.

    Args:
        classify: the network.
        labels: as rows.
        ball: around each example.
        losses: what is maximised.
        stop: leave an example once it is misclassified.
    """

    def __init__(self, classify: Classify, labels: Tensor, ball: Ball, losses: Losses, *, stop: bool) -> None:
        n, device = len(ball.centre), ball.centre.device
        self.classify, self.labels, self.ball, self.losses, self.stop = classify, labels, ball, losses, stop
        self.points = ball.centre.detach().clone()
        self.values = torch.full((n,), -torch.inf, device=device, dtype=ball.centre.dtype)
        self.won = torch.zeros(n, dtype=torch.bool, device=device)

    @property
    def active(self) -> Tensor:
        """The numbers of the balls that are still searched."""
        return (~self.won).nonzero()[:, 0] if self.stop else torch.arange(len(self.won), device=self.won.device)

    def kept(self, rows: Tensor) -> Tensor | slice:
        """Which of these balls are still searched."""
        return ~self.won[rows] if self.stop else slice(None)

    def offer(
        self, rows: Tensor, points: Float[Tensor, "k ..."], values: Float[Tensor, " k"], logits: Float[Tensor, "k c"]
    ) -> None:
        """Take what is better of points of the balls with these numbers, given their losses and logits."""
        if not self.stop:  # then rows are all of them, and nothing has to be waited for
            better = values > self.values
            column = better.reshape(-1, *[1] * (points.ndim - 1))
            self.points = torch.where(column, points.detach(), self.points)
            self.values = torch.where(better, values.detach(), self.values)
            return
        won = predicted_classes(logits) != self.labels[rows].argmax(1)
        better = ((values > self.values[rows]) & (won | ~self.won[rows])) | (won & ~self.won[rows])
        chosen = rows[better]
        self.points[chosen], self.values[chosen] = points.detach()[better], values.detach()[better]
        self.won[rows] |= won


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
) -> Search:
    """The finished search of an attack on examples in the units of its threat; no gradient reaches its points.

    Raises:
        InvalidInput: for labels of another number than the points.
    """
    if len(labels) != len(points):
        raise InvalidInput(f"{len(labels)} labels do not fit {len(points)} points; there must be one a point")
    search = Search(classify, labels, ball_of(attack.threat, points.detach()), losses, stop=stop)
    with torch.enable_grad():
        attack.ascend(search, generator)
    return search
