"""An interruption that says how to continue."""

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence

from experiments.run import Interrupted

__all__ = ["continued_by", "imported"]


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


def imported(files: Sequence[str]) -> str:
    """The options that read these files with parts of the user's own again."""
    return "".join(f" --import {shlex.quote(str(file))}" for file in files)
