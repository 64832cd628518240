"""Selection by covering, exactly: no other examples cover the class within a smaller radius."""

import math
import time
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy import optimize, sparse
from torch import Tensor

from discrepancy.errors import InvalidInput, NumericalWarning
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Engine
from objectives.solvers.base import Problem, Solver
from objectives.solvers.selection.base import Choice, WithinClasses, check_embeddings, check_positive
from objectives.solvers.selection.cover import Block, distances, farthest_first

__all__ = ["ExactCover", "least_cover"]

HELD_BYTES = 48
"""Of each pair of a piece: its distance, twice, and its entry in the matrix of a program and in the copy of the solver."""

Rows = list[int]


class ExactCover(Solver, kind="exact_cover"):
    """Minimal covering: within each class, the k real examples around which balls of the least radius cover all of the class,

        min_{S, |S| = k}  η(S),        η(S) = max_x min_{s in S} ‖x - s‖,

    in the embedding of the objective. The least radius is one of the distances of two examples, and at least half of that of
    greedy ``k_centre`` (Gonzalez), which is where the search starts. A bisection over the distances between the two asks, for
    each radius r, for at most k balls that cover: first by greedy choices, of the ball with most of the weight that is not
    covered yet, where examples that were left over before weigh more; then, below the least radius found so, by an integer
    program (HiGHS, through ``scipy.optimize.milp``):

        min Σᵢ sᵢ   subject to   A s ≥ 1,  Σᵢ sᵢ ≤ k,  sᵢ ∈ {0, 1},        Aᵢⱼ = 1 where ‖xᵢ - xⱼ‖ ≤ r.

    Where fewer than k do, the farthest examples are added. Of several covers with the least radius, one is taken. Each step
    reports η, which is the value of ``covering_radius`` with ``side: cover`` where this is what the objective matches.

    Norms, terms and blocks are those of ``k_centre``: distances have the norm of a ``covering_radius`` that a term matches,
    else they are Euclidean; over several terms and blocks d² = Σ_b f_b d_b². The number k is that of the synthetic set, the
    same in each class; the paper also states a radius and takes the fewest examples of each class.

    The problem is NP-hard. A class of n examples takes about log₂ n² programs with n² entries at most, and n² d for the
    distances. Each program gets an equal part of what is left of the ``time_limit``; if one is undecided, larger radii are
    tried. Then the examples are those of the best cover found, a warning says so, and they may differ from one machine to
    another. The record of the set has under ``findings``, a list with one entry for each
    class: ``radius``, which is η; ``at_least``, below which no radius is possible (equal to η where the search ended; None
    for a class in pieces); and ``pieces``, their number.

    Args:
        time_limit: of each class, in seconds; None for no limit.
        pieces: a class with more examples than this is cut, in the order of its examples, into pieces of at most so many, as
            equal as possible. The k examples are shared out equally, and each piece is covered by its own. The result is a
            cover, but not the least. None to leave all classes whole.

    References: Chen and Selvan, "Is Adversarial Training with Compressed Datasets Effective?" (2024), minimal finite covering,
    with pieces of 5,000; Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance" (1985).

    Raises:
        InvalidInput: if ``time_limit`` is not > 0, or ``pieces`` is not; on use, where a class has more pieces than examples
            to choose.
    """

    time_limit: float | None = 60.0
    pieces: int | None = None

    def __post_init__(self) -> None:
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise InvalidInput(
                f"'time_limit' must be finite and > 0, got {self.time_limit}; leave it out with 'null' for no limit"
            )
        if self.pieces is not None and self.pieces < 1:
            raise InvalidInput(f"'pieces' must be at least 1, got {self.pieces}")

    def duration(self, problem: Problem) -> int:
        return problem.data.count

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return len(problem.data)

    def search_seconds(self, problem: Problem) -> float:
        """A piece of 300 images took 10 s; the time of smaller and larger ones is taken to grow with the third power."""
        found = 0.0
        for size in map(len, problem.data.members):
            parts = self._parts(size)
            found += min(self.time_limit or math.inf, parts * 10.0 * (size / parts / 300) ** 3)
        return found

    def start(self, problem: Problem) -> WithinClasses:
        check_embeddings(problem, self.kind)
        check_positive(problem, self.kind)
        classes = problem.data.classes or (problem.data.name,)
        sizes = [len(members) for members in problem.data.members]
        for name, size, count in zip(classes, sizes, problem.synthetic.sizes(problem.data), strict=True):
            if self._parts(size) > count:
                raise InvalidInput(
                    f"'pieces' is {self.pieces}, which cuts the {size} examples of '{name}' into {self._parts(size)} pieces, "
                    f"but {count} of them are to be chosen, and each piece needs one; raise 'pieces'"
                )

        def choose(engine: Engine, members: Tensor, label: int, count: int) -> Choice:
            blocks = [Block.of(match) for match in engine.real_side.candidates(members, label, summaries=False)]
            return self._choose(blocks, count, classes[label])

        largest = max(math.ceil(size / self._parts(size)) for size in sizes)
        return WithinClasses(problem, self.kind, choose, held=HELD_BYTES * largest**2)

    def _parts(self, size: int) -> int:
        """The number of pieces of a class."""
        return 1 if self.pieces is None else max(1, math.ceil(size / self.pieces))

    def _choose(self, blocks: Sequence[Block], count: int, name: str) -> Choice:
        size = len(blocks[0].rows)
        parts, rows, least, ended = self._parts(size), [], None, True
        for number in range(parts):
            first, share = _share(number, size, parts), count // parts + (number < count % parts)
            piece = [block.part(slice(first, _share(number + 1, size, parts))) for block in blocks]
            limit = math.inf if self.time_limit is None else self.time_limit / parts
            found, least, whole = least_cover(piece, share, limit)
            ended = ended and whole
            rows += [first + row for row in found]
        choice = farthest_first(blocks, count, rows)
        radius = float(choice.value)
        if not ended:
            bound = f"the least one is at least {least:.6g}" if parts == 1 else "some of its pieces allow a smaller one"
            warnings.warn(
                f"'exact_cover' reached its time limit of {self.time_limit:g} s at '{name}': its radius is {radius:.6g}, and "
                f"{bound}; raise 'time_limit', or set 'pieces'",
                NumericalWarning,
                stacklevel=2,
            )
        found = {"radius": radius, "at_least": least if parts == 1 else None, "pieces": parts}
        return Choice(choice.rows, choice.value, found=found)


