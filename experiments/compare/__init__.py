"""How far apart data sets are, by any discrepancies, with honest uncertainty.

answer = compare(survey_of({"real": "digits", "sets": ["digits:test"], "discrepancies": "mmd"}))
"""

from experiments.compare.answer import Answer, Row
from experiments.compare.comparing import compare
from experiments.compare.survey import DEFAULT, PRESETS, Survey, survey_of

__all__ = ["DEFAULT", "PRESETS", "Answer", "Row", "Survey", "compare", "survey_of"]
