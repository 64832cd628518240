"""What is asked: which data sets, by which discrepancies, on which features. A frozen value, as a configuration file writes it.

real: mnist
sets: {dm: runs/dm/result.safetensors, test: "mnist:test"}
discrepancies: {mmd: {kind: mmd, kernel: {gaussian: {lengthscale: median}}}, moments: moments}
via: features
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from discrepancy.discrepancy import Discrepancy
from discrepancy.embeddings import Embedding, Identity
from discrepancy.errors import InvalidInput
from discrepancy.networks.base import Network
from experiments.compare.sides import PARTS
from experiments.compare.worst import no_worst
from experiments.config import Tree, build, dump
from experiments.config.files import parse_value
from experiments.config.hints import kinds_of
from experiments.config.mistakes import refuse
from experiments.data import Source, is_described, source_named
from experiments.device import wrong_device
from objectives.attacks.joint import JointAscent
from objectives.synthetic.parameterisation import Units

__all__ = ["DEFAULT", "PRESETS", "ComparisonRequest", "discrepancies_of", "named_sets", "request_of"]

PRESETS: Mapping[str, Tree] = {
    "mmd": {"kind": "mmd", "kernel": {"kind": "gaussian", "lengthscale": {"median": 1.0}}},
    "mean": {"kind": "mmd", "kernel": {"kind": "linear"}},
}
"""Short names for kinds with settings other than their defaults; a configuration file can define names of its own."""

LATER: Mapping[str, Any] = {"units": "normalised", "worst": None}
"""Fields that were added later. With these values they are no part of the hash, so that older configurations keep theirs."""

DEFAULT = ("mmd", "mean", "energy_distance", "sliced_wasserstein", "moments", "covering_radius")
"""What is measured when nothing is named: all of them cheap in any number of features."""


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """How far each of the sets is from the real side.

    Args:
        real, sets: data sets by name, artefacts by file, or sources; see :func:`experiments.compare.sides.side_of`.
        discrepancies: by name.
        via: what of an example is compared.
        network: whose features ``via`` takes, with random weights; by default a ConvNet for images, else an MLP.
        networks: values are means over so many of them.
        units: of the points: ``normalised`` as networks see them, or ``range``, values from 0 to 1, the units of attacks.
        worst: how the largest value over real examples that move within a ball is sought; None to leave it out.
        by: every class, all points together (``none``), or both.
        resamples: halves of the real side from which the intervals are made; see :mod:`experiments.compare.halves`.
        confidence: of the intervals.
        permutations: random assignments in a permutation test.
        independent: whether the sets that are sources are samples independent of the real side, which permits p-values; None
            finds out whether they share examples.
        root: where torchvision's data lie.
    """

    real: str | Source
    sets: tuple[tuple[str, str | Source], ...]
    discrepancies: tuple[tuple[str, Discrepancy], ...]
    via: Embedding = Identity()  # noqa: RUF009  (frozen, like every part)
    network: Network | None = None
    networks: int = 1
    units: Units = "normalised"
    worst: JointAscent | None = None
    by: Literal["class", "none", "both"] = "both"
    resamples: int = 50
    confidence: float = 0.95
    permutations: int = 199
    independent: bool | None = None
    seed: int = 0
    device: str = "auto"
    root: str | None = None

    def __post_init__(self) -> None:
        refuse(self._mistakes())

    def _mistakes(self) -> Iterator[str]:
        for name, least in (("networks", 1), ("resamples", 10), ("permutations", 19)):
            if getattr(self, name) < least:
                yield f"'{name}' must be at least {least}, got {getattr(self, name)}"
        if not 0 < self.confidence < 1:
            yield f"'confidence' must lie strictly between 0 and 1, got {self.confidence}"
        if not self.sets:
            yield "'sets' are empty; name at least one data set to be compared with the real one"
        if not self.discrepancies:
            yield "'discrepancies' are empty; name at least one"
        if self.networks > 1 and not self.via.takes - {"points"}:
            yield f"'networks' is {self.networks}, but '{self.via.kind}' takes nothing of a network; use 1"
        if self.units == "range" and self.via.takes - {"points"}:
            yield f"'units' is range, but '{self.via.kind}' takes from a network, which sees normalised values; use normalised"
        reasons = {name: no_worst(discrepancy) for name, discrepancy in self.discrepancies}
        if self.worst is not None and reasons and all(reasons.values()):
            said = ", ".join(f"'{name}' ({reason})" for name, reason in reasons.items())
            yield f"'worst' needs a discrepancy that is symmetric and has a gradient, got {said}; add mmd or energy_distance"
        yield from wrong_device(self.device)

    @property
    def splits(self) -> int:
        return math.ceil(self.resamples / 2)

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the configuration with its defaults, without root and device, and
        without the unchanged fields of :data:`LATER`."""
        tree = dump(self)
        del tree["root"], tree["device"]
        tree = {name: value for name, value in tree.items() if name not in LATER or value != LATER[name]}
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]


