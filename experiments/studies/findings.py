"""What a study found: for every discrepancy in every view, how well it orders sets of one size as their accuracy does."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.studies.correlation import (
    ceiling,
    interval,
    kendall,
    left_out,
    resamples,
    same_family,
    spearman,
)
from objectives.storage import finite

__all__ = ["AtSize", "Comparison", "Correlation", "Findings", "Pair", "Values", "found"]

Pair = tuple[str, str]
"""A view and a discrepancy, by name."""

Values = Mapping[Pair, Sequence[Mapping[str, Any]]]
"""The lines of the folder for each pair: values, reasons and notes by set."""

LEAST = 4
"""Sets below which there is no correlation to speak of."""

Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Rank correlations, over the sets of one size, of minus a discrepancy with the accuracy; NaN where there is none.

    Args:
        sets: how many have a value.
        spearman, kendall: ρ and τ-b with intervals; ``within`` is τ-b over the pairs of sets of one family.
        left_out: ρ without each family in turn.
        above_reference: the share of resamples in which ρ is larger than that of the reference, on the sets of both.
        missing: why sets have no value, and how many.
        notes: warnings that were raised.
        seconds: that all the sets together took.
    """

    view: str
    discrepancy: str
    sets: int
    spearman: float = math.nan
    spearman_interval: Interval = None
    kendall: float = math.nan
    kendall_interval: Interval = None
    within: float = math.nan
    within_interval: Interval = None
    left_out: dict[str, float] = field(default_factory=dict)
    above_reference: float | None = None
    missing: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def pair(self) -> Pair:
        return self.view, self.discrepancy

    @property
    def worst_left_out(self) -> float:
        """The smallest ρ after one family is left out."""
        return min(self.left_out.values(), default=float("nan"))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """ρ of one pair less that of another, on the sets that both have, with the same resamples."""

    first: Pair
    second: Pair
    sets: int
    difference: float
    interval: Interval
    share: float


@dataclass(frozen=True, kw_only=True)
class AtSize:
    """All of one size.

    Args:
        families: the family of every set, by key.
        accuracies: of every network, by key.
        ceiling: ρ that a perfect predictor would reach, given how far the networks agree.
        clean: the correlations of the accuracy without an attack with that under one, where the latter is to be predicted.
        rows: sorted by ρ, those without one last.
        comparisons: the best with the second, and with the reference.
        values: of every pair, by key, where there are any.
    """

    per_class: int
    families: dict[str, str]
    accuracies: dict[str, tuple[float, ...]]
    ceiling: float | None
    rows: tuple[Correlation, ...]
    comparisons: tuple[Comparison, ...]
    values: dict[Pair, dict[str, float]]
    clean: Correlation | None = None

    @property
    def networks(self) -> int:
        return min(map(len, self.accuracies.values()))

    def mean(self, key: str) -> float:
        return float(np.mean(self.accuracies[key]))


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The study's result, by size."""

    sizes: tuple[AtSize, ...]
    reference: Pair | None
    resamples: int
    confidence: float
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All but the single values and accuracies, which the folder's lines hold, as plain data; NaN as None."""
        sizes = [
            {
                "per_class": size.per_class,
                "sets": len(size.families),
                "networks": size.networks,
                "families": dict(Counter(size.families.values())),
                "ceiling": size.ceiling,
                **({} if size.clean is None else {"clean": asdict(size.clean)}),
                "rows": [asdict(row) for row in size.rows],
                "comparisons": [asdict(item) for item in size.comparisons],
            }
            for size in self.sizes
        ]
        whole = {"resamples": self.resamples, "confidence": self.confidence, "reference": self.reference}
        return finite({**self.about, **whole, "sizes": sizes})


