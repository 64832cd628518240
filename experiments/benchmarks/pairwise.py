"""MMD with its gradient (20,000 real points, 1,000 synthetic, 128 features, float32), the real side summarised before, under
the kernels gaussian, laplace and energy (which makes it the energy distance).

Against geomloss's tensorized kernel loss for the same gradient, which computes the real side's own term each time, its online
one where KeOps imports, and against the two bare matrix products that the cross term cannot do without. Memory is the peak
above what was held before, in a process of its own; errors are against float64 brute force, relative to the mean kernel value,
for the gaussian kernel also far from the origin. Last, the cost of a step as the real side grows over three decades.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import geomloss
import torch
from torch import Tensor

from discrepancy import MMD, Gaussian, Measure
from discrepancy.discrepancy import SampleSummary
from discrepancy.kernels import Energy, Kernel, Laplace, Median
from experiments.benchmarks.memory import extra_megabytes, peak_megabytes
from experiments.benchmarks.timing import alternating

__all__ = ["rows"]

N, M, D = 20_000, 1_000, 128
GROWING = (100, 1_000, 10_000, 100_000)
THEIRS = {"gaussian": "gaussian", "laplace": "laplacian", "energy": "energy"}
"""Our names of kernels, and geomloss's."""

MODULE = "experiments.benchmarks.pairwise"


def rows(rounds: int = 9, peer_rounds: int = 3) -> list[dict[str, Any]]:
    """The measurements, one mapping a row."""
    return [
        *gaussian_rows(rounds, peer_rounds),
        *(row for name in ("laplace", "energy") for row in other_rows(name, rounds, max(1, peer_rounds - 1))),
        *(row for offset in (0.0, 100.0) for row in error_rows(offset)),
        *(row for name in ("laplace", "energy") for row in error_rows(0.0, name)),
        *growth_rows(rounds),
    ]


def gaussian_rows(rounds: int, peer_rounds: int) -> list[dict[str, Any]]:
    x, y = clouds()
    ours, products = step(x, y), bare_products(x, y)
    online = ["online"] if keops() else []
    peers = {backend: geomloss_step(x, y, backend=backend) for backend in ("tensorized", *online)}
    beside = alternating({**peers, "ours": ours}, peer_rounds)
    alone = alternating({"ours": ours, "products": products}, rounds)
    summary = alternating({"summary": lambda: summarised(x)}, peer_rounds)["summary"]
    whole, theirs = alone["ours"] + summary, beside["tensorized"]
    note = "" if online else " (online left out: pykeops does not import)"
    return [
        {"what": f"gaussian MMD with gradient, geomloss tensorized{note}", "seconds": theirs, "ratio": 1.0},
        *(
            {
                "what": f"gaussian MMD with gradient, geomloss {backend}",
                "seconds": beside[backend],
                "ratio": theirs / beside[backend],
            }
            for backend in online
        ),
        {
            "what": "gaussian MMD with gradient, real side summarised",
            "seconds": beside["ours"],
            "ratio": theirs / beside["ours"],
        },
        {
            "what": "the same, between calls of nothing as large",
            "seconds": alone["ours"],
            "ratio": theirs / alone["ours"],
        },
        {
            "what": "two bare matrix products of that size",
            "seconds": alone["products"],
            "ratio": theirs / alone["products"],
        },
        {"what": "the summary of the real side, once", "seconds": summary, "ratio": None},
        {"what": "summary and step together", "seconds": whole, "ratio": theirs / whole},
        {"what": "extra memory, geomloss", "megabytes": extra_megabytes(MODULE, "geomloss")},
        {"what": "extra memory, step", "megabytes": extra_megabytes(MODULE, "step")},
        {"what": "extra memory, summary", "megabytes": extra_megabytes(MODULE, "summary")},
    ]


def other_rows(name: str, rounds: int, peer_rounds: int) -> list[dict[str, Any]]:
    """The same comparison in short."""
    x, y = clouds()
    ours = step(x, y, name)
    beside = alternating({"theirs": geomloss_step(x, y, name), "ours": ours}, peer_rounds)
    alone = alternating({"ours": ours}, rounds)["ours"]
    theirs = beside["theirs"]
    return [
        {"what": f"{name} MMD with gradient, geomloss tensorized", "seconds": theirs, "ratio": 1.0},
        {
            "what": f"{name} MMD with gradient, real side summarised",
            "seconds": beside["ours"],
            "ratio": theirs / beside["ours"],
        },
        {"what": "the same, between calls of nothing as large", "seconds": alone, "ratio": theirs / alone},
        {"what": f"extra memory, {name} step", "megabytes": extra_megabytes(MODULE, "step", name)},
    ]


def growth_rows(rounds: int) -> list[dict[str, Any]]:
    """A step against ever more real points, beside one against a single real point, which is the synthetic side's own term."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(max(GROWING), D, generator=generator), clouds()[1]
    steps = {str(n): step(x[:n], y, "gaussian", summarise=False) for n in (1, *GROWING)}
    seconds = alternating(steps, rounds)
    own = seconds["1"]
    return [{"what": f"gaussian step, {M:,} synthetic points alone", "seconds": own, "ratio": None}] + [
        {
            "what": f"gaussian step, {n:,} real: {1e6 * (seconds[str(n)] - own) / n:.2f} us each beyond that",
            "seconds": seconds[str(n)],
            "ratio": None,
        }
        for n in GROWING
    ]


def keops() -> bool:
    """Whether geomloss's online backend can be used."""
    try:
        importlib.import_module("pykeops.torch")
    except Exception:  # an import that looks for compilers may fail in any way
        return False
    return True


