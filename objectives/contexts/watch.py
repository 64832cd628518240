"""Loops that end by what a network achieves."""

from collections.abc import Sequence

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part, check_least

__all__ = ["Watch"]


class Watch(Part, family=True, kind="accuracy"):
    """Loops that end by what the network achieves (CAFE), and not by a count.

    The accuracy on fresh real examples is taken after every step and after every round of training. A network is done with
    when the last ``window`` of those after its steps differ by less than ``settled``; the rounds that follow a step end when
    the last ``window`` of those after them differ by more than ``moved``.

    The published code adds a tenth of the former accuracy (for ten classes) to each, by accident; so a window that starts
    from nothing has nearly always moved.

    Args:
        window: accuracies that are compared.
        examples: real examples of each class that an accuracy is taken on, without augmentation.
        settled: λ_1, of the accuracies after the steps of a network.
        moved: λ_2, of the accuracies after the rounds that follow a step.
        most: rounds after a step, should the accuracy never move; the published code has no end then.

    References: CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., 2022).
    """

    window: int = 10
    examples: int = 128
    settled: float = 0.04
    moved: float = 0.03
    most: int = 50

    def __post_init__(self) -> None:
        for name, least in (("window", 2), ("examples", 1), ("most", 1)):
            check_least(name, getattr(self, name), least)
        if self.most < self.window:
            raise InvalidInput(f"'most' must be at least 'window', {self.window}, got {self.most}")
        for name in ("settled", "moved"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(f"'{name}' is a difference of accuracies, from 0 to 1, got {getattr(self, name)}")

    def spread(self, accuracies: Sequence[float]) -> float | None:
        """The largest difference of the last ``window``; None while there are fewer."""
        last = accuracies[-self.window :]
        return max(last) - min(last) if len(last) == self.window else None
