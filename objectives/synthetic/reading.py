"""Reading an artefact that anybody may have made: every tensor and every line of its metadata is checked before it is used.

The layout is that of :meth:`SyntheticSet.save`. What the metadata say of configurations stays plain data here; who builds
objects of it checks it as a configuration.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, get_args

import safetensors
import torch
from torch import Tensor

from discrepancy.errors import InvalidInput, out_of_memory
from discrepancy.parts import user_path
from objectives.data.labels import Kind, Labels
from objectives.data.units import Normalisation

__all__ = ["Content", "metadata_of", "tensors_of"]

MOST_LEVELS, MOST_LETTERS = 60, 100_000
"""How deep the metadata may be nested, and how long a text in them may be."""

LARGE = 1e300

ROUNDING = 1e-3  # of the sum of a distribution, enough for half precision

NUMBER, WHOLE, TEXT, MAPPING, LIST = (int, float), (int,), (str,), (dict,), (list,)
KNOWN: Mapping[str, tuple[type, ...]] = {
    "config": MAPPING,
    "resolved": MAPPING,
    "versions": MAPPING,
    "memory": MAPPING,
    "memory.peak_bytes": WHOLE,
    "memory.of": TEXT,
    "findings": MAPPING,
    "findings.factor": NUMBER,
    "decoder": MAPPING,
    "decoder.kind": TEXT,
    "decoder.per_class": WHOLE,
    "teacher": MAPPING,
    "teacher.config": MAPPING,
    "teacher.config.network": MAPPING,
    "teacher.config.network.kind": TEXT,
    "teacher.networks": WHOLE,
    "teacher.seed": WHOLE,
    "teacher.hash": TEXT,
    "teacher.accuracy": NUMBER,
    "teacher.on": TEXT,
    "teacher.seconds": NUMBER,
    "seconds": NUMBER,
    "steps": WHOLE,
    "threads": WHOLE,
    "seed": WHOLE,
    "data": TEXT,
    "data_path": TEXT,
    "fingerprint": TEXT,
    "sketch": TEXT,
    "chosen": LIST,
}
"""The types of what a record may hold, where something reads it."""


def tensors_of(path: str | Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata.

    Args:
        what: the file is, for messages: ``the path of an artefact``.

    Raises:
        InvalidInput: if there is no such file, or it is damaged.
    """
    place = user_path("path", path)
    if not place.is_file():
        raise InvalidInput(f"'{path}' is not a file; give {what}")
    try:
        with safetensors.safe_open(place, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # safetensors and torch raise all sorts
        if out_of_memory(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInput(
            f"'{path}' is damaged or no safetensors file ({reason}); make it again or restore it"
        ) from error


def metadata_of(path: str | Path, metadata: Mapping[str, str], name: str, instead: str) -> dict[str, Any]:
    """The plain data that stand under a name in the metadata.

    Args:
        instead: what the file is in that case, for messages.

    Raises:
        InvalidInput: if they are not there, no JSON, no mapping, or nested too deeply.
    """
    try:
        found = json.loads(metadata[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise InvalidInput(f"'{path}' is a safetensors file but {instead}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"'{path}' is a safetensors file but {instead}")
    _check_extent(path, found)
    return found


def _check_extent(path: str | Path, found: Any) -> None:
    level = [found]
    for _ in range(MOST_LEVELS):
        texts = (item for item in level if isinstance(item, str))
        if any(len(text) > MOST_LETTERS for text in texts):
            raise InvalidInput(f"the metadata of '{path}' hold a text of more than {MOST_LETTERS:,} letters")
        level = [
            item
            for node in level
            if isinstance(node, dict | list)
            for item in ((*node.keys(), *node.values()) if isinstance(node, dict) else node)
        ]
        if not level:
            return
    raise InvalidInput(f"the metadata of '{path}' are nested too deeply")


class Content:
    """What an artefact holds, checked: ``points``, ``labels``, ``weights``, ``classes``, ``normalisation``, ``limits``,
    ``parameters``, ``record``.

    Raises:
        InvalidInput: naming the file, what is wrong in it, and the rule.
    """

    def __init__(self, path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], newest: int) -> None:
        self.path, self._tensors, self._about = path, tensors, about
        self._check_format(newest)
        for name in tensors:
            if name not in ("points", "weights", "labels", "slots") and not name.startswith("parameters/"):
                self._refuse(f"a tensor '{name[:40]}', which no artefact has")
        self.points = self._points()
        self.weights = self._weights()
        self.classes = self._classes()
        self.normalisation = self._units("normalisation", about.get("normalisation"), self.points.shape[1])
        self.limits = self._limits()
        self.labels = self._labels()
        prefix = "parameters/"
        self.parameters = {
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
        named = ("format", "classes", "normalisation", "limits", "labels", "target_units")
        self.record = {name: value for name, value in about.items() if name not in named}
        self._check_record()

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidInput(f"'{self.path}' is not a valid artefact: it has {what}; make it again with 'condense run'")

    def _check_format(self, newest: int) -> None:
        found = self._about.get("format")
        if type(found) is not int or found < 1:
            raise InvalidInput(
                f"'{self.path}' is a safetensors file but no artefact of this library; 'condense run' makes them"
            )
        if found > newest:
            raise InvalidInput(
                f"'{self.path}' has format {found}, this version reads up to {newest}; update: pip install -U discrepancy"
            )

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise InvalidInput(
                f"'{self.path}' is a safetensors file but no artefact of this library: it has no tensor '{name}'; 'condense "
                "run' makes them"
            )
        return self._tensors[name]

    def _finite(self, name: str, value: Tensor) -> None:
        if value.dtype not in (torch.float32, torch.float64):
            self._refuse(f"{name} of type {value.dtype}, not float32 or float64")
        if not bool(torch.isfinite(value).all()):
            self._refuse(f"{name} that are NaN or infinite")

    def _points(self) -> Tensor:
        points = self._tensor("points")
        if points.ndim not in (2, 4) or not points.numel():
            self._refuse(f"points of shape {tuple(points.shape)}, not (m, features) or (m, channels, height, width)")
        self._finite("points", points)
        return points

    def _weights(self) -> Tensor:
        weights = self._tensor("weights")
        if weights.shape != (len(self.points),):
            self._refuse(f"weights of shape {tuple(weights.shape)} for {len(self.points)} points")
        self._finite("weights", weights)
        if bool((weights < 0).any()) or not bool((weights > 0).any()):
            self._refuse("weights that are negative, or all zero")
        return weights

    def _classes(self) -> tuple[str, ...]:
        classes = self._about.get("classes")
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            self._refuse("'classes' that are not a list of names")
        if len(set(classes)) != len(classes):
            self._refuse("two classes of the same name")
        return tuple(classes)

    def _numbers(self, name: str, found: Any) -> tuple[float, ...]:
        """A list of finite numbers."""
        plain = isinstance(found, list) and all(type(value) in NUMBER for value in found)
        if not plain or not all(
            abs(value) < LARGE for value in found
        ):  # true of no NaN, and of whole numbers of any size
            self._refuse(f"'{name}' that is not a list of finite numbers")
        return tuple(found)

    def _units(self, name: str, found: Any, channels: int) -> Normalisation:
        if not isinstance(found, dict) or found.keys() != {"mean", "std"}:
            self._refuse(f"a '{name}' without mean and std")
        mean, std = (self._numbers(f"{name}.{key}", found[key]) for key in ("mean", "std"))
        if len(mean) not in (1, channels) or len(std) != len(mean) or not all(value > 0 for value in std):
            self._refuse(f"a '{name}' of {len(mean)} means and {len(std)} deviations, all > 0, for {channels} channels")
        return Normalisation(mean, std)

    def _limits(self) -> tuple[float, float] | None:
        found = self._about.get("limits")
        if found is None:
            return None
        limits = self._numbers("limits", found)
        if len(limits) != 2 or not limits[0] < limits[1]:
            self._refuse("'limits' that are not two numbers, the lower one first")
        return limits[0], limits[1]

    def _labels(self) -> Labels:
        kind: Any = self._about.get("labels")
        units = self._about.get("target_units")
        if kind not in (None, *get_args(Kind)):
            self._refuse("labels of a kind that is not known")
        if kind == "none" or (kind is None and "labels" not in self._tensors):
            if self.classes or "labels" in self._tensors:
                self._refuse("labels, or classes, though it says that it has no labels")
            return Labels()
        values = self._tensor("labels")
        if kind is None:  # a file of an earlier version
            kind = "targets" if units is not None else "hard" if values.ndim == 1 else "soft"
        if len(values.shape) not in (1, 2) or len(values) != len(self.points):
            self._refuse(f"labels of shape {tuple(values.shape)} for {len(self.points)} points")
        if kind == "targets":
            self._finite("targets", values)
            rows = values.reshape(len(values), -1)
            return Labels("targets", rows, self._target_units(units, rows.shape[1]))
        if units is not None or not self.classes:
            self._refuse(f"{kind} labels without classes, or with the units of targets")
        if kind == "hard":
            return Labels("hard", self._class_numbers("labels", values))
        if values.shape != (len(self.points), len(self.classes)):
            self._refuse(f"labels of shape {tuple(values.shape)} for {len(self.classes)} classes")
        self._finite("labels", values)
        sums = values.double().sum(1)
        if kind != "scores" and (bool((values < 0).any()) or bool(((sums - 1).abs() > ROUNDING).any())):
            self._refuse("labels that are not distributions (rows must be nonnegative and sum to 1)")
        slots = self._tensors.get("slots")
        return Labels(kind, values, slots=None if slots is None else self._class_numbers("slots", slots))

    def _target_units(self, found: Any, columns: int) -> Normalisation:
        units = self._units("target_units", found, columns)
        if len(units.mean) != columns:
            self._refuse(f"'target_units' of {len(units.mean)} columns for {columns}")
        return units

    def _class_numbers(self, name: str, values: Tensor) -> Tensor:
        whole = not values.is_floating_point() and not values.is_complex() and values.dtype != torch.bool
        if values.shape != (len(self.points),) or not whole:
            self._refuse(f"{name} of shape {tuple(values.shape)} and type {values.dtype}, not a class number a point")
        numbers = values.long()
        if int(numbers.min()) < 0 or int(numbers.max()) >= len(self.classes):
            self._refuse(f"{name} outside of 0 .. {len(self.classes) - 1}")
        return numbers

    def _check_record(self) -> None:
        """The types of what is read of the record."""
        for path, types in KNOWN.items():
            node: Any = self.record
            for step in path.split("."):
                node = node.get(step, _ABSENT) if isinstance(node, dict) else _ABSENT
            if node is not _ABSENT and (type(node) not in types or (types is NUMBER and not abs(node) < LARGE)):
                self._refuse(f"'{path}' in its record that is not {' or '.join(kind.__name__ for kind in types)}")
        decoder = self.record.get("decoder")
        if decoder is not None:
            stored = decoder.get("examples") or decoder.get("per_class")
            if type(stored) is not int or stored < 1:
                self._refuse("a 'decoder' in its record that does not say how many examples are stored")
        teacher = self.record.get("teacher", {})
        if self.labels.kind == "teacher" and not {"config", "hash", "seed"} <= teacher.keys():
            self._refuse("the labels of a teacher, of which its record says nothing")
        if teacher.get("config") and "kind" not in teacher["config"].get("network", {}):
            self._refuse("a teacher in its record without the kind of its network")


_ABSENT = object()
