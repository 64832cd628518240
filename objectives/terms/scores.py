"""Scores: learned labels of classes that are any real numbers; what needs classes or distributions cannot take them."""

from discrepancy.errors import InvalidInput
from discrepancy.learning.learned import Risk
from objectives.contexts import Context
from objectives.terms.objective import Match, Objective, Penalised

__all__ = ["check_scores"]


def check_scores(objective: Objective, context: Context) -> None:
    """Refuse terms, or the training of a context's network, that take labels for shares of classes.

    Raises:
        InvalidInput: naming it.
    """
    schedule = context.training_schedule
    if schedule is not None and schedule.training.on == "synthetic" and schedule.training.needs_classes:
        raise _refused(
            f"the context '{context.kind}' trains its networks on the synthetic set by cross-entropy",
            "a training with loss: squared",
        )
    for name, term in objective.terms:
        if isinstance(term, Penalised) and term.penalty.needs_classes:
            raise _refused(f"term '{name}' is a {term.penalty.kind}")
        if isinstance(term, Match) and "gradient" in term.via.takes:
            raise _refused(f"term '{name}' takes the gradient of a cross-entropy")
        if isinstance(term, Match) and isinstance(term.match, Risk) and term.match.learner.needs_classes:
            raise _refused(f"term '{name}' learns '{term.match.learner.kind}'")


def _refused(what: str, remedy: str = "a risk of ridge or kernel_ridge") -> InvalidInput:
    return InvalidInput(
        f"'labels' is learned, so labels are any real numbers, but {what}, which needs classes or distributions; use labels: "
        f"soft, or {remedy}"
    )
