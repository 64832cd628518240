"""Changed real examples that are kept on a disk between runs, block by block.

    FOLDER/attacked/0f3a.../about.json         all that the examples depend on, for people to read
                            00000.safetensors  the first block

A file has the differences of the changed examples from the real ones, bits subtracted as whole numbers, and a hash of the
changed ones. So it is no copy of the data, and what is read is what was computed, bit for bit, or it is refused. The name of
the folder is a hash of all that they depend on: the data and their units, the transform, the files that it names, the seed,
the code of the library, and what the rounding depends on. Where one of these differs, nothing is found.

Blocks are written whole or not at all, and processes that write the same block write the same bits.
"""

import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

import discrepancy
import objectives
from discrepancy.errors import DataWarning, PerformanceWarning, out_of_memory
from discrepancy.parts import Part, parts_in, paths_in, user_path
from objectives.data.real import RealData
from objectives.storage import StorageError, json_text, write_bytes, write_text

__all__ = ["Cache", "Kept"]


@dataclass(frozen=True)
class Cache:
    """A folder in which changed real examples are kept between runs.

    Args:
        folder: is made when something is written.
        writes: whether something may be.
        say: called with a sentence when examples are read from there, or written.
    """

    folder: Path
    writes: bool = True
    say: Callable[[str], None] | None = None

    @classmethod
    def at(cls, folder: str | Path | None) -> "Cache | None":
        """That of a user's folder; None for none."""
        return None if folder is None else cls(user_path("cache", folder))

    def tell(self, text: str) -> None:
        """Say it, where anybody listens."""
        if self.say is not None:
            self.say(text)

    def kept(
        self, name: str, transform: Part, data: RealData, dtype: torch.dtype, seed: int, computed: Mapping[str, Any]
    ) -> "Kept | None":
        """What it has, or will have, of real data that are changed; None where a part of the transform runs code of its own, of
        which nothing is known.

        Args:
            name: of what is kept, such as ``attacked``.
            transform: how they are changed, with everything it holds.
            dtype: of the changed points.
            seed: of its random numbers.
            computed: what the rounding depends on, by name.
        """
        own = next((part for part in parts_in(transform) if not part.packaged), None)
        if own is not None:
            self.tell(
                f"{name} examples are not kept for later runs, since '{own.kind}' is code of your own, which may change"
            )
            return None
        spec = {key: value for key, value in asdict(data.spec).items() if key not in ("name", "classes")}
        about = {
            "data": {"fingerprint": data.fingerprint(), "examples": len(data), "classes": data.count, **spec},
            "transform": transform.describe(),
            "files": {path: _hash_of(user_path("path", path)) for path in paths_in(transform)},
            "seed": seed,
            "library": library_hash(),
            "versions": {"torch": str(torch.__version__), "torchvision": metadata.version("torchvision")},
            "computed": dict(computed),
        }
        return Kept(self, name, about, dtype)


class Kept:
    """The blocks of one changed real side on a disk.

    Args:
        cache: where.
        name: of what is kept.
        about: all that it depends on, as plain data.
        dtype: of the changed points.
    """

    def __init__(self, cache: Cache, name: str, about: Mapping[str, Any], dtype: torch.dtype) -> None:
        self.cache, self.name, self.about, self.dtype = cache, name, about, dtype
        self.key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        self.folder = cache.folder / name / self.key[:16]
        self._writes = cache.writes
        self._told = set[str]()

    def has(self, block: int) -> bool:
        """Whether there is a file of this block, whole or not."""
        return self._path(block).exists()

    def read(self, block: int, real: Tensor) -> Tensor | None:
        """The changed points of a block; None where they are not there, with a warning where a file cannot be used.

        Args:
            real: the points as they are.
        """
        path, remedy = self._path(block), f"its {self.name} examples are computed again"
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            warnings.warn(f"'{path}' cannot be read ({error.strerror or error}); {remedy}", DataWarning, stacklevel=2)
            return None
        points = self._changed(content, block, real)
        if points is None:
            warnings.warn(f"'{path}' is damaged; {remedy}", DataWarning, stacklevel=2)
        else:
            self._tell(f"{self.name} examples are read from '{self.folder}'")
        return points

    def write(self, block: int, real: Tensor, points: Tensor) -> None:
        """Keep the changed points of a block. Where they cannot be written, a warning says so once, and no other is tried."""
        if not self._writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "about.json").exists():
                write_text(self.folder / "about.json", json_text(self.about, 1))
            content = {"differences": _bits(points) - _bits(real.to(self.dtype)), "sha256": self._hash(block, points)}
            write_bytes(self._path(block), safetensors.numpy.save(content))
        except OSError as error:
            self._writes = False
            why = str(error) if isinstance(error, StorageError) else f"'{self.folder}': {error.strerror or error}"
            warnings.warn(
                f"{self.name} examples are not kept for later runs, which will compute them again ({why})",
                PerformanceWarning,
                stacklevel=2,
            )
            return
        self._tell(f"{self.name} examples are kept for later runs in '{self.folder}'")

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:05}.safetensors"

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.cache.tell(text)

    def _changed(self, content: bytes, block: int, real: Tensor) -> Tensor | None:
        """What a file says; None unless it is whole and says it of this block."""
        try:
            found = safetensors.numpy.load(content)
            differences, expected = found["differences"], found["sha256"]
        except Exception as error:  # safetensors raises all sorts
            if out_of_memory(error):
                raise
            return None
        bits = _bits(real.to(self.dtype))
        if (differences.dtype, differences.shape) != (bits.dtype, bits.shape):
            return None
        points = torch.from_numpy(bits + differences).view(self.dtype)
        return points if np.array_equal(expected, self._hash(block, points)) else None

    def _hash(self, block: int, points: Tensor) -> np.ndarray:
        """Of the changed points, with what they are."""
        digest = hashlib.sha256(f"{self.key} {block} {points.dtype} {tuple(points.shape)};".encode())
        digest.update(points.contiguous().numpy().data)
        return np.frombuffer(digest.digest(), np.uint8)


def _bits(points: Tensor) -> np.ndarray:
    """Each value as an unsigned whole number of its size, whose sums and differences wrap around."""
    array = points.contiguous().numpy()
    return array.view(f"u{array.itemsize}")


def _hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@functools.cache
def library_hash() -> str:
    """SHA-256 of the source code of ``discrepancy`` and ``objectives``, so that nothing is read that other code has made."""
    digest = hashlib.sha256()
    for package in (discrepancy, objectives):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{package.__name__}/{path.relative_to(root).as_posix()} {path.stat().st_size};".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
