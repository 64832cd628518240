"""The curator: the only one who sees the examples of private data. What leaves is one noisy vector.

Every example has a vector v, the statistics of all terms in all the draws of the context one after the other, and a further
entry for its class:

    v(x) = (t₁(x), ..., t_J(x)),        clipped:  v min(1, C / ‖v‖)  with  C = clip √J
    u(x, y) = (v(x) ⊗ e_y,  s e_y)      where a term is by: class, else  u = v;   s = C / 5
    released, once:   Σ u + σ z,        z standard normal,  σ = Δ / μ,   μ of the budget (:mod:`objectives.privacy.gaussian`)

    Δ = √(C² + s²)       add-remove            C     where no term is by: class
    Δ = √(4 C² + 2 s²)   replace-one           2 C   the same

With the noisy counts, Σ s e_y, sums become means. All that follows is computed from the release and costs nothing more: any
number of steps.
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import user_path
from objectives.data.examples import Examples
from objectives.data.in_memory import InMemory
from objectives.data.real import RealData
from objectives.data.released import Released, Sums
from objectives.data.spec import DataSpec
from objectives.data.units import Normalisation
from objectives.engine.real_side import RealSide
from objectives.privacy.budget import Privacy
from objectives.privacy.gaussian import gaussian_epsilon
from objectives.privacy.ledger import Charge, DataKey, Ledger
from objectives.privacy.noise import Noise, secure_normal
from objectives.solvers.base import Problem, Solver

__all__ = ["COUNTS", "Announced", "Totals", "announced", "asked", "private", "public_spec", "rehearsed", "sensitivity"]

Key = tuple[str, str, str]

COUNTS = 0.2
"""s / C: the length of what an example adds to the number of its class, relative to its statistics."""

ROUNDING = 1e-12
"""By this share vectors are made shorter than C, so that rounding makes none longer."""

PART_BYTES = 64 << 20
"""Of the statistics of a part, which are held at once."""


def sensitivity(clip: float, privacy: Privacy, *, classes: bool) -> float:
    """Δ: the largest change of what is released by one example.

    Replacing one changes v by 2 C at most, and the numbers of two classes by s each; both at once where a term by: none stands
    beside one by: class, since sums of two classes have no entry in common. ``classes`` says whether a term is by: class.
    """
    one = math.hypot(clip, COUNTS * clip) if classes else clip
    two = math.hypot(2 * clip, math.sqrt(2) * COUNTS * clip) if classes else 2 * clip
    return two if privacy.adjacency == "replace-one" else one


def rehearsed(problem: Problem, privacy: Privacy, solver: Solver) -> Problem:
    """The problem on blank examples, after one step of it: whatever needs more than a release can give refuses here.

    Raises:
        InvalidInput: naming what cannot be done.
    """
    data, context = problem.data, problem.context
    privacy.check(len(data))
    if context.draws is None or context.batch != "all":
        raise InvalidInput(
            f"what is released must be known beforehand: the context '{context.kind}' has no end of draws, or takes a batch of "
            "the data; use the context 'pool' with batch: all"
        )
    if context.augment is not None and context.augment.per == "image":
        raise InvalidInput(
            "an augmentation per: image has a draw for each example in turn, so one example more would change what all the "
            "others add; use per: class"
        )
    of_groups = [name for name, term in problem.objective.terms if term.compares == "group"]
    if of_groups:
        raise InvalidInput(
            f"term '{of_groups[0]}' is by: group, and how many examples a group has is private; use by: class or by: none"
        )
    if data.target_units is not None:
        raise InvalidInput(
            f"'{data.name}' has targets, whose units are measured on them; privacy is for data with classes, or without labels"
        )
    blank = Released(public_spec(data), len(data))
    tried = replace(problem, data=blank, runtime=replace(problem.runtime, compile="never"))
    solver.start(tried).advance()
    return tried


def private(
    problem: Problem,
    privacy: Privacy,
    solver: Solver,
    *,
    noise: Noise = secure_normal,
    progress: Callable[[int, int], None] | None = None,
    keep: Callable[[Released], None] | None = None,
) -> Problem:
    """The problem with a release in the place of its data. That is charged when the sums are there, before noise makes a
    release of them; so a run that dies while it sums up has paid nothing.

    Args:
        noise: standard normal numbers; anything but the default is for tests, and the record says that the set is not private.
        progress: called with the examples that are summed up, and all.
        keep: called with the release before it is used.

    Raises:
        InvalidInput: if something needs more than a release, or the budget is spent; nothing is charged then.
        StorageError: if the charge cannot be written; then nothing is released.
    """
    totals, data = _unsummed(problem, privacy, solver)
    known = None if privacy.ledger is None else (Ledger(user_path("ledger", privacy.ledger)), DataKey.of(problem.data))
    if known is not None:
        known[0].left(known[1], privacy.adjacency, privacy.epsilon, privacy.delta)
    totals.add_up(data, progress)
    charge = _charged(known, privacy, totals.words)
    sums = totals.noisy(charge.mu, noise, len(data))
    about = _about(privacy, charge, totals, secure=noise is secure_normal)
    made = Released(data.spec, len(data), sums, about | {"asked": asked(problem, {name for _, name, _ in sums})})
    if keep is not None:
        keep(made)
    return replace(problem, data=made)


@dataclass(frozen=True)
class Announced:
    """What a release would be, before anything is spent.

    Args:
        what: in words.
        epsilon: ε of this release alone.
        noise: the standard deviation σ of the noise of every number.
        length: C, the length to which the vector of an example is clipped.
        spent: ε of the releases that the ledger holds.
    """

    what: str
    epsilon: float
    noise: float
    length: float
    spent: float


def announced(problem: Problem, privacy: Privacy, solver: Solver) -> Announced:
    """What :func:`private` would do; nothing is charged, and no statistics are added up.

    Raises:
        InvalidInput: if it would refuse.
    """
    totals, _ = _unsummed(problem, privacy, solver)
    mu, spent = privacy.mu, 0.0
    if privacy.ledger is not None:
        ledger, data = Ledger(user_path("ledger", privacy.ledger)), DataKey.of(problem.data)
        mu = ledger.left(data, privacy.adjacency, privacy.epsilon, privacy.delta)
        spent = gaussian_epsilon(ledger.spent(data, privacy.adjacency), privacy.delta)
    mu *= privacy.share**0.5
    return Announced(totals.words, gaussian_epsilon(mu, privacy.delta), totals.sensitivity / mu, totals.clip, spent)


def _unsummed(problem: Problem, privacy: Privacy, solver: Solver) -> "tuple[Totals, RealData]":
    """The sums before the first example, and the examples in public units."""
    spec = rehearsed(problem, privacy, solver).data.spec
    if problem.data.rows().weights is not None:
        raise InvalidInput(
            f"the examples of '{problem.data.name}' have weights, and private ones count alike; remove them"
        )
    own, draws = replace(problem, data=InMemory(spec, problem.data.rows())), problem.context.draws
    assert draws is not None
    return Totals(own.engine(len(draws)).real_side, privacy), own.data


def asked(problem: Problem, names: Collection[str]) -> str:
    """A hash of what the sums of the terms with these names depend on beside the examples; a release is of use for no other."""
    terms = {name: term.describe() for name, term in problem.objective.terms if name in names}
    found = [problem.runtime.seed, str(problem.runtime.dtype), problem.context.describe(), terms]
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()


def public_spec(data: RealData) -> DataSpec:
    """The spec with nothing in it that was measured on the examples: where the normalisation was, it is that of the limits."""
    spec = data.spec
    if not spec.normalisation.of_examples:
        return spec
    if spec.limits is None:
        raise InvalidInput(
            f"the normalisation of '{spec.name}' is measured on its examples, and their limits are not known; state one or "
            "the other: LabelledData.of(..., normalisation=..., limits=...)"
        )
    low, high = spec.limits
    return replace(spec, normalisation=Normalisation(((low + high) / 2,), ((high - low) / 2,)))


def _charged(known: tuple[Ledger, DataKey] | None, privacy: Privacy, words: str) -> Charge:
    if known is None:
        return Charge("", "", "", privacy.adjacency, privacy.mu * privacy.share**0.5, words, "")
    ledger, data = known
    return ledger.charge(data, privacy.adjacency, privacy.epsilon, privacy.delta, privacy.share, words)


def _about(privacy: Privacy, charge: Charge, totals: "Totals", *, secure: bool) -> dict[str, Any]:
    """What the record of a set says: nothing that was measured on the data."""
    return {
        "private": secure,
        "epsilon": gaussian_epsilon(charge.mu, privacy.delta),
        "delta": privacy.delta,
        "adjacency": privacy.adjacency,
        "mu": charge.mu,
        "noise": totals.sensitivity / charge.mu,
        "clip": totals.clip,
        "statistics": totals.statistics,
        "release": charge.release,
        **({} if secure else {"warning": "the noise was not that of the operating system: this set is not private"}),
    }


class Totals:
    """The sums of the clipped vectors, and the numbers of examples of the classes.

    Args:
        real_side: on the private data.
        privacy: the clipping and the neighbours.
    """

    def __init__(self, real_side: RealSide, privacy: Privacy) -> None:
        context = real_side.context
        draws = context.context.draws
        assert draws is not None
        self.queries, self.classes = [real_side.query(draw) for draw in draws], context.data.count
        one = torch.arange(1)
        found = {
            key: (groups, values.shape[1]) for key, groups, values, _ in self._statistics(context.data.rows(one), one)
        }
        self.by_class = any(groups > 1 for groups, _ in found.values())
        self.statistics, self.numbers = len(found), sum(groups * width for groups, width in found.values())
        self.clip = privacy.clip * math.sqrt(self.statistics)
        self.sensitivity = sensitivity(self.clip, privacy, classes=self.by_class)
        width = sum(width for _, width in found.values())
        self.part = max(1, PART_BYTES // (8 * width) // context.chunk) * context.chunk
        self.sums = {key: torch.zeros(shape, dtype=torch.float64) for key, shape in found.items()}
        self.counts = torch.zeros(self.classes, dtype=torch.float64)

    @property
    def words(self) -> str:
        """What is released, for the ledger."""
        counts = ", and the number of examples of each class" if self.by_class else ""
        return f"sums of {self.statistics} statistics, {self.numbers:,} numbers{counts}, once"

    def _statistics(self, examples: Examples, places: Tensor) -> Iterator[tuple[Key, int, Tensor, Tensor]]:
        """The statistics of these examples in all the draws, with the number of groups and the group of each example."""
        for query in self.queries:
            taken = query.embed(examples, places)
            for name, accumulator in query.accumulators.items():
                for block, (values, groups) in accumulator.statistics(taken, examples).items():
                    yield (query.draw, name, block), accumulator.groups, values.cpu(), groups.cpu()

    @torch.no_grad()
    def add_up(self, data: RealData, progress: Callable[[int, int], None] | None = None) -> None:
        """Add every example once."""
        done = 0
        for examples, places in data.parts(self.queries[0].choose(data), self.part):
            found = list(self._statistics(examples, places))
            factors = self._factors([values for _, _, values, _ in found])[:, None]
            for key, _, values, groups in found:
                self.sums[key].index_add_(0, groups, torch.nan_to_num(values) * factors)
            self.counts += torch.bincount(examples.numbers("class").cpu(), minlength=self.classes)
            done += len(examples)
            if progress is not None:
                progress(done, len(data))

    def _factors(self, statistics: Sequence[Tensor]) -> Tensor:
        """min(1, C / ‖v‖) of every example; 0 where v is not finite."""
        lengths = torch.stack([values.square().sum(1) for values in statistics]).sum(0).sqrt()
        factors = (self.clip / lengths).clamp(max=1.0) * (1 - ROUNDING)
        return torch.where(lengths.isfinite(), factors, 0.0)

    def noisy(self, mu: float, noise: Noise, examples: int) -> Sums:
        """The sums with noise, and the mass of each group: the noisy number of its examples, at least 1, or all of them."""
        sigma = self.sensitivity / mu
        counts = self.counts + sigma / (COUNTS * self.clip) * noise((self.classes,))
        everything = torch.tensor([float(examples)], dtype=torch.float64)
        return {
            key: (total + sigma * noise(tuple(total.shape)), counts.clamp(min=1.0) if len(total) > 1 else everything)
            for key, total in self.sums.items()
        }
