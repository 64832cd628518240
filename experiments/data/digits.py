"""The handwritten digits that come with scikit-learn: real data without a download."""

import torch

from experiments.data.base import Source, hashed_order
from objectives.data.labelled import LabelledData

__all__ = ["Digits"]

TEST_PER_CLASS = 36


class Digits(Source, kind="digits"):
    """1,797 grey images of 8 x 8 with values 0 .. 16 (Alpaydin and Kaynak, UCI, 1998), about 180 of each digit.

    scikit-learn ships them in one piece. Here 36 of each class, the first in the order of SHA-256("digits:number"), are the
    test set: 1,437 for training and 360 for testing, always the same ones. (The writers are not separated.)
    """

    def load(self) -> LabelledData:
        from sklearn.datasets import load_digits

        points, labels = map(torch.from_numpy, load_digits(return_X_y=True))
        points = points.reshape(-1, 8, 8).to(torch.uint8)
        test = torch.cat([hashed_order((labels == c).nonzero()[:, 0], "digits")[:TEST_PER_CLASS] for c in range(10)])
        held = torch.zeros(len(labels), dtype=torch.bool).index_fill_(0, test, True)
        return LabelledData.of(
            points[~held], labels[~held], test=(points[held], labels[held]), name="digits", limits=(0.0, 16.0)
        )
