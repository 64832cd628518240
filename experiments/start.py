"""The start of the command ``condense``: Ctrl-C is answered in one line while modules are still being imported."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; the return value is the exit status."""
    try:
        from experiments.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("condense: interrupted", file=sys.stderr)
        return 130
