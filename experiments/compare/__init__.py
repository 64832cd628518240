"""How far apart data sets are, by any discrepancies, with honest uncertainty.

answer = compare(request_of({"real": "digits", "sets": ["digits:test"], "discrepancies": "mmd"}))
"""

from experiments.compare.answer import Answer, Row
from experiments.compare.comparing import compare
from experiments.compare.request import DEFAULT, PRESETS, ComparisonRequest, request_of

__all__ = ["DEFAULT", "PRESETS", "Answer", "Row", "ComparisonRequest", "compare", "request_of"]
