"""What a condensed set has to beat, learned from in the same way: as many random real examples, as many chosen ones, and all of
them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from discrepancy.errors import InvalidInput, suggestion
from experiments.evaluate.by_learner import ByLearner
from experiments.evaluate.evaluator import Evaluator, Progress, evaluate_each
from experiments.evaluate.matched import matched_size
from experiments.evaluate.protocol import Protocol
from experiments.evaluate.real_rows import random_rows
from experiments.evaluate.records import Evaluation, TrainingSet
from experiments.evaluate.seen import check_unseen
from objectives.condensation import solve
from objectives.contexts import Context
from objectives.data.real import RealData
from objectives.engine.runtime import Runtime
from objectives.solvers import Herding, Problem
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match

__all__ = ["CONTROLS", "MATCHED", "Comparison", "comparison", "control", "herded"]

CONTROLS = ("random", "herding", "whole")

MATCHED = "matched"
"""A control of the size at which random real examples are as good as the set (:func:`matched_size`)."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A condensed set (``condensed``) beside its controls, by name, in this order; what is known of the teacher, if all of them
    have its labels; and what else must be known to read the figures."""

    rows: Mapping[str, Evaluation]
    protocol: Protocol | ByLearner
    data: str
    device: str
    torch: str = torch.__version__
    teacher: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        plain = {name: value for name, value in vars(self).items() if name not in ("rows", "protocol", "notes")}
        rows = {name: evaluation.as_dict() for name, evaluation in self.rows.items()}
        protocol = {**self.protocol.describe(), "hash": self.protocol.hash}
        return {**plain, "protocol": protocol, "rows": rows, "notes": list(self.notes)}


def comparison(
    synthetic: SyntheticSet,
    evaluator: Evaluator[Any],
    *,
    controls: Sequence[str] = CONTROLS,
    on_progress: Callable[[float, str], None] | None = None,
) -> Comparison:
    """Evaluate a condensed set, its variants, and each of the ``controls`` of its size, with one loss: where the labels of the
    set are scores, which have no cross-entropy, networks learn all of them by squares, unless their protocol says otherwise.

    Where a teacher has labelled the set, its controls need the labels of the same one, or the teacher is what is compared:
    "Hard Truths about Soft Labels" (2026) finds random real examples with a teacher's labels as good as several methods.

    ``on_progress`` is called with the share of the work that is done and the name of what is evaluated.

    Raises:
        InvalidInput: on an unknown control, or a set that does not fit the data, or has seen the test examples.
    """
    known = (*CONTROLS, MATCHED)
    unknown = [name for name in controls if name not in known]
    if unknown:
        raise InvalidInput(
            f"'controls' must be any of {', '.join(known)}, got '{unknown[0]}'{suggestion(unknown[0], known)}"
        )
    taught = synthetic.labelling.kind == "teacher"
    if taught and evaluator.teacher is None and controls:
        raise InvalidInput(
            "the set has the labels of a teacher, and its controls would have none; give the teacher, or hardened() labels"
        )
    check_unseen(synthetic, evaluator.data, evaluator.validation)
    if "whole" in controls:
        evaluator.whole(len(synthetic))  # which may be refused
    sets, data = evaluator.condensed(synthetic), evaluator.data
    evaluator = evaluator.suited(sets["condensed"])
    counts = tuple(torch.bincount(synthetic.numbers, minlength=data.count).tolist())
    names, rows = (*sets, *controls), {}
    for position, name in enumerate(names):
        progress = None if on_progress is None else _share(on_progress, name, position, len(names))
        if name in sets:
            rows[name] = evaluate_each(evaluator, lambda _, own=sets[name]: own, progress=progress)
        elif name == MATCHED:
            searching, evaluating = _halves(progress)
            size = matched_size(evaluator, rows["condensed"].mean, searching)
            rows[name] = control("random", evaluator, [size] * data.count, size * data.count, progress=evaluating)
        else:
            rows[name] = control(name, evaluator, counts, len(synthetic), progress=progress)
    device, about = str(evaluator.runtime.device), synthetic.record["teacher"] if taught else None
    return Comparison(rows=rows, protocol=evaluator.protocol, data=data.name, device=device, teacher=about)


def control(
    name: str, evaluator: Evaluator[Any], counts: Sequence[int], examples: int, *, progress: Progress | None = None
) -> Evaluation:
    """The control of this name: a new random subset for each trial, one by herding, or all the real examples.

    Args:
        counts: real examples of each class that a small set has.
        examples: of the condensed set, whose steps the whole data get.

    Raises:
        InvalidInput: if a class has fewer examples than that.
    """
    data, runtime = evaluator.train, evaluator.runtime
    if name == "random":

        def draw(trial: int) -> TrainingSet:
            return evaluator.real(random_rows(counts, data, runtime.seed, trial))

        return evaluate_each(evaluator, draw, trials=evaluator.protocol.networks, progress=progress)
    if name == "whole":
        chosen, evaluator = evaluator.real(), evaluator.whole(examples)
    else:
        chosen = evaluator.real(herded(data, *evaluator.herding(), counts, runtime))
    return evaluate_each(evaluator, lambda _: chosen, progress=progress)


def herded(
    data: RealData, match: Match, context: Context, counts: Sequence[int], runtime: Runtime
) -> Int[Tensor, " m"]:
    """Herding by a match: so many examples of each class, the first of as many as the largest gets."""
    most = max(counts)
    synthetic = Pixels(per_class=most) if data.classes else Pixels(examples=most)
    runtime = Runtime(runtime.seed, runtime.device)
    solving = Herding().start(Problem(data, match.as_objective(), context, synthetic, runtime))
    solve(solving)
    chosen = solving.state()["chosen"].cpu().split(most)
    return torch.cat([rows[:count] for rows, count in zip(chosen, counts, strict=True)])


def _halves(progress: Progress | None) -> tuple[Progress, Progress]:
    """The progress of the first and of the second half."""
    report = progress or (lambda done: None)
    return lambda done: report(done / 2), lambda done: report((1 + done) / 2)


def _share(report: Callable[[float, str], None], name: str, position: int, count: int) -> Progress:
    report(position / count, name)
    return lambda done: report((position + done) / count, name)
