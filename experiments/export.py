"""Take a condensed set elsewhere: an image folder or an .npz that need nothing of this library to be read."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from discrepancy.errors import InvalidInput
from objectives.storage import StorageError, replacing
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["export"]


def export(synthetic: SyntheticSet, to: Path) -> str:
    """Write the set and say what was written.

    ``FILE.npz`` holds ``x`` (m, ...) in source units, exact; ``y`` and ``classes``, or ``targets``, where there are some; and
    ``weights``. ``y`` is (m,) class numbers, or (m, c) distributions or scores, as they are in the set. A folder gets one
    sub-folder a class (none if the set has no classes) with 8-bit PNG images, clipped to the valid range and rounded; soft
    labels, scores and targets go to ``labels.csv``.

    Raises:
        InvalidInput: if the examples are no images, or the folder is not empty.
        StorageError: if it cannot be written.
    """
    if to.suffix == ".npz":
        arrays: dict[str, Any] = {"x": synthetic.points.numpy(), "weights": synthetic.weights.numpy()}
        if synthetic.labels is not None:
            arrays["y" if synthetic.classes else "targets"] = synthetic.labels.numpy()
        if synthetic.classes:
            arrays["classes"] = np.array(synthetic.classes)
        with replacing(to) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        return f"{len(synthetic)} examples in {to}"
    return _images(synthetic, to)


def _images(synthetic: SyntheticSet, to: Path) -> str:
    shape = tuple(synthetic.points.shape[1:])
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InvalidInput(f"examples of shape {shape} are no grey or colour images; export them to a file.npz")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InvalidInput(f"'{to}' exists already and is not an empty folder; name another")
    written = synthetic.labels if synthetic.labels is not None and synthetic.labelling.kind != "hard" else None
    columns = synthetic.classes or [f"target{number}" for number in range(1 if written is None else written[0].numel())]
    rows = ["file," + ",".join(columns)]
    try:
        for index, (image, label) in enumerate(zip(synthetic.pixels, synthetic.numbers.tolist(), strict=True)):
            folder = to / _file_name(synthetic.classes[label]) if synthetic.classes else to
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{index:05d}.png"
            Image.fromarray(image[0].numpy() if shape[0] == 1 else image.permute(1, 2, 0).numpy()).save(path)
            if written is not None:
                values = written[index].reshape(-1).tolist()
                rows.append(f"{path.relative_to(to)}," + ",".join(f"{value:.6g}" for value in values))
        if written is not None:
            (to / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"'{to}' could not be written ({error.strerror or error}); choose another folder") from error
    of = f" of {len(synthetic.classes)} classes" if synthetic.classes else ""
    return f"{len(synthetic)} images{of} in {to}{'' if written is None else ', labels in labels.csv'}"


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_ ." else "_" for letter in label).strip(". ") or "_"
