"""The largest value of a discrepancy over real examples that move within a ball, all together, as in the term ``worst``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Discrepancy
from discrepancy.measure import Measure
from experiments.compare.embedding import Embedded
from experiments.compare.estimates import Bound
from objectives.attacks.joint import JointAscent
from objectives.attacks.threat import UnitSpace

__all__ = ["WORST_CAP", "WorstCase", "no_worst", "worst_case"]

WORST_CAP = 1000
"""The largest number of real examples of a group that move; of a larger group it is a random part."""


@dataclass(frozen=True)
class WorstCase:
    """D of a set and some real examples, as they are and after they have moved.

    Args:
        real: the number of these examples.
        plain: D of the examples as they are.
        largest: the largest D that the ascent found for examples within the ball, at least ``plain``.
    """

    real: int
    plain: float
    largest: float

    @staticmethod
    def mean(parts: Sequence["WorstCase"], real: int) -> "WorstCase":
        return WorstCase(real, fmean(part.plain for part in parts), fmean(part.largest for part in parts))


def no_worst(discrepancy: Discrepancy) -> str | None:
    """Why the derivative by the real side is not known. It is the derivative by the other side with the sides exchanged."""
    if "differentiable" not in discrepancy.tags:
        return "it has no gradient"
    return None if "symmetric" in discrepancy.tags else "it is not symmetric"


def worst_case(
    ascent: JointAscent,
    embedded: Embedded,
    points: Float[Tensor, "n ..."],
    labels: Tensor | None,
    bounds: Mapping[str, Bound],
    made: Mapping[str, Measure],
    generator: torch.Generator,
) -> WorstCase:
    """The worst case of real examples against a set. Values of the blocks of an embedding are added up.

    Args:
        points: normalised real examples.
        labels: their label vectors, where the discrepancy looks at labels.
        bounds, made: by block, the discrepancy and the features of the set.
        generator: of random starts.

    Raises:
        InvalidInput: if the ball is larger than the range of values.
    """
    real = embedded.real
    space = UnitSpace.between(real.limits, real.normalisation, len(real.shape), points.device)
    ball = space.ball(ascent.threat, space.to_unit(points).clamp(space.low, space.high))

    def features(units: Tensor) -> dict[str, Measure]:
        blocks = embedded.blocks(space.to_normalised(units))
        return {name: Measure(block, labels=labels) for name, block in blocks.items()}

    def value(units: Tensor) -> float:
        found = features(units)
        return sum(bound.value(bound.summary(found[name]), made[name]) for name, bound in bounds.items())

    with torch.no_grad():
        summaries = {name: bound.summary(made[name]) for name, bound in bounds.items()}

    def apart(units: Tensor) -> Tensor:
        found = features(units)
        return torch.stack([bound.distance(summaries[name], found[name]) for name, bound in bounds.items()]).sum()

    highest = ascent.highest(apart, ball, generator)
    with torch.no_grad():
        values = torch.tensor([value(ball.centre), value(highest)], dtype=torch.float64)
        return WorstCase(len(points), float(values[0]), float(values.max()))  # NaN is not passed over
