"""The largest value of one function of many points, each of which may move within a ball of its own."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_least
from objectives.attacks.threat import Ball, Norm, Threat

__all__ = ["JointAscent"]


@dataclass(frozen=True, kw_only=True)
class JointAscent:
    """sup over ‖δᵢ‖ <= ε of F(x₁ + δ₁, ..., xₙ + δₙ), approximately: projected steepest ascent from the points themselves and
    from random starts. The largest value of all that was visited counts. It is at least F(x₁, ..., xₙ) and at most the
    supremum, and with a given ``step`` more steps or starts never lower it. Points that have no slope at first, as where two
    sides are equal, all begin with the same random step.

    An :class:`~objectives.attacks.Attack` maximises a loss of each example on its own; here all of them move together.

    Args:
        eps: ε, for values in [0, 1].
        norm: ``linf`` or ``l2``.
        steps: of each start.
        step: the length of a step; 2.5 ε / steps by default.
        restarts: starts; the first is at the points, the others are random points of the balls.

    Raises:
        InvalidInput: for values out of range.
    """

    eps: float
    norm: Norm = "linf"
    steps: int = 20
    step: float | None = None
    restarts: int = 1

    def __post_init__(self) -> None:
        _ = self.threat
        check_least("steps", self.steps, 1)
        check_least("restarts", self.restarts, 1)
        if self.step is not None and not 0 < self.step < float("inf"):
            raise InvalidInput(f"'step' must be > 0 and finite, got {self.step}")

    @property
    def threat(self) -> Threat:
        """The ball; its construction refuses an impossible one."""
        return Threat(self.norm, self.eps)

    @property
    def passes(self) -> int:
        """Forward passes of all the points, a backward pass counted as two."""
        return self.restarts * (3 * self.steps + 1)

    def highest(
        self,
        values: Callable[[Float[Tensor, "n ..."]], Float[Tensor, "*g"]],
        ball: Ball,
        generator: torch.Generator,
        groups: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n ..."]:
        """The points of the balls at which F is largest, in the units of the threat; no gradient reaches them.

        Args:
            values: what F is the sum of, differentiable in the points.
            generator: of random starts.
            groups: the number of the value that depends on a point, where each point has one. Then the largest of each value
                counts on its own.
        """
        column = (-1, *[1] * (ball.centre.ndim - 1))
        best, highest = ball.centre, torch.full((), -torch.inf, device=ball.centre.device)
        first = torch.randn(ball.centre.shape[1:], generator=generator.clone_state()).to(ball.centre)
        size = 2.5 * self.eps / self.steps if self.step is None else self.step
        for start in range(self.restarts):
            x = ball.centre if start == 0 else ball.random(generator)
            for left in range(self.steps, -1, -1):
                x = x.detach().requires_grad_(left > 0)
                with torch.set_grad_enabled(left > 0):
                    here = values(x)
                found = here.detach().sum() if groups is None else here.detach()
                better = found > highest
                chosen = better if groups is None else better[groups].reshape(column)
                best, highest = torch.where(chosen, x.detach(), best), torch.where(better, found, highest)
                if left > 0:
                    (slope,) = torch.autograd.grad(here.sum(), [x])
                    if start == 0 and left == self.steps:
                        flat = (slope == 0).flatten(1).all(1)
                        slope = torch.where(flat.reshape(column), first, slope)
                    x = ball.projected(x.detach() + ball.uphill(slope, size))
        return best