def found(
    accuracies: Mapping[str, tuple[float, ...]],
    values: Values,
    *,
    clean: Mapping[str, tuple[float, ...]] = MappingProxyType({}),
    reference: Pair | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Findings:
    """The correlations of every size.

    Args:
        accuracies: of the networks trained on each set, by key PER_CLASS/FAMILY/NAME.
        values: what was measured, for every pair.
        clean: the accuracies of the same networks without an attack, where ``accuracies`` are under one.
        reference: with which pair all are compared.
    """
    sizes = tuple(dict.fromkeys(int(key.split("/")[0]) for key in accuracies))
    return Findings(
        sizes=tuple(
            _AtSize(size, accuracies, values, clean, reference, resamples, confidence, seed).described()
            for size in sizes
        ),
        reference=reference,
        resamples=resamples,
        confidence=confidence,
        about=dict(about or {}),
    )


class _AtSize:
    """The correlations of one size, all from the same resamples."""

    def __init__(
        self,
        per_class: int,
        accuracies: Mapping[str, tuple[float, ...]],
        values: Values,
        clean: Mapping[str, tuple[float, ...]],
        reference: Pair | None,
        count: int,
        confidence: float,
        seed: int,
    ) -> None:
        self.per_class, self.lines, self.reference, self.confidence = per_class, values, reference, confidence
        self.accuracies = {key: found for key, found in accuracies.items() if int(key.split("/")[0]) == per_class}
        self.keys = list(self.accuracies)
        self.families = np.array([key.split("/")[1] for key in self.keys])
        self.mean = np.array([np.mean(self.accuracies[key]) for key in self.keys])
        self.counts = resamples(self.families.tolist(), count, np.random.default_rng([seed, per_class]))
        self.values = {pair: self._vector(pair) for pair in values}
        self.clean = np.array([np.mean(clean[key]) for key in self.keys]) if clean else None

    def _vector(self, pair: Pair) -> np.ndarray:
        """Minus the discrepancy of every set; NaN where it is missing."""
        merged = {key: value for line in self.lines[pair] for key, value in line["values"].items() if value is not None}
        return np.array([-merged.get(key, np.nan) for key in self.keys])

    def described(self) -> AtSize:
        networks = min(map(len, self.accuracies.values()))
        table = np.array([self.accuracies[key][:networks] for key in self.keys])
        rows = sorted((self._row(pair) for pair in self.values), key=lambda row: -np.nan_to_num(row.spearman, nan=-2))
        ranked = [row.pair for row in rows if np.isfinite(row.spearman)]
        rivals = ranked[1:2] + [pair for pair in ranked[2:] if pair == self.reference]
        return AtSize(
            per_class=self.per_class,
            families=dict(zip(self.keys, self.families.tolist(), strict=True)),
            accuracies=self.accuracies,
            ceiling=ceiling(table),
            rows=tuple(rows),
            comparisons=tuple(self._comparison(ranked[0], rival) for rival in rivals),
            values={
                pair: {key: float(-v) for key, v in zip(self.keys, vector, strict=True) if np.isfinite(v)}
                for pair, vector in self.values.items()
            },
            clean=None
            if self.clean is None
            else self._ranked(self.clean, view="", discrepancy="accuracy without an attack"),
        )

    def _row(self, pair: Pair) -> Correlation:
        lines = self.lines[pair]
        reasons = {key: why for line in lines for key, why in line["reasons"].items()}
        found = self._ranked(
            self.values[pair],
            view=pair[0],
            discrepancy=pair[1],
            missing=dict(Counter(reasons[key] for key in self.keys if key in reasons)),
            notes=tuple(dict.fromkeys(note for line in lines for note in line["notes"])),
            seconds=sum(line["seconds"] for line in lines),
        )
        return replace(found, above_reference=self._above_reference(pair)) if found.sets >= LEAST else found

    def _ranked(self, vector: np.ndarray, **about: Any) -> Correlation:
        """The correlations of a value of every set, the larger the better."""
        here = np.isfinite(vector)
        about["sets"] = int(here.sum())
        if here.sum() < LEAST:
            return Correlation(**about)
        x, y, families = vector[here], self.mean[here], self.families[here].tolist()
        counts, alike = self._counts(here), same_family(families)
        return Correlation(
            **about,
            spearman=float(spearman(x, y)[0]),
            spearman_interval=interval(spearman(x, y, counts), self.confidence),
            kendall=float(kendall(x, y)[0]),
            kendall_interval=interval(kendall(x, y, counts), self.confidence),
            within=float(kendall(x, y, pairs=alike)[0]),
            within_interval=interval(kendall(x, y, counts, alike), self.confidence),
            left_out=left_out(x, y, families),
        )

    def _counts(self, here: np.ndarray) -> np.ndarray:
        """The resamples restricted to some sets; those that hold none of them are left out."""
        counts = self.counts[:, here]
        return counts[counts.sum(1) > 0]

    def _above_reference(self, pair: Pair) -> float | None:
        if self.reference is None or self.reference not in self.values or pair == self.reference:
            return None
        share = self._comparison(pair, self.reference).share
        return None if math.isnan(share) else share

    def _comparison(self, first: Pair, second: Pair) -> Comparison:
        here = np.isfinite(self.values[first]) & np.isfinite(self.values[second])
        x, z, y = self.values[first][here], self.values[second][here], self.mean[here]
        if here.sum() < LEAST:
            return Comparison(
                first=first, second=second, sets=int(here.sum()), difference=np.nan, interval=None, share=np.nan
            )
        counts = self._counts(here)
        differences = spearman(x, y, counts) - spearman(z, y, counts)
        known = differences[np.isfinite(differences)]
        return Comparison(
            first=first,
            second=second,
            sets=int(here.sum()),
            difference=float((spearman(x, y) - spearman(z, y))[0]),
            interval=interval(differences, self.confidence),
            # Resamples that leave no difference count half, so that equals come out at one half.
            share=float(((known > 0) + 0.5 * (known == 0)).mean()) if len(known) else np.nan,
        )
