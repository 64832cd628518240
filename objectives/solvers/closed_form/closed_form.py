"""The exact solution where both sides learn by ridge regression: synthetic points from which the same weights are learned."""

import functools
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.learning.learned import FittedSummary, fitted
from discrepancy.learning.learners import LinearPredictor
from discrepancy.learning.recovery import Root
from discrepancy.learning.ridge import Ridge
from discrepancy.measure import Measure
from discrepancy.parts import check_choice
from objectives.engine.bound_context import BoundContext
from objectives.engine.real_side import STREAMED_BYTES
from objectives.solvers.base import Problem, Record, Solver, Solving, decoded
from objectives.solvers.closed_form.exact import MISSED, Exact, Space, relative
from objectives.solvers.closed_form.refinement import refined
from objectives.synthetic.parameterisation import Decoded
from objectives.terms.match import BoundMatch

__all__ = ["ClosedForm", "Solved"]

Precision = Literal["double", "mixed"]

KEPT_BYTES = 2**30
"""What features may take that are kept in float32, so as not to be made again."""


class ClosedForm(Solver, kind="closed_form"):
    """Points from which ridge regression learns the weights W that it learns from all the real data, exactly and without
    iteration, from one point a class on:

        W_S = Yᵀ E(Φ) = W   where   E(Φ) = D = (Yᵀ)⁺ W + (I - Y Y⁺) Z,

    Φ found from E(Φ) = D, and the points from Φ, whose embedding is undone
    (:mod:`discrepancy.learning.recovery`). The objective is one match of ``parameters`` with learner ``ridge``, via
    ``identity``, ``features`` of a network that can be undone, or ``random_cosine``, by: none, in one context of all the
    real data. Solved in float64; of a run in float32 the result is rounded, and the error reported is the one after that.

    Z is E(Φ̂) of the points that the synthetic set starts at, so that D is the nearest to theirs (Corollary 4.1.1): of noise,
    or of real examples, which with labels ``learned`` get the predictions of W, and then change least. With one point a class,
    D is unique and the start has no say. Where several points have these features, those nearest to the real examples that
    they start at are taken, layer by layer, or those nearest to zero.

    The record says how far they ``moved``, ‖X - X̂‖ / ‖X̂‖ in normalised units. For the identity that is little; an embedding
    that is undone magnifies it by up to its condition number, and then little of the start is left.

    Random cosines reach numbers of at most √(2/p): where more is asked for, the features are those for t W in place of W, which
    tells the classes alike; learned labels, divided by t, make good for it. With an intercept all the above is of centred
    features and labels, and the mean of the points is chosen so that the intercept comes out too.

    Without a penalty on the synthetic side the error ‖W_S - W‖ / ‖W‖ is at most 100 ε times the ``condition`` in the record,
    that of the embedding as it was undone times that of the regression
    (:func:`discrepancy.learning.recovery.conditioned`), plus the share of W in directions of
    rounding alone, which are left out.

    Any number of points will do, ``per_class`` of each class or ``examples`` in all. With fewer points than classes or targets,
    or an embedding that does not reach everything and ``nearest``, what comes nearest is taken, and a warning says how far W is
    missed. What else is impossible is refused, with the bound that it breaks.

    Args:
        condense: ``points``, for labels as they are; or ``labels``, for points as they are at the start: exact from as many
            points as features on (Theorem 4.2).
        root: of the quadratic equation for Φ where the synthetic side has a penalty; ``large`` tends to what is found without
            one, ``small`` to zero.
        precision: of the pass over the real data; ``mixed`` embeds and multiplies in float32, and refines W in further passes
            until it is that of those features in float64. It is for devices where float64 is slow; features are kept for the
            further passes if they take 1 GiB at most.
        nearest: where the embedding does not reach a feature vector, take what comes nearest.

    References: Provable and Efficient Dataset Distillation for Kernel Ridge Regression (Chen, Huang, Weng, 2024, NeurIPS),
    Theorems 4.1, 4.2, 5.1 and 5.3, Corollary 4.1.1. Deep linear networks that widen (5.3) get by with one point a class, where
    the theorem has one more in all: what ridge regression learns lies in the range of the network, and so do all D.
    """

    condense: Literal["points", "labels"] = "points"
    root: Root = "large"
    precision: Precision = "double"
    nearest: bool = False

    def __post_init__(self) -> None:
        check_choice("condense", self.condense, ("points", "labels"))
        check_choice("root", self.root, get_args(Root))
        check_choice("precision", self.precision, get_args(Precision))

    def duration(self, problem: Problem) -> int:
        return 1

    def passes(self, problem: Problem, context: BoundContext) -> int:
        return (2 if self.precision == "double" else 3) * len(problem.data)

    def start(self, problem: Problem) -> "Solved":
        return Solved(self, problem, self._check(problem))

    def _check(self, problem: Problem) -> str:
        terms, synthetic, context = problem.objective.terms, problem.synthetic, problem.context
        name, term = terms[0]
        learners = None if len(terms) > 1 else term.compared_parameters
        if learners is None:
            raise InvalidInput(
                f"'{self.kind}' solves one match of 'parameters' with learner 'ridge'; leave other terms out, or use the "
                "solver descent"
            )
        if term.compares != "none":
            raise InvalidInput(
                f"term '{name}' must be by: none for '{self.kind}': one regression predicts all the classes"
            )
        if context.batch != "all" or context.n_draws != 1:
            raise InvalidInput(
                f"'{self.kind}' solves for one network and all the real data; give the context kind: pool, size: 1, batch: all"
            )
        of_synthetic, _ = learners
        if of_synthetic.relative and of_synthetic.penalty != 0:
            raise InvalidInput(
                "'relative' multiplies the penalty of the synthetic side by what is yet to be found; set 'synthetic' of the "
                "match to a ridge with a penalty that is not relative, or 0"
            )
        if synthetic.weights != "equal" or synthetic.clips or not synthetic.direct:
            raise InvalidInput(
                f"'{self.kind}' needs synthetic pixels with equal weights and without 'clip', which would change what is exact"
            )
        if self.condense == "labels" and synthetic.labels != "learned":
            raise InvalidInput("'condense' is labels, so the synthetic set must have labels: learned")
        return name


