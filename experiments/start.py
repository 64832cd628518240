"""The start of the command ``condense``: Ctrl-C is answered in one line while modules are still being imported.

An exception would not do: it may be raised inside the initialisation of a compiled module, which reports it as an error of its
own, or in a destructor, which drops it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["interruptible", "main"]


def main() -> int:
    """Run the command line; the return value is the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or another's
        signal.signal(signal.SIGINT, _leave)
    from experiments.cli import main as run

    return run()


class _Interrupted:
    """Whether Ctrl-C has come in the outermost :func:`interruptible`."""

    came = False


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Everything is imported: from now on Ctrl-C raises ``KeyboardInterrupt``. An error that is raised after it is taken for
    one too: compiled code makes errors of its own of it, such as that of a damaged file or an impossible size.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    before = signal.getsignal(signal.SIGINT)
    main_thread = threading.current_thread() is threading.main_thread()
    outermost = main_thread and before in (_leave, signal.default_int_handler)
    if outermost:
        _Interrupted.came = False
        signal.signal(signal.SIGINT, _raise)
    try:
        yield
    except Exception as error:
        if _Interrupted.came:
            raise KeyboardInterrupt from error
        raise
    finally:
        if outermost:
            _Interrupted.came = False
            signal.signal(signal.SIGINT, before)


def _raise(number: int, frame: FrameType | None) -> None:
    _Interrupted.came = True
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"condense: interrupted\n")
    os._exit(130)
