"""DM, and its counterparts by transport, as their papers write them."""

from collections.abc import Mapping

import torch
from conformance import AUGMENTED, PRECISE, Sight, same_steps, same_value_and_gradient, trial
from torch import Tensor


def distance_of_means(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
    """Equation 6: Σ over classes of ‖mean ψ(A(real)) - mean ψ(A(synthetic))‖²."""
    total = torch.zeros((), dtype=sight.trial.dtype)
    for label in sight.classes:
        real, mine = sight.sides(parameters["points"], label)
        a, b = (sight.outputs(x, "features")["features"].mean(0) for x in (real, mine))
        total = total + (a - b).square().sum()
    return total


@PRECISE
@AUGMENTED
def test_value_and_gradient(dtype: torch.dtype, settings: tuple[str, ...]):
    same_value_and_gradient(trial("dm", settings, dtype=dtype), distance_of_means)


@PRECISE
@AUGMENTED
def test_three_steps(dtype: torch.dtype, settings: tuple[str, ...]):
    same_steps(trial("dm", settings, dtype=dtype), distance_of_means)
