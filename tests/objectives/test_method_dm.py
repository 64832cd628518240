"""DM, and its counterparts by transport, as their papers write them."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from conformance import CASES, Sight, same_steps, trial
from torch import Tensor

EXACT = {
    "dm": (),
    "sliced": (),
    # The envelope theorem holds at convergence, so as near to it as the precision allows; and a blur at which the plain
    # iteration below gets there.
    "sinkhorn": (
        "objective.terms.features.match.tolerance=1e-14",
        "objective.terms.features.match.blur.median=0.4",
    ),
}


def mean_distance(real: Tensor, mine: Tensor, sight: Sight) -> Tensor:
    """DM, equation 6: ‖mean ψ(A(real)) - mean ψ(A(synthetic))‖²."""
    return (real.mean(0) - mine.mean(0)).square().sum()


def sliced_distance(real: Tensor, mine: Tensor, sight: Sight) -> Tensor:
    """The mean over directions of W₂² on the line: both sides repeated to one number of points, sorted, and paired."""
    count = math.lcm(len(real), len(mine))
    total = torch.zeros((), dtype=real.dtype)
    directions = sight.random["features"]["direction"].to(real)
    for direction in directions / directions.norm(dim=1, keepdim=True):
        a, b = ((side @ direction).repeat_interleave(count // len(side)).sort().values for side in (real, mine))
        total = total + (a - b).square().mean()
    return total / len(directions)


def entropic(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The dual objective of transport at cost ½‖x - y‖² at its solution, which plain iteration finds."""
    cost = 0.5 * (x[:, None] - y[None]).square().sum(2)
    fixed, n, m = cost.detach(), len(x), len(y)
    f, g = torch.zeros(n, dtype=x.dtype), torch.zeros(m, dtype=x.dtype)
    for _ in range(20_000):
        before = f
        f = -eps * (torch.logsumexp((g[None] - fixed) / eps, 1) - math.log(m))
        g = -eps * (torch.logsumexp((f[:, None] - fixed) / eps, 0) - math.log(n))
        if float((f - before).abs().max()) <= 1e-14 * float(fixed.max()):
            break
    plan = torch.exp((f[:, None] + g[None] - cost) / eps) / (n * m)
    return f.mean() + g.mean() - eps * (plan.sum() - 1)


def sinkhorn_divergence(real: Tensor, mine: Tensor, sight: Sight) -> Tensor:
    """Feydy et al., equation 3: OT(μ, ν) - ½ OT(μ, μ) - ½ OT(ν, ν), in float64."""
    eps = sight.trial.run.resolved["features"]["match"][""].blur ** 2
    x, y = real.double(), mine.double()
    fixed = entropic(y.detach(), y, eps)  # half of the gradient of OT(ν, ν), which is symmetric
    own = 0.5 * entropic(y.detach(), y.detach(), eps) + (fixed - fixed.detach())
    return (entropic(x, y, eps) - 0.5 * entropic(x, x, eps) - own).to(real.dtype)


DISTANCES = {"dm": mean_distance, "sliced": sliced_distance, "sinkhorn": sinkhorn_divergence}

METHODS = pytest.mark.parametrize("name", list(DISTANCES))


def over_classes(distance: Callable[[Tensor, Tensor, Sight], Tensor]):
    def loss(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros((), dtype=sight.trial.dtype)
        for label in sight.classes:
            sides = sight.sides(parameters["points"], label)
            real, mine = (sight.outputs(points, "features")["features"] for points in sides)
            total = total + distance(real, mine, sight)
        return total

    return loss


def looser(name: str, dtype: torch.dtype) -> float:
    """Potentials in float32 are known to some 1e-5 of the cost."""
    return 10.0 if (name, dtype) == ("sinkhorn", torch.float32) else 1.0


@pytest.mark.conformance("dm", "sliced", "sinkhorn")
@CASES
@METHODS
def test_three_steps(dtype: torch.dtype, settings: tuple[str, ...], name: str):
    some = trial(name, (*EXACT[name], *settings), dtype=dtype)
    same_steps(some, over_classes(DISTANCES[name]), looser=looser(name, dtype))


@pytest.mark.filterwarnings("ignore:batch normalisation")  # of a set this small
@CASES
def test_batch_normalisation_pools_over_the_classes_of_a_side(dtype: torch.dtype, settings: tuple[str, ...]):
    """The released code's branch for such networks: all the classes of a side in one batch."""

    def loss(sight: Sight, parameters: Mapping[str, Tensor]) -> Tensor:
        sides = [sight.sides(parameters["points"], label) for label in sight.classes]
        means = []
        for side in range(2):
            features = sight.outputs(torch.cat([pair[side] for pair in sides]), "features")["features"]
            parts = features.split([len(pair[side]) for pair in sides])
            means.append(torch.stack([part.mean(0) for part in parts]))
        return (means[0] - means[1]).square().sum()

    same_steps(trial("dm", ("context.network.norm=batch", *settings), dtype=dtype), loss)


@pytest.mark.parametrize(("size", "rate"), [(10, 1.0), (99, 1.0), (100, 10.0)])
def test_rates(size: int, rate: float):
    assert trial("dm", size=size).solver.lr == rate
