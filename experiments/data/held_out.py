"""Training data with a part held out in place of the test data, for choices that must not look at these."""

from dataclasses import replace

from experiments.data.base import Source, check_fraction, hashed_order
from objectives.data.labelled import LabelledData

__all__ = ["HeldOut"]


class HeldOut(Source, kind="held_out"):
    """Another source without its test data: the ``fraction`` of each class that comes first in the order of
    SHA-256("validation:number") takes their place, and only the rest is there to be condensed. The units stay as they were.

    Args:
        of: the source; what this one is named after.
        fraction: the share of each class that is held out.
    """

    of: Source
    fraction: float = 0.1

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    @property
    def original(self) -> Source:
        return self.of

    @property
    def title(self) -> str:
        return f"{self.of.title}-held-out"

    def at(self, root: str) -> Source:
        return replace(self, of=self.of.at(root))

    def load(self) -> LabelledData:
        data = self.of.load()
        divided = data.hold_out(self.fraction, lambda rows: hashed_order(rows, "validation"))
        return divided.changed(name=f"{data.name} (held out)")
