"""From what people have (arrays, tensors, tables, strings, a torch Dataset) to points and labels, or one clear refusal.

Points of uint8, float32 and float64 stay as they are; other numbers become the smallest float that holds them, float32 at
least. Memory is shared with the caller where nothing has to be converted.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from discrepancy.arrays import check_dense, check_unmasked
from discrepancy.errors import DataWarning, InvalidInput
from discrepancy.parts import fits, shown
from objectives.data.labels import Labels
from objectives.data.pictures import eight_bits

__all__ = ["RawLabels", "as_labels", "as_pair", "as_points", "as_targets", "encode", "numbered"]

CHANNELS = (1, 3, 4)
ROUNDING = 1e-3  # of the sum of a distribution, enough for half precision
STORED = (np.uint8, np.float32, np.float64)


@dataclass(frozen=True, eq=False)
class RawLabels:
    """``values`` (n,) as they came; where rows came, their number of ``columns``, and ``soft`` (n, c) unless one-hot."""

    values: np.ndarray
    soft: Tensor | None = None
    columns: int | None = None


def as_pair(data: Any, name: str) -> tuple[Any, Any]:
    """(points, labels) of a pair of arrays, or of a map-style Dataset, which is read once from end to end.

    Raises:
        InvalidInput: for an iterable Dataset, for items that are not pairs, and for items of different shapes.
    """
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    if isinstance(data, IterableDataset):
        raise InvalidInput(
            f"'{name}' is an iterable Dataset, which has no length and no order; "
            f"stack its items into arrays first, LabelledData.of(x, y)"
        )
    if isinstance(data, Dataset) and not hasattr(data, "__len__"):
        raise InvalidInput(f"'{name}' is a Dataset without a length; give it __len__, or stack its items into arrays")
    if not isinstance(data, Dataset):
        raise InvalidInput(f"'{name}' must be a pair (x, y) or a map-style Dataset, got {type(data).__name__}")
    points, labels = [], []
    for number in range(len(data)):  # pyright: ignore[reportArgumentType]  (map-style Datasets have a length)
        item = data[number]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise InvalidInput(
                f"item {number} of '{name}' must be a pair (point, label), got {type(item).__name__}; "
                f"wrap the Dataset so that it returns pairs"
            )
        points.append(_item(item[0], number, name))
        labels.append(_array(item[1], f"label {number} of '{name}'"))
        if points[-1].shape != points[0].shape:
            raise InvalidInput(
                f"items 0 and {number} of '{name}' have shapes {points[0].shape} and {points[-1].shape}; "
                f"resize or crop them to one size"
            )
    if not points:
        raise InvalidInput(f"'{name}' is empty; at least one example of each class is needed")
    return np.stack(points), np.stack(labels)


def _item(value: Any, number: int, name: str) -> np.ndarray:
    if not isinstance(value, Image.Image):
        return _array(value, f"point {number} of '{name}'")
    return np.asarray(eight_bits(value, f"image {number} of '{name}'"))


def _array(data: Any, name: str) -> np.ndarray:
    """A numpy array of native byte order; arrays of Python strings become arrays of text."""
    check_unmasked(data, name)
    if isinstance(data, Tensor):
        check_dense(data, name)
        tensor = data.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    try:
        array = np.asarray(data)
    except ValueError as error:  # ragged nested lists
        raise InvalidInput(f"{name} cannot be made into an array ({error}); give examples of one size") from None
    if array.dtype == object and all(isinstance(item, str) for item in array.flat):
        array = array.astype(str)
    if array.dtype.kind == "S":
        array = _text(array, name)
    if array.dtype.kind not in "biufU" or (array.dtype.itemsize > 8 and array.dtype.kind == "f"):
        raise InvalidInput(
            f"{name} must hold numbers of at most 64 bits (or, for labels, strings), got an array of {array.dtype}; convert "
            "it first"
        )
    return array


def _text(array: np.ndarray, name: str) -> np.ndarray:
    """Byte strings as text."""
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} hold bytes that are not UTF-8 text; decode them first") from None


def _numbers(data: Any, name: str) -> Tensor:
    """A contiguous CPU tensor of uint8, float32 or float64."""
    array = _array(data, name)
    if array.dtype.kind == "U":
        raise InvalidInput(f"{name} must hold numbers, got strings; encode them first")
    if array.dtype.newbyteorder("=") not in STORED:
        array = array.astype(np.result_type(array.dtype, np.float32))
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def as_points(data: Any, name: str) -> Tensor:
    """Points ``(n, d)`` or ``(n, C, H, W)``.

    Three axes are grey images ``(n, H, W)``. Of four, the last is taken for the channels, and moved to the front, when
    its size is 1, 3 or 4 and that of the second is not.
    """
    points = _numbers(data, name)
    if points.ndim == 3:
        points = points[:, None]
    if points.ndim == 4 and points.shape[3] in CHANNELS and points.shape[1] not in CHANNELS:
        points = points.permute(0, 3, 1, 2).contiguous()
    if points.ndim not in (2, 4):
        raise InvalidInput(
            f"{name} must have shape (n, features), (n, height, width) or (n, channels, height, width), "
            f"got {tuple(points.shape)}; reshape them"
        )
    return points


def as_labels(data: Any, name: str) -> RawLabels:
    """Whole numbers (floats that are whole, columns ``(n, 1)`` too), strings, or rows that are distributions."""
    array = _array(data, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind != "U":
        return _distributions(array, name)
    if array.ndim != 1:
        raise InvalidInput(f"{name} must have shape (n,), or (n, classes) for distributions, got {array.shape}")
    if array.dtype.kind == "f":
        wrong = ~np.isfinite(array) | (array != np.floor(array))
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InvalidInput(
                f"{name} must be whole numbers, class names or distributions, got {array[first]:g} at example {first} "
                f"({int(wrong.sum())} such in all); drop these examples or give class names; for a regression use "
                "LabelledData.with_targets, or name the array 'targets'"
            )
    if array.dtype.kind in "fi":
        array = array.astype(np.int64)
        if (array == -1).any() and (array == 0).any() and array.min() == -1:
            warnings.warn(
                f"{name} have -1 beside 0: it is taken for a class, of {int((array == -1).sum())} examples; drop these "
                "examples if it means that they have no label",
                DataWarning,
                stacklevel=3,
            )
    return RawLabels(array)


def as_targets(data: Any, name: str) -> Tensor:
    """Real numbers (n, k); those of shape (n,) are one column."""
    rows = _numbers(data, name)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.shape[1]:
        raise InvalidInput(f"{name} must have shape (n,) or (n, k), got {tuple(rows.shape)}")
    rows = rows if rows.is_floating_point() else rows.float()
    wrong = ~torch.isfinite(rows).all(1)
    if bool(wrong.any()):
        raise InvalidInput(
            f"{name} must be finite, got NaN or infinity at example {int(wrong.nonzero()[0])} ({int(wrong.sum())} such in "
            "all); drop these examples"
        )
    return rows


def _distributions(rows: np.ndarray, name: str) -> RawLabels:
    """Rows (n, c) that sum to 1; when all of them are one-hot they are hard labels of c classes."""
    soft = torch.from_numpy(rows.astype(np.float32))
    wrong = ~((soft >= 0).all(1) & ((soft.sum(1) - 1).abs() <= ROUNDING))  # NaN is wrong too
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise InvalidInput(
            f"{name} of shape {tuple(rows.shape)} must be distributions, nonnegative rows that sum to 1, "
            f"got {soft[first].sum():g} with least value {soft[first].min():g} in row {first}"
        )
    hard = bool((soft.amax(1) == 1).all())
    return RawLabels(soft.argmax(1).numpy(), None if hard else soft / soft.sum(1, keepdim=True), soft.shape[1])


def numbered(labels: RawLabels, classes: Any) -> tuple[dict[Any, int], tuple[str, ...]]:
    """The number of each label value, and the names of the classes.

    Named classes are referred to by position, or by name: whole numbers that are all positions are positions, others are
    names. Without names, the distinct values in increasing order are the classes, so gaps are closed; columns of distributions
    are classes as they stand.

    Raises:
        InvalidInput: if ``classes`` are no list of names.
    """
    if classes is None and labels.columns is not None:
        classes = [str(number) for number in range(labels.columns)]
    if classes is None:
        values = np.unique(labels.values).tolist()
        return {value: number for number, value in enumerate(values)}, tuple(str(value) for value in values)
    classes = classes.tolist() if isinstance(classes, np.ndarray) else classes
    if not fits(classes, Sequence[str | int]):
        raise InvalidInput(f"'classes' must be a list of the names of classes, got {shown(classes)}")
    names = {str(name): number for number, name in enumerate(classes)}
    positions = {number: number for number in range(len(classes))}
    if labels.values.dtype.kind in "iu" and not set(np.unique(labels.values).tolist()) <= positions.keys():
        whole = {int(name): number for name, number in names.items() if re.fullmatch(r"-?(0|[1-9][0-9]*)", name)}
        positions = whole or positions
    return {**positions, **names}, tuple(map(str, classes))


def encode(labels: RawLabels, numbers: dict[Any, int], names: Sequence[str], name: str) -> Labels:
    """The labels as class numbers, or as the distributions that they are."""
    if labels.columns is not None and labels.columns != len(names):
        raise InvalidInput(f"{name} have {labels.columns} columns for {len(names)} classes; give one column a class")
    values, inverse = np.unique(labels.values, return_inverse=True)
    unknown = [value for value in values.tolist() if value not in numbers]
    if unknown:
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise InvalidInput(
            f"{name} contain '{unknown[0]}' (first at example {int(np.flatnonzero(labels.values == unknown[0])[0])}), "
            f"which is none of the {len(names)} classes {shown}; drop such examples, or train on some of that class"
        )
    codes = np.array([numbers[value] for value in values.tolist()], dtype=np.int64)
    if labels.soft is not None:
        return Labels("soft", labels.soft)
    return Labels("hard", torch.from_numpy(codes[inverse.reshape(-1)]))
