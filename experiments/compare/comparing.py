"""How far data sets are from a real one: every discrepancy, set and group, with interval, yardstick and p-value."""

import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure
from discrepancy.sorts import Discrepancy
from experiments.compare.answer import ALL, CLASSES, Answer, Described, Row, class_group
from experiments.compare.embedding import RESOLVE_SAMPLE, Embedded
from experiments.compare.estimates import Bound, Measured, cap_of
from experiments.compare.halves import Halved
from experiments.compare.permutation import PERMUTATION_CAP, p_value
from experiments.compare.sides import Side, overlap, side_of
from experiments.compare.survey import Survey
from experiments.compare.yardstick import Curve, PowerLaw, Yardstick
from experiments.config import dump
from experiments.config.mistakes import suggestion
from experiments.experiment import chosen_device
from objectives.memory import available_bytes
from objectives.streams import stream

__all__ = ["compare"]

SHARED = 0.01
"""Share of common examples above which two samples are not taken for independent."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class _Group:
    """The points of each side that belong to a group, with the weights of those of the sets."""

    name: str
    real: Tensor
    sets: tuple[tuple[Tensor, Tensor], ...]


def compare(survey: Survey, on_progress: Progress | None = None) -> Answer:
    """Everything that a survey asks for. ``on_progress`` is called with the share of the work that is done and a note.

    Raises:
        InvalidInput: if data sets do not fit each other, or a discrepancy has no value for any of them.
    """
    comparing = _Comparing(survey, on_progress or (lambda done, note: None))
    return comparing.answer()


class _Comparing:
    def __init__(self, survey: Survey, report: Progress) -> None:
        self.survey, self.report, self.begun = survey, report, time.perf_counter()
        self.device = chosen_device(survey.device)
        self.notes: dict[str, None] = {}
        report(0.0, "reading")
        self.real = side_of(_name_of(survey.real), survey.real, survey.root)
        self.sets = [side_of(name, what, survey.root) for name, what in survey.sets]
        _check(self.real, self.sets, survey.by)
        self.by = self._by()
        self.groups = self._groups()
        self.sampled = [self._independent(side) for side in self.sets]
        self.found: dict[tuple[str, str], list[Measured]] = {}
        self.p: dict[tuple[str, str, int], float] = {}
        self.resolved: dict[str, Any] = {}

    def note(self, text: str) -> None:
        self.notes[text] = None

    # --- which points -----------------------------------------------------------------------------------------------------

    def _by(self) -> str:
        bare = [side.name for side in (self.real, *self.sets) if side.labels is None]
        if bare and self.survey.by == "both":
            self.note(f"'{bare[0]}' has no labels, so there are no classes")
            return "none"
        return self.survey.by

    def _groups(self) -> list[_Group]:
        groups = []
        if self.by != "none":
            labels = self.real.labels
            assert labels is not None
            labels = labels.argmax(1) if labels.ndim == 2 else labels
            for number, name in enumerate(self.real.classes):
                rows = (labels == number).nonzero()[:, 0]
                groups.append(_Group(class_group(name), rows, tuple(side.members(name) for side in self.sets)))
        if self.by != "class":
            groups.append(_Group(ALL, torch.arange(len(self.real)), tuple(side.members(None) for side in self.sets)))
        for group in groups:
            for side, (rows, _) in zip(self.sets, group.sets, strict=True):
                if not len(rows):
                    self.note(f"'{side.name}' has no example of {group.name}")
        return groups

    def _independent(self, side: Side) -> bool:
        wanted = self.survey.independent
        if not (side.sampled and self.real.sampled):
            if wanted:
                name = side.name if self.real.sampled else self.real.name
                self.note(f"no p-value for '{side.name}': '{name}' is an artefact, and no sample of anything")
            return False
        if wanted is not None:
            return wanted
        share = overlap(self.real, side)
        if share > SHARED:
            self.note(
                f"no p-value for '{side.name}': {share:.0%} of the examples are on both sides, so they are not independent"
            )
        return share <= SHARED

    # --- the work -----------------------------------------------------------------------------------------------------------

    def answer(self) -> Answer:
        survey = self.survey
        for number in range(survey.networks):
            self._network(number)
        self.report(1.0, "")
        rows = tuple(row for name, _ in survey.discrepancies for row in self._rows(name))
        if all(row.estimate is None for row in rows):
            raise InvalidInput(next(iter(self.notes), "no discrepancy has a value for any of the sets"))
        return Answer(
            real=(self.real.name, _described(self.real, survey.real)),
            sets={side.name: _described(side, what) for side, (_, what) in zip(self.sets, survey.sets, strict=True)},
            rows=rows,
            config=dump(survey),
            hash=survey.hash,
            resolved=self.resolved,
            versions={
                "discrepancy": metadata.version("discrepancy"),
                "python": platform.python_version(),
                "torch": str(torch.__version__),
            },
            device=str(self.device),
            seconds=time.perf_counter() - self.begun,
            notes=tuple(self.notes),
        )

    def _network(self, number: int) -> None:
        """All that is measured on the features of one network."""
        survey, share = self.survey, 1 / self.survey.networks
        self.report(share * number, "embedding")
        embedded = Embedded(self.real, survey.via, survey.network, number, survey.seed, self.device)
        _check_memory(embedded, self.real)
        real = embedded.features(self.real)
        sets = [embedded.features(side) for side in self.sets]
        work = [
            (name, discrepancy, group, block)
            for name, discrepancy in survey.discrepancies
            for block in real
            for group in self._groups_of(discrepancy)
        ]
        # What is done once for a group of n points costs about n times a constant, and a little in any case.
        costs = [len(group.real) + 200.0 for _, _, group, _ in work]
        done = 0.0
        bound: dict[tuple[str, str], Bound] = {}
        for (name, discrepancy, group, block), cost in zip(work, costs, strict=True):
            if (name, block) not in bound:
                bound[name, block] = self._bound(name, discrepancy, number, block, real[block])
            note = f"{name}, {group.name}"

            def advance(part: float, done: float = done, cost: float = cost, note: str = note) -> None:
                self.report(share * (number + 0.05 + 0.95 * (done + part * cost) / sum(costs)), note)

            advance(0.0)
            sides = [side[block] for side in sets]
            self._group(name, bound[name, block], discrepancy, group, real[block], sides, number, advance)
            done += cost

    def _groups_of(self, discrepancy: Discrepancy) -> list[_Group]:
        if not discrepancy.labelled:
            return self.groups
        if any(side.labels is None for side in (self.real, *self.sets)):
            raise InvalidInput(f"'{discrepancy.kind}' looks at labels, and a data set has none; leave it out")
        return [group for group in self.groups if group.name == ALL] or [
            _Group(ALL, torch.arange(len(self.real)), tuple(side.members(None) for side in self.sets))
        ]

    def _bound(self, name: str, discrepancy: Discrepancy, number: int, block: str, features: Tensor) -> Bound:
        seed = self.survey.seed
        rows = torch.randperm(len(features), generator=stream(seed, "resolve"))[:RESOLVE_SAMPLE].sort().values
        try:
            resolved = discrepancy.resolve(Measure(features[rows.to(features.device)]))
        except InvalidInput as error:
            raise InvalidInput(f"'{name}': {error}") from None
        draws = resolved.draw(stream(seed, "random", name, block, number), tuple(features.shape[1:]))
        moved = None if draws is None else {key: value.to(self.device) for key, value in draws.items()}
        self.resolved.setdefault(name, dump(resolved))
        return Bound(resolved, moved, self.survey.splits)

    def _group(
        self,
        name: str,
        bound: Bound,
        discrepancy: Discrepancy,
        group: _Group,
        real: Tensor,
        sets: Sequence[Tensor],
        number: int,
        advance: Callable[[float], None],
    ) -> None:
        cap = cap_of(discrepancy)
        mine = self._measure(name, self.real, real, group, group.real, None, discrepancy, cap)
        theirs = [
            self._measure(name, side, features, group, rows, weights, discrepancy, cap) if len(rows) else None
            for side, features, (rows, weights) in zip(self.sets, sets, group.sets, strict=True)
        ]
        tested = [i for i, sampled in enumerate(self.sampled) if sampled and self._tests(group) and number == 0]
        part = 0.5 if tested else 1.0
        try:
            measured = bound.measured(mine, theirs, self.survey.seed, group.name, lambda done: advance(part * done))
            for place, i in enumerate(tested):
                other = theirs[i]
                if other is not None:
                    generator = stream(self.survey.seed, "permute", group.name, self.sets[i].name)
                    if max(len(mine), len(other)) > PERMUTATION_CAP:
                        self.note(f"p-values: permutations of {PERMUTATION_CAP} random points a side")
                    self.p[name, group.name, i] = p_value(
                        discrepancy,
                        bound.draws,
                        mine,
                        other,
                        self.survey.permutations,
                        generator,
                        lambda done, place=place: advance(0.5 + 0.5 * (place + done) / len(tested)),
                    )
        except Unsupported as error:
            raise InvalidInput(f"'{name}': {error}") from None
        if measured.reason is not None:
            self.note(f"{name}, {group.name}: {measured.reason}")
        for side, value in zip(self.sets, measured.values, strict=True):
            if value is not None and not math.isfinite(value.value):
                self.note(f"{name}, {group.name}: of '{side.name}' it is not finite")
        self.found.setdefault((name, group.name), []).append(measured)

    def _tests(self, group: _Group) -> bool:
        return self.by != "both" or group.name == ALL

    def _measure(
        self,
        name: str,
        side: Side,
        features: Tensor,
        group: _Group,
        rows: Tensor,
        weights: Tensor | None,
        discrepancy: Discrepancy,
        cap: int | None,
    ) -> Measure:
        """The points of a side that belong to a group, no more than the cap."""
        if cap is not None and len(rows) > cap:
            self.note(f"{name}: {cap:,} random points of {len(rows):,} of '{side.name}' ({group.name})")
            chosen = torch.randperm(len(rows), generator=stream(self.survey.seed, "cap", group.name))[:cap]
            rows, weights = rows[chosen], None if weights is None else weights[chosen]
        labels = side.label_vectors(self.real.classes)[rows].to(self.device) if discrepancy.labelled else None
        weights = torch.ones(len(rows)) if weights is None else weights
        whole = len(rows) == len(features) and bool((rows[1:] > rows[:-1]).all())
        points = features if whole else features[rows.to(features.device)]
        return Measure(points, weights.to(self.device), labels)

    # --- rows ---------------------------------------------------------------------------------------------------------------

    def _rows(self, name: str) -> list[Row]:
        """The rows of one discrepancy, by set and group; the mean over the classes comes after them."""
        groups = [group for group in self.groups if (name, group.name) in self.found] or [
            _Group(ALL, torch.arange(len(self.real)), tuple(side.members(None) for side in self.sets))
        ]
        means = {group.name: self._mean([*self.found[name, group.name]]) for group in groups}
        rows = []
        for i, side in enumerate(self.sets):
            of_classes: list[tuple[Halved | None, Yardstick | None, _Group]] = []
            for group in groups:
                values, yardstick = means[group.name]
                if group.name != ALL:
                    of_classes.append((values[i], yardstick, group))
                elif of_classes:
                    rows.append(self._mean_row(name, side.name, i, of_classes))
                rows.append(self._row(name, side.name, group.name, group, i, values[i], yardstick))
            if of_classes and groups[-1].name != ALL:
                rows.append(self._mean_row(name, side.name, i, of_classes))
        return rows

    def _mean(self, parts: Sequence[Measured]) -> tuple[list[Halved | None], Yardstick | None]:
        """Summed over blocks, and averaged over networks."""
        scale = 1 / self.survey.networks
        values = []
        for i in range(len(self.sets)):
            found = [part.values[i] for part in parts]
            known = [value for value in found if value is not None and math.isfinite(value.value)]
            values.append(Halved.total(known, scale) if len(known) == len(found) else None)
        return values, _total([part.yardstick for part in parts], scale)

    def _mean_row(
        self, name: str, side: str, i: int, classes: Sequence[tuple[Halved | None, Yardstick | None, _Group]]
    ) -> Row:
        known = [value for value, _, _ in classes if value is not None]
        whole = len(known) == len(classes)
        value = Halved.total(known, 1 / len(known)) if whole else None
        yardstick = _total([item for _, item, _ in classes], 1 / len(classes)) if whole else None
        real = torch.cat([group.real for _, _, group in classes])
        rows = torch.cat([group.sets[i][0] for _, _, group in classes]).unique()
        return self._row(
            name, side, CLASSES, _Group(CLASSES, real, ((rows, rows),) * len(self.sets)), i, value, yardstick
        )

    def _row(
        self, name: str, side: str, title: str, group: _Group, i: int, value: Halved | None, yardstick: Yardstick | None
    ) -> Row:
        real, examples = len(group.real), len(group.sets[i][0])
        if value is None:
            return Row(name, side, title, real, examples)
        interval = value.interval(self.survey.confidence)
        return Row(
            name,
            side,
            title,
            real,
            examples,
            value.value,
            value.estimate,
            value.error if interval else None,
            interval,
            yardstick.size(value.estimate, interval) if yardstick else None,
            yardstick,
            self.p.get((name, title, i)),
        )


def _total(parts: Sequence[Yardstick | None], scale: float) -> Yardstick | None:
    """The sum of several yardsticks of one sort; None where one is missing."""
    laws = [part for part in parts if isinstance(part, PowerLaw)]
    if len(laws) == len(parts):
        return PowerLaw.total(laws, scale)
    curves = [part for part in parts if isinstance(part, Curve)]
    return Curve.total(curves, scale) if len(curves) == len(parts) else None


def _name_of(what: Any) -> str:
    return what if isinstance(what, str) else str(getattr(what, "name", None) or getattr(what, "path", what.kind))


def _check(real: Side, sets: Sequence[Side], by: str) -> None:
    """Refuse data sets that do not fit the real one."""
    if real.weights is not None and not bool((real.weights == real.weights[0]).all()):
        raise InvalidInput(
            f"'{real.name}' comes first, so it is the real side, whose examples have equal weights; put it behind"
        )
    for side in sets:
        if side.shape != real.shape:
            raise InvalidInput(
                f"examples of '{side.name}' have shape {side.shape}, those of '{real.name}' {real.shape}; compare sets of "
                "one shape"
            )
        if side.limits != real.limits and None not in (side.limits, real.limits):
            raise InvalidInput(
                f"values of '{side.name}' lie in {_range(side)}, those of '{real.name}' in {_range(real)}; bring them to one "
                "scale"
            )
    if by == "none":
        return
    for side in (real, *sets):
        if side.labels is None and by == "class":
            raise InvalidInput(f"'{side.name}' has no labels, so it has no classes; compare without them (--by none)")
        foreign = [name for name in side.classes if name not in real.classes]
        if foreign and side.labels is not None and real.labels is not None:
            raise InvalidInput(
                f"'{side.name}' has the class '{foreign[0]}'{suggestion(foreign[0], real.classes)}, which '{real.name}' has "
                "not; name its classes alike, or compare without them (--by none)"
            )


def _range(side: Side) -> str:
    low, high = side.limits or (math.nan, math.nan)
    return f"{low:g} .. {high:g}"


def _check_memory(embedded: Embedded, real: Side) -> None:
    first = Side(real.name, real.points[:1], None, None, (), real.normalisation, real.limits, real.sampled)
    needed = 2 * len(real) * sum(block.nbytes for block in embedded.features(first).values())
    free = available_bytes(embedded.device)
    if needed > free:
        raise InvalidInput(
            f"the features of '{real.name}' need about {needed / 2**30:.2g} GiB and {free / 2**30:.2g} GiB are free; use fewer "
            "features ('via'), or a part of the data"
        )


def _described(side: Side, what: Any) -> Described:
    counts = None
    if side.labels is not None and len(side.classes):
        counts = len(side) / len(side.classes)
    return Described(str(what), len(side), counts, side.shape, side.sampled, side.fingerprint)
