"""One command line, run in this process, and what is wrong with how it ended."""

import contextlib
import io
import re
import signal
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from experiments.cli import main

CPU_SECONDS, SECONDS = 20.0, 200.0
"""After which a command hangs: of this process's own time, and of the clock, in which others may be at work."""

RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LONGEST = 20_000


class Hangs(BaseException):
    """Raised by the alarm; no part of the library catches it."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended; ``fault`` says what is wrong with that, and is empty where nothing is."""

    status: int | None
    output: str
    errors: str
    fault: str


def outcome(arguments: list[str], untouched: Path) -> Outcome:
    """Run ``condense`` with these arguments.

    Args:
        untouched: what no command may make: the files name it, and the arguments do not.
    """
    out, err = io.StringIO(), io.StringIO()
    status: int | None = None
    fault = ""
    try:
        with _alarm(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                status = main(arguments)
            except SystemExit as stopped:  # how argparse ends
                status = stopped.code if isinstance(stopped.code, int) else 1
    except Hangs:
        fault = "hangs"
    except BaseException as error:
        lines = traceback.extract_tb(error.__traceback__)
        place = f"{Path(lines[-1].filename).name}:{lines[-1].lineno}"
        own = [line for line in lines if "site-packages" not in line.filename and "/lib/python" not in line.filename]
        fault = f"{type(error).__name__} at {place}, from {Path(own[-1].filename).name}:{own[-1].lineno}: {str(error)[:150]}"
    fault = fault or _wrong(status, out.getvalue(), err.getvalue())
    if untouched.exists():
        fault = fault or "makes a folder that only a file names"
    return Outcome(status, out.getvalue(), err.getvalue(), fault)


def _wrong(status: int | None, output: str, errors: str) -> str:
    for name, text in (("output", output), ("errors", errors)):
        found = RAW.search(text)
        if found:
            return f"raw {found[0]!r} in the {name}"
        if len(text) > LONGEST and name == "errors":
            return f"{len(text)} letters of {name}"
    if status not in (0, 1, 2):
        return f"exit status {status}"
    if "Traceback" in errors:
        return "a traceback among the errors"
    said = [line for line in errors.splitlines() if line and not re.match(r"condense: \w*Warning: ", line)]
    if status and not any(line.startswith("condense") and len(line) > len("condense: ") for line in said):
        return f"status {status} without a word" if not output else ""
    one = said and said[0].startswith("condense: ") and "the configuration has" not in said[0]
    if status and one and len(said) > 1:
        return f"{len(said)} lines where one is enough"
    return ""


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hangs

    before = {name: signal.signal(name, ring) for name in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for name, handler in before.items():
            signal.signal(name, handler)
