"""The one interface to the real data: all that contexts, starts, teachers, selections, evaluation and reports may know of it.

    spec                     shape, classes, units, limits, outputs
    rows(numbers)            examples, for those who need points; may be refused, by name, before anything is read
    summaries(query)         for every term at one draw of a context: merged sums, or points with their constants

An implementation is one file: :class:`~objectives.data.in_memory.InMemory` holds the examples. Another may read them from a
disk, hold a part of them, or answer ``summaries`` alone.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.examples import Examples, Grouped
from objectives.data.fingerprint import Sketch
from objectives.data.labels import Labels
from objectives.data.spec import Described

__all__ = ["Accumulator", "Query", "RealData", "Summaries"]

Taken = Mapping[str, Tensor]

Summaries = Mapping[str, Mapping[str, Any]]
"""The summary of every block of every term."""


class Accumulator(ABC):
    """The summary of one term under way: parts are added in turn, and every part is embedded once for all the terms."""

    @abstractmethod
    def add(self, taken: Taken, examples: Examples) -> None:
        """Add a part: what the context offers of it, and the examples themselves with their labels and groups."""

    @abstractmethod
    def summaries(self) -> Mapping[str, Any]:
        """The summary of each block of features."""

    @property
    @abstractmethod
    def groups(self) -> int:
        """How many groups are summarised."""

    @abstractmethod
    def statistics(
        self, taken: Taken, examples: Examples
    ) -> Mapping[str, tuple[Float[Tensor, "k p"], Int[Tensor, " k"]]]:
        """Of each block, the statistic of every example of a part, in float64, and the group whose mean it is averaged into.

        Raises:
            InvalidInput: if the summaries are no means of a statistic of single examples.
        """

    @abstractmethod
    def of_sums(self, sums: Mapping[str, tuple[Float[Tensor, "g p"], Float[Tensor, " g"]]]) -> Mapping[str, Any]:
        """The summary of each block whose statistics have these sums and whose groups have these masses."""


@dataclass(frozen=True, eq=False)
class Query:
    """What is asked of the real side at one draw of a context.

    Args:
        draw: the name of the draw.
        choose: which examples take part, by number.
        embed: what the context offers of examples, given the place of each of them in the batch.
        part: how many examples are embedded together.
        accumulators: one for each term that asks for a summary, by name.
        changed: the real side of a term, by name, where it is a transform of this one.
    """

    draw: str
    choose: Callable[["RealData"], Int[Tensor, " b"]]
    embed: Callable[[Examples, Int[Tensor, " k"]], Taken]
    part: int
    accumulators: Mapping[str, Accumulator]
    changed: Mapping[str, "RealData"] = field(default_factory=dict)

    def sides(self, data: "RealData") -> list[tuple["RealData", list[Accumulator]]]:
        """Each real side that is asked for, with the accumulators of its terms: terms of one side share its embedding."""
        found: dict[int, tuple[RealData, list[Accumulator]]] = {}
        for name, accumulator in self.accumulators.items():
            side = self.changed.get(name, data)
            found.setdefault(id(side), (side, []))[1].append(accumulator)
        return list(found.values())


class RealData(Described):
    """The real side. Examples are numbered 0 .. n - 1. Data without classes are treated as one class."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def labels(self) -> Labels:
        """The labels of all the examples, on the CPU."""

    @property
    @abstractmethod
    def groups(self) -> Int[Tensor, " n"] | None:
        """The group numbers of all the examples; None where the data have no groups."""

    @abstractmethod
    def rows(self, numbers: Int[Tensor, " b"] | None = None) -> Examples:
        """The examples with these numbers, or all of them, in the units of the source.

        Raises:
            InvalidInput: if this real side gives no examples away.
        """

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of points and labels of all the examples."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of all the examples, whatever they are called and in whatever units networks see them."""

    def sketch(self) -> Sketch | None:
        """Hashes of some rows, by which a set is known to have seen these examples; None where none are given away."""
        return None

    @property
    def blank(self) -> Examples | None:
        """Examples that stand in for real ones where shapes alone are asked for; None where real ones are given away."""
        return None

    def provenance(self) -> dict[str, Any]:
        """What the record of a set says of the data that it was made from, beside their name."""
        sketch = self.sketch()
        return {"fingerprint": self.fingerprint(), **({} if sketch is None else {"sketch": sketch.as_text()})}

    def require_rows(self, what: str) -> None:
        """Refuse, before anything is read, what needs single examples of a real side that gives none away.

        Raises:
            InvalidInput: naming what needs them.
        """

    # --- which examples -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def strata(self) -> Int[Tensor, " n"]:
        """The class of each example; zeros if the data have no classes."""
        return self.labels.numbers if self.labels.of_classes else torch.zeros(len(self), dtype=torch.long)

    @functools.cached_property
    def members(self) -> tuple[Int[Tensor, " k"], ...]:
        """The examples of each class (all, where there are none), by number, in increasing order, on the CPU."""
        labels = self.strata.cpu()
        sizes = torch.bincount(labels, minlength=self.count).tolist()
        return torch.argsort(labels, stable=True).split(sizes)

    @property
    def per_class(self) -> tuple[int, ...]:
        """The number of examples of each class; of all, where there are none."""
        return tuple(len(members) for members in self.members)

    @functools.cached_property
    def counts(self) -> Int[Tensor, "c g"]:
        """The number of examples of each class in each group; one column where the data have no groups."""
        groups = torch.zeros_like(self.strata) if self.groups is None else self.groups
        width = int(groups.max()) + 1
        return torch.bincount(self.strata * width + groups, minlength=self.count * width).unflatten(0, (-1, width))

    def sizes(self, by: Grouped) -> Int[Tensor, " g"]:
        """The number of examples of each class, or group; of all, for ``none``."""
        return self.counts.sum({"class": 1, "group": 0, "none": (0, 1)}[by]).reshape(-1)

    def class_batch(self, generator: torch.Generator, size: int | Sequence[int]) -> Int[Tensor, " b"]:
        """``size`` random examples of each class (or as many as a list says of each), without replacement: their numbers,
        sorted by class.

        A class with fewer gives all that it has. What is drawn from the generator does not depend on ``size``.
        """
        # One serial randperm a class beats one random key an example and a batched topk, which waits for threads.
        sizes = [size] * self.count if isinstance(size, int) else size
        return torch.cat(
            [
                rows[torch.randperm(len(rows), generator=generator)[:most]]
                for rows, most in zip(self.members, sizes, strict=True)
            ]
        )

    def require(self, size: int, purpose: str, what: str = "a class") -> None:
        """Refuse when a class has fewer than ``size`` examples. The message asks for less of ``what``.

        Raises:
            InvalidInput: naming the smallest class.
        """
        least = min(self.per_class)
        if least < size and not self.classes:
            raise InvalidInput(
                f"{purpose} needs {size} examples, but '{self.name}' has {least}; ask for at most {least}"
            )
        if least < size:
            raise InvalidInput(
                f"{purpose} needs {size} examples of each class, but '{self.classes[self.per_class.index(least)]}' of "
                f"'{self.name}' has {least}; ask for at most {least} {what}"
            )

    def divided(
        self, fraction: float, order: Callable[[Int[Tensor, " k"]], Int[Tensor, " k"]]
    ) -> tuple[Int[Tensor, " a"], Int[Tensor, " b"]]:
        """The numbers of the examples that remain, and of the first ``fraction`` of each class in the given order.

        The number of the latter is rounded; one at least is taken of a class, and one at least remains. A class of one example
        stays whole.

        Raises:
            InvalidInput: if every class has a single example.
        """
        if not 0 < fraction < 1:
            raise InvalidInput(f"'fraction' must lie strictly between 0 and 1, got {fraction}")
        held, kept = [], []
        for rows in self.members:
            cut = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
            ordered = order(rows)
            held.append(ordered[:cut])
            kept.append(ordered[cut:])
        if not sum(map(len, held)):
            each = f"every class of '{self.name}'" if self.classes else f"'{self.name}'"
            raise InvalidInput(f"{each} has a single example, so none can be held out; add examples")
        return torch.cat(kept).sort().values, torch.cat(held).sort().values

    # --- examples in the units of networks ----------------------------------------------------------------------------

    def normalised(
        self,
        examples: Examples | Int[Tensor, " b"],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "b ..."]:
        """Examples, or those with these numbers, in normalised units on a device."""
        found = examples if isinstance(examples, Examples) else self.rows(examples)
        return self.normalisation.apply(found.points.to(device), dtype)

    def label_vectors(self, rows: Int[Tensor, " b"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "b c"] | None:
        """The labels of examples as rows: distributions where the data have them, else one-hot; targets in normalised units;
        None where there are no labels."""
        return self.labels.take(rows).vectors(self.count, dtype)

    def class_means(self) -> Float[Tensor, "c ..."]:
        """The mean example of each class, in normalised units."""
        means = torch.stack([self.rows(members).points.double().mean(0) for members in self.members])
        return self.normalisation.apply(means)

    # --- summaries ----------------------------------------------------------------------------------------------------

    def summaries(self, query: Query) -> Summaries:
        """For every term, the summary of the examples that take part."""
        numbers, sides = query.choose(self), query.sides(self)
        for places in self._places(numbers, query.part):
            for side, accumulators in sides:
                examples = side.rows(numbers[places])
                taken = query.embed(examples, places)
                for accumulator in accumulators:
                    accumulator.add(taken, examples)
        return {name: accumulator.summaries() for name, accumulator in query.accumulators.items()}

    def parts(self, numbers: Int[Tensor, " b"], size: int) -> Iterator[tuple[Examples, Int[Tensor, " k"]]]:
        """The examples with these numbers in parts of at most ``size``, with the places of each part's examples among them.

        If there are several parts, the classes are mixed in proportion."""
        for part in self._places(numbers, size):
            yield self.rows(numbers[part]), part

    def _places(self, numbers: Int[Tensor, " b"], size: int) -> Sequence[Int[Tensor, " k"]]:
        places = torch.arange(len(numbers)) if len(numbers) <= size else _mixed(self.strata[numbers])
        return places.split(size)


def _mixed(labels: Tensor) -> Tensor:
    """An order of examples sorted by class in which every stretch holds the classes in proportion: a part of one class would be
    padded to as many points in each of the others."""
    sizes = torch.bincount(labels)
    within = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels]
    return ((within + 0.5) / sizes[labels]).argsort(stable=True)
