"""Kernel thinning: halve a class again and again so that the halves balance, then exchange points one by one."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Engine
from objectives.rng import rng
from objectives.solvers.base import Problem, Solver
from objectives.solvers.selection.base import Choice, WithinClasses, check_mmd
from objectives.solvers.selection.quadratic import Quadratic

__all__ = ["KernelThinning", "best", "halved", "refined", "split"]

BLOCK_PAIRS = 256
"""Pairs whose inner products with all the earlier ones are held at once."""


class KernelThinning(Solver, kind="kernel_thinning"):
    """Kernel thinning of each class, in the first draw of the context, with the kernel of the objective for both its parts
    (target kernel thinning):

    1. split: g = ⌊log₂(n / k)⌋ rounds of halving take k 2^g examples to 2^g candidate sets of k. The examples of a set come in
       pairs (x, x'); one of each pair goes to either half, at random, with odds that keep the difference of the halves in the
       Hilbert space, ψ, small: f = k(x, ·) - k(x', ·) is added to ψ with probability (1 - ⟨ψ, f⟩ / a) / 2, else taken off.
    2. swap: of these sets, and the first k of the examples as they came, that with the smallest MMD to the whole class; then
       each of its examples in turn is exchanged for the one of all the class, not in the set, that makes the MMD smallest.

    n need not be k times a power of two: the split takes a random k 2^g of the n examples, more than half of them, in random
    order; the choice between the sets and the exchanges are measured against all n. With n < 2 k nothing is split.

    Needs terms that match ``mmd``, without ``root``; over several terms and blocks the kernels add up. O(n² d) a class, at
    O(n) memory beyond the features.

    Args:
        delta: the failure probability δ in the threshold a = max(b σ (2 log(k 2^{g+1-j} g / δ))^½, b²) of round j = 0, 1, ...,
            with b = ‖f‖ and σ² updated after each pair; a smaller one makes the halves more random.

    References: Dwivedi and Mackey, "Kernel Thinning" (2021, JMLR 2024), algorithms 1, 1a and 1b; "Generalized Kernel Thinning"
    (2022), for one kernel in both parts.
    """

    delta: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise InvalidInput(f"'delta' must lie in (0, 1), got {self.delta}")

    def duration(self, problem: Problem) -> int:
        return problem.data.count

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return len(problem.data)

    def start(self, problem: Problem) -> WithinClasses:
        check_mmd(problem, self.kind)

        def choose(engine: Engine, members: Tensor, label: int, count: int) -> Choice:
            form, generator = (
                Quadratic(engine.real_side.candidates(members, label)),
                rng(problem.runtime.seed, "thinning", label),
            )
            order = torch.randperm(len(form), generator=generator)
            rounds = (len(form) // count).bit_length() - 1
            sets = split(form, order[: count << rounds], rounds, self.delta, generator)
            return refined(form, best(form, torch.cat([order[None, :count], sets])))

        return WithinClasses(problem, self.kind, choose)


def split(
    form: Quadratic, rows: Int[Tensor, " n"], rounds: int, delta: float, generator: torch.Generator
) -> Int[Tensor, "s m"]:
    """2^g sets of equal size, each balanced against the others, of n candidates in g rounds (algorithm 1a)."""
    sets = rows[None]
    for j in range(rounds):
        draws = torch.rand(len(sets), sets.shape[1] // 2, generator=generator, dtype=torch.float64)
        sets = halved(form, sets, draws, 2 * math.log(2 * len(rows) * rounds / (delta * 2**j)))
    return sets


def halved(
    form: Quadratic, sets: Int[Tensor, "s m"], draws: Float[Tensor, "s h"], multiplier: float
) -> Int[Tensor, "t h"]:
    """Each set in two balanced halves, in order, from a uniform number for each of its pairs."""
    first, second = sets[:, 0::2], sets[:, 1::2]
    plus = torch.stack([_signs(form, *rows, multiplier) for rows in zip(first, second, draws, strict=True)])
    left, right = torch.where(plus, second, first), torch.where(plus, first, second)
    return torch.stack([left, right], 1).flatten(0, 1)


def _signs(
    form: Quadratic, x: Int[Tensor, " h"], y: Int[Tensor, " h"], draws: Float[Tensor, " h"], multiplier: float
) -> Tensor:
    """Whether f of each pair is added to ψ: the self-balancing walk."""
    signs, uniform, variance = np.zeros(len(x)), draws.numpy(), 0.0
    for first, inner in _inner_products(form, x, y):
        balance = inner[:, :first] @ signs[:first]
        for i in range(len(inner)):
            at = first + i
            square = max(inner[i, at], 0.0)
            threshold = max(math.sqrt(variance * square * multiplier), square) or 1.0
            alpha = balance[i] + inner[i, first:at] @ signs[first:at]
            variance += square * max(1 + (square - 2 * threshold) * variance / threshold**2, 0.0)
            signs[at] = 1.0 if uniform[at] <= (1 - alpha / threshold) / 2 else -1.0
    return torch.from_numpy(signs > 0)


def _inner_products(form: Quadratic, x: Tensor, y: Tensor) -> Iterator[tuple[int, np.ndarray]]:
    """⟨f_i, f_j⟩ for blocks of pairs i and all the pairs j up to the end of the block."""
    for first in range(0, len(x), BLOCK_PAIRS):
        end = min(first + BLOCK_PAIRS, len(x))
        rows, columns = torch.cat([x[first:end], y[first:end]]), torch.cat([x[:end], y[:end]])
        upper, lower = form.entries(rows, columns).split(end - first)
        inner = upper - lower
        yield first, (inner[:, :end] - inner[:, end:]).cpu().numpy()


def best(form: Quadratic, sets: Int[Tensor, "s m"]) -> Int[Tensor, " m"]:
    """The set with the smallest MMD; of equal ones the first."""
    equal = torch.full_like(form.means[: sets.shape[1]], 1 / sets.shape[1])
    return sets[int(torch.stack([form.value(rows, equal) for rows in sets]).argmin())]


def refined(form: Quadratic, rows: Int[Tensor, " m"]) -> Choice:
    """The set after one round of exchanges, each for the best of all candidates that are not in the set (algorithm 1b)."""
    rows, m, device = rows.clone(), len(rows), form.means.device
    equal = torch.full((m,), 1 / m, dtype=torch.float64, device=device)
    taken = torch.zeros(len(form), dtype=torch.bool, device=device)
    taken[rows] = True
    # Twice the mean of k(x, ·) over the set, with what x itself would bring.
    worth = 2 * form.times(rows, equal) + form.diagonal / m - 2 * form.means
    for place in range(m):
        taken[rows[place]] = False
        worth -= 2 * form.times(rows[place, None], equal[:1])
        rows[place] = torch.where(taken, torch.inf, worth).argmin()
        taken[rows[place]] = True
        worth += 2 * form.times(rows[place, None], equal[:1])
    return Choice(rows, form.value(rows, equal))
