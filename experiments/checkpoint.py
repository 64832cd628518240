"""The checkpoint of a run: the state of its solver, and all that the state belongs to.

The file is what ``torch.save`` writes, followed by the SHA-256 of it. A file in which a single bit has changed is refused, and
so is one of other data, of another number of threads, or of code that was compiled where it cannot be now.
"""

import hashlib
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from discrepancy.errors import InvalidInput, NumericalWarning, out_of_memory
from objectives.storage import writing

__all__ = ["CHECKPOINT_FORMAT", "Checkpoint", "read_checkpoint", "write_checkpoint"]

CHECKPOINT_FORMAT = 2

SEAL = b"\nsha256 "
"""What stands before the hexadecimal digits at the end of the file."""


def _processor() -> str:
    return torch.backends.cpu.get_cpu_capability()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds.

    Args:
        state: of the solver.
        data: the fingerprint of the training data.
        compiled: whether networks ran compiled.
        seconds, peak_bytes: of the run so far.
        device: the type of the device.
        threads, version, processor: of the process, of torch, and of its code for the processor.
    """

    state: dict[str, Any]
    data: str
    compiled: bool
    seconds: float
    peak_bytes: int
    device: str
    threads: int = field(default_factory=torch.get_num_threads)
    version: str = str(torch.__version__)
    processor: str = field(default_factory=_processor)


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write it whole or not at all.

    Raises:
        StorageError: if it cannot be written.
    """
    with writing(path) as file:
        hashed = _Hashed(file)
        torch.save({"format": CHECKPOINT_FORMAT, **vars(checkpoint)}, hashed)  # pyright: ignore[reportArgumentType]
        file.write(SEAL + hashed.digest.hexdigest().encode())


class _Hashed:
    """A file that takes the SHA-256 of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.flush = file, hashlib.sha256(), file.flush

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self.file.write(content)


def read_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Read it, to continue on this device.

    Raises:
        InvalidInput: if it cannot be read, is damaged, is of another version, or of another number of threads.
    """
    try:
        with path.open("rb") as file:
            sealed = _sealed(file)
            file.seek(0)
            whole = torch.load(file, map_location="cpu", weights_only=True)
        kind, threads = int(whole["format"]), int(whole["threads"])
    except OSError as error:
        if out_of_memory(error):
            raise
        raise InvalidInput(f"'{path}' cannot be read ({error.strerror or error}); check its permissions") from error
    except Exception as error:
        if out_of_memory(error):
            raise
        # torch raises half a dozen unrelated types for a damaged file
        raise _damaged(path) from error
    if kind != CHECKPOINT_FORMAT:
        age, help_ = ("a newer", "update this one") if kind > CHECKPOINT_FORMAT else ("an earlier", "start anew")
        raise InvalidInput(f"'{path}' was written by {age} version (format {kind}); {help_}")
    if device.type == "cpu" and threads != torch.get_num_threads():
        raise InvalidInput(
            f"'{path}' was made with {threads} threads and this process has {torch.get_num_threads()}, so the result would "
            f"differ in its last bits; use --threads {threads}"
        )
    if not sealed:
        raise _damaged(path)
    del whole["format"]
    try:
        found = Checkpoint(**whole)
    except TypeError as error:
        raise _damaged(path) from error
    _warn_of_differences(path, found, device)
    return found


def _sealed(file: BinaryIO) -> bool:
    """Whether the file ends with the digest of what comes before it."""
    left = file.seek(0, os.SEEK_END) - len(SEAL) - 64
    digest = hashlib.sha256()
    file.seek(0)
    while left > 0:
        part = file.read(min(left, 1 << 20))
        digest.update(part)
        left -= len(part)
    return file.read() == SEAL + digest.hexdigest().encode()


def _damaged(path: Path) -> InvalidInput:
    return InvalidInput(
        f"'{path}' is damaged or no checkpoint of this command; restore it, or start anew in another folder"
    )


def _warn_of_differences(path: Path, found: Checkpoint, device: torch.device) -> None:
    """Another version of torch or another processor may round differently, and nothing can be done about it."""
    pairs = {
        "torch": (found.version, str(torch.__version__)),
        "device": (found.device, device.type),
        "processor": (found.processor, _processor()),
    }
    apart = [f"{name} {there} (here {here})" for name, (there, here) in pairs.items() if there != here]
    if apart:
        warnings.warn(
            f"'{path}' was made with {', '.join(apart)}: the result may differ from that of an uninterrupted run in its last "
            "bits",
            NumericalWarning,
            stacklevel=3,
        )
