"""The ledger: every release of private data, written down before it is made."""

import contextlib
import datetime
import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import filelock

from discrepancy.errors import InvalidInput
from objectives.data.fingerprint import Sketch, row_hashes
from objectives.data.real import RealData
from objectives.privacy.gaussian import composed, gaussian_epsilon, gaussian_mu
from objectives.storage import StorageError, append_lines, holds, read_lines

__all__ = ["Adjacency", "Charge", "DataKey", "Ledger"]

Adjacency = Literal["add-remove", "replace-one"]
"""Which data sets are neighbours: one has an example more, or one example is another one."""

ROUNDING = 1e-9
"""By this share a budget may be exceeded, since what is left is a difference."""


@dataclass(frozen=True)
class DataKey:
    """How a data set is known: by its fingerprint, and by the hashes of its points, which tell data that share examples."""

    fingerprint: str
    rows: frozenset[bytes]

    @classmethod
    def of(cls, data: RealData) -> "DataKey":
        """That of these data."""
        return cls(data.fingerprint(), frozenset(row_hashes(data.rows().points)))


@dataclass(frozen=True)
class Charge:
    """A release: μ is what it gives away; ``what`` says in words what was released, and never holds a private number.

    ``data`` and ``sketch`` are the fingerprint and some hashes of points, by which the examples are known again.
    """

    release: str
    time: str
    data: str
    adjacency: str
    mu: float
    what: str
    sketch: str

    def counts_for(self, data: DataKey) -> bool:
        """Whether it was a release of these data, or of some of their examples."""
        return self.data == data.fingerprint or Sketch.from_text(self.sketch).share_in(data.rows) > 0


@dataclass(frozen=True)
class Ledger:
    """The releases of data sets, in a file of JSON lines that belongs to the owner of the data.

    A data set is known by its training examples. Releases of it, and of data that share examples with it (a part, the same
    points with other labels or groups), add up over all the runs that name this file, in whatever order and from however many
    processes: one at a time reads and writes it. Shared examples are found by 256 hashes of points: of a part that is 1 % of
    the earlier data none is found with a probability of 8 %, and points in other units are others. A charge is on the disk
    before the release is made, so a run that is killed in between has paid for nothing, and never the other way round.

    Args:
        path: the file; it is made at the first charge.
    """

    path: Path

    def charges(self, data: DataKey) -> list[Charge]:
        """The releases of a data set, or of some of its examples, in the order in which they were charged.

        Raises:
            InvalidInput: if the file is damaged or cannot be read.
        """
        hints = {"release": str, "time": str, "data": str, "adjacency": str, "mu": float, "what": str, "sketch": str}
        self._check_end()
        lines = read_lines(
            self.path, lambda line: holds(line, hints) and line["mu"] >= 0 and _is_sketch(line["sketch"])
        )
        found = [Charge(**{name: line[name] for name in hints}) for line in lines]
        return [charge for charge in found if charge.counts_for(data)]

    def spent(self, data: DataKey, adjacency: Adjacency) -> float:
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

    def left(self, data: DataKey, adjacency: Adjacency, epsilon: float, delta: float) -> float:
        """μ that is left of a budget.

        Raises:
            InvalidInput: if nothing is.
        """
        spent, budget = self.spent(data, adjacency), gaussian_mu(epsilon, delta)
        if spent >= budget * (1 - ROUNDING):
            charges = self.charges(data)
            some = "" if {charge.data for charge in charges} == {data.fingerprint} else " or of some of their examples"
            raise InvalidInput(
                f"the budget of (ε, δ) = ({epsilon:g}, {delta:g}) is spent: '{self.path}' has {len(charges)} "
                f"{'release' if len(charges) == 1 else 'releases'} of these data{some}, together "
                f"ε = {gaussian_epsilon(spent, delta):.4g}; "
                "use the release that there is (--resume, or the set that was made), or decide on a larger epsilon"
            )
        return (budget**2 - spent**2) ** 0.5

    def charge(
        self, data: DataKey, adjacency: Adjacency, epsilon: float, delta: float, share: float, what: str
    ) -> Charge:
        """Write down a release that takes this share of what is left of a budget (of its μ², which adds up).

        Raises:
            InvalidInput: if nothing is left, or the file is damaged.
            StorageError: if it cannot be written; then nothing may be released.
        """
        assert adjacency in get_args(Adjacency)
        with self._held():
            left = self.left(data, adjacency, epsilon, delta)
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            known = data.fingerprint, adjacency, left * share**0.5, what, Sketch.of_hashes(data.rows).as_text()
            made = Charge(uuid.uuid4().hex, now, *known)
            append_lines(self.path, [json.dumps(asdict(made), ensure_ascii=False)])
        return made

    def _check_end(self) -> None:
        """Refuse a last line that is whole and has no end: an editor may have taken that from a charge. A line that a kill has
        cut off is not whole, and nothing was released for it."""
        if not self.path.is_file():
            return
        try:
            json.loads(self.path.read_bytes().split(b"\n")[-1])
        except (OSError, ValueError):
            return
        raise InvalidInput(
            f"the last line of '{self.path}' has no end, and would not be counted; end it with a line break"
        )

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """No other process reads or writes the file."""
        lock = filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise StorageError(
                f"the ledger '{self.path}' cannot be locked ({getattr(error, 'strerror', None) or error}), so nothing was "
                "charged or released; make its folder, or name a file that can be written"
            ) from error
        try:
            yield
        finally:
            lock.release()


def _is_sketch(text: str) -> bool:
    try:
        Sketch.from_text(text)
    except InvalidInput:
        return False
    return True
