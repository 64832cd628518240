"""How a folder of images is laid out: which of its folders are parts, which are classes, and which files are images."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from discrepancy.errors import DataWarning, InvalidInput
from objectives.data.spec import listed

__all__ = ["ENDINGS", "Parts", "parts_of"]

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The names of files that are read, in any case: those that torchvision's ImageFolder reads."""

TRAINING, TESTING, VALIDATION = ("train", "training"), ("test", "testing"), ("val", "valid", "validation")

Files = list[tuple[Path, str]]
"""Files with their classes."""


@dataclass(frozen=True)
class Parts:
    """The images of a folder, sorted, so that the order does not depend on the file system."""

    train: Files
    test: Files


def parts_of(folder: Path) -> Parts:
    """``FOLDER/CLASS/IMAGE``, or the same below a folder for training and one for testing, or without that for validation,
    whatever the case of their names. What is left out is named in one :class:`DataWarning`.

    Raises:
        InvalidInput: if the parts cannot be told from classes, are there twice, or a class holds no images.
    """
    below = _folders(folder)
    train, test, val = (
        _only(folder, [entry for entry in below if entry.name.lower() in names])
        for names in (TRAINING, TESTING, VALIDATION)
    )
    parts = [entry for entry in (train, test, val) if entry is not None]
    others = [entry for entry in below if entry not in parts]
    divided = bool(parts) and (not others or (train is not None and len(parts) > 1))
    left_out: list[str] = []
    if not divided:
        if train is not None and _folders(train) and not any(_is_image(file) for file in train.iterdir()):
            raise InvalidInput(
                f"{folder} has the folder '{train.name}' with classes in it beside {_names(others)}; put the test images of "
                "all classes below a folder 'test', and move other folders elsewhere"
            )
        files = _classes(folder, below, left_out)
        held: Files = []
    else:
        if train is None:
            raise InvalidInput(
                f"{folder} has {_names(parts)} and no folder 'train'; give it one, or name the folder inside it that holds "
                "the classes"
            )
        held_out = test or val
        files = _classes(train, _folders(train), left_out)
        held = [] if held_out is None else _classes(held_out, _folders(held_out), left_out)
        unused = [entry for entry in (*others, *parts) if entry not in (train, held_out)]
        if unused:
            used = train.name if held_out is None else f"{train.name} and {held_out.name}"
            left_out.insert(0, f"the folders {_names(unused)} beside {used}")
    if left_out:
        warnings.warn(f"{folder}: left out are {'; '.join(left_out)}", DataWarning, stacklevel=2)
    return Parts(files, held)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _only(folder: Path, found: Sequence[Path]) -> Path | None:
    if len(found) > 1:
        raise InvalidInput(f"{folder} has the folders {_names(found)}, which are the same part; keep one")
    return found[0] if found else None


def _names(entries: Sequence[Path]) -> str:
    return listed([entry.name for entry in entries])


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in ENDINGS


def _classes(folder: Path, classes: Sequence[Path], left_out: list[str]) -> Files:
    """The images of every class; what is left out is noted."""
    if not classes:
        raise InvalidInput(f"{folder} has no folders of classes; it must hold FOLDER/CLASS/IMAGE")
    found, others = Files(), list[Path]()
    for entry in classes:
        visible = sorted(
            file
            for file in entry.rglob("*")
            if (file.is_symlink() or not file.is_dir())  # links to folders are not followed
            and not any(part.startswith(".") for part in file.relative_to(entry).parts)
        )
        images = [file for file in visible if _is_image(file)]
        if not images:
            raise InvalidInput(
                f"{entry} holds no images; remove the folder or add some (files that end in {', '.join(ENDINGS)})"
            )
        special = [file for file in images if not file.is_file()]
        if special:
            raise InvalidInput(f"{special[0]} is not a regular file, or a link to none; replace or remove it")
        found += [(file, entry.name) for file in images]
        others += [file for file in visible if not _is_image(file)]
    if others:
        shown = listed([str(file.relative_to(folder)) for file in others])
        left_out.append(f"{len(others)} files that do not end in {', '.join(ENDINGS)}: {shown}")
    return found
