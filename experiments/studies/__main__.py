"""``python -m experiments.studies predict``: the studies, until ``condense study`` has them."""

import argparse
import sys
from collections.abc import Sequence

from discrepancy.errors import DiscrepancyError, InvalidInput
from experiments.commands import set_threads
from experiments.config import ConfigError
from experiments.studies.command import add_predict, run_predict

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a study; the return value is the exit status, as of ``condense``."""
    parser = argparse.ArgumentParser(prog="python -m experiments.studies")
    studies = parser.add_subparsers(dest="study", required=True, metavar="STUDY")
    predict = studies.add_parser("predict", help="which discrepancy predicts accuracy?")
    add_predict(predict)
    predict.add_argument("--threads", type=int, metavar="N", help="threads of torch on the CPU")
    predict.add_argument("--quiet", action="store_true", help="no progress")
    predict.add_argument("--json", action="store_true", help="print results for machines")
    options = parser.parse_args(arguments)
    try:
        if options.threads is not None:
            set_threads(options.threads)
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
