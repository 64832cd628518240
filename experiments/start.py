"""The start of the command ``condense``: Ctrl-C is answered in one line while modules are still being imported.

An exception would not do: it may be raised inside the initialisation of a compiled module, which reports it as an error of its
own, or in a destructor, which drops it.
"""

import os
import signal
from types import FrameType

__all__ = ["main", "ready"]


def main() -> int:
    """Run the command line; the return value is the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or another's
        signal.signal(signal.SIGINT, _leave)
    from experiments.cli import main as run

    return run()


def ready() -> None:
    """Everything is imported: from now on Ctrl-C raises ``KeyboardInterrupt``."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"condense: interrupted\n")
    os._exit(130)
