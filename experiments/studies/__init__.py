"""Studies: experiments about discrepancies themselves.

:func:`run_prediction` asks which discrepancy predicts the accuracy of networks; :func:`run_exact` measures how exact condensing
for ridge regression is, and at what cost.
"""

from experiments.studies.exact import Noise, Row
from experiments.studies.exactness import ExactResult, run_exact
from experiments.studies.findings import Findings
from experiments.studies.prediction import Prediction, Reference, prediction_tree
from experiments.studies.running import PredictionResult, run_prediction
from experiments.studies.targets import CleanAccuracy, RobustAccuracy, Target

__all__ = [
    "CleanAccuracy",
    "ExactResult",
    "Findings",
    "Noise",
    "Prediction",
    "PredictionResult",
    "Reference",
    "RobustAccuracy",
    "Row",
    "Target",
    "prediction_tree",
    "run_exact",
    "run_prediction",
]
