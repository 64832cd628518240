"""A data set as a weighted empirical measure, travelling as one argument.

    μ = Σᵢ wᵢ δ_{xᵢ} / Σᵢ wᵢ

A measure is *flat*, points ``(n, *shape)`` with weights ``(n,)``, or *grouped*, points ``(g, n, *shape)`` with weights
``(g, n)``: one conditional measure a group, usually a class. Groups of unequal size are padded with points of weight zero,
which is exact, so whoever writes a discrepancy writes no loop over classes.

Points may also be named blocks that share n (the layers of a network): a mapping from names to tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from discrepancy.arrays import as_tensor, check_numbers, in_floats
from discrepancy.errors import InvalidInput
from discrepancy.scale import power_of_two

__all__ = ["Grouping", "Measure", "as_measure"]


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups of the points of a flat measure, as a padded table.

    Args:
        index: numbers of the points of each group, ``(g, n)``.
        mask: False where an entry is padding, ``(g, n)``.

    Raises:
        InvalidInput: by :meth:`of`, if a group number is out of range.

    Example:
        >>> import torch
        >>> from discrepancy import Grouping, Measure
        >>> side = Measure(torch.tensor([[0.0], [1.0], [4.0]]), weights=torch.ones(3))
        >>> grouped = side.conditioned(Grouping.of(torch.tensor([0, 0, 1]), count=2))
        >>> grouped.weights.tolist()
        [[1.0, 1.0], [1.0, 0.0]]
    """

    index: Int[Tensor, "g n"]
    mask: Bool[Tensor, "g n"]

    @classmethod
    def single(cls, n: int, device: torch.device | str = "cpu") -> "Grouping":
        """All ``n`` points in one group."""
        _check_whole("n", n)
        index = torch.arange(n, device=device)[None]
        return cls(index, torch.ones_like(index, dtype=torch.bool))

    @classmethod
    def of(cls, groups: Int[Tensor, " n"], count: int) -> "Grouping":
        """``groups[i]`` in ``0 .. count - 1`` is the group of point ``i``; the order within a group is kept."""
        groups = as_tensor(groups, "groups")
        _check_whole("count", count)
        if groups.is_floating_point() or groups.ndim != 1:
            raise InvalidInput(
                f"'groups' must be whole numbers (n,), got {groups.dtype} of shape {tuple(groups.shape)}"
            )
        for extreme in (groups.min(), groups.max()) if len(groups) else ():
            if not 0 <= int(extreme) < count:
                raise InvalidInput(f"group numbers must lie in 0 .. {count - 1}, got {int(extreme)}")
        return cls.unchecked(groups, count)

    @classmethod
    def unchecked(cls, groups: Int[Tensor, " n"], count: int) -> "Grouping":
        """:meth:`of` numbers that are known to lie in 0 .. count - 1, without a look at them."""
        groups = groups.long()
        order = torch.argsort(groups, stable=True)
        sizes = torch.bincount(groups, minlength=count)
        starts = torch.cumsum(sizes, 0) - sizes
        position = torch.arange(len(groups), device=groups.device) - starts.repeat_interleave(sizes)
        shape = (count, max(int(sizes.max()), 1))
        index = torch.zeros(shape, dtype=torch.long, device=groups.device)
        mask = torch.zeros(shape, dtype=torch.bool, device=groups.device)
        index[groups[order], position] = order
        mask[groups[order], position] = True
        return cls(index, mask)

    @property
    def count(self) -> int:
        return self.index.shape[0]


