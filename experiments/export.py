"""Take a condensed set elsewhere: an image folder or an .npz that need nothing of this library to be read."""

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.storage import writing, writing_folder
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["export"]

LONGEST = 200
"""Bytes of the name of a class in that of its folder."""

TAKEN = frozenset(
    ["train", "training", "test", "testing", "val", "valid", "validation", "con", "prn", "aux", "nul"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in range(10)]
)
"""Names that no folder of a class has: they would be read as parts of a data set, or Windows has no folder of that name."""
OTHER_FILES = frozenset(
    [".csv", ".gif", ".jpeg", ".jpg", ".json", ".npy", ".pdf", ".png", ".pt", ".safetensors", ".svg", ".zip"]
)
"""Endings of names that nobody gives to a folder."""


def export(synthetic: SyntheticSet, to: Path) -> str:
    """Write the set and say what was written.

    ``FILE.npz`` holds ``x`` (m, ...) in source units, exact; ``y`` and ``classes``, or ``targets``, where there are some; and
    ``weights``. ``y`` is (m,) class numbers, or (m, c) distributions or scores, as they are in the set. A folder gets one
    sub-folder a class (none if the set has no classes) with 8-bit PNG images, clipped to the valid range and rounded; soft
    labels, scores and targets go to ``labels.csv``, weights that differ to ``weights.csv``. Two classes never share a folder,
    on systems that do not tell upper from lower case either; ``classes.csv`` says whose a folder is, where names differ.
    File and folder are written whole or not at all.

    Raises:
        InvalidInput: if the examples are not images, or the folder is not empty, or the one that this process works in, or has
            the name of another kind of file.
        StorageError: if it cannot be written.
    """
    if to.suffix == ".npz":
        arrays: dict[str, Any] = {"x": synthetic.points.numpy(), "weights": synthetic.weights.numpy()}
        if synthetic.labels is not None:
            arrays["y" if synthetic.classes else "targets"] = synthetic.labels.numpy()
        if synthetic.classes:
            arrays["classes"] = np.array(synthetic.classes)
        with writing(to) as file:
            np.savez_compressed(file, **arrays)
        return f"{len(synthetic)} examples in {to}"
    if to.suffix.lower() in OTHER_FILES and not to.is_dir():
        raise InvalidInput(
            f"'{to}' has the name of a {to.suffix} file; name a folder, for one PNG image an example, or FILE.npz"
        )
    return _images(synthetic, to)


def _images(synthetic: SyntheticSet, to: Path) -> str:
    shape = tuple(synthetic.points.shape[1:])
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InvalidInput(f"examples of shape {shape} are not grey or colour images; export them to a file.npz")
    folders, files = _folders(synthetic.classes), list[str]()
    with writing_folder(to) as folder:
        for index, (image, label) in enumerate(zip(synthetic.pixels, synthetic.numbers.tolist(), strict=True)):
            files.append(f"{folders[label]}/{index:05d}.png" if folders else f"{index:05d}.png")
            path = folder / files[-1]
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image[0].numpy() if shape[0] == 1 else image.permute(1, 2, 0).numpy()).save(path)
        tables = _tables(synthetic, folders, files)
        for name, rows in tables.items():
            (folder / name).write_text(_csv(rows), encoding="utf-8", newline="")
    of = f" of {len(synthetic.classes)} classes" if synthetic.classes else ""
    return f"{len(synthetic)} images{of} in {to}{''.join(f', {name[:-4]} in {name}' for name in tables)}"


def _tables(synthetic: SyntheticSet, folders: Sequence[str], files: Sequence[str]) -> dict[str, list[Sequence[str]]]:
    """What the images and their folders do not say, by the name of its file."""
    tables: dict[str, list[Sequence[str]]] = {}
    if synthetic.labels is not None and synthetic.labelling.kind != "hard":
        values = synthetic.labels.reshape(len(synthetic), -1)
        columns = synthetic.classes or [f"target{number}" for number in range(values.shape[1])]
        rows = zip(files, map(_written, values), strict=True)
        tables["labels.csv"] = [("file", *columns), *((file, *row) for file, row in rows)]
    if bool((synthetic.weights != synthetic.weights[0]).any()):
        rows = zip(files, _written(synthetic.weights), strict=True)
        tables["weights.csv"] = [("file", "weight"), *rows]
    if tuple(folders) != synthetic.classes:
        tables["classes.csv"] = [("folder", "class"), *zip(folders, synthetic.classes, strict=True)]
    return tables


def _written(values: Tensor) -> list[str]:
    """Numbers with all the digits that their type holds."""
    digits = 17 if values.element_size() > 4 else 9
    return [f"{value:.{digits}g}" for value in values.tolist()]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def _folders(classes: Sequence[str]) -> list[str]:
    """A folder for each class, no two of them the same in any case of their letters."""
    taken, found = set(TAKEN), list[str]()
    for label in classes:
        plain = "".join(letter if letter.isalnum() or letter in "-_ ." else "_" for letter in label).strip(". ")
        plain = (
            unicodedata.normalize("NFC", plain).encode(errors="ignore")[:LONGEST].decode(errors="ignore").strip(". ")
            or "_"
        )
        name = plain
        number = 2
        while name.casefold() in taken:
            name, number = f"{plain}-{number}", number + 1
        taken.add(name.casefold())
        found.append(name)
    return found
