"""Files are written whole or not at all, with the permissions of the umask, and damaged files are named."""

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import safetensors.torch
import torch

from discrepancy.errors import InvalidInput
from objectives.storage import (
    StorageError,
    append_lines,
    check_free,
    read_json,
    read_lines,
    remove_leftovers,
    write_bytes,
    write_text,
    writing,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def assert_alone(path: Path) -> None:
    """No temporary file is left beside it."""
    assert [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.fixture
def no_space() -> Iterator[None]:
    """The system refuses to make any file longer than a thousand bytes, as it does on a disk that is nearly full."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


TENSORS = {"points": torch.zeros(10_000)}
WRITERS: dict[str, Callable[[BinaryIO], Any]] = {
    "safetensors": lambda file: file.write(safetensors.torch.save(TENSORS)),
    "torch": lambda file: torch.save(TENSORS, file),
    "little by little": lambda file: [file.write(b"x" * 10) for _ in range(200)],
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file(path: Path, no_space: None, writer: str) -> None:
    path.write_bytes(b"old")

    def write() -> None:
        with writing(path) as file:
            WRITERS[writer](file)

    message = r"'.*' could not be written \(File too large\); free space or choose another folder"
    with pytest.raises(StorageError, match=message):
        write()
    assert path.read_bytes() == b"old"
    assert_alone(path)


def test_where_writing_is_forbidden_no_space_is_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(StorageError, match=r"could not be written \(Permission denied\); choose another folder$"):
        write_bytes(path, b"new")


def test_a_full_disk_leaves_whole_lines(path: Path, no_space: None) -> None:
    append_lines(path, ["a" * 900])
    with pytest.raises(StorageError, match="could not be written"):
        append_lines(path, ["b" * 900])
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    append_lines(path, ["c", "d"])
    assert path.read_text() == "a" * 900 + "\nc\nd\n"


@pytest.mark.parametrize("write", [lambda path: write_text(path, "new"), lambda path: append_lines(path, ["new"])])
def test_a_folder_that_is_not_there(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(
        StorageError, match=r"'.*nowhere/file' could not be written: its folder does not exist; make it"
    ):
        write(tmp_path / "nowhere" / "file")
    (tmp_path / "text").write_text("text")
    with pytest.raises(StorageError, match="could not be written"):
        write(tmp_path / "text" / "file")
    assert (tmp_path / "text").read_text() == "text"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        with pytest.raises(StorageError, match=r"could not be written \(.*[Pp]ermission denied"):
            write_text(path, "new")
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_other_errors_come_through_and_leave_nothing(path: Path, error: type[BaseException]) -> None:
    path.write_bytes(b"old")

    def write() -> None:
        with writing(path) as file:
            file.write(b"new")
            raise error("mine")

    with pytest.raises(error, match="mine"):
        write()
    assert path.read_bytes() == b"old"
    assert_alone(path)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_permissions_are_those_of_the_umask_or_of_the_file_that_was_there(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(path, b"one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        path.chmod(0o640)
        write_bytes(path, b"two")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_a_link_is_followed(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to(path.parent / "elsewhere" / "real")
    write_text(path, "new")
    assert path.is_symlink()
    assert (path.parent / "elsewhere" / "real").read_text() == "new"


KILLED = """
import os, signal, sys
from pathlib import Path
from objectives.storage import writing
with writing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_leaves_goes_with_the_next_write(path: Path) -> None:
    def killed() -> None:
        assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -signal.SIGKILL
        assert [item.name.startswith(".file.") for item in path.parent.iterdir()] == [True]

    killed()
    remove_leftovers(path.parent)
    assert list(path.parent.iterdir()) == []
    killed()
    mine = path.with_name(f".other.{os.getpid()}.tmp")  # of a process that is there
    mine.touch()
    write_text(path, "whole")
    assert {item.name for item in path.parent.iterdir()} == {"file", mine.name}


def test_what_exists_is_overwritten_by_force_alone(path: Path) -> None:
    check_free([path])
    path.symlink_to("nowhere")
    with pytest.raises(InvalidInput, match=r"'.*file' exists already; name another file, or overwrite it with --force"):
        check_free([path.with_name("other"), path])
    check_free([path], force=True)


def test_a_line_that_was_cut_off_goes_and_a_damaged_one_is_named(path: Path) -> None:
    assert read_lines(path) == []
    path.write_text('{"a": 1}\n{"a": ')
    assert read_lines(path) == [{"a": 1}]
    append_lines(path, [json.dumps({"a": 2})])
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'
    with pytest.raises(InvalidInput, match=r"file' is damaged at line 2; remove that line"):
        read_lines(path, lambda line: line["a"] == 1)
    path.write_text("x" * 10_000)
    append_lines(path, ["{}"])
    assert path.read_text() == "{}\n"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b'{"a": 2}', b'{"a": "\xff"}', b"[" * 100_000])
def test_a_damaged_file_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"file' is damaged; restore it or remove it"):
        read_json(path, lambda found: found.get("a") == 1)


@pytest.mark.parametrize("read", [read_json, read_lines])
def test_a_file_that_cannot_be_read_is_named(path: Path, read: Callable[[Path], Any]) -> None:
    path.mkdir()
    with pytest.raises(InvalidInput, match=r"file' cannot be read \(Is a directory\)"):
        read(path)
