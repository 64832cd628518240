"""The ledger: every release of private data, written down before it is made."""

import datetime
import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import filelock

from discrepancy.errors import InvalidInput
from objectives.privacy.gaussian import composed, gaussian_epsilon, gaussian_mu
from objectives.storage import append_lines, holds, read_lines

__all__ = ["Adjacency", "Charge", "Ledger"]

Adjacency = Literal["add-remove", "replace-one"]
"""Which data sets are neighbours: one has an example more, or one example is another one."""

ROUNDING = 1e-9
"""By this share a budget may be exceeded, since what is left is a difference."""


@dataclass(frozen=True)
class Charge:
    """A release: μ is what it gives away; ``what`` says in words what was released, and never holds a private number."""

    release: str
    time: str
    data: str
    adjacency: str
    mu: float
    what: str


@dataclass(frozen=True)
class Ledger:
    """The releases of data sets, in a file of JSON lines that belongs to the owner of the data.

    A data set is known by the fingerprint of its training examples. Its releases add up over all the runs that name this file,
    in whatever order and from however many processes: one at a time reads and writes it. A charge is on the disk before the
    release is made, so a run that is killed in between has paid for nothing, and never the other way round.

    Args:
        path: the file; it is made at the first charge.
    """

    path: Path

    def charges(self, data: str) -> list[Charge]:
        """The releases of a data set, in the order in which they were charged.

        Raises:
            InvalidInput: if the file is damaged or cannot be read.
        """
        hints = {"release": str, "time": str, "data": str, "adjacency": str, "mu": float, "what": str}
        lines = read_lines(self.path, lambda line: holds(line, hints) and line["mu"] >= 0)
        return [Charge(**{name: line[name] for name in hints}) for line in lines if line["data"] == data]

    def spent(self, data: str, adjacency: Adjacency) -> float:
        """μ of all the releases of a data set together, √(Σ μᵢ²).

        Raises:
            InvalidInput: if some were charged under another adjacency, which cannot be added up.
        """
        charges = self.charges(data)
        others = sorted({charge.adjacency for charge in charges} - {adjacency})
        if others:
            raise InvalidInput(
                f"'{self.path}' holds releases of these data under adjacency {others[0]}, and this one is under {adjacency}; "
                "keep to one of them"
            )
        return composed(charge.mu for charge in charges)

    def left(self, data: str, adjacency: Adjacency, epsilon: float, delta: float) -> float:
        """μ that is left of a budget.

        Raises:
            InvalidInput: if nothing is.
        """
        spent, budget = self.spent(data, adjacency), gaussian_mu(epsilon, delta)
        if spent >= budget * (1 - ROUNDING):
            number = len(self.charges(data))
            raise InvalidInput(
                f"the budget of (ε, δ) = ({epsilon:g}, {delta:g}) is spent: '{self.path}' has {number} "
                f"{'release' if number == 1 else 'releases'} of these data, together ε = {gaussian_epsilon(spent, delta):.4g}; "
                "use the release that there is (--resume, or the set that was made), or decide on a larger epsilon"
            )
        return (budget**2 - spent**2) ** 0.5

    def charge(self, data: str, adjacency: Adjacency, epsilon: float, delta: float, share: float, what: str) -> Charge:
        """Write down a release that takes this share of what is left of a budget (of its μ², which adds up).

        Raises:
            InvalidInput: if nothing is left, or the file is damaged.
            StorageError: if it cannot be written; then nothing may be released.
        """
        assert adjacency in get_args(Adjacency)
        with filelock.FileLock(self.path.with_name(f".{self.path.name}.lock")):
            left = self.left(data, adjacency, epsilon, delta)
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            made = Charge(uuid.uuid4().hex, now, data, adjacency, left * share**0.5, what)
            append_lines(self.path, [json.dumps(asdict(made), ensure_ascii=False)])
        return made
