"""Whether two independent real samples come from one population: the permutation test.

The value of D is compared with its values after the points have been dealt out anew to the two sides. Under the hypothesis that
both are samples of one population every deal is as likely as the real one, so

    p = (1 + number of deals with D >= the real D) / (1 + number of deals)

is at most a with probability at most a, whatever D is. A condensed set is no sample, and has no p-value.

References: A Kernel Two-Sample Test (Gretton et al., 2012), section 8; Permutation P-values Should Never Be Zero (Phipson &
Smyth, 2010), for the added ones.
"""

from collections.abc import Callable

import torch

from discrepancy.discrepancy import Discrepancy
from discrepancy.measure import Measure

__all__ = ["PERMUTATION_CAP", "p_value"]

PERMUTATION_CAP = 500
"""Points a side above which a random part of them is tested."""


def p_value(
    discrepancy: Discrepancy,
    real: Measure,
    other: Measure,
    permutations: int,
    generator: torch.Generator,
    advance: Callable[[float], None] = lambda done: None,
) -> float:
    """The p-value of two flat samples. The discrepancy need not be resolved: it is on both sides together, or its constants
    would tell them apart. (The embedding is taken as given.)"""
    first, second = (_part(side, generator) for side in (real, other))
    pooled = Measure.merged([_equal(first), _equal(second)])
    resolved = discrepancy.resolve(pooled).v_statistic()
    drawn = resolved.draw(generator, tuple(pooled.tensors[""].shape[1:]))
    device = pooled.mass_of.device
    draws = None if drawn is None else {name: tensor.to(device) for name, tensor in drawn.items()}

    def value(order: torch.Tensor) -> float:
        mine, theirs = (pooled.select(rows).as_groups() for rows in (order[: len(first)], order[len(first) :]))
        summary = resolved.summarise(mine, draws)
        return float(resolved.compare(summary, theirs, resolved.sharpened(summary, theirs, draws)))

    found = value(torch.arange(len(pooled)))
    tolerance = 1e-6 * abs(found)  # the same deal in another order
    as_far = 0
    for number in range(permutations):
        as_far += value(torch.randperm(len(pooled), generator=generator)) >= found - tolerance
        advance((number + 1) / permutations)
    return (1 + as_far) / (1 + permutations)


def _part(side: Measure, generator: torch.Generator) -> Measure:
    if len(side) <= PERMUTATION_CAP:
        return side
    return side.select(torch.randperm(len(side), generator=generator)[:PERMUTATION_CAP])


def _equal(side: Measure) -> Measure:
    return Measure(side.points, torch.ones_like(side.mass_of), side.labels)
