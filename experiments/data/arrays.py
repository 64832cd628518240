"""Arrays in one ``.npz`` file, as numpy.savez writes them."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from discrepancy.errors import InvalidInput
from discrepancy.parts import user_path
from experiments.data.base import Source, check_fraction, with_fixed_test
from experiments.data.members import Members, opened
from objectives.data.labelled import LabelledData

__all__ = ["Npz"]


class Npz(Source, kind="npz"):
    """``x_train, y_train, x_test, y_test``; or ``x, y`` (or the training pair alone), of which a part is held out.

    With ``targets`` (``targets_train, targets_test``) in place of ``y`` they are real numbers, of a regression; with neither,
    the points have no labels. Further arrays are read where they are there: ``classes`` (names) and ``groups`` (of the training
    examples). Points, labels and targets are as in :class:`LabelledData`. ``weights`` that differ, of a set that was exported,
    are read by a comparison only, and other arrays not at all. Those that need more memory than is free are refused by their
    headers, and pickled objects always.

    Args:
        path: the file.
        fraction: of each class, held out for testing when the file has no test arrays; always the same examples.
        mirror: whether the mirror image of an image has the same label.
        limits: the range of valid values; (0, 255) by default for uint8 images.
    """

    paths: ClassVar[tuple[str, ...]] = ("path",)
    shorthand: ClassVar[str] = "path"

    path: str
    fraction: float = 0.2
    mirror: bool = False
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        user_path("path", self.path)

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
        with opened(self.path) as members:
            if "weights" not in members.names:
                return None
            members.check_room(["weights"])
            found = members.read("weights")
        if found.dtype.kind not in "biuf" or found.dtype.itemsize > 8:
            raise InvalidInput(
                f"{self.path}: 'weights' must be numbers of at most 64 bits, got an array of {found.dtype}"
            )
        if not found.size or bool((found == found.flat[0]).all()):
            return None
        weights = torch.from_numpy(found.astype(np.float64))
        if weights.ndim != 1 or not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
            raise InvalidInput(
                f"{self.path}: 'weights' must be one finite number >= 0 for each example, got shape {found.shape}; correct them"
            )
        return weights

    def whole(self) -> LabelledData:
        with opened(self.path) as members:
            return self._made(members)

    def _made(self, members: Members) -> LabelledData:
        answers = [name for name in ("y", "targets") if members.names & {name, f"{name}_train", f"{name}_test"}]
        if len(answers) > 1:
            raise InvalidInput(f"{self.path} has both classes, 'y', and 'targets'; leave one of them out")
        names = ("x", *answers)
        if any(name.endswith(("_train", "_test")) for name in members.names):
            needed = tuple(f"{name}_train" for name in names)
        else:
            needed = names
        if any(name.endswith("_test") for name in members.names):
            needed += tuple(f"{name}_test" for name in names)
        missing = [name for name in needed if name not in members.names]
        if missing:
            raise InvalidInput(
                f"{self.path} has no array '{missing[0]}', only {', '.join(sorted(members.names)) or 'none at all'}; "
                f"it must have x_train, y_train, x_test and y_test, or x and y"
            )
        further = [name for name in ("groups", "classes") if name in members.names]
        members.check_room([*needed, *further])
        arrays = {name: members.read(name) for name in (*needed, *further)}
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
            return LabelledData.of(*train, test=tuple(test) or None, classes=_names(arrays.get("classes")), **options)
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None


def _names(classes: np.ndarray | None) -> list[str] | None:
    if classes is None:
        return None
    if classes.ndim == 1 and classes.dtype.kind == "S":
        classes = np.char.decode(classes, "utf-8", "backslashreplace")
    if classes.ndim != 1 or classes.dtype.kind not in "Uiu":
        raise InvalidInput(
            f"'classes' must be a list of names, got an array of shape {classes.shape} and type {classes.dtype}"
        )
    return [str(name) for name in classes]
