"""The errors and warnings of the library: one small tree, so that a caller can catch what he means to catch.

A message says what was wrong, the rule, what was received and what to do, in one line.
"""

__all__ = ["DiscrepancyError", "InvalidInput", "NonFinite", "NumericalWarning", "PerformanceWarning", "Unsupported"]


class DiscrepancyError(Exception):
    """Root of every error that this library raises on purpose."""


class InvalidInput(DiscrepancyError, ValueError):
    """A value, a shape or a file that the user gave breaks a stated rule."""


class NonFinite(DiscrepancyError, ArithmeticError):
    """A computation gave NaN or infinity; the message names the term."""


class Unsupported(DiscrepancyError, NotImplementedError):
    """A combination that is well-formed but has no meaning, or no implementation."""


class NumericalWarning(UserWarning):
    """A repair was made for the sake of numerical stability, or a number rests on little; its size is reported."""


class PerformanceWarning(UserWarning):
    """The result is right but was obtained more slowly than it could have been."""
