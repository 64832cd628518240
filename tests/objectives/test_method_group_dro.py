"""Group-robust matching: the conditional value at risk over groups, written out."""

from collections.abc import Mapping

import pytest
import torch
from conformance import CASES, Sight, same_steps, trial
from small import images
from torch import Tensor

GROUPS = torch.tensor([0, 1, 1, 2] * 9)[:33]
DATA = images((9, 11, 13), channels=3, groups=GROUPS)


@pytest.mark.conformance("group_dro")
@CASES
def test_steps_are_those_of_the_mean_over_the_worst_half(dtype: torch.dtype, settings: tuple[str, ...]) -> None:
    """From the group with the largest distance on, each counts by its share until half of the mass is reached."""
    some = trial("group_dro", ("context.size=2", "synthetic.per_class=3", *settings), dtype=dtype, data=DATA)
    data, problem = some.problem.data, some.problem

    def loss(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
        mine = some.points(parameters)
        real = data.normalised(torch.arange(33), dtype=dtype)
        groups = data.groups
        assert groups is not None
        features = []
        for points, labels in ((real, data.labels.numbers), (mine, problem.slots)):
            moved = torch.empty_like(points)
            for label in sight.classes:
                moved[labels == label] = sight.augmented(points[labels == label], label)
            features.append(sight.outputs(moved, "features")["features"])
        apart = [
            (features[0][groups == g].mean(0) - features[1][problem.groups == g].mean(0)).square().sum()
            for g in range(3)
        ]
        left, total = 0.5, torch.zeros((), dtype=dtype)
        for g in sorted(range(3), key=lambda g: -float(apart[g].detach())):
            share = min(left, int((groups == g).sum()) / 33)
            total, left = total + share * apart[g], left - share
        return total / 0.5

    same_steps(some, loss)
