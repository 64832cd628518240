"""The errors and warnings of the library: one small tree, so that a caller can catch what he means to catch.

A message says what was wrong, the rule, what was received and what to do, in one line. Where a name was mistyped it suggests
the known name that is most alike: :func:`suggestion`.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable

__all__ = [
    "DataWarning",
    "DiscrepancyError",
    "InvalidInput",
    "NonFinite",
    "NumericalWarning",
    "PerformanceWarning",
    "Unsupported",
    "nearest",
    "out_of_memory",
    "printable",
    "suggestion",
]


class DiscrepancyError(Exception):
    """Root of every error that this library raises on purpose.

    Example:
        >>> from discrepancy import DiscrepancyError, InvalidInput
        >>> issubclass(InvalidInput, DiscrepancyError)
        True
    """


class InvalidInput(DiscrepancyError, ValueError):
    """A value, a shape or a file that the user gave breaks a stated rule.

    Example:
        >>> from discrepancy import InvalidInput, kernels
        >>> try:
        ...     kernels.Gaussian(lengthscale=-2.0)
        ... except InvalidInput as error:
        ...     print(error)
        ...
        'lengthscale' must be finite and > 0, got -2.0
    """


class NonFinite(DiscrepancyError, ArithmeticError):
    """A computation gave NaN or infinity; the message names the term.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, NonFinite, Wasserstein
        >>> D = Wasserstein()
        >>> summary = D.summarise(Measure(torch.zeros(2, 2)))
        >>> try:
        ...     D.compare(summary, Measure(torch.full((2, 2), torch.nan)))
        ... except NonFinite as error:
        ...     print("the points are not finite")
        ...
        the points are not finite
    """


class Unsupported(DiscrepancyError, NotImplementedError):
    """A combination that is well-formed but has no meaning, or no implementation.

    Example:
        >>> import torch
        >>> from discrepancy import Unsupported, kernels
        >>> try:
        ...     kernels.Gaussian().features(torch.zeros(2, 1))
        ... except Unsupported as error:
        ...     print(error)
        ...
        the kernel 'gaussian' has no finite features; ask 'finite' first
    """


class DataWarning(UserWarning):
    """Data were read, but not all that is there, or in a way that may not be meant; what, and how to change it, is said.

    Example:
        >>> import warnings
        >>> from discrepancy import DataWarning
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", DataWarning)  # stop where files are left out
        ...
    """


class NumericalWarning(UserWarning):
    """A repair was made for the sake of numerical stability, or a number rests on little; its size is reported.

    Example:
        >>> import warnings
        >>> from discrepancy import NumericalWarning
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", NumericalWarning)  # stop where a number rests on little
        ...
    """


class PerformanceWarning(UserWarning):
    """The result is right but was obtained more slowly than it could have been.

    Example:
        >>> import warnings
        >>> from discrepancy import PerformanceWarning
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", PerformanceWarning)
        ...
    """


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name`` (in lower or upper case), or None if none is alike.

    Example:
        >>> from discrepancy.errors import nearest
        >>> nearest("Gausian", ["gaussian", "laplace"])
        'gaussian'
    """
    lowered = {item.lower(): item for item in known}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=1)
    return lowered[close[0]] if close else None


def suggestion(name: object, known: Iterable[str]) -> str:
    """``; did you mean '...'?`` with the :func:`nearest` name, for the end of a message; empty if none is alike.

    Example:
        >>> from discrepancy.errors import suggestion
        >>> "unknown kernel" + suggestion("gausian", ["gaussian", "laplace"])
        "unknown kernel; did you mean 'gaussian'?"
    """
    close = nearest(name, known)
    return f"; did you mean '{close}'?" if close else ""


def out_of_memory(error: BaseException) -> str | None:
    """What to do where memory could not be allocated, in one sentence; None if the error says something else. It may come from
    Python, numpy, the system, or torch on any device. Who answers for a file that cannot be read asks this first.

    Example:
        >>> from discrepancy.errors import out_of_memory
        >>> out_of_memory(ValueError("no such file")) is None
        True
    """
    text = str(error)
    signs = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "alloc_failed", "unable to allocate")
    if isinstance(error, DiscrepancyError) or not (
        isinstance(error, MemoryError) or any(sign in text.lower() for sign in signs)
    ):
        return None
    asked = re.search(r"allocate ([\d.]+) ?([KMGTPE]iB|bytes)", text)
    amount = f", when {asked[1]} {asked[2]} more were asked for" if asked else ""
    return (
        f"out of memory{amount}; use fewer examples (a class, in a batch, or of the real data), a narrower network or smaller "
        "images, or end other programs"
    )


def printable(text: str, lines: bool = False) -> str:
    """The text with control characters as their escapes, so that no terminal acts on what a file contains: a character that
    moves the cursor, changes the direction of writing, or is half of a pair.

    Args:
        lines: leave the ends of lines as they are.

    Example:
        >>> from discrepancy.errors import printable
        >>> printable("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in CONTROL and not (lines and letter == "\n")
        else letter
        for letter in text
    )


CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control and format characters, lone surrogates, and separators of lines and paragraphs."""
