"""Sources: where real data come from. A source is a part, so it can be written in a configuration; ``load`` reads it.

A source without a test set of its own gets a fixed one, the same on every machine and with every version of the libraries:
the examples of each class are put in the order of a hash of their numbers, and the first of them are held out.
"""

import hashlib
import os
from abc import abstractmethod
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part, user_path
from objectives.data.labelled import LabelledData
from objectives.data.units import Normalisation
from objectives.engine.memory import available_bytes

__all__ = ["Source", "check_fraction", "check_room", "hashed_order", "user_cache", "with_fixed_test"]


class Source(Part, family=True):
    """A data set on disk, on the net or in a package."""

    @abstractmethod
    def load(self) -> LabelledData:
        """The data, in memory and in their own units.

        Raises:
            InvalidInput: when they are missing, corrupted or unusable; the message names the file and says what to do.
        """

    @property
    def original(self) -> "Source":
        """The source that this one is a part of; itself where it is none."""
        return self

    @property
    def title(self) -> str:
        """A short name for folders and tables: that of the data set, of the file without its ending, or of the folder."""
        named = getattr(self, "name", None) or getattr(self, "path", None) or self.kind
        path = user_path("path", str(named))
        return path.stem if path.suffix == ".npz" else path.name or path.resolve().name or self.kind

    def at(self, root: str) -> "Source":
        """The same source with torchvision's data at this root; itself where it has none of them."""
        return self

    @property
    def cache(self) -> Path:
        """The folder in which what is computed from the data is kept between runs: that of torchvision's data, else the user's
        cache folder."""
        return user_cache() if self.original is self else self.original.cache

    @property
    def location(self) -> str | None:
        """The absolute path of the file or folder that a user has named; None where the data have a name of their own."""
        path = getattr(self.original, "path", None)
        return None if path is None else str(user_path("path", path).absolute())

    def known_limits(self, data: LabelledData) -> tuple[float, float] | None:
        """The range of valid values of data that were loaded from here, where it is known and not only a default."""
        return data.limits

    def weights(self) -> Tensor | None:
        """The weights of the training examples of :meth:`whole`, where they differ: those of a set that was exported."""
        return None

    def whole(self) -> LabelledData:
        """The data as they lie there, with no test set where :meth:`load` would have to hold one out."""
        return self.load()


def user_cache() -> Path:
    """``discrepancy`` in the user's cache folder."""
    return user_path("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "discrepancy"


def hashed_order(numbers: Int[Tensor, " n"], salt: str) -> Int[Tensor, " n"]:
    """The numbers in the order of SHA-256("salt:number")."""
    key = {number: hashlib.sha256(f"{salt}:{number}".encode()).digest() for number in numbers.tolist()}
    return numbers.new_tensor(sorted(key, key=key.__getitem__))


def with_fixed_test(data: LabelledData, fraction: float) -> LabelledData:
    """``data`` with the ``fraction`` of each class (of all, where there are none) that comes first in hashed order as its test
    set.

    The normalisation, of targets too, is measured again, since the test examples are to have no part in it.
    """
    divided = data.hold_out(fraction, lambda rows: hashed_order(rows, "test"))
    labels = divided.train.labels
    return divided.changed(
        normalisation=Normalisation.measured(divided.train.points),
        target_units=Normalisation.measured(labels.rows) if labels.kind == "targets" else None,
    )


def check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise InvalidInput(f"'fraction' must lie strictly between 0 and 1, got {fraction}")


def check_room(what: str, needed: int, remedy: str) -> None:
    """Refuse, before it is read, what takes more memory than is free."""
    free = available_bytes(torch.device("cpu"))
    if needed > free:
        raise InvalidInput(f"{what} need {needed / 2**30:.3g} GiB, and {free / 2**30:.3g} GiB are free; {remedy}")
