"""The command ``condense``: parses, calls one function with plain values, prints its report.

Exit status: 0 done, 2 a mistake in what the user gave, 1 anything else, 130 interrupted.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from discrepancy.errors import printable
from experiments.parser import command_parser

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the return value is the exit status."""
    values = vars(command_parser().parse_args(arguments))
    # Imported only now: --help and a mistyped option are answered at once.
    from discrepancy.errors import DiscrepancyError, InvalidInput, out_of_memory
    from experiments.config import ConfigError

    warnings.showwarning = _show_warning
    try:
        return _called(**values)
    except ConfigError as error:
        count = len(error.mistakes)
        return _fail(2, f"the configuration has {count} mistake{'s' if count > 1 else ''}:", *map(str, error.mistakes))
    except InvalidInput as error:
        return _fail(2, str(error))
    except DiscrepancyError as error:
        return _fail(1, str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stopped:
        return _fail(130, str(stopped) or "interrupted")
    except Exception as error:
        sentence = out_of_memory(error)
        if sentence is None and isinstance(error, OSError):  # of a file that no one room is for
            where = f"'{error.filename}': " if error.filename else ""
            sentence = f"{where}{error.strerror or error}"
        if sentence is None:
            raise
        return _fail(1, sentence)


def _called(
    *,
    command: str,
    as_json: bool = False,
    save_to: Path | None = None,
    force: bool = False,
    threads: int | None = None,
    imports: Sequence[str] | None = None,
    **values: Any,
) -> int:
    """Call the function of a command with its values, save its report where that is asked for, and print it."""
    from experiments import commands, report
    from experiments.report.files import prepare
    from experiments.start import interruptible

    if save_to is not None:
        prepare(save_to, force)
    if threads is not None:
        commands.set_threads(threads)
    commands.load_plugins()
    for path in imports or []:
        commands.load_parts(path)
    if command == "study":
        command = f"study_{values.pop('study')}"
    elif command in ("run", "sweep"):
        values |= {"imports": imports or [], "threads": threads}
    elif command == "show":
        values["picture"] = not as_json
    if command in ("compare", "export", "label", "show"):
        values["force"] = force
    call = getattr(commands, command)
    with interruptible():
        found = call(**values)
        try:
            if save_to is not None:
                report.save(found, save_to, force=force)
        finally:  # what was computed is shown, whether or not it can be saved
            print(report.as_json(found) if as_json else report.as_text(found))
    return 0 if found.complete else 1


def _fail(status: int, *lines: str) -> int:
    print("condense: " + "\n".join(map(printable, lines)), file=sys.stderr)
    return status


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(printable(f"condense: {category.__name__}: {message}"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
