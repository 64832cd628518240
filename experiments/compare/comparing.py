"""How far data sets are from a real one: every discrepancy, set and group, with interval, yardstick and p-value."""

import contextlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from discrepancy.discrepancy import Discrepancy
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.measure import Measure
from experiments.compare.answer import ALL, Answer, Described
from experiments.compare.embedding import Embedded
from experiments.compare.estimates import Bound, Measured, cap_of
from experiments.compare.groups import Group, check, groups_of, whole
from experiments.compare.permutation import p_value
from experiments.compare.request import ComparisonRequest
from experiments.compare.rows import rows_of
from experiments.compare.sides import Side, overlap, side_of
from experiments.compare.two_samples import SAMPLE_CAP, two_samples
from experiments.compare.worst import WORST_CAP, WorstCase, no_worst, worst_case
from experiments.config import dump
from experiments.device import chosen_device
from objectives.attacks.joint import JointAscent
from objectives.attacks.threat import UnitSpace
from objectives.data.labels import Labels
from objectives.engine.engine import RESOLVE_SAMPLE
from objectives.engine.runtime import Runtime
from objectives.rng import rng

__all__ = ["compare"]

SHARED = 0.01
"""Share of common examples above which a set is not taken to be independent of the real side."""

Progress = Callable[[float, str], None]


def compare(request: ComparisonRequest, on_progress: Progress | None = None) -> Answer:
    """Everything that a request asks for. ``on_progress`` is called with the share of the work that is done and a note.

    Raises:
        InvalidInput: if data sets do not fit each other, or no discrepancy has a value for any of them.
    """
    return _Comparing(request, on_progress or (lambda done, note: None)).answer()


