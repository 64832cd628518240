"""Files that are written whole or not at all, and JSON that every program can read."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from discrepancy.errors import DiscrepancyError

__all__ = ["StorageError", "finite", "json_text", "replacing"]


class StorageError(DiscrepancyError, OSError):
    """A file could not be written; whatever was there before is still there."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` to write to. It is flushed to the disk and renamed when the block succeeds; when it
    fails, the file that was there before is left as it was.

    Raises:
        StorageError: if the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"'{path}' could not be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    except Exception as error:
        # torch and safetensors report a full disk as errors of their own
        if _is_storage(error):
            raise StorageError(
                f"'{path}' could not be written ({error}); free space or choose another folder"
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # or it would hide the error that matters
            temporary.unlink(missing_ok=True)


def _is_storage(error: Exception) -> bool:
    text = str(error).lower()
    return any(
        hint in text
        for hint in (
            "no space left",
            "os error 28",
            "i/o error",
            "unexpected pos",
            "file write failed",
            "permission denied",
        )
    )


def json_text(value: Any, indent: int | None = None) -> str:
    """Plain data as JSON. It has no word for infinity and NaN, so they become null."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """Plain data with null in place of infinity and NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
