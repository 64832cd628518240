"""One process at a time in a folder.

The file ``.lock`` is locked while the folder is in use. It is removed before it is unlocked, and a process that has locked a
file that is no longer there by then, since another process has removed it meanwhile, tries again: so no two processes hold two
files of one name.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

try:
    import fcntl
except ImportError:  # Windows, where a file that is in use cannot be removed
    fcntl = None

__all__ = ["locked_folder"]

SECONDS_BETWEEN_TRIES = 0.05
TRIES = 100
"""To lock a file that other processes remove again and again."""


@contextlib.contextmanager
def locked_folder(folder: Path, patience: float = 0.0) -> Iterator[Callable[[], bool]]:
    """Make a folder and hold it; yields a question, whether it is still the folder that was locked. A folder in which nothing
    was left goes again.

    Args:
        patience: seconds to wait for another process that holds it.

    Raises:
        TimeoutError: if another process holds it.
        OSError: if it cannot be made or written to.
    """
    path, deadline = folder / ".lock", time.monotonic() + patience
    if fcntl is None:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path).acquire(timeout=patience):
            yield path.exists
        _remove(path)
        return
    descriptor = _locked(path)
    while descriptor is None:
        if time.monotonic() >= deadline:
            raise TimeoutError
        time.sleep(SECONDS_BETWEEN_TRIES)
        descriptor = _locked(path)
    held = descriptor
    try:
        yield lambda: _is_at(path, held)
    finally:
        if _is_at(path, held):
            _remove(path)
        os.close(held)


def _locked(path: Path) -> int | None:
    """The descriptor of the file, made and locked; None if another process holds it."""
    assert fcntl is not None
    failure = OSError(f"'{path}' is removed again and again")
    for _ in range(TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (
            FileNotFoundError,
            FileExistsError,
        ) as error:  # the process before may just have removed the empty folder
            failure = error
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)
    raise failure


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one of this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