class _Comparing:
    def __init__(self, request: ComparisonRequest, report: Progress) -> None:
        self.request, self.report, self.begun = request, report, time.perf_counter()
        self.runtime = Runtime(request.seed, chosen_device(request.device))
        self.device = self.runtime.device
        self.notes: dict[str, list[str]] = {}  # what is said, of which discrepancies and groups
        self.reasons: list[str] = []  # why there is no value, or no interval
        report(0.0, "reading")
        self.real = side_of(_word(request.real), request.real, request.root)
        if request.units == "range":
            self.real = self.real.in_range
        if request.worst is not None:
            space = UnitSpace.between(self.real.limits, self.real.normalisation, len(self.real.shape))
            space.ball(request.worst.threat, torch.zeros(1, *self.real.shape))  # refuses one that is too large
            if self.real.limits is None:
                self.note(
                    f"the limits of the values of '{self.real.name}' are not known, so the radius is in their units"
                )
        self.sets = [side_of(name, what, request.root) for name, what in request.sets]
        check(self.real, self.sets, request.by)
        sides = (self.real, *self.sets)
        self.bare = [side.name for side in sides if not side.labels.given]
        without = [side for side in sides if not side.classes]
        if without and request.by == "both":
            have = "no labels" if not without[0].labels.given else "targets and no classes"
            self.note(f"'{without[0].name}' has {have}, so only the whole sets are compared")
        self.by = "none" if without else request.by
        self.groups = groups_of(self.real, self.sets, self.by)
        for group in self.groups:
            for side, (rows, _) in zip(self.sets, group.sets, strict=True):
                if not len(rows):
                    self.note("there is no example", f"{group.name} of '{side.name}'")
        self.shared = [self._shares(side) for side in self.sets]
        self.sampled = [self._independent(side, shares) for side, shares in zip(self.sets, self.shared, strict=True)]
        self.found: dict[str, dict[str, list[Measured]]] = {name: {} for name, _ in request.discrepancies}
        self.p: dict[str, dict[tuple[str, int], float]] = {name: {} for name, _ in request.discrepancies}
        self.worst: dict[str, dict[tuple[str, int], list[WorstCase]]] = {name: {} for name, _ in request.discrepancies}
        self.resolved: dict[str, Any] = {}

    def note(self, text: str, of: str = "") -> None:
        said = self.notes.setdefault(text, [])
        if of not in said:
            said.append(of)

    def _notes(self) -> tuple[str, ...]:
        """What is said of several groups, on one line."""
        return tuple(f"{_listed(of)}: {text}" if any(of) else text for text, of in self.notes.items())

    def _shares(self, side: Side) -> bool:
        """Whether a set has examples of the real side, so that what is said of independent ones does not hold."""
        share = overlap(self.real, side)
        if share <= SHARED or self.request.independent:
            return False
        self.note(
            f"{share:.0%} of the examples are in both, so the values are those of the two sets as they are, with no correction "
            f"for a finite real side, no interval and no p-value",
            f"'{side.name}'",
        )
        return True

    def _independent(self, side: Side, shares: bool) -> bool:
        wanted = self.request.independent
        made = [item.name for item in (self.real, side) if not item.sampled]
        if made and wanted:
            self.note(f"no p-value for '{side.name}': '{made[0]}' is a set that was made, and no sample of anything")
        return not made and not shares and wanted is not False

    def answer(self) -> Answer:
        request = self.request
        for number in range(request.networks):
            self._network(number)
        self.report(1.0, "")
        rows = []
        for name, discrepancy in request.discrepancies:
            groups, names = self._groups_of(name, discrepancy), [side.name for side in self.sets]
            found, p, worst = self.found[name], self.p[name], self.worst[name]
            rows += rows_of(name, names, groups, found, p, worst, request.networks, request.confidence)
        if all(row.estimate is None for row in rows):
            raise InvalidInput(next(iter(self.reasons), "no discrepancy has a finite value for any of the sets"))
        return Answer(
            real=(self.real.name, _described(self.real, request.real)),
            sets={side.name: _described(side, what) for side, (_, what) in zip(self.sets, request.sets, strict=True)},
            rows=tuple(rows),
            config=dump(request),
            hash=request.hash,
            resolved=self.resolved,
            versions={
                "discrepancy": metadata.version("discrepancy"),
                "python": platform.python_version(),
                "torch": str(torch.__version__),
            },
            device=str(self.device),
            seconds=time.perf_counter() - self.begun,
            notes=self._notes(),
        )

    def _groups_of(self, name: str, discrepancy: Discrepancy) -> list[Group]:
        """What looks at labels compares all the points at once."""
        if not discrepancy.labelled:
            return self.groups
        if self.bare:
            raise InvalidInput(f"'{name}' looks at labels, and '{self.bare[0]}' has none; leave it out")
        return [whole(self.real, self.sets)]

    def _network(self, number: int) -> None:
        """All that is measured on the features of one network."""
        request, share = self.request, 1 / self.request.networks
        self.report(share * number, "embedding")
        embedded = Embedded(self.real, request.via, request.network, number, self.runtime)
        _check_memory(embedded, self.real)
        real = embedded.features(self.real)
        sets = [embedded.features(side) for side in self.sets]
        groups = {name: self._groups_of(name, discrepancy) for name, discrepancy in request.discrepancies}
        # A group of n points costs about n times a constant, and a little in any case.
        parts = len(real) + 1 + (request.worst is not None)
        total = sum(len(group.real) + 200.0 for found in groups.values() for group in found) * parts
        done = 0.0
        for name, discrepancy in request.discrepancies:
            bounds = {
                block: self._bound(name, discrepancy, number, block, features) for block, features in real.items()
            }
            for group in groups[name]:
                cost = len(group.real) + 200.0

                def advance(part: float, note: str = f"{name}, {group.name}") -> None:
                    self.report(share * (number + 0.05 + 0.95 * (done + part * cost) / total), note)  # noqa: B023

                with _named(name):
                    for block, bound in bounds.items():
                        self._group(
                            name, bound, discrepancy, group, real[block], [side[block] for side in sets], advance
                        )
                        done += cost
                    if request.worst is not None:
                        made = [{block: features[block] for block in bounds} for features in sets]
                        self._worst(name, request.worst, discrepancy, embedded, bounds, group, made, number, advance)
                        done += cost
                    if number == 0 and (self.by != "both" or group.name == ALL):
                        self._tests(name, discrepancy, group, advance)
                    done += cost

    def _bound(self, name: str, discrepancy: Discrepancy, number: int, block: str, features: Tensor) -> Bound:
        seed = self.request.seed
        rows = torch.randperm(len(features), generator=rng(seed, "resolve"))[:RESOLVE_SAMPLE].sort().values
        labels = self._labels(self.real, rows, discrepancy)
        with _named(name):
            resolved = discrepancy.resolve(Measure(features[rows.to(features.device)], labels=labels))
            draws = resolved.draw(rng(seed, "random", name, block, number), tuple(features.shape[1:]))
        moved = None if draws is None else {key: value.to(self.device) for key, value in draws.items()}
        self.resolved.setdefault(name, dump(resolved))
        return Bound(resolved, moved, self.request.splits)

    def _group(
        self,
        name: str,
        bound: Bound,
        discrepancy: Discrepancy,
        group: Group,
        real: Tensor,
        sets: Sequence[Tensor],
        advance: Callable[[float], None],
    ) -> None:
        """One discrepancy on one group of points of one block."""
        advance(0.0)
        mine = self._measure(name, self.real, real, group, group.real, torch.ones(len(group.real)), discrepancy)
        theirs = [
            self._measure(name, side, features, group, rows, weights, discrepancy) if len(rows) else None
            for side, features, (rows, weights) in zip(self.sets, sets, group.sets, strict=True)
        ]
        measured = bound.measured(mine, theirs, self.request.seed, group.name, advance)
        if measured.reason is not None:
            self.note(measured.reason, f"{name}, {group.name}")
            self.reasons.append(f"{name}, {group.name}: {measured.reason}")
        for side, value in zip(self.sets, measured.values, strict=True):
            if value is not None and not math.isfinite(value.value):
                self.note(f"the value of '{side.name}' is not finite", f"{name}, {group.name}")
        values = [
            value.as_it_is() if value is not None and shares else value
            for value, shares in zip(measured.values, self.shared, strict=True)
        ]
        self.found[name].setdefault(group.name, []).append(replace(measured, values=tuple(values)))

    def _measure(
        self,
        name: str,
        side: Side,
        features: Tensor,
        group: Group,
        rows: Tensor,
        weights: Tensor,
        discrepancy: Discrepancy,
    ) -> Measure:
        """The points of a side that belong to a group, no more than the cap."""
        cap = cap_of(discrepancy)
        if cap is not None and len(rows) > cap:
            self.note(f"{cap:,} random points of the {len(rows):,} of '{side.name}'", f"{name}, {group.name}")
            chosen = self._chosen(group, rows, cap)
            rows, weights = rows[chosen], weights[chosen]
        labels = self._labels(side, rows, discrepancy)
        everything = torch.equal(rows, torch.arange(len(features)))
        points = features if everything else features[rows.to(features.device)]
        return Measure(points, weights.to(self.device), labels)

    def _chosen(self, group: Group, rows: Tensor, cap: int) -> Tensor:
        """The places of so many random rows of a group."""
        return torch.randperm(len(rows), generator=rng(self.request.seed, "cap", group.name))[:cap]

    def _labels(self, side: Side, rows: Tensor, discrepancy: Discrepancy) -> Tensor | None:
        """The label vectors of a part of a side, over the classes or in the target units of the real side."""
        if not discrepancy.labelled:
            return None
        return side.label_vectors(self.real.classes, self.real.target_units)[rows].to(self.device)

    def _worst(
        self,
        name: str,
        ascent: JointAscent,
        discrepancy: Discrepancy,
        embedded: Embedded,
        bounds: Mapping[str, Bound],
        group: Group,
        sets: Sequence[Mapping[str, Tensor]],
        number: int,
        advance: Callable[[float], None],
    ) -> None:
        """The largest value of one discrepancy over real points of a group that move within a ball, for every set."""
        reason = no_worst(discrepancy)
        if reason is not None:
            self.note(f"no worst case, because {reason}", name)
            return
        rows = group.real
        if len(rows) > WORST_CAP:
            self.note(
                f"the worst case is of {WORST_CAP:,} random real points of the {len(rows):,}", f"{name}, {group.name}"
            )
            rows = rows[self._chosen(group, rows, WORST_CAP)]
        labels = self._labels(self.real, rows, discrepancy)
        points = embedded.normalised(self.real, rows)
        for i, (side, features, (own, weights)) in enumerate(zip(self.sets, sets, group.sets, strict=True)):
            advance(i / len(sets))
            if not len(own):
                continue
            made = {
                block: self._measure(name, side, values, group, own, weights, discrepancy)
                for block, values in features.items()
            }
            generator = rng(self.request.seed, "worst", group.name, number)
            try:
                case = worst_case(ascent, embedded, points, labels, bounds, made, generator)
            except InvalidInput as error:
                self.note(f"no worst case, because {error}", f"{name}, {group.name}")
                continue
            self.worst[name].setdefault((group.name, i), []).append(case)

    def _tests(self, name: str, discrepancy: Discrepancy, group: Group, advance: Callable[[float], None]) -> None:
        """The p-values of one discrepancy on one group of points, for every set that is an independent sample."""
        advance(0.0)
        tested = [i for i, (rows, _) in enumerate(group.sets) if self.sampled[i] and len(rows) and len(group.real) > 1]
        for place, i in enumerate(tested):
            self.p[name][group.name, i] = p_value(
                discrepancy,
                *self._samples(group, i),
                self.request.permutations,
                rng(self.request.seed, "permute", group.name, self.sets[i].name),
                lambda done, place=place: advance((place + done) / len(tested)),
            )

    def _samples(self, group: Group, i: int) -> tuple[Measure, Measure]:
        """Random points of the real side and of a set, in units of both."""
        request, generator = self.request, rng(self.request.seed, "test", group.name, self.sets[i].name)
        every = group.real, group.sets[i][0]
        if max(map(len, every)) > SAMPLE_CAP:
            self.note(f"permutations of {SAMPLE_CAP} random points a side", "p")
        first, second = (rows[torch.randperm(len(rows), generator=generator)[:SAMPLE_CAP]] for rows in every)
        sides = self.real, self.sets[i]
        return two_samples(sides, (first, second), request.via, request.network, self.runtime)


