"""A condensed set beside its controls, evaluated by the learner that it was condensed for; what rounding its points costs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.kernels import Linear
from discrepancy.mean_embeddings.mmd import MMD
from experiments.evaluate.by_learner import ByLearner
from experiments.evaluate.controls import CONTROLS, Comparison, herded, random_rows
from experiments.evaluate.learner_evaluator import LearnerEvaluator, SmallSet
from experiments.evaluate.records import Evaluation
from experiments.evaluate.seen import check_unseen
from objectives.contexts import Pool
from objectives.data.labelled import LabelledData
from objectives.engine.runtime import Runtime
from objectives.synthetic.artefact import SyntheticSet
from objectives.teacher import Taught
from objectives.terms.match import Match

__all__ = ["comparison_by_learner", "rounded"]


def comparison_by_learner(
    synthetic: SyntheticSet,
    data: LabelledData,
    protocol: ByLearner,
    *,
    controls: Sequence[str] = CONTROLS,
    teacher: Taught | None = None,
    runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
    validation: bool = False,
    on_progress: Callable[[float, str], None] | None = None,
) -> Comparison:
    """What the learner of the set learns from it, from each of the ``controls`` of its size (``whole``: from all the real
    examples), and from the set with its points rounded, where they are more exact than that (:func:`rounded`).

    Raises:
        InvalidInput: if the set holds no learner, does not fit the data, or has seen the test examples; on an unknown control.
    """
    unknown = [name for name in controls if name not in CONTROLS]
    if unknown:
        raise InvalidInput(f"'controls' must be any of {', '.join(CONTROLS)}, got '{unknown[0]}'")
    if synthetic.labelling.kind == "teacher" and teacher is None and controls:
        raise InvalidInput(
            "the set has the labels of a teacher, and its controls would have none; give the teacher, or hardened() labels"
        )
    evaluator = LearnerEvaluator(synthetic, data, protocol, runtime=runtime, validation=validation, teacher=teacher)
    check_unseen(synthetic, evaluator.data, validation)
    if "whole" in controls:
        evaluator.check_whole()
    condensed = evaluator.condensed(synthetic)
    variants = rounded(synthetic) if synthetic.points.dtype == torch.float64 else {}
    names = ("condensed", *variants, *controls)
    rows: dict[str, Evaluation] = {}
    for position, name in enumerate(names):
        report = None if on_progress is None else _share(on_progress, name, position, len(names))
        if name == "condensed":
            rows[name] = evaluator.evaluate(lambda _: condensed, report=report)
        elif name in variants:
            points, stored = variants[name]
            small = replace(evaluator.condensed(synthetic, points), stored_bytes=stored)
            rows[name] = evaluator.evaluate(lambda _, small=small: small, report=report)
        else:
            rows[name] = _control(name, evaluator, synthetic, report)
    about = synthetic.record["teacher"] if synthetic.labelling.kind == "teacher" else None
    return Comparison(rows=rows, protocol=evaluator.protocol, data=data.name, device=str(runtime.device), teacher=about)


def rounded(synthetic: SyntheticSet) -> dict[str, tuple[Tensor, int]]:
    """The points of a set, in its units, after rounding to float32 and, of images, to 8 bits as an export to a folder does; and
    the bytes that are then to be stored."""
    plain = replace(synthetic, record={name: value for name, value in synthetic.record.items() if name != "decoder"})
    single = synthetic.points.float()
    found = {"in float32": (single.double(), replace(plain, points=single).stored_bytes)}
    if synthetic.points.ndim == 4:
        pixels, (low, high) = synthetic.pixels, synthetic.range
        found["in 8 bits"] = (
            low + pixels.double() / 255 * (high - low),
            replace(plain, points=pixels).stored_bytes,
        )
    return found


def _control(name: str, evaluator: LearnerEvaluator, synthetic: SyntheticSet, report: Any) -> Evaluation:
    """The control of this name, as for networks: a new random subset for each trial, one by herding, or all the real data."""
    if name == "whole":
        return evaluator.whole(report)
    counts = tuple(torch.bincount(synthetic.numbers, minlength=evaluator.data.count).tolist())
    if name == "random":

        def draw(trial: int) -> SmallSet:
            return evaluator.real(random_rows(counts, evaluator.train, evaluator.seed, trial))

        return evaluator.evaluate(draw, evaluator.protocol.networks, report)
    match = Match(MMD(kernel=Linear()), via=evaluator.match.via, by="class" if evaluator.data.classes else "none")
    context = Pool(network=evaluator.setup.context.network, size=1)
    chosen = herded(evaluator.train, match, context, counts, Runtime(evaluator.seed, evaluator.device))
    small = evaluator.real(chosen)
    return evaluator.evaluate(lambda _: small, report=report)


def _share(report: Callable[[float, str], None], name: str, position: int, count: int) -> Callable[[int, int], None]:
    report(position / count, name)
    return lambda done, total: report((position + done / total) / count, name)
