"""Arrays in one ``.npz`` file, as numpy.savez writes them."""

import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from discrepancy.errors import InvalidInput, out_of_memory
from experiments.data.base import Source, check_fraction, with_fixed_test
from objectives.data.labelled import LabelledData

__all__ = ["Npz"]


class Npz(Source, kind="npz"):
    """``x_train, y_train, x_test, y_test``; or ``x, y`` (or the training pair alone), of which a part is held out.

    With ``targets`` (``targets_train, targets_test``) in place of ``y`` they are real numbers, of a regression; with neither,
    the points have no labels. Further arrays are read where they are there: ``classes`` (names) and ``groups`` (of the training
    examples). Points, labels and targets are as in :class:`LabelledData`. Pickled objects are never read. ``weights`` that
    differ, of a set that was exported, are read by a comparison only.

    Args:
        path: the file.
        fraction: of each class, held out for testing when the file has no test arrays; always the same examples.
        mirror: whether the mirror image of an image has the same label.
        limits: the range of valid values; (0, 255) by default for uint8 images.
    """

    shorthand: ClassVar[str] = "path"

    path: str
    fraction: float = 0.2
    mirror: bool = False
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    def load(self) -> LabelledData:
        if self.weights() is not None:
            raise InvalidInput(
                f"{self.path} has 'weights' that differ, and real examples count alike; give it to 'condense compare', "
                "which takes weights, or remove them to use the points as data"
            )
        data = self.whole()
        try:
            return with_fixed_test(data, self.fraction) if data.test is None else data
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def known_limits(self, data: LabelledData) -> tuple[float, float] | None:
        return data.limits if data.train.labels.given else self.limits  # bare points state no scale

    def weights(self) -> torch.Tensor | None:
        found = self._read(only="weights").get("weights")
        if found is None or not found.size or bool((found == found.flat[0]).all()):
            return None
        weights = torch.from_numpy(found.astype(np.float64))
        if weights.ndim != 1 or not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
            raise InvalidInput(
                f"{self.path}: 'weights' must be one finite number >= 0 for each example, got shape {found.shape}; correct them"
            )
        return weights

    def whole(self) -> LabelledData:
        arrays = self._read()
        answers = [name for name in ("y", "targets") if arrays.keys() & {name, f"{name}_train", f"{name}_test"}]
        if len(answers) > 1:
            raise InvalidInput(f"{self.path} has both classes, 'y', and 'targets'; leave one of them out")
        names = ("x", *answers)
        if any(name.endswith(("_train", "_test")) for name in arrays):
            needed = tuple(f"{name}_train" for name in names)
        else:
            needed = names
        if any(name.endswith("_test") for name in arrays):
            needed += tuple(f"{name}_test" for name in names)
        missing = [name for name in needed if name not in arrays]
        if missing:
            raise InvalidInput(
                f"{self.path} has no array '{missing[0]}', only {', '.join(sorted(arrays)) or 'none at all'}; "
                f"it must have x_train, y_train, x_test and y_test, or x and y"
            )
        train, test = ([arrays[name] for name in part] for part in (needed[: len(names)], needed[len(names) :]))
        options: dict[str, Any] = {
            "groups": arrays.get("groups"),
            "name": Path(self.path).stem,
            "mirror": self.mirror,
            "limits": self.limits,
        }
        try:
            if not answers:
                return LabelledData.unlabelled(*train, test=test[0] if test else None, **options)
            if answers == ["targets"]:
                return LabelledData.with_targets(*train, test=tuple(test) or None, **options)
            classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else None
            return LabelledData.of(*train, test=tuple(test) or None, classes=classes, **options)
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def _read(self, only: str | None = None) -> dict[str, np.ndarray]:
        name = ""
        try:
            with Path(self.path).expanduser().open("rb") as file:
                content = np.load(file, allow_pickle=False)
                if isinstance(content, np.ndarray):
                    return {"(a single array)": content}
                arrays = {}
                for name in content.files:
                    if only in (None, name):
                        arrays[name] = content[name]
                return arrays
        except FileNotFoundError:
            raise InvalidInput(f"there is no file {self.path}; correct the path") from None
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            if out_of_memory(error):
                raise
            if "allow_pickle" in str(error):
                raise InvalidInput(
                    f"{self.path} holds pickled Python objects{f' in array {name!r}' if name else ''}, which are never "
                    f"read; save it again as numbers or strings"
                ) from None
            raise InvalidInput(
                f"{self.path} cannot be read as an npz file ({type(error).__name__}{f' in array {name!r}' if name else ''}); "
                f"it is truncated or of another kind: write it again with numpy.savez"
            ) from None
