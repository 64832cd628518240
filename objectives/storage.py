"""The one way to write a file, whole or not at all; the one way to read a file that may be damaged; and JSON that every program
can read."""

import contextlib
import errno
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from discrepancy.errors import DiscrepancyError, InvalidInput
from discrepancy.parts import fits

__all__ = [
    "StorageError",
    "append_lines",
    "check_free",
    "finite",
    "holds",
    "json_text",
    "read_json",
    "read_lines",
    "remove_leftovers",
    "write_bytes",
    "write_text",
    "writing",
    "writing_folder",
]


class StorageError(DiscrepancyError, OSError):
    """A file could not be written; whatever was there before is still there."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block succeeds. Until then it is a neighbour with another
    name; when the block fails, what was there before is left as it was. It is flushed to the disk before it is renamed. A new
    file has the permissions that the umask says, one that is replaced keeps its own, and a symbolic link is followed.

    A process that is killed leaves its neighbour behind; the next one that writes the same file removes it.

    Raises:
        StorageError: if the disk is full, or the folder is missing or cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    raw: _Raw | None = None
    try:
        remove_leftovers(target.parent, target.name)
        temporary.unlink(missing_ok=True)
        raw = _Raw(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), "wb")
        file = io.BufferedWriter(raw)
        yield file
        file.flush()
        os.fsync(raw.fileno())
        file.close()
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o7777)
        temporary.replace(target)
    except OSError as error:
        raise _unwritten(path, error) from error
    except Exception as error:
        if raw is None or raw.failure is None:
            raise
        raise _unwritten(path, raw.failure) from error  # libraries report a full disk as errors of their own
    finally:
        with contextlib.suppress(OSError):  # or it would hide the error that matters
            if raw is not None:
                raw.close()
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``path``, where nothing or an empty folder is, when the block succeeds.
    Until then it is a neighbour with another name, as in :func:`writing`: a kill leaves nothing at ``path``.

    Raises:
        InvalidInput: if there is something else, or it is the folder of this process, which cannot be replaced under it.
        StorageError: if the disk is full, or a folder cannot be made or written.
    """
    target = Path(os.path.realpath(path))
    if target.exists():
        if not target.is_dir():
            raise InvalidInput(f"'{path}' is a file; name a new folder")
        if any(target.iterdir()):
            raise InvalidInput(f"'{path}' is not an empty folder; name a new folder")
        if target.samefile(Path.cwd()):
            raise InvalidInput(f"'{path}' is the folder that you work in; name a new folder")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent, target.name)
        temporary.mkdir()
        yield temporary
        if target.exists():  # only some systems let a folder take the place of an empty one
            temporary.chmod(target.stat().st_mode & 0o7777)
            target.rmdir()
        temporary.replace(target)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Raw(io.FileIO):
    """An unbuffered file that remembers why writing failed."""

    failure: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failure = error
            raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; see :func:`writing`."""
    with writing(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, with its line ends as they are, whole or not at all; see :func:`writing`."""
    write_bytes(path, text.encode())


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append whole lines and wait until they are on the disk. A last line that a kill has cut off is removed first.

    Raises:
        StorageError: if the disk is full, or the folder is missing or cannot be written.
    """
    try:
        with path.open("ab+") as file:
            file.truncate(_whole_bytes(file))
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritten(path, error) from error


def _whole_bytes(file: BinaryIO) -> int:
    """The position after the last line that is whole."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the neighbours that killed processes have left of the file of this name, or of all files of the folder."""
    beginning = f".{name}."
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if not (entry.name.startswith(beginning if name else ".") and entry.name.endswith(".tmp")):
                continue
            process = entry.name.removesuffix(".tmp").rpartition(".")[2]
            if process.isdecimal() and int(process) != os.getpid() and not psutil.pid_exists(int(process)):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    Path(entry.path).unlink(missing_ok=True)


def check_free(paths: Iterable[Path], force: bool = False) -> None:
    """Refuse to overwrite what exists, unless that is wanted.

    Raises:
        InvalidInput: naming the first of these files that exists.
    """
    for path in paths:
        if os.path.lexists(path) and not force:
            raise InvalidInput(f"'{path}' exists already; name another file, or overwrite it with --force")


def read_json(
    path: Path, is_whole: Callable[[dict[str, Any]], bool] = bool, advice: str = "restore it or remove it"
) -> dict[str, Any]:
    """The mapping that a JSON file holds.

    Args:
        is_whole: says whether it holds what it should.
        advice: what to do with a damaged file.

    Raises:
        InvalidInput: if it cannot be read, or is damaged.
    """
    found = _mapping(_content(path))
    if found is None or not is_whole(found):
        raise InvalidInput(f"'{path}' is damaged; {advice}")
    return found


def read_lines(path: Path, is_whole: Callable[[dict[str, Any]], bool] = bool) -> list[dict[str, Any]]:
    """The lines of a file of JSON mappings; none if there is no file. A last line that a kill has cut off is left out.

    Args:
        is_whole: says whether a line holds what it should.

    Raises:
        InvalidInput: if the file cannot be read, or a line is damaged.
    """
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(_content(path).split(b"\n")[:-1], 1):
        line = _mapping(text)
        if line is None or not is_whole(line):
            raise InvalidInput(f"'{path}' is damaged at line {number}; remove that line")
        lines.append(line)
    return lines


def holds(found: Any, types: Mapping[str, Any]) -> bool:
    """Whether it is a mapping with an entry of each of these names, of the type beside it."""
    return isinstance(found, dict) and all(name in found and fits(found[name], hint) for name, hint in types.items())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"'{path}' cannot be read ({error.strerror or error}); check its permissions") from error


def _mapping(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unwritten(path: Path, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    if not path.parent.exists():
        return StorageError(
            f"'{path}' could not be written: its folder does not exist; make it, or choose another folder"
        )
    forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    remedy = "choose another folder" if forbidden else "free space or choose another folder"
    return StorageError(f"'{path}' could not be written ({error.strerror or error}); {remedy}")


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
