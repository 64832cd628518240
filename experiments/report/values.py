"""Values as text: numbers, bytes, durations."""

import math

from discrepancy.errors import printable
from experiments.report.record import TEXT, Cell, Form, Interval, MeanStd

__all__ = ["MISSING", "duration", "shown", "size"]

MISSING = "-"


def shown(value: Cell, form: Form = TEXT) -> str:
    """A cell as text: ``-`` where it is missing, ``[low, high]`` for an interval, ``mean ± std``."""
    match value:
        case None:
            return MISSING
        case str():
            return printable(value)
        case Interval(low, high):
            return f"[{shown(low, form)}, {shown(high, form)}]"
        case MeanStd(mean, None):
            return shown(mean, form)
        case MeanStd(mean, std):
            return f"{shown(mean, form)} ± {shown(std, form)}"
        case bool():
            return "yes" if value else "no"
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return _number(value, form)


def _number(value: float, form: Form) -> str:
    match form.kind:
        case "count":
            return f"{value:,.0f}"
        case "fixed":
            return f"{value:,.{form.digits}f}"
        case "significant":
            return _significant(value, form.digits)
        case "scientific":
            return f"{value:.{form.digits}e}"
        case "bytes":
            return size(round(value))
        case "seconds":
            return duration(value)
        case "text":
            return f"{value:,}" if isinstance(value, int) else str(value)


def _significant(value: float, digits: int) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
    return f"{value:.{digits - 1}e}"


def size(count: int) -> str:
    """Bytes in the largest fitting unit: ``25.0 KiB``."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """``4.2 s``, ``75 s``, ``12 min 05 s``, ``3 h 07 min``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
