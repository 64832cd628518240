"""Arrays in one ``.npz`` file, as numpy.savez writes them."""

import zipfile
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from discrepancy.errors import InvalidInput
from experiments.data.base import Source, check_fraction, with_fixed_test
from objectives.data import LabelledData

__all__ = ["Npz"]


class Npz(Source, kind="npz"):
    """``x_train, y_train, x_test, y_test``; or ``x, y`` (or the training pair alone), of which a part is held out.

    Further arrays are read where they are there: ``classes`` (names) and ``groups`` (of the training examples). Points and
    labels are as in :meth:`LabelledData.of`. Pickled objects are never read.

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
        data = self.whole()
        try:
            return with_fixed_test(data, self.fraction) if data.test is None else data
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def whole(self) -> LabelledData:
        arrays, needed = self._read(), ("x", "y")
        if arrays.keys() & {"x_train", "y_train", "x_test", "y_test"}:
            needed = ("x_train", "y_train")
        if arrays.keys() & {"x_test", "y_test"}:
            needed += ("x_test", "y_test")
        missing = [name for name in needed if name not in arrays]
        if missing:
            raise InvalidInput(
                f"{self.path} has no array '{missing[0]}', only {', '.join(sorted(arrays)) or 'none at all'}; "
                f"it must have x_train, y_train, x_test and y_test, or x and y"
            )
        try:
            return LabelledData.of(
                *(arrays[name] for name in needed[:2]),
                test=tuple(arrays[name] for name in needed[2:]) or None,
                groups=arrays.get("groups"),
                name=Path(self.path).stem,
                classes=[str(name) for name in arrays["classes"]] if "classes" in arrays else None,
                mirror=self.mirror,
                limits=self.limits,
            )
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def _read(self) -> dict[str, np.ndarray]:
        name = ""
        try:
            with Path(self.path).expanduser().open("rb") as file:
                content = np.load(file, allow_pickle=False)
                if isinstance(content, np.ndarray):
                    return {"(a single array)": content}
                arrays = {}
                for name in content.files:
                    arrays[name] = content[name]
                return arrays
        except FileNotFoundError:
            raise InvalidInput(f"there is no file {self.path}; correct the path") from None
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            if "allow_pickle" in str(error):
                raise InvalidInput(
                    f"{self.path} holds pickled Python objects{f' in array {name!r}' if name else ''}, which are never "
                    f"read; save it again as numbers or strings"
                ) from None
            raise InvalidInput(
                f"{self.path} cannot be read as an npz file ({type(error).__name__}{f' in array {name!r}' if name else ''}); "
                f"it is truncated or of another kind: write it again with numpy.savez"
            ) from None