@contextlib.contextmanager
def _named(discrepancy: str) -> Iterator[None]:
    """Says which discrepancy a mistake is about."""
    try:
        yield
    except (InvalidInput, Unsupported) as error:
        raise InvalidInput(f"discrepancy '{discrepancy}': {error}") from None


def _listed(names: Sequence[str], most: int = 3) -> str:
    return "; ".join(names[:most]) + (f"; and {len(names) - most} more" if len(names) > most else "")


def _word(what: Any) -> str:
    return what if isinstance(what, str) else str(getattr(what, "name", None) or getattr(what, "path", what.kind))


def _check_memory(embedded: Embedded, real: Side) -> None:
    """Refuse features that do not fit, before they are made; a group may hold a second copy of them."""
    first = replace(real, points=real.points[:1], labels=Labels(), weights=None)
    needed = 2 * len(real) * sum(block.nbytes for block in embedded.features(first).values())
    free = embedded.runtime.free_bytes
    if needed > free:
        raise InvalidInput(
            f"the features of '{real.name}' need about {needed / 2**30:.2g} GiB and {free / 2**30:.2g} GiB are free; take "
            "fewer features ('via'), or a part of the data"
        )


def _described(side: Side, what: Any) -> Described:
    per_class = len(side) / len(side.classes) if side.classes else None
    return Described(str(what), len(side), per_class, side.shape, side.sampled, side.fingerprint)