def request_of(tree: Mapping[str, Any]) -> ComparisonRequest:
    """The request that a configuration describes. ``sets`` may be a list, and ``discrepancies`` a list or names in one line.

    Raises:
        ConfigError: with every mistake.
    """
    tree = dict(tree)
    sets = tree.get("sets")
    if isinstance(sets, str | list):
        tree["sets"] = named_sets([sets] if isinstance(sets, str) else sets, tree.get("real"))
    tree["discrepancies"] = discrepancies_of(tree.get("discrepancies") or list(DEFAULT))
    return build(ComparisonRequest, tree)


def named_sets(sets: Sequence[Any], real: Any = None) -> dict[str, Any]:
    """Names for data sets: that of the file, or of its folder where the file is called result. No two are the same."""
    taken = {_short(real)} if isinstance(real, str) else set()
    named: dict[str, Any] = {}
    for item in sets:
        name = (
            _short(item)
            if isinstance(item, str)
            else str(item.get("kind", "set") if isinstance(item, Mapping) else item)
        )
        if name in taken and isinstance(item, str):
            name = item
        plain, number = name, 2
        while name in taken:
            name, number = f"{plain}-{number}", number + 1
        taken.add(name)
        named[name] = item
    return named


def _short(text: str) -> str:
    path = Path(text)
    if path.stem == "result" and path.suffix == ".safetensors" and path.resolve().parent.name:
        return path.resolve().parent.name
    before, _, part = text.rpartition(":")
    if before and part in PARTS:
        return f"{_short(before)}:{part}"
    if is_described(text):
        return source_named(text).title
    return path.stem if path.suffix in (".safetensors", ".npz") else path.name or text


def discrepancies_of(written: Any) -> Any:
    """A map from names to discrepancies as :func:`build` reads it, from names in a line, a list or a map.

    A word is one of the ``PRESETS``, or a kind; ``{mmd: {root: true}}`` under the name of a kind is one of that kind.
    """
    if isinstance(written, str):
        try:
            parsed = parse_value(written) if set(written) & set("{[:") else written
        except ValueError as error:
            raise InvalidInput(f"'discrepancies' cannot be read as YAML: {error}") from None
        written = (
            parsed if not isinstance(parsed, str) else [name.strip() for name in written.split(",") if name.strip()]
        )
    if isinstance(written, list):
        found: dict[str, Any] = {}
        for item in written:
            entries = {item: PRESETS.get(item, item)} if isinstance(item, str) else item
            if not isinstance(entries, Mapping):
                return written
            for name, value in _kinds(entries).items():
                if name in found:
                    raise InvalidInput(f"'discrepancies' name '{name}' twice; give one of them another name")
                found[name] = value
        return found
    return _kinds(written) if isinstance(written, Mapping) else written


def _kinds(entries: Mapping[str, Any]) -> dict[str, Any]:
    kinds = kinds_of(Discrepancy)

    def whole(name: str, value: Any) -> Any:
        if value is None:
            return PRESETS.get(name, name)
        spelled = isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in kinds
        if isinstance(value, Mapping) and "kind" not in value and name in kinds and not spelled:
            return {"kind": name, **value}
        return value

    return {name: whole(name, value) for name, value in entries.items()}
