"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from discrepancy.errors import DiscrepancyError

__all__ = ["StorageError", "replacing"]


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
