"""An interruption that says how to continue."""

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence

from experiments.run import Interrupted
from experiments.start import interruptible

__all__ = ["continued_by", "said_again"]


@contextlib.contextmanager
def continued_by(how: Callable[[], str]) -> Iterator[None]:
    """Say in an interruption how to continue.

    Args:
        how: what to do, as it is when the interruption comes; empty if nothing can be continued.

    Raises:
        KeyboardInterrupt: in place of the one that came, or of ``Interrupted``.
    """
    try:
        with interruptible():
            yield
    except (Interrupted, KeyboardInterrupt) as stopped:
        parts = (str(stopped) or "interrupted", how())
        raise KeyboardInterrupt("; ".join(part for part in parts if part)) from None


def said_again(imports: Sequence[str] = (), threads: int | None = None) -> str:
    """The options of the command line that a resume needs and no folder holds: the files with parts of the user's own, and the
    number of threads."""
    read = "".join(f" --import {shlex.quote(str(file))}" for file in imports)
    return read if threads is None else f"{read} --threads {threads}"
