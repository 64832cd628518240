"""Greedy selection: one real example after another, each the best that can be added."""

from collections.abc import Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.discrepancy import Draws
from discrepancy.mean_embeddings.gains import Compared, Gains
from discrepancy.measure import Measure
from discrepancy.parts import check_choice
from objectives.engine.bound_context import BoundContext
from objectives.engine.engine import Engine
from objectives.solvers.base import Problem, Solver
from objectives.solvers.selection.base import Choice, WithinClasses, check_embeddings, check_mmd, check_weights
from objectives.solvers.selection.quadratic import Quadratic
from objectives.terms.bound import Candidates

__all__ = ["GreedyMMD", "Herding"]


class Herding(Solver, kind="herding"):
    """Greedy minimisation of the objective: within each class, add the real example after which D is smallest,

        x_{t+1} = argmin_x  D( P_c , uniform on {x_1, ..., x_t, x} ),

    without replacement, in the first draw of the context; of equal ones the first. With MMD and a linear kernel this is the
    rule of iCaRL, at O(n k p) for k examples of a class of n; with another kernel O(n² d) once and O(n k d), at O(n) memory.
    Any other discrepancy compares every subset, n k² / 2 points in all.

    References: Welling, "Herding Dynamical Weights to Learn" (2009); Rebuffi et al., "iCaRL" (2017), algorithm 4.
    """

    def duration(self, problem: Problem) -> int:
        return problem.data.count

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return len(problem.data)

    def start(self, problem: Problem) -> WithinClasses:
        check_embeddings(problem, self.kind)

        def choose(engine: Engine, members: Tensor, label: int, count: int) -> Choice:
            return grown(engine.real_side.candidates(members, label), count)

        return WithinClasses(problem, self.kind, choose)


class GreedyMMD(Solver, kind="greedy_mmd"):
    """Greedy minimisation of the MMD over weighted subsets: within each class, in the first draw of the context,

        min  ‖E_{P_c} φ - Σ_s w_s φ(x_s)‖²   over  x_1, ..., x_k distinct,  w ≥ 0,  Σ w = 1.

    ``weights: optimal``: the next example is the one towards which a step of the best length lowers the value most, from the
    mixture f of those chosen (Frank-Wolfe with an exact choice of vertex and step),

        argmin_x  min over 0 ≤ γ ≤ 1 of ‖E_{P_c} φ - (1 - γ) f - γ φ(x)‖²,

    and then all the weights are made optimal (fully corrective). So the value never rises, and at the end the weights are
    optimal for the chosen examples: nothing else nonnegative with sum one on the same examples has a smaller MMD. That the
    examples are the best k is not claimed. Where none can help any more, others come in with weight zero. The
    weights of each class are stored with mean one, in a synthetic set with ``weights: learned``.

    ``weights: equal``: the subsets that are compared are uniform ones, which is the rule of ``herding``.

    Needs terms that match ``mmd``, without ``root``; over several terms and blocks the kernels add up. O(n k p) with a finite
    kernel, else O(n² d + n k² d); O(n) memory beyond the features of one class.

    References: Bach, Lacoste-Julien and Obozinski, "On the Equivalence between Herding and Conditional Gradient Algorithms"
    (2012); Huszár and Duvenaud, "Optimally-Weighted Herding is Bayesian Quadrature" (2012), where weights have any sign.
    """

    weights: Literal["equal", "optimal"] = "optimal"

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, get_args(Literal["equal", "optimal"]))

    def duration(self, problem: Problem) -> int:
        return problem.data.count

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return len(problem.data)

    def start(self, problem: Problem) -> WithinClasses:
        check_mmd(problem, self.kind)
        if self.weights == "optimal":
            check_weights(problem, self.kind)

        def choose(engine: Engine, members: Tensor, label: int, count: int) -> Choice:
            matches = engine.real_side.candidates(members, label)
            return grown(matches, count) if self.weights == "equal" else weighted(Quadratic(matches), count)

        return WithinClasses(problem, self.kind, choose)


@runtime_checkable
class _Gaining(Protocol):
    def gains(self, summary: object, candidates: Measure, draws: Draws = None) -> Gains: ...


def gains(match: Candidates) -> Gains:
    """An empty subset of the candidates, in the discrepancy's own way where it has one."""
    if isinstance(match.discrepancy, _Gaining):
        return match.discrepancy.gains(match.summary, match.features, match.draws)
    return Compared(match.discrepancy, match.summary, match.features, match.draws)


def grown(matches: Sequence[Candidates], count: int) -> Choice:
    """So many candidates, each the one after which the sum over the matches is smallest."""
    subsets = [gains(match) for match in matches]
    chosen: list[int] = []
    while True:
        values = torch.stack([match.factor * subset.after() for match, subset in zip(matches, subsets, strict=True)])
        values = values.sum(0)
        values[chosen] = torch.inf
        chosen.append(int(values.argmin()))
        if len(chosen) == count:
            return Choice(torch.tensor(chosen), values[chosen[-1]])
        for subset in subsets:
            subset.take(chosen[-1])


def weighted(form: Quadratic, count: int) -> Choice:
    """So many candidates with optimal weights, found by fully corrective Frank-Wolfe steps."""
    device = form.means.device
    chosen = torch.zeros(0, dtype=torch.long, device=device)
    weights = torch.zeros(0, dtype=torch.float64, device=device)
    while len(chosen) < count:
        lowered = form.own - 2 * form.means + form.diagonal if len(chosen) == 0 else -lowering(form, chosen, weights)
        lowered[chosen] = torch.inf
        chosen = torch.cat([chosen, lowered.argmin()[None]])
        weights = form.optimal(chosen)
    return Choice(chosen, form.value(chosen, weights), weights * count)


def lowering(form: Quadratic, chosen: Int[Tensor, " m"], weights: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
    """By how much the best step from the mixture towards each candidate lowers the value."""
    along = form.times(chosen, weights)
    residual, norm = form.means - along, weights @ along[chosen]
    slope = residual - weights @ residual[chosen]
    length = form.diagonal - 2 * along + norm
    step = torch.where(length > 0, slope / length, 0).clamp(0, 1)
    return step * (2 * slope - step * length)
