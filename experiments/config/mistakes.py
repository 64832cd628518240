"""Mistakes of a configuration, collected and reported together, each with its path and in words."""

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from discrepancy.errors import DiscrepancyError, InvalidInput, suggestion

__all__ = ["ConfigError", "Mistake", "check_name", "join", "listed", "received", "refuse", "suggestion", "wrong_name"]


LONGEST = 100
"""Bytes of a name that becomes part of the name of a file."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and where: ``path`` is dotted (``objective.terms.features``), or a file's name."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(DiscrepancyError):
    """Everything that is wrong with a configuration; its text has one line for each mistake."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(mistakes)
        self.mistakes = list(mistakes)

    def __str__(self) -> str:
        return "\n".join(str(mistake) for mistake in self.mistakes)


def wrong_name(field: str, name: str) -> str | None:
    """Why what a map calls ``name`` cannot be the name of a file, and a part of a key; None if it can."""
    if not re.fullmatch(r"[\w.+-]+", name) or not re.search(r"\w", name):
        return f"'{field}' has the name '{_cut(name)}'; use letters, digits, '_', '+', '-' and '.'"
    if len(name.encode()) > LONGEST:
        return f"'{field}' has the name '{_cut(name)}' of {len(name)} letters; use at most {LONGEST} bytes"
    return None


def check_name(field: str, name: str) -> None:
    """Raise :class:`InvalidInput` unless what a map calls ``name`` can be the name of a file, and a part of a key."""
    refuse(wrong for wrong in [wrong_name(field, name)] if wrong)


def refuse(messages: Iterable[str]) -> None:
    """Raise :class:`InvalidInput` with the only one of these, :class:`ConfigError` with several; nothing if there are none."""
    found = list(messages)
    if len(found) == 1:
        raise InvalidInput(found[0])
    if found:
        raise ConfigError([Mistake("", message) for message in found])


def join(path: str, step: object) -> str:
    """The path of a key, or of a position in a list, below ``path``."""
    return f"{path}.{step}" if path else str(step)


def listed(known: Iterable[str]) -> str:
    """``(known: a, b)``."""
    return f"(known: {', '.join(known) or 'none'})"


def received(value: Any) -> str:
    """A value as the reader wrote it, with the name of its type."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return f"{str(value).lower()} (a yes-or-no value)"
        case int():
            digits = str(value) if value.bit_length() < 1000 else f"one of about {value.bit_length() * 3 // 10} digits"
            return f"{_cut(digits)} (a whole number)"
        case float():
            return f"{value} (a number)"
        case str():
            return f"'{_cut(value)}' (text)"
        case datetime.date() | datetime.time():
            return f"{value.isoformat()} (a date)"
        case Mapping():
            return (
                f"a mapping with the keys {_cut(', '.join(str(key) for key in value))}" if value else "an empty mapping"
            )
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return f"{_cut(repr(value))} ({type(value).__name__})"


def _cut(text: str, width: int = 60) -> str:
    line = " ".join(text.split()) if "\n" in text else text
    return line if len(line) <= width else f"{line[: width - 3]}..."
