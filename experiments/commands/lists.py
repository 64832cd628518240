"""``condense methods`` and ``condense kinds``: what there is."""

from discrepancy.errors import InvalidInput
from experiments.config import build, known, read
from experiments.config.mistakes import suggestion
from experiments.method import Method
from experiments.report import Report
from experiments.report.lists import kinds_report, methods_report
from objectives.methods import available

__all__ = ["kinds", "methods"]


def methods() -> Report:
    """The packaged methods."""
    return methods_report([build(Method, read(file)["method"]) for file in available().values()])


def kinds(family: str | None = None) -> Report:
    """Every part that a configuration can name, by family."""
    families = known()
    if family is not None and family not in families:
        raise InvalidInput(
            f"there is no family '{family}'{suggestion(family, families)} (families: {', '.join(families)})"
        )
    return kinds_report(families if family is None else {family: families[family]})
