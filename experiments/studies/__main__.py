"""``python -m experiments.studies predict``: the studies, until ``condense study`` has them."""

import argparse
import sys
from collections.abc import Sequence

from discrepancy.errors import DiscrepancyError, InvalidInput
from experiments.config import ConfigError
from experiments.studies.command import add_predict, run_predict

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a study; the return value is the exit status, as of ``condense``."""
    parser = argparse.ArgumentParser(prog="python -m experiments.studies")
    studies = parser.add_subparsers(dest="study", required=True, metavar="STUDY")
    add_predict(studies.add_parser("predict", help="which discrepancy predicts accuracy?"))
    options = parser.parse_args(arguments)
    try:
        run_predict(options)
    except (ConfigError, InvalidInput) as error:
        print(f"studies: {error}", file=sys.stderr)
        return 2
    except DiscrepancyError as error:
        print(f"studies: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"studies: interrupted; the same command continues in {options.out or 'its folder'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
