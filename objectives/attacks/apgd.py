"""Auto-PGD: ascent with momentum whose steps are halved where they do not help, so that no step size is chosen by hand."""

import math
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.parts import check_choice, check_least
from objectives.attacks.base import Attack, Search
from objectives.attacks.threat import Norm

__all__ = ["APGD", "checkpoints", "targeted_dlr"]

MOMENTUM, RISES = 0.75, 0.75
"""α of the paper; ρ, the share of steps since the last checkpoint that must have raised the loss."""

Aim = Literal["loss", "targets"]


class APGD(Attack, kind="apgd"):
    """Auto-PGD. With η = 2ε at first, P the projection on the ball and α = 0.75:

        z      = P(x_k + η steepest(∇ loss(x_k)))
        x_{k+1} = P(x_k + α (z - x_k) + (1 - α) (x_k - x_{k-1}))

    At checkpoints η is halved, and x_{k+1} is the best point so far, where fewer than 75 % of the steps since the last
    checkpoint raised the loss, or where neither η nor the best loss changed since then.

    Args:
        eps: ε, for values in [0, 1]; 8/255 is 0.0314.
        norm: ``linf`` or ``l2``.
        steps: of each start.
        restarts: random starts.
        aim: ``loss``: the loss that is to be maximised, the cross-entropy unless said otherwise (APGD-CE). ``targets``: for
            each of the wrong classes with the largest logits, another ascent on the targeted difference of logits ratio,
            :func:`targeted_dlr` (APGD-T).
        classes: the number of these classes at most.

    References: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks (Croce & Hein,
    2020), https://arxiv.org/abs/2003.01690, algorithm 1 and section 4.
    """

    shorthand: ClassVar[str] = "eps"
    eps: float = 8 / 255
    norm: Norm = "linf"
    steps: int = 100
    restarts: int = 1
    aim: Aim = "loss"
    classes: int = 9

    def __post_init__(self) -> None:
        _ = self.threat
        check_choice("aim", self.aim, get_args(Aim))
        for name in ("steps", "restarts", "classes"):
            check_least(name, getattr(self, name), 1)

    @property
    def passes(self) -> int:
        starts = self.restarts * (self.classes if self.aim == "targets" else 1)
        return 1 + starts * (3 * self.steps + 1)

    def ascend(self, search: Search, generator: torch.Generator) -> None:
        ball, labels = search.ball, search.labels
        with torch.no_grad():
            logits = search.classify(ball.centre)
        everything = torch.arange(len(logits), device=logits.device)
        search.offer(everything, ball.centre, search.losses(logits, labels), logits)
        if self.aim == "loss":
            for _ in range(self.restarts):
                self._climb(search, ball.random(generator))
            return
        others = logits.masked_fill(labels == labels.amax(1, keepdim=True), -torch.inf).argsort(1, descending=True)
        for place in range(min(self.classes, logits.shape[1] - 1)):
            for _ in range(self.restarts):
                self._climb(search, ball.random(generator), others[:, place])

    def _climb(self, search: Search, start: Float[Tensor, "n ..."], targets: Int[Tensor, " n"] | None = None) -> None:
        """One start of all the balls that are still searched. Its own best point is that by the loss that it climbs."""
        rows = search.active
        if not len(rows):
            return
        state = _Climb(start[rows], 2 * self.eps)
        breaks = set(checkpoints(self.steps))
        for step in range(self.steps + 1):
            last = step == self.steps
            x = state.x.detach().requires_grad_(not last)
            with torch.set_grad_enabled(not last):
                logits, own = search.classify(x), search.labels[rows]
                climbed = search.losses(logits, own) if targets is None else targeted_dlr(logits, own, targets[rows])
            values = climbed if targets is None else search.losses(logits.detach(), own)
            search.offer(rows, x, values, logits)
            if last:
                return
            (gradient,) = torch.autograd.grad(climbed.sum(), [x])
            state.seen(climbed.detach(), gradient)
            if step in breaks:
                state.checkpoint()
            here = search.ball.rows(rows)
            z = here.projected(state.x + here.uphill(state.gradient, state.size))
            mixed = state.x + MOMENTUM * (z - state.x) + (1 - MOMENTUM) * (state.x - state.before)
            state.move(z if step == 0 else here.projected(mixed))
            if search.stop:
                kept = search.kept(rows)
                rows = rows[kept]
                state.keep(kept)
                if not len(rows):
                    return


class _Climb:
    """One start under way, a row for each ball: the current point and the one before it, the size of the steps, the best point
    with its value and gradient, and what happened since the last checkpoint."""

    def __init__(self, x: Tensor, size: float) -> None:
        n = len(x)
        self.x, self.before, self.best, self.gradient, self.best_gradient = x, x, x, x, x
        self.value = x.new_full((n,), -torch.inf)
        self.highest, self.highest_then = self.value.clone(), self.value.clone()
        self.size = x.new_full((n,), size)
        self.halved = torch.ones(n, dtype=torch.bool, device=x.device)
        self.rises = x.new_zeros((n,))
        self.steps: int | None = None

    def seen(self, value: Tensor, gradient: Tensor) -> None:
        """The loss and its gradient at the current point."""
        if self.steps is None:
            self.steps = 0
        else:
            self.rises, self.steps = self.rises + (value > self.value), self.steps + 1
        better = value > self.highest
        column = better.reshape(-1, *[1] * (self.x.ndim - 1))
        self.best = torch.where(column, self.x, self.best)
        self.best_gradient = torch.where(column, gradient, self.best_gradient)
        self.highest = torch.where(better, value, self.highest)
        self.value, self.gradient = value, gradient

    def checkpoint(self) -> None:
        """Halve the steps where they did not help, and go on from the best point there."""
        stuck = ~self.halved & (self.highest <= self.highest_then)
        self.halved = (self.rises < RISES * (self.steps or 0)) | stuck
        self.size = torch.where(self.halved, self.size / 2, self.size)
        column = self.halved.reshape(-1, *[1] * (self.x.ndim - 1))
        self.x = torch.where(column, self.best, self.x)
        self.before = torch.where(column, self.best, self.before)
        self.gradient = torch.where(column, self.best_gradient, self.gradient)
        self.value = torch.where(self.halved, self.highest, self.value)
        self.highest_then, self.rises, self.steps = self.highest, torch.zeros_like(self.rises), 0

    def move(self, x: Tensor) -> None:
        self.before, self.x = self.x, x

    def keep(self, rows: Tensor | slice) -> None:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])


def checkpoints(steps: int) -> list[int]:
    """w_j = ⌈p_j · steps⌉ with p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), without the first, 0."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        before, last = shares[-2:]
        shares.append(last + max(last - before - 0.03, 0.06))
    return sorted({math.ceil(round(share * steps, 6)) for share in shares[1:] if share < 1})


def targeted_dlr(
    logits: Float[Tensor, "n c"], labels: Float[Tensor, "n c"], targets: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """-(z_y - z_t) / (z_π1 - (z_π3 + z_π4) / 2), z_π1 >= z_π2 >= ... the sorted logits, for a target class t (equation 6 of the
    paper; free of the scale of the logits). With two or three classes it is -(z_y - z_t)."""
    difference = logits.gather(1, labels.argmax(1)[:, None]) - logits.gather(1, targets[:, None])
    if logits.shape[1] < 4:
        return -difference[:, 0]
    ordered = logits.sort(1, descending=True).values
    spread = ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3])
    return -difference[:, 0] / (spread + 1e-12)
