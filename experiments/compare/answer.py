"""What was found: one row for each discrepancy, set and group, and what must be known to read them.

As JSON (``as_dict``), format 1:

    format, hash, config, versions, device, seconds
    real, sets.NAME    what: examples, per_class (or null), shape, sampled, fingerprint
    resolved.NAME      the discrepancy with numbers in place of rules (of the first network and block)
    rows[]             discrepancy, set, group ("class 3", "classes" for their mean, "all"), real, examples
        value          D of the two measures as they are
        estimate       D(P, S) without the bias of a finite real side; null where it could not be taken
        error, low, high   standard error and interval of the estimate, S fixed; or null
        yardstick      k: so many real examples (a class) are as close; low, high; least, most: the range that is known;
                       closed: whether it is in closed form. Or null. A number that is infinite is null
        p              of the permutation test, only between independent samples; else null
        worst          with 'worst' in the configuration. real: the number of real examples that move; plain: D of these as they
                       are; largest: the largest D found in the ball. Or null
    notes[]            what was subsampled, left out or repaired
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from experiments.compare.halves import Interval
from experiments.compare.worst import WorstCase
from experiments.compare.yardstick import PowerLaw, Size, Yardstick
from objectives.storage import finite

__all__ = ["ALL", "CLASSES", "FORMAT", "Answer", "Described", "Row", "class_group"]

FORMAT = 1
ALL, CLASSES = "all", "classes"


def class_group(name: str) -> str:
    return f"class {name}"


@dataclass(frozen=True)
class Described:
    """A data set in a few words."""

    what: str
    examples: int
    per_class: float | None
    shape: tuple[int, ...]
    sampled: bool
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Row:
    """One discrepancy of one set in one group."""

    discrepancy: str
    set: str
    group: str
    real: int
    examples: int
    value: float | None = None
    estimate: float | None = None
    error: float | None = None
    interval: Interval | None = None
    size: Size | None = None
    yardstick: Yardstick | None = None
    p: float | None = None
    worst: WorstCase | None = None

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        low, high = (None, None) if self.interval is None else (self.interval.low, self.interval.high)
        around = self.size.interval if self.size else None
        size = self.size and {
            "k": self.size.k,
            "low": around.low if around else None,
            "high": around.high if around else None,
            "least": self.size.least,
            "most": self.size.most,
            "closed": isinstance(self.yardstick, PowerLaw),
        }
        names = ("discrepancy", "set", "group", "real", "examples", "value", "estimate", "error")
        return finite(
            {name: getattr(self, name) for name in names}
            | {"low": low, "high": high, "yardstick": size, "p": self.p, "worst": self.worst and asdict(self.worst)}
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """All the rows, and where they come from."""

    real: tuple[str, Described]
    sets: Mapping[str, Described]
    rows: tuple[Row, ...]
    config: Mapping[str, Any]
    hash: str
    resolved: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str
    seconds: float
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data; the format is that of this module's docstring."""
        return {
            "format": FORMAT,
            "hash": self.hash,
            "config": dict(self.config),
            "versions": dict(self.versions),
            "device": self.device,
            "seconds": round(self.seconds, 2),
            "real": {"name": self.real[0], **asdict(self.real[1])},
            "sets": {name: asdict(item) for name, item in self.sets.items()},
            "resolved": dict(self.resolved),
            "rows": [row.as_dict() for row in self.rows],
            "notes": list(self.notes),
        }