def _share(number: int, size: int, parts: int) -> int:
    """Where the piece of this number begins; the first ones have one example more."""
    return number * (size // parts) + min(number, size % parts)


def least_cover(blocks: Sequence[Block], count: int, seconds: float = math.inf) -> tuple[Rows, float, bool]:
    """So many candidates that cover all within the least radius; a radius below which that is impossible; and whether the
    search came to its end."""
    end = time.monotonic() + seconds
    greedy = farthest_first(blocks, count)
    best, reached = greedy.rows.tolist(), float(greedy.value)
    table = torch.stack([distances(blocks, row) for row in range(len(blocks[0].rows))]).sqrt().cpu().numpy()
    # Half the greedy radius may be off by a rounding.
    radii = np.unique(table[(table < reached) & (table >= reached / 2 * (1 - 1e-9))])
    low, high, excluded = 0, len(radii), 0
    while low < high and time.monotonic() < end:
        middle = (low + high) // 2
        rows = weighted_cover(table <= radii[middle], count)
        if rows is None:
            low = middle + 1
        else:
            best, high, reached = rows, middle, float(radii[middle])
    low = 0
    while low < high and (remaining := end - time.monotonic()) > 0:
        middle, programs = (low + high) // 2, (high - low).bit_length()
        found, decided = _cover(table <= radii[middle], count, remaining / programs)
        if found is not None:
            best, high, reached = found, middle, float(radii[middle])
        else:  # undecided, it is left out: a larger radius may still be found
            low = middle + 1
            excluded = low if decided else excluded
    whole = excluded == high
    return farthest_first(blocks, count, best).rows.tolist(), reached if whole else float(radii[excluded]), whole


ROUNDS = 30
"""Greedy choices of all the balls, each with other weights."""


def weighted_cover(near: np.ndarray, count: int) -> Rows | None:
    """At most so many balls that cover all, if greedy choices find them: each ball has the most of the weight that the balls
    before it leave over. All weights are 1 at first; after each round those of the examples that were left over are doubled.

    Args:
        near: whether an example, the column, is in a ball, the row.
    """
    covers = near.astype(np.float32)
    weights = np.ones(len(near), dtype=np.float32)
    for _ in range(ROUNDS):
        left, rows = np.ones(len(near), dtype=bool), []
        while left.any() and len(rows) < count:
            rows.append(int(np.argmax(covers @ (weights * left))))
            left &= ~near[rows[-1]]
        if not left.any():
            return rows
        weights[left] *= 2
        weights /= weights.max()
    return None


def _cover(near: np.ndarray, count: int, seconds: float) -> tuple[Rows | None, bool]:
    """At most so many balls that cover all, if some were found; and whether it is decided that there are any."""
    n = len(near)
    ones = np.ones(n)
    result = optimize.milp(
        ones,
        integrality=ones,
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(sparse.csr_array(near, dtype=float), lb=1),
            optimize.LinearConstraint(sparse.csr_array(ones[None]), ub=count),
        ],
        # The first cover of so many will do.
        options={"mip_rel_gap": 1.0, **({"time_limit": seconds} if seconds < math.inf else {})},
    )
    if result.x is not None:
        rows = np.flatnonzero(result.x > 0.5)
        if len(rows) <= count and near[:, rows].any(1).all():
            return rows.tolist(), True
    return None, result.status == 2
