"""D between a real sample and several sets, with its uncertainty from random halves of the sample; in three ways, for three
sorts of D.

- MMD: the sums of the kernel over pairs of blocks of real points are taken once, and every half is a sum of them.
- D that merge: every block of real points is summarised once, and every half merges half of the summaries.
- All others: every half is summarised anew.

In each way the real side of a half is summarised once for all the sets. Nothing of size n x n or n x m is held.
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from discrepancy.discrepancy import Discrepancy, Draws
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.kernels import Kernel
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import safe_root
from discrepancy.numerics.pairwise import cross_sum, self_sum
from experiments.compare.halves import Halved, blocks_of, splits_of
from experiments.compare.yardstick import LARGEST, REFERENCE, SIZES, PowerLaw, simulated
from objectives.rng import rng

__all__ = ["CAPS", "Bound", "Measured", "cap_of"]

BLOCKS = 20
BATCH_ENTRIES = 1 << 18
"""Entries of points whose pairs are summed in one call: many small blocks at once, large ones by themselves."""

BATCH_BYTES = 16 << 20
"""Copies of a summary that are held to compare several samples at once."""

SUMMARIES_BYTES = 256 << 20
"""Memory for the summaries of blocks; where they are large there are fewer of them."""

CAPS: Mapping[str, int | None] = {
    "wasserstein": 2000,
    "sliced_wasserstein": None,
    "covering_radius": None,
    "smooth_cover": None,
    "quantiles": None,
}
"""Points a side, by kind, above which a random part of them is compared; None for a cost that is linear in them."""
KEPT_CAP = 5000
"""The same for every other discrepancy that keeps the real points, but for MMD, whose sums over pairs are taken once."""

YARDSTICK_WORK = 1 << 31
"""Points of a sample times entries of the reference, for the largest sample of a simulated yardstick."""

SUPREMA = frozenset({"covering_radius", "smooth_cover"})
"""Kinds that look at the extreme real points alone: they grow with the sample, and halves say nothing of their error."""

Advance = Callable[[float], None]
"""Is called with the share of the work that is done."""


def cap_of(discrepancy: Discrepancy) -> int | None:
    """Points a side above which a random part of them is compared; None where there is no limit."""
    if discrepancy.mergeable or discrepancy.as_mmd() is not None:
        return None
    return CAPS.get(discrepancy.kind, KEPT_CAP)


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found for one discrepancy and group of one network: a value for every set, None where it could not be taken.

    ``reason`` says why there is no value, or no interval."""

    values: tuple[Halved | None, ...]
    yardstick: Any
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Bound:
    """A discrepancy with its data-dependent constants as numbers, and with its random parts drawn."""

    discrepancy: Discrepancy
    draws: Draws
    splits: int

    def measured(
        self,
        real: Measure,
        sets: Sequence[Measure | None],
        seed: int,
        group: str,
        advance: Advance = lambda done: None,
        yardstick: bool = True,
    ) -> Measured:
        """D of a flat real sample and of every set, with halves and, where it is wanted or costs nothing, the yardstick."""
        generator = rng(seed, "halves", group, len(real))
        with torch.no_grad():
            mmd = self.discrepancy.as_mmd()
            if mmd is not None:
                return _by_pairs(mmd, real, sets, self.splits, generator, advance)
            return self._by_summaries(real, sets, seed if yardstick else None, group, generator, advance)

    def summary(self, real: Measure) -> Any:
        return self.discrepancy.summarise(real.as_groups(), self.draws)

    def value(self, summary: Any, other: Measure) -> float:
        """D of a summary and a flat measure."""
        return float(self.distance(summary, other))

    def distance(self, summary: Any, other: Measure) -> Float[Tensor, ""]:
        """The same, differentiable in the flat measure where gradients are recorded."""
        other = other.as_groups()
        draws = self.discrepancy.sharpened(summary, other, self.draws)
        return self.discrepancy.compare(summary, other, draws)[0]

    def values(self, summary: Any, others: Sequence[Measure]) -> list[float]:
        """D of a summary and several flat measures of one size, at once where the summary is small."""
        if summary.nbytes * len(others) > BATCH_BYTES:
            return [self.value(summary, other) for other in others]
        grouped = [other.as_groups() for other in others]
        stacked = Measure(
            torch.cat([other.tensors[""] for other in grouped]),
            torch.cat([other.weights for other in grouped]),
            None
            if others[0].labels is None
            else torch.cat([other.labels for other in grouped if other.labels is not None]),
        )
        copies = summary.select(torch.zeros(len(others), dtype=torch.long, device=stacked.weights.device))
        draws = self.discrepancy.sharpened(copies, stacked, self.draws)
        return self.discrepancy.compare(copies, stacked, draws).tolist()

    @property
    def _smooth(self) -> bool:
        """Discrepancies for reports only (nearest neighbours, classifiers) have a bias of another form than c / n, or none."""
        return "differentiable" in self.discrepancy.tags

    def _by_summaries(
        self,
        real: Measure,
        sets: Sequence[Measure | None],
        seed: int | None,
        group: str,
        generator: torch.Generator,
        advance: Advance,
    ) -> Measured:
        values, reason = [], None
        try:
            whole = self.summary(real)
        except InvalidInput as error:
            return Measured((None,) * len(sets), None, str(error))
        for other in sets:
            try:
                values.append(None if other is None else self.value(whole, other))
            except InvalidInput as error:
                values.append(None)
                reason = str(error)
        advance(0.05)
        if all(value is None for value in values):
            return Measured((None,) * len(sets), None, reason)
        known = [place for place, value in enumerate(values) if value is not None]
        halves: list[list[tuple[float, float]]] = [[] for _ in sets]
        degrees = max(1, min(self.splits, len(real) - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # the same was said of the whole
            try:
                for number, (first, second, contrasts) in enumerate(self._halves(real, generator)):
                    degrees = min(degrees, contrasts)
                    for place in known:
                        other = sets[place]
                        assert other is not None
                        halves[place].append((self.value(first, other), self.value(second, other)))
                    advance(0.05 + 0.6 * (number + 1) / self.splits)
            except InvalidInput as error:
                reason, halves = f"no interval, because {error}", [[] for _ in sets]
            yardstick = None
            if seed is not None:
                draws, largest = rng(seed, "yardstick", group), self._largest(real)
                yardstick = simulated(self.summary, self.values, real, draws, largest, advance)
        found: list[Halved | None] = []
        for value, pairs in zip(values, halves, strict=True):
            first, second = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).unbind(1)
            found.append(None if value is None else Halved.corrected(value, first, second, degrees))
        return Measured(tuple(found), yardstick, reason)

    def _largest(self, real: Measure) -> int:
        """The largest sample of the yardstick: as the work allows where points are compared with points."""
        if self.discrepancy.mergeable:
            return SIZES[-1]
        if cap_of(self.discrepancy) is not None:
            return LARGEST
        entries = min(len(real) // 2, REFERENCE) * real.tensors[""][0].numel()
        return max(LARGEST // 4, min(SIZES[-1], YARDSTICK_WORK // max(entries, 1)))

    def _halves(self, real: Measure, generator: torch.Generator) -> Iterator[tuple[Any, Any, int]]:
        """The summaries of both halves of every split, and how many independent contrasts there are."""
        n = len(real)
        if self.discrepancy.kind in SUPREMA:
            raise InvalidInput("it is a supremum over the real points, which grows with their number")
        if not self._smooth:
            raise InvalidInput("it depends on the number of real points, and halves say nothing of its error")
        if n < 2:
            raise InvalidInput(f"halves need at least 2 real points, got {n}; give more")
        if not self.discrepancy.mergeable:
            for first in splits_of(n, self.splits, generator):
                yield self.summary(real.select(first)), self.summary(real.select(~first)), n - 1
            return
        rows = blocks_of(n, BLOCKS, generator)
        size = self.summary(real.select(rows[0])).nbytes
        rows = blocks_of(n, max(4, min(BLOCKS, SUMMARIES_BYTES // max(size, 1))), generator)
        parts = [self.summary(real.select(block)) for block in rows]
        for first in splits_of(len(parts), self.splits, generator).tolist():
            sides = [
                [part for part, chosen in zip(parts, first, strict=True) if chosen is side] for side in (True, False)
            ]
            one, other = (functools.reduce(self.discrepancy.merge, side) for side in sides)
            yield one, other, len(parts) - 1


# --- MMD ------------------------------------------------------------------------------------------------------------------


def _by_pairs(
    mmd: MMD,
    real: Measure,
    sets: Sequence[Measure | None],
    splits: int,
    generator: torch.Generator,
    advance: Advance,
) -> Measured:
    """MMD², unbiased on the real side, from sums over pairs of blocks of equal weights."""
    n = len(real)
    if n < 2:
        reason = f"estimator 'u' leaves out the pairs of a point with itself, so it needs 2 real points, got {n}"
        return Measured((None,) * len(sets), None, f"{reason}; give more, or compare without classes (--by none)")
    points = real.rows
    rows = blocks_of(n, BLOCKS, generator)
    counts = torch.tensor([len(block) for block in rows], dtype=torch.float64)
    table = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1).to(points.device)
    blocks, inside = points[table.clamp(min=0)], (table >= 0).to(points.dtype)
    own = _own_sums(mmd.kernel, blocks, inside, advance)
    diagonal = (_diagonal(mmd.kernel, blocks) * inside).sum(1).cpu()
    chosen = splits_of(len(rows), splits, generator).double()
    sides = [side for side in (chosen, 1 - chosen) if n >= 4]
    whole = torch.ones(1, len(rows), dtype=torch.float64)
    unbiased = _unbiased(own, diagonal, counts, whole)
    values = []
    for other in sets:
        if other is None:
            values.append(None)
            continue
        y, v = other.rows, other.shares
        across = _cross_sums(mmd.kernel, blocks, inside, y, v)
        itself = _itself(mmd.kernel, y, v)
        of = lambda side, term, across=across, itself=itself: (  # noqa: E731
            term - 2 * (side @ across) / (side @ counts) + itself
        )
        value = of(whole, torch.einsum("sa,sb,ab->s", whole, whole, own) / n**2)
        halves = [of(side, _unbiased(own, diagonal, counts, side)) for side in sides]
        first, second = halves or (torch.empty(0, dtype=torch.float64),) * 2
        if mmd.root:
            value, first, second = safe_root(value), safe_root(first), safe_root(second)
        estimate = of(whole, unbiased)
        estimate = safe_root(estimate) if mmd.root else estimate
        values.append(Halved(float(value), float(estimate), first, second, max(1, min(splits, len(rows) - 1))))
    spread = float(diagonal.sum()) / n - float(unbiased)
    yardstick = PowerLaw(max(spread, 0.0), 1.0)
    advance(1.0)
    return Measured(
        tuple(values),
        yardstick.rooted() if mmd.root else yardstick,
        None if sides else f"no interval, because halves need at least 4 real points, got {n}",
    )


def _unbiased(own: Tensor, diagonal: Tensor, counts: Tensor, side: Float64[Tensor, "s b"]) -> Float64[Tensor, " s"]:
    """E k(x, x') over the pairs of different points of the blocks that a side has."""
    n = side @ counts
    return (torch.einsum("sa,sb,ab->s", side, side, own) - side @ diagonal) / (n * (n - 1))


def _own_sums(kernel: Kernel, blocks: Tensor, inside: Tensor, advance: Advance) -> Float64[Tensor, "b b"]:
    """The sums of k over all pairs of points of two blocks, on the CPU; ``inside`` is 1 at points and 0 at padding."""
    if kernel.finite:
        sums = _sums(kernel, blocks, inside)
        return (sums @ sums.mT).cpu()
    count = len(blocks)
    own = torch.diag(torch.cat([self_sum(kernel, *part) for part in _batches(blocks, inside)])).cpu()
    first, second = torch.tril_indices(count, count, -1)
    size = max(1, BATCH_ENTRIES // blocks[0].numel())
    for i, j in zip(first.split(size), second.split(size), strict=True):
        own[i, j] = own[j, i] = cross_sum(kernel, blocks[i], inside[i], blocks[j], inside[j]).cpu()
        advance(0.9 * float(i[-1] * (i[-1] - 1) / 2 + j[-1] + 1) / len(first))
    return own


def _cross_sums(
    kernel: Kernel, blocks: Tensor, inside: Tensor, y: Float[Tensor, "m d"], v: Float[Tensor, " m"]
) -> Float64[Tensor, " b"]:
    """The sums of k over the points of each block, against a weighted set, on the CPU."""
    if kernel.finite:
        return (_sums(kernel, blocks, inside) @ (v @ kernel.features(y).double())).cpu()
    sums = [
        cross_sum(kernel, x, w, y.expand(len(x), *y.shape), v.expand(len(x), *v.shape))
        for x, w in _batches(blocks, inside, len(y) * y.shape[1])
    ]
    return torch.cat(sums).cpu()


def _itself(kernel: Kernel, y: Float[Tensor, "m d"], v: Float[Tensor, " m"]) -> float:
    """The sum of k over all pairs of a weighted set."""
    if kernel.finite:
        return float((v @ kernel.features(y).double()).square().sum())
    return float(self_sum(kernel, y[None], v[None]))


def _diagonal(kernel: Kernel, blocks: Tensor) -> Float64[Tensor, "b n"]:
    """k(x, x) of every point; far from the origin a product in float32 would not do."""
    if kernel.finite:
        return torch.stack([kernel.features(block).double().square().sum(1) for block in blocks])
    return kernel.diagonal(blocks).double()


def _sums(kernel: Kernel, blocks: Tensor, inside: Tensor) -> Float64[Tensor, "b p"]:
    """Σ φ over the points of each block of a finite kernel."""
    return torch.stack([w.double() @ kernel.features(x).double() for x, w in zip(blocks, inside, strict=True)])


def _batches(blocks: Tensor, inside: Tensor, least: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """As many blocks at a time as are small together."""
    size = max(1, BATCH_ENTRIES // max(blocks[0].numel(), least))
    yield from zip(blocks.split(size), inside.split(size), strict=True)
