"""What a condensed set has to beat, under the same protocol and on the same networks: as many random real examples, as many
chosen ones, and all of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Linear
from discrepancy.mean_embeddings.mmd import MMD
from experiments.evaluate.by_learner import ByLearner
from experiments.evaluate.protocol import Protocol
from experiments.evaluate.records import Evaluation, TrainingSet
from experiments.evaluate.seen import check_unseen
from experiments.evaluate.training import Progress, evaluate, evaluate_each, held_out
from objectives.condensation import solve
from objectives.contexts import Context, Pool
from objectives.data.examples import Grouped
from objectives.data.labelled import LabelledData
from objectives.data.real import RealData
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.solvers import Herding, Problem
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.pixels import Pixels
from objectives.teacher import Taught
from objectives.terms.match import Match

__all__ = [
    "CONTROLS",
    "Comparison",
    "Selection",
    "comparison",
    "control",
    "herded",
    "herding",
    "random_control",
    "random_rows",
    "selected_control",
    "whole_budget",
    "whole_control",
]

CONTROLS = ("random", "herding", "whole")

Selection = Callable[[RealData], Int[Tensor, " m"]]
"""Chooses training examples of the data, by number."""


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
    data: LabelledData,
    protocol: Protocol,
    *,
    controls: Sequence[str] = CONTROLS,
    teacher: Taught | None = None,
    runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
    validation: bool = False,
    on_progress: Callable[[float, str], None] | None = None,
) -> Comparison:
    """Evaluate a condensed set, and each of the ``controls`` of its size, by one protocol and one loss: where the labels of the
    set are scores, which have no cross-entropy, all of them are learned by squares, unless the protocol says otherwise.

    Where a teacher has labelled the set, its controls need the labels of the same one, or the teacher is what is compared:
    "Hard Truths about Soft Labels" (2026) finds random real examples with a teacher's labels as good as several methods.

    ``on_progress`` is called with the share of the work that is done and the name of what is evaluated.

    Raises:
        InvalidInput: on an unknown control, classes that are not those of the data, or a set that has seen the test examples.
    """
    unknown = [name for name in controls if name not in CONTROLS]
    if unknown:
        raise InvalidInput(f"'controls' must be any of {', '.join(CONTROLS)}, got '{unknown[0]}'")
    check_unseen(synthetic, held_out(data, runtime.seed) if validation else data, validation)
    condensed = TrainingSet.made(synthetic, data)
    protocol = protocol.learning(condensed.labels.kind)
    if synthetic.labelling.kind == "teacher" and teacher is None and controls:
        raise InvalidInput(
            "the set has the labels of a teacher, and its controls would have none; give the teacher, or hardened() labels"
        )
    counts = tuple(torch.bincount(synthetic.numbers, minlength=data.count).tolist())
    names = ("condensed", *controls)
    rows: dict[str, Evaluation] = {}
    for position, name in enumerate(names):
        options: dict[str, Any] = {"runtime": runtime, "validation": validation}
        if on_progress is not None:
            options["progress"] = _share(on_progress, name, position, len(names))
            on_progress(position / len(names), name)
        if name == "condensed":
            rows[name] = evaluate(condensed, data, protocol, **options)
        else:
            rows[name] = control(name, counts, len(condensed), data, protocol, teacher=teacher, **options)
    about = synthetic.record["teacher"] if synthetic.labelling.kind == "teacher" else None
    return Comparison(rows=rows, protocol=protocol, data=data.name, device=str(runtime.device), teacher=about)


def control(
    name: str, counts: Sequence[int], examples: int, data: LabelledData, protocol: Protocol, **options: Any
) -> Evaluation:
    """The control of this name.

    Args:
        counts: real examples of each class that a small set has.
        examples: of the condensed set, whose steps the whole data get.
    """
    if name == "random":
        return random_control(counts, data, protocol, **options)
    if name == "herding":
        chosen = herding(counts, protocol, options["runtime"])
        return selected_control(chosen, data, protocol, **options)
    return whole_control(examples, data, protocol, **options)


def random_control(
    counts: Sequence[int],
    data: LabelledData,
    protocol: Protocol,
    *,
    runtime: Runtime,
    teacher: Taught | None = None,
    **options: Any,
) -> Evaluation:
    """So many random real examples of each class, without replacement: a new subset for each network.

    They have their own labels, or those of a ``teacher``, as in the other controls.

    Raises:
        InvalidInput: if a class has fewer examples than that.
    """

    def draw(data: LabelledData, network: int) -> TrainingSet:
        chosen = random_rows(counts, data.train, runtime.seed, network)
        return TrainingSet.of(data.train.rows(chosen), data).labelled(teacher)

    return evaluate_each(draw, data, protocol, runtime, **options)


def random_rows(counts: Sequence[int], data: RealData, seed: int, number: int) -> Int[Tensor, " m"]:
    """So many random real examples of each class, without replacement: another subset for each number.

    Raises:
        InvalidInput: if a class has fewer examples than that.
    """
    generator, chosen = rng(seed, "control", "random", number), []
    for name, rows, count in zip(data.classes or ("",), data.members, counts, strict=True):
        if count > len(rows):
            of = f" of class '{name}'" if data.classes else ""
            raise InvalidInput(
                f"a random control needs {count} examples{of}, but '{data.name}' has {len(rows)}; leave this control out"
            )
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen)


def selected_control(
    selection: Selection,
    data: LabelledData,
    protocol: Protocol,
    *,
    runtime: Runtime,
    validation: bool = False,
    teacher: Taught | None = None,
    **options: Any,
) -> Evaluation:
    """The real examples that a rule chooses: one subset for all the networks."""
    chosen = selection((held_out(data, runtime.seed) if validation else data).train)

    def draw(data: LabelledData, network: int) -> TrainingSet:
        return TrainingSet.of(data.train.rows(chosen), data).labelled(teacher)

    return evaluate_each(draw, data, protocol, runtime, validation=validation, **options)


def whole_control(
    examples: int,
    data: LabelledData,
    protocol: Protocol,
    *,
    runtime: Runtime,
    epochs: int | None = None,
    teacher: Taught | None = None,
    **options: Any,
) -> Evaluation:
    """All the training examples. Unless ``epochs`` says otherwise, the passes are as many as fit into the steps that the
    protocol takes on a set of so many ``examples``, at least one; the record states them."""
    budget = whole_budget(examples, data, protocol)
    if epochs is not None:
        budget = replace(protocol, epochs=min(epochs, protocol.epochs))
    made: list[TrainingSet] = []

    def draw(data: LabelledData, network: int) -> TrainingSet:
        if not made:
            made.append(TrainingSet.of(data.train.rows(), data).labelled(teacher))
        return made[0]

    return evaluate_each(draw, data, budget, runtime, **options)


def whole_budget(examples: int, data: LabelledData, protocol: Protocol) -> Protocol:
    """The protocol with as many passes over all the data as fit into its steps on so many ``examples``, at least one."""
    epochs = max(1, protocol.steps(examples) // math.ceil(len(data.train) / protocol.batch))
    return replace(protocol, epochs=min(epochs, protocol.epochs))


def herding(counts: Sequence[int], protocol: Protocol, runtime: Runtime) -> Selection:
    """Herding by the mean of the features of one random network of the protocol: so many examples of each class."""

    def select(data: RealData) -> Tensor:
        by: Grouped = "class" if data.classes else "none"
        match = Match(MMD(kernel=Linear()), via=Features(), by=by)
        return herded(data, match, Pool(network=protocol.network, size=1), counts, runtime)

    return select


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


def _share(report: Callable[[float, str], None], name: str, position: int, count: int) -> Progress:
    return lambda done, total: report((position + done / total) / count, name)
