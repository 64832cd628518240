"""Image sets that torchvision knows by name: read from a folder, and downloaded into it when they are not there."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock

from discrepancy.errors import InvalidInput, nearest, out_of_memory
from discrepancy.parts import user_path
from experiments.data.base import Source, user_cache
from objectives.data.labelled import LabelledData, Normalisation

__all__ = ["ROOT_VARIABLE", "SETS", "Torchvision", "default_root", "squeezed"]

ROOT_VARIABLE = "DISCREPANCY_DATA"
DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Known:
    """What is published about a set: mean and standard deviation as fractions of 255, and whether mirroring keeps labels."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    mirror: bool = False
    classes: tuple[str, ...] | None = None  # where torchvision's own names are missing or clumsy


SETS = {
    "MNIST": Known((0.1307,), (0.3081,), classes=DIGITS),
    "FashionMNIST": Known((0.2861,), (0.3530,), mirror=True),
    "KMNIST": Known(),
    "CIFAR10": Known((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), mirror=True),
    "CIFAR100": Known((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762), mirror=True),
    "SVHN": Known((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), classes=DIGITS),
}
"""The values that the condensation literature normalises with; a set without them is normalised by its own."""


def squeezed(name: str) -> str:
    """A name without case and punctuation, as in ``fashion-mnist`` for ``FashionMNIST``."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def default_root() -> Path:
    """The folder named by the environment variable DISCREPANCY_DATA, else ``discrepancy`` in the user's cache folder."""
    named = os.environ.get(ROOT_VARIABLE)
    return user_path(ROOT_VARIABLE, named) if named else user_cache()


class Torchvision(Source, kind="torchvision"):
    """MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100 or SVHN, as uint8 images.

    Args:
        name: case, dashes and underscores do not matter.
        root: the folder that holds the set as torchvision lays it out, or will; see :func:`default_root` for none.
    """

    paths: ClassVar[tuple[str, ...]] = ("root",)
    shorthand: ClassVar[str] = "name"

    name: str
    root: str | None = None

    def __post_init__(self) -> None:
        names = {squeezed(name): name for name in SETS}
        found = names.get(squeezed(self.name))
        if found is None:
            close = nearest(squeezed(self.name), names)
            hint = f"; did you mean {names[close]}?" if close else ""
            raise InvalidInput(f"'name' must be one of {', '.join(SETS)}, got '{self.name}'{hint}")
        object.__setattr__(self, "name", found)
        if self.root is not None:
            user_path("root", self.root)

    def at(self, root: str) -> Source:
        return replace(self, root=root)

    @property
    def cache(self) -> Path:
        return default_root() if self.root is None else user_path("root", self.root)

    def load(self) -> LabelledData:
        known, root = SETS[self.name], self.cache
        train, test = self._part(root, train=True), self._part(root, train=False)
        return LabelledData.of(
            *_arrays(train),
            test=_arrays(test),
            name=self.name,
            classes=known.classes or train.classes,
            normalisation=_scaled(known) if known.mean else None,
            mirror=known.mirror,
        )

    def _part(self, root: Path, *, train: bool) -> Any:
        """One part of the set; only when it is not there, or differs from what was published, is it downloaded."""
        from torchvision import datasets

        split = {"split": "train" if train else "test"} if self.name == "SVHN" else {"train": train}
        kind = getattr(datasets, self.name)
        try:
            return kind(str(root), download=False, **split)
        except Exception as error:
            if out_of_memory(error):
                raise
            if "not found" not in str(error):  # torchvision's word for files that are missing or fail their checksum
                raise InvalidInput(
                    f"'{self.name}' in {root} is corrupted ({_reason(error)}); delete its folder to download it again"
                ) from None
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / ".download.lock"):
                return kind(str(root), download=True, **split)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise InvalidInput(
                f"'{self.name}' is not (or not whole) in {root} and could not be downloaded ({_reason(error)}); "
                f"put it there as torchvision lays it out, or name another folder by 'root' or {ROOT_VARIABLE}"
            ) from None


def _scaled(known: Known) -> Normalisation:
    return Normalisation(tuple(255 * value for value in known.mean), tuple(255 * value for value in known.std))


def _arrays(part: Any) -> tuple[Any, Any]:
    return part.data, part.labels if hasattr(part, "labels") else part.targets


def _reason(error: Exception) -> str:
    """The last line of a message of another library, without its full stop, or the name of the exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
