"""Learned discrepancies: two data sets are close if one learns the same from both.

    Parameters:  ‖A(μ) - A(ν)‖²         Risk:  E_μ ℓ(A(ν)(x), y), or the worst errors in place of the mean

with a learner A (:mod:`discrepancy.learning.learners`). Both look at labels, and are twice differentiable in the synthetic
points, weights and labels.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Discrepancy, Draws, MeanSummary, SampleSummary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.learning.learner import Learner, LinearPredictor, label_rows
from discrepancy.learning.ridge import Moments, Ridge, Validation
from discrepancy.learning.risks import Loss, sample_risk
from discrepancy.measure import Measure
from discrepancy.parts import check_choice
from discrepancy.reductions import Proportional, Reduction, Weighing

__all__ = ["FittedSummary", "Parameters", "Risk", "fitted"]

Space = Literal["parameters", "function"]


@dataclass(frozen=True, eq=False)
class FittedSummary:
    """Second moments of the real side, and what is learned from them, at first use; ``held`` are those of the examples that are
    held out until a penalty is chosen."""

    moments: MeanSummary
    learner: Ridge
    classes: int
    held: MeanSummary | None = None

    @functools.cached_property
    def chosen(self) -> Ridge:
        """The learner with its penalty as a number."""
        return self.learner if self.held is None else self.learner.chosen(self.moments, self.held, self.classes)

    @functools.cached_property
    def whole(self) -> MeanSummary:
        """The moments of all the examples."""
        return self.moments if self.held is None else self.moments.merge(self.held)

    @functools.cached_property
    def predictor(self) -> LinearPredictor:
        with torch.no_grad():
            return self.chosen.of_summary(self.whole, self.classes)

    @property
    def least(self) -> Float[Tensor, " g"]:
        """The risk of that predictor on the real side itself."""
        with torch.no_grad():
            return self.learner.risk(self.whole, self.predictor)

    def merge(self, other: "FittedSummary") -> "FittedSummary":
        held = None if self.held is None or other.held is None else self.held.merge(other.held)
        return replace(self, moments=self.moments.merge(other.moments), held=held)

    def select(self, groups: Tensor) -> "FittedSummary":
        """Of some groups, with what was learned of all."""
        found = replace(self, moments=self.whole.select(groups), learner=self.chosen, held=None)
        found.__dict__["predictor"] = self.predictor.select(groups)
        return found

    @property
    def nbytes(self) -> int:
        return self.moments.nbytes + (0 if self.held is None else self.held.nbytes)


def fitted(learner: Learner, parts: Iterable[Measure], products: torch.dtype = torch.float64) -> FittedSummary:
    """What ridge regression needs of the real side, in parts: what is held out to choose a penalty is kept apart.

    ``products`` is what is multiplied in; float32 has half the digits to move, and an error of 1e-7 of the largest moment.
    """
    assert isinstance(learner, Ridge)
    all_or_rest, held, classes, before = Moments(learner, products), Moments(learner, products), 0, 0
    for part in parts:
        assert part.labels is not None
        classes = part.labels.shape[-1]
        if not isinstance(learner.penalty, Validation):
            all_or_rest.add(part)
            continue
        out = learner.penalty.held(part.rows.shape[1], before).to(part.rows.device)
        before += len(out)
        for moments, rows in ((all_or_rest, ~out), (held, out)):
            moments.add(Measure(part.rows[:, rows], part.weights[:, rows], part.labels[:, rows]))
    chosen_on = held.summary if isinstance(learner.penalty, Validation) else None
    return FittedSummary(all_or_rest.summary, learner, classes, chosen_on)


class Parameters(Discrepancy, kind="parameters"):
    """The distance of the linear predictors that ridge regression learns from the two sides.

    space ``parameters``: ‖W_μ - W_ν‖² + ‖b_μ - b_ν‖², symmetric, a metric of what is learned and none of measures;
    space ``function``: E_μ ‖f_μ(x) - f_ν(x)‖² = tr((W_μ - W_ν) E_μ[x xᵀ] (W_μ - W_ν)ᵀ), not symmetric, and with penalty 0
    equal to ``Risk(excess=True)``.

    Points ``(n, d)`` with labels ``(n, c)``. The real side is summarised by second moments, (d + c)² numbers, which merge:
    O(n d²) once, O(d³) once; a step costs O(m d² + d³), or O(m² d + m³) where m < d, plus O(c d²) in function space. Not
    bounded in a single example.

    Args:
        learner: ``ridge``; its penalty may be chosen by ``validation``, once all the real side is summarised. Of summaries that
            are merged, each has held out its own share of examples.
        space: see above.
        synthetic: the learner of the synthetic side, where it is another than ``learner``: mostly with another penalty.

    References: Provable and Efficient Dataset Distillation for Kernel Ridge Regression (Chen, Huang, Weng, 2024, NeurIPS):
    Theorem 4.1 has the synthetic sets with W_μ = W_ν. Their penalty is n times ours.

    Raises:
        InvalidInput: if a learner is not a ridge regression, or the two of them do not fit each other.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, Parameters, Ridge
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [4.0], [5.0]]), labels=torch.tensor([0, 0, 1, 1]))
        >>> nu = Measure(torch.tensor([[1.0], [4.0]]), labels=torch.tensor([0, 1]))
        >>> D = Parameters(learner=Ridge(penalty=0.1))
        >>> round(float(D(mu, nu)), 4)
        0.0016
    """

    learner: Learner = Ridge()
    space: Space = "parameters"
    synthetic: Learner | None = None

    def __post_init__(self) -> None:
        check_choice("space", self.space, get_args(Space))
        for name, learner in (("learner", self.learner), ("synthetic", self.synthetic or self.learner)):
            if not isinstance(learner, Ridge):
                raise InvalidInput(
                    f"'{name}' must be 'ridge', whose parameters are comparable, got '{learner.kind}'; use it in a 'risk'"
                )
        if isinstance(self.synthetic, Ridge) and isinstance(self.synthetic.penalty, Validation):
            raise InvalidInput("'synthetic' needs a number as its 'penalty': validation is for the real side")
        if isinstance(self.synthetic, Ridge) and isinstance(self.learner, Ridge):
            for name in ("intercept", "centred"):
                if getattr(self.synthetic, name) != getattr(self.learner, name):
                    raise InvalidInput(
                        f"'{name}' of 'synthetic' must be as that of 'learner', {getattr(self.learner, name)}"
                    )

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {"nonnegative", "mergeable", "splits", "differentiable", "twice-differentiable"}
        alike = self.synthetic in (None, self.learner)
        if alike and not (isinstance(self.learner, Ridge) and isinstance(self.learner.penalty, Validation)):
            claimed |= {"zero-at-equality"}
            claimed |= {"symmetric"} if self.space == "parameters" else set()
        if self.space == "function" and self.learner.translation_free:
            claimed |= {"translation-invariant"}
        return frozenset(claimed)

    labelled = True

    @property
    def learners(self) -> tuple[Learner, Learner]:
        return self.synthetic or self.learner, self.learner

    @property
    def compared_parameters(self) -> tuple[Learner, Learner]:
        return self.learners

    @property
    def degree(self) -> float | None:
        if not self.learner.scale_free or not (self.synthetic or self.learner).scale_free:
            return None
        if self.space == "function":
            return 0.0
        return None if self.learner.translation_free else -2.0

    def summarise_groups(self, real: Measure, draws: Draws) -> FittedSummary:
        return fitted(self.learner, [real])

    def merge_groups(self, first: FittedSummary, second: FittedSummary, draws: Draws) -> FittedSummary:
        return first.merge(second)

    def compare_groups(self, summary: FittedSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        found, sought = (self.synthetic or summary.chosen).fit(synthetic), summary.predictor
        if self.space == "parameters":
            value = (found.table - sought.table).square().sum((1, 2))
        else:
            value = summary.learner.distance(summary.whole, found, sought)
        return value.to(synthetic.rows.dtype)


class Risk(Discrepancy, kind="risk"):
    """The mean error, on the real side, of what is learned from the synthetic side: E_μ ℓ(A(ν)(x), y), with ℓ the square
    ‖A(ν)(x) - y‖² or the cross-entropy -Σ_k y_k log softmax_k(A(ν)(x)).

    A performance and not a distance: not symmetric, and not zero at equality; with ``excess`` zero at equality, and with
    penalty 0 also >= 0, since then nothing linear has a smaller risk than A(μ).

    Points ``(n, d)`` with labels ``(n, c)``. With ridge regression the real side is summarised by second moments, (d + c)²
    numbers, which merge: O(n d²) once, a step costs O(m d² + d³), or O(m² d + m³) where m < d, plus O(c (d + c)²); values below
    1e-16 of the largest second moment are rounding. With kernel ridge regression this is KIP's loss: the points are kept, and
    a step costs O(n m (d + c) + m³) in blocks of bounded memory. So are they for the cross-entropy, O(n d c) a step for linear
    predictors. With ``class_means`` and the cross-entropy it is CAFE's discrimination loss, which sums over n examples what is
    a mean here. Not bounded in a single example.

    With ``reduce`` every real example has a value of its own, ℓ(A(ν)(x), y): ``{kind: cvar, fraction: 0.2}`` is their mean over
    the worst fifth of the real mass, where the example at the edge counts in part, and ``max`` the largest. The points are then
    kept for any learner, and a step makes the predictions twice. The gradient is that of the examples that count, with fixed
    factors, which is right almost everywhere. Of a minibatch it is the tail of the minibatch, in the mean smaller than that of
    all the examples.

    Args:
        learner: ``ridge``, ``kernel_ridge`` or ``class_means``; mind the normalisation of the penalties.
        loss: ``squared``, or ``cross_entropy``.
        excess: takes off the risk of what is learned from the real side itself, a constant (ridge and squares only).
        reduce: how the values of the real examples become one: ``proportional`` (the mean), ``cvar`` or ``max``.

    References: Dataset Meta-Learning from Kernel Ridge-Regression (Nguyen, Chen, Lee, 2021, ICLR), where it is the loss of KIP;
        CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., 2022), the discrimination loss; Optimization of
        Conditional Value-at-Risk (Rockafellar and Uryasev, 2000), eq. 4, for ``cvar``.

    Raises:
        InvalidInput: if ``loss`` is unknown, ``reduce`` counts values whatever their mass, or ``excess`` is asked of another
            learner, loss or reduction than its own.

    Example:
        >>> import torch
        >>> from discrepancy import KernelRidge, Measure, Risk, kernels
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [4.0], [5.0]]), labels=torch.tensor([0, 0, 1, 1]))
        >>> nu = Measure(torch.tensor([[1.0], [4.0]]), labels=torch.tensor([0, 1]))
        >>> D = Risk(learner=KernelRidge(kernel=kernels.Gaussian()))
        >>> round(float(D(mu, nu)), 4)
        0.0774
    """

    learner: Learner = Ridge()
    loss: Loss = "squared"
    excess: bool = False
    reduce: Reduction = Proportional()

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, get_args(Loss))
        if isinstance(self.learner, Ridge) and isinstance(self.learner.penalty, Validation):
            raise InvalidInput("'learner' of 'risk' learns from the synthetic side: give its 'penalty' a number")
        if not isinstance(self.reduce, Weighing):
            raise InvalidInput(
                f"'reduce' of 'risk' is over examples, which count by their mass, got '{self.reduce.kind}'; use "
                "proportional, cvar or max"
            )
        if self.excess and not self.reduce.separable:
            raise InvalidInput(f"'excess' is of means, got reduce '{self.reduce.kind}'; leave it out: it is a constant")
        if self.excess and self.loss != "squared":
            raise InvalidInput(f"'excess' needs loss 'squared', got '{self.loss}'; leave it out: it is a constant")
        if self.excess and not isinstance(self.learner, Ridge):
            raise InvalidInput(
                f"'excess' needs learner 'ridge', got '{self.learner.kind}', which would solve for all real points at once; "
                f"leave it out: it is a constant"
            )

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {"splits", "differentiable", "twice-differentiable"}
        if self.excess:
            claimed |= {"zero-at-equality"}
        if not self.excess or (isinstance(self.learner, Ridge) and self.learner.penalty == 0):
            claimed |= {"nonnegative"}
        if self.learner.mergeable and self._of_moments:
            claimed |= {"mergeable"}
        if self.learner.translation_free:
            claimed |= {"translation-invariant"}
        return frozenset(claimed)

    labelled = True

    @property
    def _of_moments(self) -> bool:
        """Whether it is a mean of squares."""
        return self.loss == "squared" and self.reduce.separable

    @property
    def needs_classes(self) -> bool:
        return self.learner.needs_classes

    @property
    def has_best_labels(self) -> bool:
        return self._of_moments

    @property
    def learners(self) -> tuple[Learner, Learner]:
        return self.learner, self.learner

    @property
    def degree(self) -> float | None:
        return 0.0 if self.learner.scale_free else None

    @property
    def resolved(self) -> bool:
        return self.learner.resolved

    def resolve(self, sample: Measure) -> "Risk":
        return replace(self, learner=self.learner.resolve(sample))

    def summarise_groups(self, real: Measure, draws: Draws) -> FittedSummary | MeanSummary | SampleSummary:
        if self.loss != "squared":
            return SampleSummary(real)
        if not self._of_moments:
            labels = label_rows(real, self.learner.predicts_centred)
            return SampleSummary(replace(real, labels=labels.to(real.rows.dtype)))
        return fitted(self.learner, [real]) if self.excess else self.learner.summarise(real)

    def merge_groups(self, first: Any, second: Any, draws: Draws) -> FittedSummary | MeanSummary | SampleSummary:
        if isinstance(first, SampleSummary):  # without constants, and with labels as the learner wants them
            return SampleSummary(Measure.merged([first.real, second.real]))
        return first.merge(second)

    @torch.no_grad()
    def best_labels(
        self, summary: FittedSummary | MeanSummary | SampleSummary, synthetic: Measure
    ) -> Float[Tensor, "g m c"]:
        """The labels of the synthetic points with which the risk is least, in closed form: KIP's label solve.

        Since the risk has no slope in these labels, its gradient at the points is that of the least risk.

        Raises:
            InvalidInput: if it is not a mean of squares.
        """
        if self.loss != "squared":
            raise InvalidInput(f"the best labels are known in closed form for loss 'squared' only, got '{self.loss}'")
        if not self.reduce.separable:
            raise InvalidInput(
                f"the best labels are known in closed form for reduce 'proportional' only, got '{self.reduce.kind}'"
            )
        whole = summary.whole if isinstance(summary, FittedSummary) else summary
        return self.learner.best_labels(whole, synthetic)

    def compare_groups(
        self, summary: FittedSummary | MeanSummary | SampleSummary, synthetic: Measure, draws: Draws
    ) -> Float[Tensor, " g"]:
        found = self.learner.fit(synthetic)
        if isinstance(summary, FittedSummary):
            value = self.learner.risk(summary.whole, found) - summary.least
        elif not self._of_moments and isinstance(summary, SampleSummary) and isinstance(self.reduce, Weighing):
            make, tensors = found.parts
            value = sample_risk(summary, make, *tensors, loss=self.loss, reduce=self.reduce)
        else:
            value = self.learner.risk(summary, found)
        return value.to(synthetic.rows.dtype)