@dataclass(frozen=True, eq=False, init=False)
class Measure:
    """A weighted empirical measure Σᵢ wᵢ δ(xᵢ) / Σᵢ wᵢ: points with weights and, where the data have them, labels.

    Args:
        points: ``(n, *shape)`` or grouped ``(g, n, *shape)``, or a mapping from block names to such tensors, of real numbers.
            Arrays of numpy and nested lists are taken too, lists of Python floats as float64. Whole numbers of 32 bits or more
            are computed with in float64.
        weights: nonnegative, ``(n,)`` or ``(g, n)``; equal weights 1/n when not given. They need not sum to one: a measure
            is normalised by its mass. Their axes say whether the measure is grouped: without weights, or with ``(n,)``, the
            first axis of the points counts points, whatever their shape.
        labels: class numbers ``(n,)``, or soft labels ``(n, c)``; grouped likewise.

    Raises:
        InvalidInput: if the sizes do not fit, or for what holds no real numbers. Values are checked by :meth:`checked`.

    Example:
        >>> import torch
        >>> from discrepancy import Measure
        >>> points = torch.tensor([[0.0], [1.0], [4.0]])
        >>> side = Measure(points, weights=torch.tensor([1.0, 1.0, 2.0]), labels=torch.tensor([0, 0, 1]))
        >>> side.shares.tolist(), side.classes, side.as_groups().points.shape
        ([0.25, 0.25, 0.5], 2, torch.Size([1, 3, 1]))
    """

    points: Tensor | Mapping[str, Tensor]
    weights: Float[Tensor, "*g n"]
    labels: Tensor | None
    tensors: Mapping[str, Tensor] = field(init=False, repr=False)
    """The points by block; a single tensor is the block named ''."""

    def __init__(self, points: Any, weights: Any = None, labels: Any = None) -> None:
        tensors: dict[str, Tensor] = {}
        for name, block in points.items() if isinstance(points, Mapping) else (("", points),):
            if not isinstance(name, str):
                raise InvalidInput(f"the names of blocks must be strings, got {[*points]}")
            tensors[name] = as_tensor(block, f"points['{name}']" if name else "points")
        first = next(iter(tensors.values()), None)
        if first is None or first.ndim == 0:
            raise InvalidInput("'points' must have at least one axis, the number of points; got a scalar or no block")
        if weights is None:
            n = first.shape[0]
            dtype = first.dtype if first.is_floating_point() else in_floats(first[:0]).dtype
            weights = torch.full((n,), 1.0 / max(n, 1), dtype=dtype, device=first.device)
        weights = as_tensor(weights, "weights")
        if not weights.is_floating_point():
            weights = weights.double()
        labels = None if labels is None else as_tensor(labels, "labels")
        if weights.ndim not in (1, 2):
            raise InvalidInput(f"'weights' must have shape (n,) or (groups, n), got {tuple(weights.shape)}")
        lead = weights.shape
        for name, tensor in tensors.items():
            if tensor.shape[: len(lead)] != lead:
                what = f"block '{name}'" if name else "'points'"
                raise InvalidInput(f"{what} of shape {tuple(tensor.shape)} does not fit weights of shape {tuple(lead)}")
        if labels is not None and labels.shape[: len(lead)] != lead:
            raise InvalidInput(f"'labels' of shape {tuple(labels.shape)} do not fit {lead[-1]} points")
        points = tensors if isinstance(points, Mapping) else first
        vars(self).update(points=points, weights=weights, labels=labels, tensors=tensors)

    @classmethod
    def unchecked(
        cls, points: Tensor | Mapping[str, Tensor], weights: Tensor, labels: Tensor | None = None
    ) -> "Measure":
        """A measure of tensors that are known to fit, without a look at them."""
        made = object.__new__(cls)
        tensors = points if isinstance(points, Mapping) else {"": points}
        vars(made).update(points=points, weights=weights, labels=labels, tensors=tensors)
        return made

    @property
    def grouped(self) -> bool:
        return self.weights.ndim == 2

    @property
    def rows(self) -> Float[Tensor, "*g n d"]:
        """The points of the only block as vectors, in float32, or in float64 if they are that, or whole numbers of 32 bits or
        more."""
        points = self.tensors[""]
        points = points.flatten(self.weights.ndim) if points.ndim > self.weights.ndim else points[..., None]
        return in_floats(points)

    @property
    def masses(self) -> Float[Tensor, "*g n"]:
        """The weights in float64, those of each group divided by one power of four so that the largest lies in [1, 4): where
        the mass does not count, no square of such a weight overflows or vanishes, and no digit of it or of its root differs."""
        weights = self.weights.double()
        if not weights.numel():
            return weights
        return weights / power_of_two(weights.detach().amax(-1, keepdim=True).sqrt()).square()

    @property
    def shares(self) -> Float[Tensor, "*g n"]:
        """The weights divided by their sum (in each group), in float64."""
        masses = self.masses
        return masses / masses.sum(-1, keepdim=True)

    @property
    def classes(self) -> int:
        """How many classes the labels tell apart: the length of a label vector, or the largest class number plus one.

        Raises:
            InvalidInput: if there are no labels, or if one number a point is not a class number.
        """
        if self.labels is None:
            raise InvalidInput("this discrepancy looks at labels, and a measure has none; give Measure(labels=...)")
        if self.has_label_vectors:
            return self.labels.shape[-1]
        _check_numbers(self.labels)
        return int(self.labels.max()) + 1

    @property
    def has_label_vectors(self) -> bool:
        """Whether there are labels, and these are vectors."""
        return self.labels is not None and self.labels.ndim > self.weights.ndim

    def with_label_vectors(self, classes: int) -> "Measure":
        """This measure with labels as vectors ``(..., c)``: class numbers become one-hot rows."""
        _check_whole("classes", classes)
        labels = self.labels
        if labels is None or self.has_label_vectors:
            return self
        _check_numbers(labels)
        dtype = next((item.dtype for item in self.tensors.values() if item.is_floating_point()), torch.float32)
        return Measure.unchecked(self.points, self.weights, functional.one_hot(labels.long(), classes).to(dtype))

    def __len__(self) -> int:
        """Number of points (of a group, with its padding, when grouped)."""
        return self.weights.shape[-1]

    @property
    def every(self) -> list[Tensor]:
        """All the tensors: points, weights and, where there are some, labels."""
        return [*self.tensors.values(), self.weights, *([] if self.labels is None else [self.labels])]

    @property
    def nbytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return sum(tensor.nbytes for tensor in self.every)

    def split(self, size: int) -> list["Measure"]:
        """This measure in parts of at most so many points (of each group), in order."""
        n, groups = self.weights.shape[-1], (slice(None),) * (self.weights.ndim - 1)
        if isinstance(size, int) and n <= size:
            return [self]
        _check_whole("size", size)
        parts = [(*groups, slice(start, start + size)) for start in range(0, n, size)]
        return [self._mapped(lambda tensor, rows=rows: tensor[rows]) for rows in parts]

    def select(self, groups: Tensor) -> "Measure":
        """The groups of these numbers only."""
        groups = as_tensor(groups, "groups")
        if groups.is_floating_point():
            raise InvalidInput(f"'groups' must be whole numbers, got {groups.dtype}")
        return self._mapped(lambda tensor: tensor[groups])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Measure":
        """The measure of every tensor changed in the same way."""
        points = {name: change(tensor) for name, tensor in self.tensors.items()}
        return Measure.unchecked(
            points if isinstance(self.points, Mapping) else points[""],
            change(self.weights),
            None if self.labels is None else change(self.labels),
        )

    def detached(self) -> "Measure":
        """The same measure without gradient."""
        return self._mapped(lambda tensor: tensor.detach())

    def blocks(self) -> list[tuple[str, "Measure"]]:
        """Every named block as a measure of its own, with the same weights and labels."""
        if not isinstance(self.points, Mapping):
            return [("", self)]
        return [(name, Measure.unchecked(part, self.weights, self.labels)) for name, part in self.points.items()]

    def conditioned(self, grouping: Grouping) -> "Measure":
        """The conditional measures given the group, as one grouped measure (differentiable in points and weights)."""
        if self.grouped:
            raise InvalidInput("this measure is grouped already; condition the flat one")
        if not isinstance(grouping, Grouping):
            raise InvalidInput(
                f"'grouping' must be made by Grouping.of(groups, count), got a {type(grouping).__name__}"
            )
        return Measure.conditional(self.points, self.weights, self.labels, grouping)

    @staticmethod
    def conditional(
        points: Tensor | Mapping[str, Tensor], weights: Tensor, labels: Tensor | None, grouping: Grouping
    ) -> "Measure":
        """The conditional measures given the group of flat points, weights and labels; padding has weight zero."""
        own = weights[grouping.index]
        return Measure.unchecked(
            {name: tensor[grouping.index] for name, tensor in points.items()}
            if isinstance(points, Mapping)
            else points[grouping.index],
            torch.where(grouping.mask, own, torch.zeros_like(own)),
            None if labels is None else labels[grouping.index],
        )

    def as_groups(self) -> "Measure":
        """This measure with its group axis; a flat measure becomes one group."""
        if self.grouped:
            return self
        return self._mapped(lambda tensor: tensor[None])

    @staticmethod
    def merged(parts: Sequence["Measure"]) -> "Measure":
        """The union of several measures of the same kind, weights as they are."""
        if not isinstance(parts, Sequence) or not all(isinstance(part, Measure) for part in parts):
            raise InvalidInput(
                f"only measures can be merged, got a {type(parts).__name__}; give a list of Measure(...)"
            )
        if not parts:
            raise InvalidInput("there are no measures to merge; give at least one")
        axis = 1 if parts[0].grouped else 0
        names = parts[0].tensors
        for part in parts:
            if part.weights.shape[:-1] != parts[0].weights.shape[:-1]:
                first, second = (
                    "no groups" if len(lead) == 1 else f"{lead[0]} groups"
                    for lead in (parts[0].weights.shape, part.weights.shape)
                )
                raise InvalidInput(
                    f"a measure with {first} and one with {second} cannot be merged; condition both alike"
                )
            if part.tensors.keys() != names.keys():
                raise InvalidInput(
                    f"the measures to be merged have different blocks: {sorted(names)} and {sorted(part.tensors)}"
                )
        points = {name: torch.cat([part.tensors[name] for part in parts], axis) for name in names}
        labels = [part.labels for part in parts if part.labels is not None]
        if labels and len(labels) != len(parts):
            raise InvalidInput(
                "some of the measures to be merged have labels and some have none; give all of them labels"
            )
        return Measure.unchecked(
            points if isinstance(parts[0].points, Mapping) else points[""],
            torch.cat([part.weights for part in parts], axis),
            torch.cat(labels, axis) if labels else None,
        )

    def checked(self, name: str = "measure") -> "Measure":
        """This measure, after a look at every value. All the answers are read from the device at once.

        Raises:
            InvalidInput: on an empty measure, non-finite points, negative or non-finite weights, or a group without mass.
        """
        if len(self) == 0:
            raise InvalidInput(f"'{name}' has no points; give at least one")
        rules = [
            check_numbers(tensor, f"'{name}'" + (f", block '{block}'" if block else ""))
            for block, tensor in self.tensors.items()
        ]
        weights = self.weights
        proper = (torch.isfinite(weights) & (weights >= 0)).all()
        rules.append((proper, f"'{name}' has weights that are negative or not finite; they must be >= 0"))
        massive = (weights > 0).any(-1).all()
        rules.append((massive, f"'{name}' has weights that sum to zero; at least one point must have mass"))
        for holds, (_, problem) in zip(torch.stack([rule for rule, _ in rules]).tolist(), rules, strict=True):
            if not holds:
                raise InvalidInput(problem)
        return self


