"""An interruption that says how to continue."""

import contextlib
from collections.abc import Callable, Iterator

from experiments.run import Interrupted

__all__ = ["continued_by"]


@contextlib.contextmanager
def continued_by(how: Callable[[], str]) -> Iterator[None]:
    """Say in an interruption how to continue.

    Args:
        how: what to do, as it is when the interruption comes; empty if nothing can be continued.

    Raises:
        KeyboardInterrupt: in place of the one that came, or of ``Interrupted``.
    """
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stopped:
        parts = (str(stopped) or "interrupted", how())
        raise KeyboardInterrupt("; ".join(part for part in parts if part)) from None
