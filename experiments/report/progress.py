"""Progress on the terminal, with the time left; where there is none, a line now and then; nothing with ``--quiet``."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from discrepancy.errors import printable

__all__ = ["COMPILING", "Advance", "Shown", "console", "said", "shown", "silent", "staged"]

Advance = Callable[[int, str], None]
"""``advance(done, note)``: this part of the total is done; the note is shown beside the bar."""

Shown = Callable[[str, int], AbstractContextManager[Advance]]
"""``with progress(title, total) as advance``: how the progress of one stage is shown; see :func:`shown` and :func:`silent`."""

SECONDS_BETWEEN_LINES = 15.0

COMPILING = "compiling"
"""The note before a first step that compiles; it is shown at once."""


def console() -> Console:
    """Where progress goes: standard error, so that results on standard output can be piped."""
    return Console(stderr=True)


@contextlib.contextmanager
def shown(title: str, total: int, quiet: bool = False) -> Iterator[Advance]:
    """Show the progress of something long."""
    out, title = console(), printable(title)
    if quiet:
        yield lambda done, note="": None
    elif out.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=out) as bar:
            task = bar.add_task(title, total=total, note="")
            yield lambda done, note="": bar.update(task, completed=done, note=note)
    else:
        yield _lines(title, total, out)


def said(text: str) -> None:
    """Show a sentence, above the bar where there is one."""
    print(printable(f"condense: {text}"), file=sys.stderr)


def silent(title: str, total: int) -> AbstractContextManager[Advance]:
    """Show nothing."""
    return shown(title, total, quiet=True)


@contextlib.contextmanager
def staged(quiet: bool = False) -> Iterator[Callable[[str, int], Advance]]:
    """Show the progress of one thing after the other: each ``stage(title, total)`` ends the bar before it."""
    with contextlib.ExitStack() as bar:

        def stage(title: str, total: int) -> Advance:
            bar.close()
            return bar.enter_context(shown(title, total, quiet))

        yield stage


def _lines(title: str, total: int, out: Console) -> Advance:
    """The time left is told by the pace since the first news of something done: what came before it, such as compilation, or an
    earlier part of a run that is resumed, comes only once."""
    start = last = time.monotonic()
    first: tuple[int, float] | None = None

    def advance(done: int, note: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        if first is None and done > 0 and note != COMPILING:
            first = done, now
        if done < total and now - last < SECONDS_BETWEEN_LINES and note != COMPILING:
            return
        last = now
        known = first is not None and first[0] < done < total
        left = f", {(now - first[1]) / (done - first[0]) * (total - done):.0f} s left" if known and first else ""
        out.print(
            f"{title}: {done}/{total}, {now - start:.0f} s{left}{f', {note}' if note else ''}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    return advance
