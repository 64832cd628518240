"""Transport with its gradient at the synthetic points (128 features, float32), the real side summarised before.

The Sinkhorn divergence against geomloss's tensorized one at the same blur, a tenth of the median distance: with its debiasing
terms, where the real side's own potential is reused here and solved again there, and without them, where only the solvers
differ. Theirs stops after the annealing, so the errors of both are stated, against a tight solution in float64. Exact and
sliced transport against POT; exact transport from the last potentials against a cold start; Sinkhorn by our solver, by geomloss
as its back end, and by ``ot.batch`` for all classes in one call. Time for a real point over three decades of real points, and
memory as the peak in a process of its own. Ratios are taken within a round, and stand with their range.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import geomloss
import psutil
import torch
from torch import Tensor

from discrepancy import Discrepancy, Measure
from discrepancy.discrepancy import SampleSummary
from discrepancy.transport import Sinkhorn, SlicedWasserstein, Wasserstein
from experiments.benchmarks.memory import extra_megabytes, peak_megabytes
from experiments.benchmarks.timing import alternating, beside

__all__ = ["FULL", "Sizes", "rows"]

Action = Callable[[], object]

BLUR = 1.6
"""A tenth of the median distance of two standard normal points in 128 dimensions."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the tests take little."""

    n: int = 20_000
    m: int = 1_000
    d: int = 128
    exact: tuple[tuple[int, int], ...] = ((2_000, 500), (5_000, 1_000))
    error: tuple[int, int] = (2_000, 200)
    directions: int = 100
    warm: tuple[int, int] = (5_000, 500)
    library: tuple[int, int] = (2_000, 200)
    classes: tuple[int, int, int] = (10, 500, 50)
    growth: tuple[int, ...] = (100_000, 1_000_000, 10_000, 1_000)
    rounds: int = 5
    peer_rounds: int = 3


FULL = Sizes()

MODULE = "experiments.benchmarks.transport"


def rows(sizes: Sizes = FULL, memory: bool = True) -> list[dict[str, Any]]:
    """The measurements, one mapping a row."""
    return [
        *sinkhorn_rows(sizes),
        *error_rows(sizes),
        *exact_rows(sizes),
        *warm_rows(sizes),
        *library_rows(sizes),
        *classes_rows(sizes),
        *sliced_rows(sizes),
        *growth_rows(sizes),
        *(memory_rows(sizes) if memory else ()),
    ]


