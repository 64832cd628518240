"""What says that two data sets are the same, or that they share examples: hashes of what is in them, whatever they are called.

fingerprint(examples)    one hash of all the examples: points, labels and groups, with their types and shapes
row_hashes(points)       one hash of the values of each point, the same in every type that holds these values
Sketch.of(points)        the least of these hashes, by which an artefact tells what it was made from
"""

import hashlib
import heapq
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.examples import Examples

__all__ = ["Sketch", "fingerprint", "row_hashes"]

ROWS = 1024
"""Points whose values are brought to one type at once."""

SKETCH = 256
"""Row hashes in a sketch: examples that are 1 % of the data are missed by all of them with a probability of 8 %."""

SKETCH_BYTES = 8
"""Of a row hash in a sketch."""


def fingerprint(*parts: Examples | None) -> str:
    """SHA-256 of points, labels and groups of all the parts, with their types and shapes, in hexadecimal digits."""
    digest = hashlib.sha256()
    for examples in parts:
        for tensor in _tensors(examples):
            if tensor is None:
                digest.update(b"none;")
                continue
            digest.update(f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)};".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _tensors(examples: Examples | None) -> list[Tensor | None]:
    """Points, class numbers and distributions; targets and groups where there are some."""
    if examples is None:
        return [None, None, None]
    labels = examples.labels
    classes = labels.numbers if labels.of_classes else None
    soft = labels.values if labels.kind == "soft" else None
    others = (labels.values if labels.kind == "targets" else None, examples.groups)
    return [examples.points, classes, soft, *(tensor for tensor in others if tensor is not None)]


def row_hashes(points: Shaped[Tensor, "n ..."]) -> list[bytes]:
    """16 bytes for each point, by which points of equal values are found: BLAKE2 of the values after rounding to the precision
    of float32, so that uint8 images, and float64 points, have the hashes of their copies in float32."""
    return [
        hashlib.blake2b(row, digest_size=16).digest() for part in points.split(ROWS) for row in _bytes(part.flatten(1))
    ]


def _bytes(rows: Shaped[Tensor, "n d"]) -> list[memoryview]:
    """The values of each row: one byte each where all of them are 0, 1, ..., 255, else four; eight where some lie beyond the
    range of float32, which would make infinities and zeros of different values."""
    rows = rows.detach().cpu()
    if rows.dtype == torch.uint8:
        return list(map(memoryview, rows.contiguous().numpy()))
    single = rows.float() + 0.0  # -0.0 + 0.0 is 0.0
    least, most = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
    size = single.abs()
    inside = ((size >= least) & (size <= most) | (rows == 0)).all(1)
    whole = single.clamp(0, 255).byte()
    small = inside & (whole == single).all(1)
    forms = [whole.numpy(), single.numpy()]
    if not bool(inside.all()):
        forms.append((rows.double() + 0.0).numpy())
    chosen = torch.where(small, 0, torch.where(inside, 1, 2)).tolist()
    return [memoryview(forms[form][i]) for i, form in enumerate(chosen)]


@dataclass(frozen=True)
class Sketch:
    """The least of the row hashes of a data set: a random choice of its different rows, the same wherever the data are. The
    share of them that is found in other data is, but for chance, the share of the data set that is."""

    hashes: frozenset[bytes]

    @classmethod
    def of(cls, points: Shaped[Tensor, "n ..."]) -> "Sketch":
        """The sketch of these points."""
        return cls.of_hashes(row_hashes(points))

    @classmethod
    def of_hashes(cls, rows: Collection[bytes]) -> "Sketch":
        """The sketch of points that have these hashes."""
        return cls(frozenset(heapq.nsmallest(SKETCH, {row[:SKETCH_BYTES] for row in rows})))

    def share_in(self, rows: Collection[bytes]) -> float:
        """The share of these hashes that are among those of other rows, as :func:`row_hashes` gives them."""
        return len(self.hashes & {row[:SKETCH_BYTES] for row in rows}) / len(self.hashes)

    def as_text(self) -> str:
        """All of it as hexadecimal digits."""
        return "".join(sorted(row.hex() for row in self.hashes))

    @classmethod
    def from_text(cls, text: Any) -> "Sketch":
        """What :meth:`as_text` has written.

        Raises:
            InvalidInput: if it is anything else.
        """
        try:
            rows = bytes.fromhex(text)
        except (TypeError, ValueError):
            rows = b""
        if not rows or len(rows) % SKETCH_BYTES or len(rows) > SKETCH * SKETCH_BYTES:
            raise InvalidInput("the sketch of rows is damaged; make the artefact again, or remove it from its record")
        return cls(frozenset(rows[i : i + SKETCH_BYTES] for i in range(0, len(rows), SKETCH_BYTES)))
