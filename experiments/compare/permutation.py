"""Whether two independent real samples come from one population: the permutation test.

The value of D is compared with its values after the points have been assigned to the two sides at random. If both are samples
of one population, every assignment is as likely as the real one, so

    p = (1 + number of assignments with D >= the real D) / (1 + number of assignments)

is at most a with probability at most a, whatever D is. A condensed set is not a sample, and has no p-value.

References: A Kernel Two-Sample Test (Gretton et al., 2012), section 8; Permutation P-values Should Never Be Zero (Phipson &
Smyth, 2010), for the 1 that is added to both numbers.
"""

from collections.abc import Callable

import torch

from discrepancy.discrepancy import Discrepancy
from discrepancy.measure import Measure

__all__ = ["p_value"]


def p_value(
    discrepancy: Discrepancy,
    real: Measure,
    other: Measure,
    permutations: int,
    generator: torch.Generator,
    advance: Callable[[float], None] = lambda done: None,
) -> float:
    """The p-value of two flat samples, whose weights are equal; of named blocks D is the sum. The discrepancy need not be
    resolved: it is on both sides together, or its constants would tell them apart. The same holds of units and features: see
    :func:`~experiments.compare.two_samples.two_samples`."""
    pooled = Measure.merged([real, other])
    bound = []
    for name, block in pooled.blocks():
        resolved = discrepancy.resolve(block).v_statistic()
        drawn = resolved.draw(generator, tuple(block.tensors[""].shape[1:]))
        moved = None if drawn is None else {key: tensor.to(pooled.weights.device) for key, tensor in drawn.items()}
        bound.append((name, resolved, moved))

    def value(order: torch.Tensor) -> float:
        mine, theirs = (pooled.select(rows) for rows in (order[: len(real)], order[len(real) :]))
        total = 0.0
        for name, resolved, draws in bound:
            first, second = (
                Measure(side.tensors[name], side.weights, side.labels).as_groups() for side in (mine, theirs)
            )
            summary = resolved.summarise(first, draws)
            total += float(resolved.compare(summary, second, resolved.sharpened(summary, second, draws)))
        return total

    found = value(torch.arange(len(pooled)))
    tolerance = 1e-6 * abs(found)  # the same deal in another order
    as_far = 0
    for number in range(permutations):
        as_far += value(torch.randperm(len(pooled), generator=generator)) >= found - tolerance
        advance((number + 1) / permutations)
    return (1 + as_far) / (1 + permutations)