def sinkhorn_rows(sizes: Sizes) -> list[dict[str, Any]]:
    """With debiasing theirs runs once, on as many real points as fit into memory, after a warm-up on few."""
    n = largest_fit(sizes.n)
    x, y = clouds(n, sizes.m, sizes.d)
    geomloss_step(x[: n // 20], y)()
    theirs = seconds_of(geomloss_step(x, y))
    summary = seconds_of(lambda: Sinkhorn(blur=BLUR).summarise(Measure(x).as_groups()))
    found = alternating({"debiased": step(Sinkhorn(blur=BLUR), x, y)}, sizes.rounds)
    found |= alternating(
        {
            "their raw": geomloss_step(x, y, debias=False),
            "raw": step(Sinkhorn(blur=BLUR, debias=False), x, y),
        },
        sizes.peer_rounds,
    )
    whole, name = summary + found["debiased"], f"sinkhorn divergence with gradient, {n:,} x {sizes.m:,}"
    return [
        {"what": f"{name}, geomloss", "seconds": theirs, "ratio": 1.0},
        {"what": f"{name}, real side reused", "seconds": found["debiased"], "ratio": theirs / found["debiased"]},
        {"what": "the summary of the real side, once", "seconds": summary, "ratio": None},
        {"what": "summary and step together", "seconds": whole, "ratio": theirs / whole},
        {"what": "without debiasing, geomloss", "seconds": found["their raw"], "ratio": 1.0},
        {"what": "without debiasing", "seconds": found["raw"], "ratio": found["their raw"] / found["raw"]},
    ]


def error_rows(sizes: Sizes) -> list[dict[str, Any]]:
    """Relative errors of the value and, by its largest entry, of the gradient."""
    x, y = clouds(*sizes.error, sizes.d)
    exact_leaf = y.double().requires_grad_()
    exact = Sinkhorn(blur=BLUR, tolerance=1e-11)(Measure(x.double()), Measure(exact_leaf))
    (exact_gradient,) = torch.autograd.grad(exact, exact_leaf)
    losses = {f"geomloss, scaling {scaling}": geomloss_loss(scaling=scaling) for scaling in (0.5, 0.9)}
    losses["ours"] = lambda x, y: Sinkhorn(blur=BLUR)(Measure(x), Measure(y))
    result = []
    for name, loss in losses.items():
        leaf = y.clone().requires_grad_()
        value = loss(x, leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        off = (gradient.double() - exact_gradient).abs().max() / exact_gradient.abs().max()
        result += [
            {"what": f"error of the value, {name}", "error": abs(value.item() / exact.item() - 1)},
            {"what": f"error of the gradient, {name}", "error": off.item()},
        ]
    return result


def exact_rows(sizes: Sizes) -> list[dict[str, Any]]:
    result = []
    for n, m in sizes.exact:
        x, y = clouds(n, m, sizes.d)
        found = alternating({"theirs": pot_exact_step(x, y), "ours": step(Wasserstein(), x, y)}, sizes.peer_rounds)
        name = f"exact W2² with gradient, {n:,} x {m:,}"
        result += [
            {"what": f"{name}, POT", "seconds": found["theirs"], "ratio": 1.0},
            {"what": name, "seconds": found["ours"], "ratio": found["theirs"] / found["ours"]},
        ]
    return result


def sliced_rows(sizes: Sizes) -> list[dict[str, Any]]:
    x, y = clouds(sizes.n, sizes.m, sizes.d)
    sliced = SlicedWasserstein(directions=sizes.directions)
    theirs, ours = pot_sliced_step(x, y, sizes.directions), step(sliced, x, y)
    found = alternating({"theirs": theirs, "ours": ours, "whole": lambda: step(sliced, x, y)()}, sizes.rounds)
    name = f"sliced W2² with gradient, {sizes.directions} directions, {sizes.n:,} x {sizes.m:,}"
    return [
        {"what": f"{name}, POT", "seconds": found["theirs"], "ratio": 1.0},
        {"what": f"{name}, real side reused", "seconds": found["ours"], "ratio": found["theirs"] / found["ours"]},
        {"what": "summary and step together", "seconds": found["whole"], "ratio": found["theirs"] / found["whole"]},
    ]


def warm_rows(sizes: Sizes, move: float = 0.01) -> list[dict[str, Any]]:
    """Exact transport while the synthetic points move a little from step to step; both see the same points in a round."""
    n, m = sizes.warm
    x, y = clouds(n, m, sizes.d)
    kept, generator = Wasserstein().summarise(Measure(x).as_groups()), torch.Generator().manual_seed(1)

    def gradient(summary: SampleSummary) -> Tensor:
        leaf = y.clone().requires_grad_()
        return torch.autograd.grad(Wasserstein().compare(summary, Measure(leaf).as_groups()).sum(), leaf)[0]

    def cold() -> Tensor:
        y.add_(torch.randn(y.shape, generator=generator), alpha=move)
        return gradient(SampleSummary(kept.real, kept.constants))

    name = f"exact W2² with gradient, {n:,} x {m:,}, points moved by {move:g} of the spread"
    return beside({f"{name}, cold": cold, f"{name}, warm": lambda: gradient(kept)}, sizes.rounds)


def library_rows(sizes: Sizes) -> list[dict[str, Any]]:
    """The back ends of one discrepancy, each until it is as accurate as ``tolerance`` says, or after 500 steps."""
    x, y = clouds(*sizes.library, sizes.d)
    solvers: dict[str, Sinkhorn] = {
        f"backend {name}": Sinkhorn(blur=2 * BLUR, backend=name) for name in ("geomloss", "own")
    }
    name = f"sinkhorn divergence with gradient, {len(x):,} x {len(y):,}"
    return beside({f"{name}, {which}": step(solver, x, y) for which, solver in solvers.items()}, sizes.peer_rounds)


def classes_rows(sizes: Sizes) -> list[dict[str, Any]]:
    """All classes at once, without debiasing, which ``ot.batch`` has not."""
    import ot.batch  # slow to import

    groups, n, m = sizes.classes
    x, y = (side.unflatten(0, (groups, -1)) for side in clouds(groups * n, groups * m, sizes.d))
    sinkhorn, leaf = Sinkhorn(blur=2 * BLUR, debias=False), y.clone().requires_grad_()
    summary, weights = sinkhorn.summarise(Measure(x, torch.ones(x.shape[:2]))), torch.ones(y.shape[:2])

    def theirs() -> Tensor:
        costs = ot.batch.dist_batch(x, leaf) / 2
        found: Any = ot.batch.solve_batch(costs, (2 * BLUR) ** 2, tol=1e-4, method="log_sinkhorn", reg_type="kl")
        return torch.autograd.grad(found.value.sum(), leaf)[0]

    def ours() -> Tensor:
        return torch.autograd.grad(sinkhorn.compare(summary, Measure(leaf, weights)).sum(), leaf)[0]

    name = f"OT with gradient, {groups} classes, {n:,} x {m:,} each"
    return beside({f"{name}, ot.batch": theirs, name: ours}, sizes.peer_rounds)


def growth_rows(sizes: Sizes, m: int = 50, d: int = 16) -> list[dict[str, Any]]:
    """The ratio is the time for a real point at the first n by that at this n: 1 where the cost is linear in n.

    Sinkhorn without its summary, which is quadratic (a step with debiasing costs the same but for m x m terms); sliced with it.
    """
    sinkhorn = Sinkhorn(blur=BLUR * math.sqrt(d / 128), debias=False)
    sliced, work = SlicedWasserstein(directions=10), {}
    steps: dict[str, dict[str, Action]] = {"sinkhorn step": {}, "sliced, summary and step": {}}
    for n in sizes.growth:
        x, y = clouds(n, m, d)
        actions = step(sinkhorn, x, y), lambda x=x, y=y: step(sliced, x, y)()
        for (kind, into), action in zip(steps.items(), actions, strict=True):
            into[f"{kind}, {n:,} x {m}"], work[f"{kind}, {n:,} x {m}"] = action, float(n)
    return [row for actions in steps.values() for row in beside(actions, sizes.peer_rounds, work)]


def memory_rows(sizes: Sizes) -> list[dict[str, Any]]:
    """Theirs with debiasing on a quarter of the real points, and the square of that more on all of them."""
    n, m = sizes.n, sizes.m
    largest = sizes.exact[-1]
    wanted = {
        f"sinkhorn divergence, {n // 4:,} x {m:,}, geomloss": ("geomloss", n // 4, m),
        f"sinkhorn divergence, {n // 4:,} x {m:,}, step": ("sinkhorn", n // 4, m),
        f"sinkhorn divergence, {n:,} x {m:,}, step": ("sinkhorn", n, m),
        f"sinkhorn divergence, {n:,} x {m:,}, summary": ("summary", n, m),
        f"sinkhorn divergence, {4 * n:,} x {m:,}, step": ("sinkhorn", 4 * n, m),
        f"exact W2², {largest[0]:,} x {largest[1]:,}, POT": ("pot exact", *largest),
        f"exact W2², {largest[0]:,} x {largest[1]:,}, step": ("exact", *largest),
        f"sliced W2², {n:,} x {m:,}, POT": ("pot sliced", n, m),
        f"sliced W2², {n:,} x {m:,}, summary and step": ("sliced", n, m),
    }
    return [
        {"what": f"extra memory, {name}", "megabytes": extra_megabytes(MODULE, *arguments, sizes.d)}
        for name, arguments in wanted.items()
    ]


def clouds(n: int, m: int, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator) + 0.1


def step(discrepancy: Discrepancy, x: Tensor, y: Tensor) -> Action:
    """The gradient at y; the summary is made here."""
    draws = discrepancy.draw(torch.Generator().manual_seed(1), tuple(x.shape[1:]))
    summary, leaf = discrepancy.summarise(Measure(x).as_groups(), draws), y.clone().requires_grad_()
    return lambda: torch.autograd.grad(discrepancy.compare(summary, Measure(leaf).as_groups(), draws).sum(), leaf)[0]


def geomloss_loss(scaling: float = 0.5, debias: bool = True) -> Callable[[Tensor, Tensor], Tensor]:
    return geomloss.SamplesLoss("sinkhorn", p=2, blur=BLUR, scaling=scaling, debias=debias, backend="tensorized")


def geomloss_step(x: Tensor, y: Tensor, debias: bool = True) -> Action:
    loss, leaf = geomloss_loss(debias=debias), y.clone().requires_grad_()
    return lambda: torch.autograd.grad(loss(x, leaf), leaf)[0]


def pot_exact_step(x: Tensor, y: Tensor) -> Action:
    import ot  # slow to import

    a, b = (torch.full((len(points),), 1 / len(points)) for points in (x, y))
    leaf = y.clone().requires_grad_()

    def action() -> Tensor:
        value: Any = ot.emd2(a, b, ot.dist(x, leaf), numItermax=10_000_000)
        return torch.autograd.grad(value, leaf)[0]

    return action


def pot_sliced_step(x: Tensor, y: Tensor, directions: int) -> Action:
    import ot

    projections = SlicedWasserstein(directions=directions).draw(torch.Generator().manual_seed(1), (x.shape[1],))
    assert projections is not None
    leaf, columns = y.clone().requires_grad_(), projections["direction"].mT

    def action() -> Tensor:
        value: Any = ot.sliced_wasserstein_distance(x, leaf, projections=columns, p=2)
        return torch.autograd.grad(value.square(), leaf)[0]

    return action


def largest_fit(n: int) -> int:
    """The largest number of real points, up to n, at which eight n x n matrices of float32 fit into the memory that is free."""
    return min(n, int(math.sqrt(psutil.virtual_memory().available / 32)))


def seconds_of(action: Action) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def peak_of(which: str, n: int, m: int, d: int) -> float:
    """The extra memory of one of these, after a warm-up on few points."""
    sinkhorn, sliced = Sinkhorn(blur=BLUR), SlicedWasserstein()
    actions: dict[str, Callable[[Tensor, Tensor], Action]] = {
        "geomloss": geomloss_step,
        "sinkhorn": lambda x, y: given(sinkhorn, x, y),
        "summary": lambda x, y: lambda: sinkhorn.summarise(Measure(x).as_groups()),
        "pot exact": pot_exact_step,
        "exact": partial(step, Wasserstein()),
        "pot sliced": lambda x, y: pot_sliced_step(x, y, sliced.directions),
        "sliced": lambda x, y: lambda: step(sliced, x, y)(),
    }
    x, y = clouds(n, m, d)
    actions[which](x[:300], y[:100])()
    return peak_megabytes(actions[which](x, y))


def given(sinkhorn: Sinkhorn, x: Tensor, y: Tensor) -> Action:
    """A step that takes the real side's own term for known, whose memory is measured apart."""
    real, own = Measure(x).as_groups(), {"own": torch.zeros(1).double()}
    summary = SampleSummary(real, own | dict(replace(sinkhorn, debias=False).constants(real, None)))
    leaf = y.clone().requires_grad_()
    return lambda: torch.autograd.grad(sinkhorn.compare(summary, Measure(leaf).as_groups()).sum(), leaf)[0]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak_of(sys.argv[1], *map(int, sys.argv[2:])))
    else:
        for row in rows():
            print("  ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
