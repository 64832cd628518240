"""What says that two data sets are the same, or that they share examples: hashes of what is in them, whatever they are called.

fingerprint(examples)    one hash of all the examples: points, labels and groups, with their types and shapes
row_hashes(points)       one hash of the values of each point, the same in every type that holds these values
"""

import hashlib

import torch
from jaxtyping import Shaped
from torch import Tensor

from objectives.data.examples import Examples

__all__ = ["fingerprint", "row_hashes"]

ROWS = 1024
"""Points whose values are brought to one type at once."""


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
