"""A small regression that comes with scikit-learn: real data with targets, without a download."""

import torch

from experiments.data.base import Source, hashed_order
from objectives.data.labelled import LabelledData

__all__ = ["Diabetes"]

TEST = 88


class Diabetes(Source, kind="diabetes"):
    """442 patients: age, sex, body mass index, blood pressure and six blood values; the target is a measure of how far the
    disease has progressed a year later, 25 to 346 (Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression", 2004).

    Here 88 of them, the first in the order of SHA-256("diabetes:number"), are the test set; 354 are for training.
    """

    def load(self) -> LabelledData:
        from sklearn.datasets import load_diabetes

        points, targets = map(torch.from_numpy, load_diabetes(return_X_y=True))
        test = hashed_order(torch.arange(len(points)), "diabetes")[:TEST]
        held = torch.zeros(len(points), dtype=torch.bool).index_fill_(0, test, True)
        return LabelledData.with_targets(
            points[~held], targets[~held], test=(points[held], targets[held]), name="diabetes"
        )
