"""The artefact: a synthetic set in one safetensors file that carries everything needed to use it and to explain it.

``points`` are the decoded ones in the source's own units (0 to 255 for 8-bit images), with ``labels`` and ``weights``;
``parameters/NAME`` are what was optimised, in normalised units, and ``decoder`` in the metadata says how they decode. The
metadata also say how they came to be: configuration, normalisation, resolved numbers, seed, versions, bytes stored including
labels, fingerprint of the data. Nothing is ever unpickled.
"""

import json
import operator
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import Dataset

from discrepancy.arrays import as_tensor
from discrepancy.errors import InvalidInput
from discrepancy.parts import plain, user_path
from objectives.data.labels import Labels
from objectives.data.real import RealData
from objectives.data.units import Normalisation
from objectives.storage import write_bytes
from objectives.synthetic.parameterisation import Decoded, Parameterisation
from objectives.synthetic.reading import Content, metadata_of, tensors_of

__all__ = ["FORMAT", "SyntheticSet"]

FORMAT = 1
"""Version of the artefact's layout; a reader refuses a newer one."""


@dataclass(frozen=True, eq=False)
class SyntheticSet(Dataset[tuple[Tensor, ...]]):
    """A small data set, made or chosen. ``SyntheticSet.load(path)[i]`` is ``(point, label)`` in source units, or ``(point,)``
    where there are no labels.

    Args:
        points: ``(m, *shape)``, float32 (or float64, where it was asked for), in the units of the source.
        labelling: the labels with their kind, and the class that each example was made for.
        weights: ``(m,)``.
        classes: names of the classes; empty where there are none.
        normalisation: from source units to those that networks are trained in.
        limits: the range of valid values in source units, where the source states one.
        parameters: what was optimised, by name.
        record: how the set came to be (plain data).
    """

    points: Tensor
    labelling: Labels
    weights: Tensor
    classes: tuple[str, ...]
    normalisation: Normalisation
    limits: tuple[float, float] | None = None
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        decoded: Decoded,
        data: RealData,
        parameters: Mapping[str, Tensor],
        record: Mapping[str, Any],
        decoder: Parameterisation | None = None,
    ) -> "SyntheticSet":
        """The decoded examples, taken back to the source's units; the record declares the decoder with all its fields, unless
        the parameters are the points themselves."""
        if decoder is not None and not (decoder.direct and decoder.stored_units(data) is None):
            record = {**record, "decoder": {"kind": decoder.kind, **plain(vars(decoder))}}
        scored = decoder is not None and decoder.scored(data)
        points = data.normalisation.invert(decoded.points.detach().cpu()).contiguous()
        if decoder is not None and decoder.clips and data.limits is not None:
            points = points.clamp(*data.limits)  # the way through the units may round a value out of the range
        return cls(
            points,
            _labels(decoded, data, scored),
            decoded.weights.detach().cpu(),
            data.classes,
            data.normalisation,
            data.limits,
            {name: value.detach().cpu() for name, value in parameters.items()},
            record,
        )

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        """The example of this number; of a slice, a list, an array or a mask, these examples as one batch."""
        try:
            index = operator.index(index)
        except TypeError:
            chosen = self._numbers(index)
        else:
            if not -len(self) <= index < len(self):
                raise IndexError(f"index {index} is out of range for {len(self)} examples")
            chosen = index
        return (self.points[chosen],) if self.labels is None else (self.points[chosen], self.labels[chosen])

    def _numbers(self, index: Any) -> Tensor:
        """The numbers of the examples that are meant by more than one index."""
        every = torch.arange(len(self))
        if isinstance(index, slice):
            try:
                return torch.tensor(range(len(self))[index], dtype=torch.long)
            except TypeError:
                raise InvalidInput(f"a slice of examples is made of whole numbers, got {index}") from None
        wanted = as_tensor(index, "index")
        if wanted.ndim != 1 or (wanted.is_floating_point() and len(wanted)):
            raise InvalidInput(
                f"examples are chosen by a whole number, a slice, or a list of whole numbers or of truth values, got "
                f"{wanted.dtype} of shape {tuple(wanted.shape)}"
            )
        if wanted.dtype == torch.bool and len(wanted) != len(self):
            raise InvalidInput(f"a mask of {len(wanted)} values does not fit {len(self)} examples")
        wanted = wanted if wanted.dtype == torch.bool else wanted.long()
        if wanted.dtype == torch.long and bool(((wanted < -len(self)) | (wanted >= len(self))).any()):
            raise IndexError(f"an index of {wanted.tolist()[:8]} is out of range for {len(self)} examples")
        return every[wanted.cpu()]

    @property
    def labels(self) -> Tensor | None:
        """Class numbers ``(m,)``, distributions or scores ``(m, c)``; targets in their own units, ``(m,)`` or ``(m, k)``; None
        where there are none."""
        values = self.labelling.values
        return (
            values[:, 0] if values is not None and self.labelling.kind == "targets" and values.shape[1] == 1 else values
        )

    @property
    def normalised(self) -> Tensor:
        """The points in the units that networks are trained in."""
        return self.normalisation.apply(self.points)

    @property
    def range(self) -> tuple[float, float]:
        """From black to white, of images: the range of valid values, or that of the points where none is stated."""
        return self.limits or (self.points.min().item(), self.points.max().item())

    @property
    def pixels(self) -> Tensor:
        """The points as 8-bit values, clipped to the range and rounded."""
        low, high = self.range
        return ((self.points - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).byte()

    @property
    def numbers(self) -> Tensor:
        """The class of each example: the one that it was made for, where that is known apart, else its most likely one; zeros
        if the set has no classes."""
        return self.labelling.numbers if self.labelling.of_classes else torch.zeros(len(self), dtype=torch.long)

    def hardened(self) -> "SyntheticSet":
        """The set with classes in place of soft labels or scores."""
        record = {name: value for name, value in self.record.items() if name != "teacher"}
        return replace(self, labelling=Labels("hard", self.numbers), record=record)

    @property
    def stored_bytes(self) -> int:
        """What a user must store.

        Of plain points: points, labels and, where they differ, weights. Where the record declares a decoder: every parameter
        that it decodes, those that the examples share too, of labels and weights one for each stored example (class numbers
        where labels are not learned); what a decoder can compute, such as cosines, is not stored. A teacher's labels always
        are, one for each decoded example; its weights are not, nor is the class that an example was made for.
        """
        decoder = self.record.get("decoder")
        if decoder is not None:
            labels = 0
            if self.labels is not None and self.labelling.kind == "teacher":
                labels = self.labels.nbytes
            elif self.labels is not None and "labels" not in self.parameters:
                labels = (
                    decoder.get("examples") or decoder["per_class"] * len(self.classes)
                ) * self.labels.element_size()
            return sum(value.nbytes for value in self.parameters.values()) + labels
        weights = 0 if bool((self.weights == self.weights[0]).all()) else self.weights.nbytes
        return self.points.nbytes + self.labelling.nbytes + weights

    def save(self, path: str | Path) -> None:
        """Write the artefact whole or not at all: to a temporary name first, then renamed."""
        tensors = {"points": self.points, "weights": self.weights}
        labels, units = self.labelling, self.labelling.units
        tensors |= {} if self.labels is None else {"labels": self.labels}
        tensors |= {} if labels.slots is None else {"slots": labels.slots}
        tensors |= {f"parameters/{name}": value for name, value in self.parameters.items()}
        tensors = {name: value.clone().contiguous() for name, value in tensors.items()}
        about = {
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
            **self.record,
            "format": FORMAT,
            "classes": list(self.classes),
            "normalisation": {"mean": list(self.normalisation.mean), "std": list(self.normalisation.std)},
            "limits": self.limits and list(self.limits),
            "labels": labels.kind,
            "target_units": units and {"mean": list(units.mean), "std": list(units.std)},
            "stored_bytes": self.stored_bytes,
        }
        write_bytes(user_path("path", path), safetensors.torch.save(tensors, {"discrepancy": json.dumps(about)}))

    @classmethod
    def load(cls, path: str | Path) -> "SyntheticSet":
        """Read an artefact.

        Raises:
            InvalidInput: if the file is missing, truncated, not an artefact, of a newer version of the format, or if anything
                in it is not as :meth:`save` writes it.
        """
        tensors, metadata = tensors_of(path, "the path of an artefact (result.safetensors)")
        about = metadata_of(path, metadata, "discrepancy", "no artefact of this library; 'condense run' makes them")
        found = Content(path, tensors, about, FORMAT)
        return cls(
            found.points,
            found.labels,
            found.weights,
            found.classes,
            found.normalisation,
            found.limits,
            found.parameters,
            found.record,
        )


def _labels(decoded: Decoded, data: RealData, scored: bool) -> Labels:
    """Decoded labels as a set has them: targets in their own units, and with scores the class of each example."""
    values, units = decoded.labels.detach().cpu(), data.target_units
    if not data.classes:
        return Labels() if units is None else Labels("targets", units.invert(values), units)
    if scored:
        return Labels("scores", values, slots=decoded.slots)
    return Labels("hard" if values.ndim == 1 else "soft", values)