def clouds(offset: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(N, D, generator=generator) + offset,
        torch.randn(M, D, generator=generator) + (offset + 0.1),
    )


def discrepancy(x: Tensor, name: str = "gaussian") -> MMD:
    kernels: dict[str, Kernel] = {
        "gaussian": Gaussian(lengthscale=Median()),
        "laplace": Laplace(lengthscale=Median()),
        "energy": Energy(),
    }
    return MMD(kernel=kernels[name].resolve(Measure(x)))


def summarised(x: Tensor) -> object:
    return MMD(kernel=Gaussian(lengthscale=16.0)).summarise(Measure(x).as_groups())


def step(x: Tensor, y: Tensor, name: str = "gaussian", *, summarise: bool = True) -> Callable[[], Tensor]:
    """The gradient at y; without ``summarise`` the real side's own term, which it does not need, is left out."""
    real = Measure(x).as_groups()
    mmd = discrepancy(x if len(x) > 1 else y, name)
    summary = mmd.summarise(real) if summarise else SampleSummary(real, {"own": torch.zeros(1, dtype=torch.float64)})
    leaf = y.clone().requires_grad_()

    def action() -> Tensor:
        return torch.autograd.grad(mmd.compare(summary, Measure(leaf).as_groups()).sum(), leaf)[0]

    return action


def geomloss_step(x: Tensor, y: Tensor, name: str = "gaussian", backend: str = "tensorized") -> Callable[[], Tensor]:
    loss = geomloss.SamplesLoss(THEIRS[name], blur=16.0, backend=backend)
    leaf = y.clone().requires_grad_()
    return lambda: torch.autograd.grad(loss(x, leaf), leaf)[0]


def bare_products(x: Tensor, y: Tensor, block: int = 1_000) -> Callable[[], Tensor]:
    """x yᵀ and its transpose times x, in blocks that stay in the cache."""
    products, total = x.new_empty(block, len(y)), torch.empty_like(y)

    def action() -> Tensor:
        for part in x.split(block):
            torch.mm(part, y.mT, out=products[: len(part)])
            torch.mm(products[: len(part)].mT, part, out=total)
        return total

    return action


def error_rows(offset: float, name: str = "gaussian") -> list[dict[str, Any]]:
    """Value and gradient against float64 brute force on the same float32 points."""
    x, y = clouds(offset=offset)
    mmd = discrepancy(x, name)
    leaf, exact_leaf = y.clone().requires_grad_(), y.double().requires_grad_()
    value = mmd(Measure(x), Measure(leaf))
    (gradient,) = torch.autograd.grad(value, leaf)
    length, exact_x = float(getattr(mmd.kernel, "lengthscale", 1.0)), x.double()

    def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
        squares = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT).clamp(min=0)
        if name == "gaussian":
            return torch.exp(squares / (-2 * length**2)).mean()
        distances = torch.where(squares > 1e-9, squares, torch.inf).sqrt()  # leaves out the pairs (i, i)
        if name == "laplace":
            return torch.exp(-distances / length).sum() / squares.numel() + (squares <= 1e-9).double().mean()
        return -torch.where(squares > 1e-9, distances, 0.0).mean()

    exact, exact_gradient, mean = torch.zeros((), dtype=torch.float64), torch.zeros_like(exact_leaf), 0.0
    parts = exact_x.split(len(x) // 20)
    for i, part in enumerate(parts):
        for j, other in enumerate(parts[: i + 1]):
            exact += mean_kernel(part, other) * (1 if i == j else 2) / len(parts) ** 2
        cross = mean_kernel(part, exact_leaf) / len(parts)
        exact_gradient += torch.autograd.grad(-2 * cross, exact_leaf)[0]
        exact -= 2 * cross.detach()
        mean += cross.item()
    own = mean_kernel(exact_leaf, exact_leaf)
    exact_gradient += torch.autograd.grad(own, exact_leaf)[0]
    exact += own.detach()
    of_gradient = (gradient.double() - exact_gradient).abs().max() / exact_gradient.abs().max()
    where = f"{'' if name == 'gaussian' else name + ', '}offset {offset:g}"
    return [
        {
            "what": f"error of the value / mean kernel value, {where}",
            "error": abs(value.item() - exact.item()) / abs(mean),
        },
        {"what": f"largest error of the gradient / its largest entry, {where}", "error": of_gradient.item()},
    ]


def peak_of(which: str, name: str = "gaussian") -> float:
    """The extra memory of one of these, after a warm-up on few points."""
    actions: dict[str, Callable[[Tensor, Tensor], Callable[[], object]]] = {
        "geomloss": lambda x, y: geomloss_step(x, y, name),
        "step": lambda x, y: step(x, y, name),
        "summary": lambda x, y: lambda: summarised(x),
    }
    x, y = clouds()
    actions[which](x[:500], y[:100])()
    return peak_megabytes(actions[which](x, y))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak_of(*sys.argv[1:]))
    else:
        for row in rows():
            print("  ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
