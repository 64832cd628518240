"""DataDAM as its paper and its released code write it."""

from collections.abc import Mapping

import pytest
import torch
from conformance import CASES, PRECISE, Sight, Trial, same_steps, same_value_and_gradient, trial
from torch import Tensor

DEEP = ("context.network.depth=3",)
"""Two layers have an attention map then, and the last one has none."""


def looks(maps: Tensor, power: float) -> Tensor:
    """vec(Σ over channels |f|ᵖ), of length one."""
    rows = torch.stack([image.abs().pow(power).sum(0).reshape(-1) for image in maps])
    return rows / rows.norm(dim=1, keepdim=True)


def attention_matching(sight: Sight, parameters: Mapping[str, Tensor], power: float = 1.0, pooled: str = "activation"):
    """100 Σ over classes of (Σ over all layers but the last of ‖mean a(real) - mean a(synthetic)‖² + 0.01 ‖mean f - mean f‖²),
    where the network sees all the classes of a side at once."""
    sides = [sight.sides(parameters["points"], label) for label in sight.classes]
    found = []
    for side in range(2):
        points = torch.cat([pair[side] for pair in sides])
        outputs = sight.outputs(points, "layers", "activations", "features")
        found.append({name: value.split([len(pair[side]) for pair in sides]) for name, value in outputs.items()})
    real, mine = found
    depth = sum(name.startswith("layer") for name in real)
    total = torch.zeros((), dtype=sight.trial.dtype)
    for label in sight.classes:
        for layer in range(1, depth):
            name = f"{pooled}{layer}"
            a, b = (looks(side[name][label], power).mean(0) for side in (real, mine))
            total = total + 100 * (a - b).square().sum()
        a, b = (side["features"][label].mean(0) for side in (real, mine))
        total = total + 100 * 0.01 * (a - b).square().sum()
    return total


def small(settings: tuple[str, ...], dtype: torch.dtype) -> Trial:
    return trial("datadam", (*DEEP, *settings), dtype=dtype)


@pytest.mark.conformance("datadam")
@CASES
def test_three_steps(dtype: torch.dtype, settings: tuple[str, ...]):
    same_steps(small(settings, dtype), attention_matching)


@PRECISE
def test_the_papers_exponent(dtype: torch.dtype):
    some = small(("objective.terms.attention.via.power=4", "objective.terms.attention.via.pooled=true"), dtype)
    same_value_and_gradient(some, lambda sight, p: attention_matching(sight, p, power=4.0, pooled="layer"))


@pytest.mark.filterwarnings("ignore:batch normalisation")  # of a set this small
@PRECISE
def test_batch_normalisation_pools_over_the_classes_of_a_side(dtype: torch.dtype):
    same_steps(small(("context.network.norm=batch",), dtype), attention_matching)


@pytest.mark.parametrize("per_class", [50, 51])
def test_the_rate_grows_above_50_a_class(per_class: int):
    assert trial("datadam", size=per_class).solver.lr == {50: 1.0, 51: 10.0}[per_class]