def as_measure(side: Any, name: str, beside: Any = None) -> Measure:
    """A measure as it is; of anything else the points with equal weights. Lists, whose numbers have no type of their own, take
    that of the points that they are to stand ``beside``.

    Raises:
        InvalidInput: for what holds no real numbers.
    """
    if isinstance(side, Measure):
        return side
    try:
        made = Measure(side)
    except InvalidInput as error:
        raise InvalidInput(f"'{name}' must be a Measure, or points of which one can be made: {error}") from None
    if not isinstance(side, list | tuple):
        return made
    other = next(iter(beside.tensors.values())) if isinstance(beside, Measure) and beside.tensors else beside
    dtype = getattr(other, "dtype", None)
    if not isinstance(dtype, torch.dtype):
        dtype = as_tensor(other, name).dtype if hasattr(other, "__array__") else made.tensors[""].dtype
    return Measure(made.tensors[""].to(dtype if dtype.is_floating_point else torch.float64))


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int):
        raise InvalidInput(f"'{name}' must be a whole number, got a {type(value).__name__}")


def _check_numbers(labels: Tensor) -> None:
    if labels.is_floating_point():
        raise InvalidInput(
            f"labels of one {labels.dtype} a point are not class numbers; give whole numbers (labels.long()), or vectors "
            "(n, c), also for regression: labels[:, None]"
        )
