"""Options that several commands have, and how values of several parts are read."""

import argparse
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

__all__ = [
    "by_commas",
    "changes_option",
    "common_options",
    "force_option",
    "fraction",
    "imports_option",
    "json_option",
    "report_option",
    "root_option",
    "where_options",
]

T = TypeVar("T")


def by_commas(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """How an option of several values is read: one word, which never takes the arguments that follow it."""

    def read(text: str) -> list[T]:
        try:
            return [kind(part.strip()) for part in _parts(text)]
        except ValueError:
            numbers = "whole numbers" if kind is int else "numbers"
            raise argparse.ArgumentTypeError(f"'{text}' should be {numbers} with commas between them") from None

    return read


def fraction(text: str) -> float:
    """A number, or a fraction such as 8/255.

    Raises:
        ValueError: for other text, and for a division by zero.
    """
    try:
        return float(Fraction(text.replace(" ", "")))
    except ZeroDivisionError as error:
        raise ValueError(text) from error


def _parts(text: str) -> list[str]:
    """What stands between the commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def changes_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="PATH=VALUE", help=what)


def where_options(parser: argparse.ArgumentParser, seed: int | None = None, device: str | None = None) -> None:
    parser.add_argument("--seed", type=int, default=seed, metavar="N", help="seed of all random numbers (default 0)")
    parser.add_argument("--device", default=device, help="auto, cpu, cuda or cuda:N")
    root_option(parser)


def root_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", help="where torchvision's data lie, or are downloaded to (or DISCREPANCY_DATA)")


def common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch on the CPU")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    imports_option(parser)
    json_option(parser)


def imports_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--import", action="append", dest="imports", metavar="FILE.py", help="a file with parts of your own"
    )


def report_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report",
        dest="save_to",
        type=Path,
        metavar="FILE",
        help="also write the report to FILE.html (with its pictures), FILE.md, FILE.csv or FILE.json",
    )
    force_option(parser)


def force_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


def json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="print results for machines")
