"""A release in a file, so that it is paid for once: it is written before it is used, and read again by a run that goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from discrepancy.errors import InvalidInput
from objectives.data.released import Released
from objectives.data.spec import DataSpec
from objectives.storage import write_bytes
from objectives.synthetic.reading import tensors_of

__all__ = ["read_release", "save_release"]

NAME = "release"
PARTS = ("total", "mass")


def save_release(released: Released, path: Path) -> None:
    """Write the sums of a release, whole or not at all.

    Raises:
        StorageError: if they cannot be written.
    """
    assert released.sums is not None
    keys, pairs = list(released.sums), list(released.sums.values())
    tensors = {
        f"{number}.{part}": value.contiguous()
        for number, pair in enumerate(pairs)
        for part, value in zip(PARTS, pair, strict=True)
    }
    about = {"keys": keys, "about": released.about}
    write_bytes(path, safetensors.torch.save(tensors, {NAME: json.dumps(about)}))


def read_release(path: Path, spec: DataSpec, size: int) -> Released:
    """The release of so many examples that a file holds.

    Raises:
        InvalidInput: if the file is missing, damaged, or holds something else.
    """
    tensors, metadata = tensors_of(path, "a release")
    about = _about(metadata)
    if about is None or set(tensors) != {f"{n}.{part}" for n in range(len(about["keys"])) for part in PARTS}:
        raise InvalidInput(f"'{path}' is damaged; restore it, or start anew in another folder, which is charged again")
    sums = {
        tuple(key): (tensors[f"{number}.total"], tensors[f"{number}.mass"]) for number, key in enumerate(about["keys"])
    }
    for total, mass in sums.values():
        if total.ndim != 2 or mass.shape != total.shape[:1] or {total.dtype, mass.dtype} != {torch.float64}:
            raise InvalidInput(
                f"'{path}' is damaged; restore it, or start anew in another folder, which is charged again"
            )
    return Released(spec, size, sums, about["about"])


def _about(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    try:
        found = json.loads(metadata.get(NAME, ""))
        keys = [[str(part) for part in key] for key in found["keys"]]
    except (ValueError, TypeError, KeyError):
        return None
    whole = keys == found["keys"] and all(len(key) == 3 for key in keys) and isinstance(found.get("about"), dict)
    return found if whole else None
