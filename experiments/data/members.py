"""The arrays in an ``.npz`` file that anybody may have made: read one by one, and only after a look at their headers."""

import contextlib
import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, cast

import numpy as np

from discrepancy.errors import InvalidInput, out_of_memory
from discrepancy.parts import user_path
from experiments.data.base import check_room

__all__ = ["Members", "opened"]

ENCRYPTED = 1
"""The bit among the flags of a member of a zip file."""


@contextlib.contextmanager
def opened(path: str) -> Iterator["Members"]:
    """The arrays of a file.

    Raises:
        InvalidInput: if it is not there, no regular file, or no ``.npz`` file.
    """
    place = user_path("path", path)
    try:
        if place.exists() and not place.is_file():
            raise InvalidInput(f"{path} is not a file; name one that numpy.savez has written")
        with place.open("rb") as file, contextlib.closing(Members(path, file)) as members:
            yield members
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}; correct the path") from None
    except OSError as error:
        if out_of_memory(error):
            raise
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from None


class Members:
    """The arrays in an npz file, of which only those that are asked for are read.

    Args:
        path: for messages.
        file: open for reading.

    Raises:
        InvalidInput: if it is not such a file, or the names of its arrays repeat.
    """

    def __init__(self, path: str, file: IO[bytes]) -> None:
        self.path = path
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"\x93NUMPY"):
            raise InvalidInput(
                f"{path} holds a single array and no names; write it with numpy.savez(file, x=..., y=...)"
            )
        if not start.startswith(b"PK"):
            pickled = start.startswith(b"\x80")
            raise self._unreadable("a pickle, which is never read" if pickled else "no zip file")
        try:
            self._zip = zipfile.ZipFile(file)
            found = [name.removesuffix(".npy") for name in self._zip.namelist()]
        except Exception as error:  # zipfile raises all sorts
            if out_of_memory(error):
                raise
            raise self._unreadable(type(error).__name__) from None
        self.names = frozenset(found)
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            raise InvalidInput(f"{path} has the array '{twice[0]}' twice; write it again with numpy.savez")

    def close(self) -> None:
        self._zip.close()

    def check_room(self, names: Sequence[str]) -> None:
        """Refuse arrays that take more memory together than is free, by what their headers announce.

        Raises:
            InvalidInput: with both numbers; or if an array has no header, is encrypted, or no plain array of numbers or text.
        """
        needed = 0
        for name in names:
            with self._open(name) as member:
                shape, dtype = self._header(name, member)
            needed += math.prod(shape) * dtype.itemsize
        check_room(f"{self.path}: its arrays", needed, "write fewer examples, or smaller ones")

    def read(self, name: str) -> np.ndarray:
        """An array."""
        with self._open(name) as member:
            try:
                return np.lib.format.read_array(member, allow_pickle=False)
            except Exception as error:  # zipfile, zlib and numpy raise all sorts
                if out_of_memory(error):
                    raise
                raise self._unreadable(f"{type(error).__name__} in array '{name}'") from None

    def _open(self, name: str) -> zipfile.ZipExtFile:
        place = next(own for own in (f"{name}.npy", name) if own in self._zip.namelist())
        if self._zip.getinfo(place).flag_bits & ENCRYPTED:
            raise InvalidInput(f"{self.path} is encrypted (array '{name}'); write it again with numpy.savez")
        try:
            return cast(zipfile.ZipExtFile, self._zip.open(place))
        except Exception as error:
            if out_of_memory(error):
                raise
            raise self._unreadable(f"{type(error).__name__} in array '{name}'") from None

    def _header(self, name: str, member: zipfile.ZipExtFile) -> tuple[tuple[int, ...], np.dtype[Any]]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of numpy about headers of Python 2
                version = np.lib.format.read_magic(member)
                reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
                shape, _, dtype = reader(member)
        except Exception as error:
            raise self._unreadable(f"{type(error).__name__} in array '{name}'") from None
        if dtype.hasobject:
            raise InvalidInput(
                f"{self.path} holds pickled Python objects in array '{name}', which are never read; save it again as "
                "numbers or strings"
            )
        return shape, dtype

    def _unreadable(self, why: str) -> InvalidInput:
        return InvalidInput(
            f"{self.path} cannot be read as an npz file ({why}); it is truncated or of another kind: write it again with "
            "numpy.savez"
        )
