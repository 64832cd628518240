"""Take a condensed set elsewhere: an image folder or an .npz that need nothing of this library to be read."""

from pathlib import Path

import numpy as np
from PIL import Image

from discrepancy.errors import InvalidInput
from objectives.artefact import SyntheticSet
from objectives.storage import StorageError, replacing

__all__ = ["export"]


def export(synthetic: SyntheticSet, to: Path) -> str:
    """Write the set and say what was written.

    ``FILE.npz`` holds ``x`` (m, ...) in source units, exact; ``y``, ``weights`` and ``classes``. A folder gets one sub-folder a
    class with 8-bit PNG images, clipped to the valid range and rounded; soft labels go to ``labels.csv``.

    Raises:
        InvalidInput: if the examples are no images, or the folder is not empty.
        StorageError: if it cannot be written.
    """
    if to.suffix == ".npz":
        with replacing(to) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                x=synthetic.points.numpy(),
                y=synthetic.labels.numpy(),
                weights=synthetic.weights.numpy(),
                classes=np.array(synthetic.classes),
            )
        return f"{len(synthetic)} examples in {to}"
    return _images(synthetic, to)


def _images(synthetic: SyntheticSet, to: Path) -> str:
    shape = tuple(synthetic.points.shape[1:])
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InvalidInput(f"examples of shape {shape} are no grey or colour images; export them to a file.npz")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InvalidInput(f"'{to}' exists already and is not an empty folder; name another")
    low, high = synthetic.limits or (synthetic.points.min().item(), synthetic.points.max().item())
    pixels = ((synthetic.points - low) / max(high - low, 1e-12) * 255).round().clamp(0, 255).byte()
    soft, classes = synthetic.labels.ndim == 2, synthetic.numbers
    rows = ["file," + ",".join(synthetic.classes)]
    try:
        for index, (image, label) in enumerate(zip(pixels, classes.tolist(), strict=True)):
            folder = to / _file_name(synthetic.classes[label])
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{index:05d}.png"
            Image.fromarray(image[0].numpy() if shape[0] == 1 else image.permute(1, 2, 0).numpy()).save(path)
            if soft:
                rows.append(f"{path.relative_to(to)}," + ",".join(f"{p:.6g}" for p in synthetic.labels[index].tolist()))
        if soft:
            (to / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"'{to}' could not be written ({error.strerror or error}); choose another folder") from error
    note = ", labels in labels.csv" if soft else ""
    return f"{len(synthetic)} images of {len(synthetic.classes)} classes in {to}{note}"


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_ ." else "_" for letter in label).strip(". ") or "_"