class Solved(Solving):
    """An exact solution, of which :attr:`learned` may be taken from another one of the same objective, data and context."""

    def __init__(self, solver: ClosedForm, problem: Problem, name: str) -> None:
        self.solver, self.problem, self.name, self.steps = solver, problem, name, 1
        dtype = torch.float32 if solver.precision == "mixed" else torch.float64
        self.engine = replace(problem, runtime=replace(problem.runtime, dtype=dtype)).engine(1, held=0)
        self.bound = cast(BoundMatch, self.engine.terms[name])  # the solver has checked that it is a match
        if self.bound.embedding.averages or len(self.bound.shapes) > 1:
            raise InvalidInput(f"'{solver.kind}' needs features of single examples, in one block; choose another 'via'")
        (discrepancy,) = self.bound.discrepancies.values()
        learners = discrepancy.compared_parameters
        assert learners is not None
        self.small, self.whole = learners
        self._parameters = problem.initial()
        self._findings: dict[str, Any] = {}

    @property
    def bound_context(self) -> BoundContext:
        return self.engine.bound_context

    @property
    def _numbers(self) -> int:
        """Of a feature vector and a label vector together."""
        (shape,) = self.bound.shapes.values()
        return math.prod(shape) + self.problem.data.outputs

    @property
    def working_bytes(self) -> int:
        """Seven matrices of moments, their merger, factors and reflectors among them, and eight copies of a part of the
        features, in float64."""
        device = self.problem.runtime.device.type
        part = min(8 * self._numbers * len(self.problem.data), STREAMED_BYTES.get(device, STREAMED_BYTES["cuda"]))
        return 8 * 7 * self._numbers**2 + 8 * part + self._kept_bytes

    @property
    def multiplications(self) -> float:
        """Of the moments, half of a symmetric product, and of a tridiagonalisation."""
        return self._numbers**2 * (len(self.problem.data) / 2 + 2 * self._numbers / 3)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return self._parameters

    @property
    def chosen(self) -> None:
        return None

    @property
    def findings(self) -> dict[str, Any]:
        return self._findings

    @property
    def resolved(self) -> dict[str, Any]:
        return self.engine.resolved

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "parameters": self._parameters, "findings": self._findings}

    def restore(self, state: dict[str, Any]) -> None:
        self.step, self._parameters, self._findings = state["step"], state["parameters"], state["findings"]

    @torch.no_grad()
    def advance(self) -> Record:
        summary, _ = self.learned
        exact, problem = self._exact(), self.problem
        here = decoded(problem, self._parameters)
        start = here.points.double()
        if self.solver.condense == "labels":
            points, labels = start, exact.labels(exact.space.features(start))
        else:
            points, labels = exact.condensed(start, self._rows(here), problem.synthetic)
        self._parameters = self._stored(points, labels)
        kept = decoded(problem, self._parameters)
        labels = labels if kept.labels.ndim == 1 else self._rows(kept)
        factor = exact.scale if problem.synthetic.labels != "learned" else 1.0
        learned, condition = exact.learned_from(kept.points.double(), labels)
        found, weights = learned / factor, exact.table
        error = float(relative(found - weights, weights))
        self._findings = {
            "penalty": summary.chosen.number,
            "examples": int(summary.whole.mass.sum()),
            "penalty_synthetic": self.of_synthetic.number,
            "condition": condition,
            "condition_embedding": exact.condition,
            "factor": factor,
            "error": error,
            "norm": float(exact.weights.norm()),
            **({} if problem.synthetic.start == "noise" else {"moved": float(relative(points - start, start))}),
        }
        if error > max(2 * exact.missed, MISSED * exact.condition) and problem.runtime.dtype == torch.float64:
            warnings.warn(
                f"from the synthetic set weights are learned that differ from those of the real data by {error:.2g} of their "
                "norm",
                NumericalWarning,
                stacklevel=2,
            )
        self.step = 1
        value = (found - weights).square().sum()
        return Record(0, value, {self.name: value})

    @functools.cached_property
    def learned(self) -> tuple[FittedSummary, LinearPredictor]:
        """What is learned from the real side, which is streamed; the same for every synthetic set of this problem."""
        if self.solver.precision == "double":
            summary = fitted(self.whole, self._real())
            return summary, summary.predictor
        kept = list(self._real()) if self._kept_bytes else None
        summary = fitted(self.whole, kept or self._real(), torch.float32)
        return summary, refined(summary, lambda: kept or self._real())

    def _real(self) -> Iterator[Measure]:
        return self.engine.real_side.streamed(0, self.bound)

    @property
    def _kept_bytes(self) -> int:
        """Of the features that are kept for further passes over them, if any are."""
        needed = 4 * self._numbers * len(self.problem.data)
        return needed if self.solver.precision == "mixed" and needed <= KEPT_BYTES else 0

    @property
    def of_synthetic(self) -> Ridge:
        """What learns from the synthetic side."""
        found: Ridge = self.learned[0].chosen if self.small is self.whole else self.small
        return found

    @torch.no_grad()
    def features(self, points: Float[Tensor, "m ..."]) -> Float[Tensor, "m p"]:
        """Of points in normalised units, in float64."""
        return self._space.features(points.to(self.problem.runtime.device))

    @functools.cached_property
    def _space(self) -> Space:
        draw = self.engine.networks.draw(0)
        network = {name: value.double() for name, value in self.engine.networks.parameters(draw).items()}
        draws = self.engine.real_side.random(self.name, draw).embedding
        return Space(self.bound.embedding, self.engine.bound_context.extractor, draws, network)

    def _exact(self) -> Exact:
        summary, predictor = self.learned
        table, space = predictor.table[0], self._space
        penalty = self.of_synthetic.number * len(self.problem.layout)
        settings = {"penalty": penalty, "root": self.solver.root, "nearest": self.solver.nearest}
        if not summary.learner.intercept:
            return Exact(space, table, **settings)
        centre = summary.learner.normal(summary.whole, summary.classes).centre
        assert centre is not None
        return Exact(space, table[:, :-1], table[:, -1], centre[0][0, 0], **settings)

    def _rows(self, here: Decoded) -> Float[Tensor, "m c"]:
        """The labels of synthetic examples as ridge regression sees them."""
        return here.label_vectors(self.problem.data.count).double() - self._shift

    @property
    def _shift(self) -> float:
        return 1 / self.problem.data.outputs if self.of_synthetic.centred else 0.0

    def _stored(self, points: Tensor, labels: Tensor) -> dict[str, Tensor]:
        problem, kept = self.problem, self._parameters
        own = (labels + self._shift).to(problem.runtime.device, problem.runtime.dtype)
        made = problem.synthetic.from_points(points.to(problem.runtime.dtype), problem.data, kept.get("labels"))
        return {**kept, **made, **({"labels": own} if problem.synthetic.labels == "learned" else {})}
