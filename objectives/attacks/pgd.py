"""Steps of one size in the direction of steepest ascent."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_least
from objectives.attacks.base import Attack, Search
from objectives.attacks.threat import Norm

__all__ = ["FGSM", "PGD", "steps_uphill"]


class FGSM(Attack, kind="fgsm"):
    """One step to the border of the ball: x + ε sign(∇ loss) for L∞, x + ε ∇ loss / ‖∇ loss‖ for L2.

    Args:
        eps: ε, for values in [0, 1]; 8/255 is 0.0314.
        norm: ``linf`` or ``l2``.

    References: Explaining and Harnessing Adversarial Examples (Goodfellow et al., 2015), https://arxiv.org/abs/1412.6572.
    """

    shorthand: ClassVar[str] = "eps"
    eps: float = 8 / 255
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        _ = self.threat

    @property
    def passes(self) -> int:
        return 4

    def ascend(self, search: Search, generator: torch.Generator) -> None:
        steps_uphill(search, search.ball.centre, 1, self.eps)


class PGD(Attack, kind="pgd"):
    """x ← project(x + step · steepest(∇ loss)) from random starts in the ball.

    Args:
        eps: ε, for values in [0, 1]; 8/255 is 0.0314.
        norm: ``linf`` or ``l2``.
        steps: of each start.
        step: the length of a step; 2.5 ε / steps by default, with which the border is reached from everywhere.
        restarts: random starts.

    References: Towards Deep Learning Models Resistant to Adversarial Attacks (Madry et al., 2018),
    https://arxiv.org/abs/1706.06083.
    """

    shorthand: ClassVar[str] = "eps"
    eps: float = 8 / 255
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
    def passes(self) -> int:
        return 1 + self.restarts * (3 * self.steps + 1)

    def ascend(self, search: Search, generator: torch.Generator) -> None:
        steps_uphill(search, search.ball.centre, 0, 0.0)
        size = 2.5 * self.eps / self.steps if self.step is None else self.step
        for _ in range(self.restarts):
            start = search.ball.random(
                generator
            )  # of all the balls, so that nothing depends on which are still searched
            steps_uphill(search, start, self.steps, size)


def steps_uphill(search: Search, start: Float[Tensor, "n ..."], steps: int, size: float) -> None:
    """So many steps from a start, all of whose points are offered: ``steps`` + 1 forward and ``steps`` backward passes."""
    rows = search.active
    x = start[rows]
    for left in range(steps, -1, -1):
        if not len(rows):
            return
        x = x.detach().requires_grad_(left > 0)
        with torch.set_grad_enabled(left > 0):
            logits = search.classify(x)
            values = search.losses(logits, search.labels[rows])
        search.offer(rows, x, values, logits)
        if left == 0:
            return
        (gradient,) = torch.autograd.grad(values.sum(), [x])
        ball = search.ball.rows(rows)
        moved = ball.projected(x.detach() + ball.uphill(gradient, size))
        kept = search.kept(rows)
        rows, x = rows[kept], moved[kept]
