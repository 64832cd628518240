"""What was released of private data: noisy sums, which stand in for the real side. No example can be reached from here."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.errors import InvalidInput
from objectives.data.examples import Examples
from objectives.data.labels import Labels
from objectives.data.real import Query, RealData, Summaries
from objectives.data.spec import DataSpec

__all__ = ["Released", "Sums"]

Sums = Mapping[tuple[str, str, str], tuple[Float[Tensor, "g p"], Float[Tensor, " g"]]]
"""The noisy sum of a statistic over the examples of each group, and the noisy number of these, by draw, term and block."""


class Released(RealData):
    """A real side that answers ``summaries`` alone, from noisy sums.

    Args:
        spec: what is public of the data.
        size: n, the number of examples, which is public. How many there are of a class is not: to whoever asks they are equally
            many.
        sums: what was released; None is a rehearsal, with blank examples in the place of the real ones, to see whether a
            problem asks for nothing else before a budget is spent.
        about: what the record of a set says of the release.
    """

    def __init__(
        self, spec: DataSpec, size: int, sums: Sums | None = None, about: Mapping[str, Any] | None = None
    ) -> None:
        self._spec, self._size, self.sums, self.about = spec, size, sums, dict(about or {})

    def __len__(self) -> int:
        return self._size

    @property
    def spec(self) -> DataSpec:
        return self._spec

    def summaries(self, query: Query) -> Summaries:
        if self.sums is None:
            return self._rehearsed(query)
        found: dict[str, dict[str, Any]] = {name: {} for name in query.accumulators}
        for (draw, name, block), released in self.sums.items():
            if draw == query.draw and name in found:
                found[name][block] = released
        missing = [name for name, blocks in found.items() if not blocks]
        if missing:
            raise InvalidInput(
                f"nothing was released for term '{missing[0]}' in draw {query.draw}; the release is another's"
            )
        return {name: query.accumulators[name].of_sums(blocks) for name, blocks in found.items()}

    def _rehearsed(self, query: Query) -> Summaries:
        examples, places = self.blank, torch.arange(self.count)
        taken = query.embed(examples, places)
        for accumulator in query.accumulators.values():
            accumulator.statistics(taken, examples)  # refuses what cannot be released
            accumulator.add(taken, examples)
        return {name: accumulator.summaries() for name, accumulator in query.accumulators.items()}

    @property
    def blank(self) -> Examples:
        """One example of each class in which every value is the mean of the normalisation."""
        mean = torch.tensor(self.normalisation.mean).reshape(-1, *[1] * (len(self.shape) - 1))
        labels = Labels("hard", torch.arange(self.count)) if self.classes else Labels()
        return Examples(mean.expand(self.count, *self.shape), labels)

    # --- what is public -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def counts(self) -> Int[Tensor, "c g"]:
        """As if the classes were equally large."""
        return torch.tensor([len(self) // self.count + (c < len(self) % self.count) for c in range(self.count)])[
            :, None
        ]

    @property
    def per_class(self) -> tuple[int, ...]:
        return tuple(self.counts[:, 0].tolist())

    @property
    def groups(self) -> None:
        return None

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for pair in (self.sums or {}).values() for value in pair)

    def fingerprint(self) -> str:
        """Of the release, not of the data: who has a copy of an example could look for it in that."""
        found = hashlib.sha256()
        for key, pair in sorted((self.sums or {}).items()):
            found.update("/".join(key).encode())
            for value in pair:
                found.update(value.contiguous().numpy().tobytes())
        return found.hexdigest()

    def provenance(self) -> dict[str, Any]:
        return {"privacy": self.about}

    # --- what is not --------------------------------------------------------------------------------------------------

    def require_rows(self, what: str) -> None:
        self._refuse(what)

    def rows(self, numbers: Int[Tensor, " b"] | None = None) -> Examples:
        self._refuse("this")

    @property
    def labels(self) -> Labels:
        self._refuse("what asks for labels")

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidInput(
            f"'{self.name}' is private: noisy sums of its examples are all that is released, and {what} needs the examples "
            "themselves; do without it, or run without 'privacy'"
        )
