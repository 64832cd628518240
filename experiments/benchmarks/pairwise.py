"""Gaussian MMD with its gradient (20,000 real points, 1,000 synthetic, 128 features, float32), the real side summarised before.

Against geomloss's tensorized kernel loss for the same gradient, which computes the real side's own term each time, and against
the two bare matrix products that the cross term cannot do without. Memory is the peak above what was held before, in a process
of its own; errors are against float64 brute force, relative to the mean kernel value, also far from the origin.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import geomloss
import psutil
import torch
from torch import Tensor

from discrepancy import MMD, Gaussian, Measure
from discrepancy.kernels import Median
from experiments.benchmarks.timing import alternating

__all__ = ["rows"]

N, M, D = 20_000, 1_000, 128


def rows(rounds: int = 9, peer_rounds: int = 3) -> list[dict[str, Any]]:
    """The measurements, one mapping a row."""
    x, y = clouds()
    ours, theirs, products = step(x, y), geomloss_step(x, y), bare_products(x, y)
    beside = alternating({"theirs": theirs, "ours": ours}, peer_rounds)
    alone = alternating({"ours": ours, "products": products, "summary": lambda: summarised(x)}, rounds)
    whole = alone["ours"] + alone["summary"]
    return [
        {"what": "gaussian MMD with gradient, geomloss tensorized", "seconds": beside["theirs"], "ratio": 1.0},
        {
            "what": "gaussian MMD with gradient, real side summarised",
            "seconds": beside["ours"],
            "ratio": beside["theirs"] / beside["ours"],
        },
        {
            "what": "the same, between calls of nothing as large",
            "seconds": alone["ours"],
            "ratio": beside["theirs"] / alone["ours"],
        },
        {
            "what": "two bare matrix products of that size",
            "seconds": alone["products"],
            "ratio": beside["theirs"] / alone["products"],
        },
        {"what": "the summary of the real side, once", "seconds": alone["summary"], "ratio": None},
        {"what": "summary and step together", "seconds": whole, "ratio": beside["theirs"] / whole},
        {"what": "extra memory, geomloss", "megabytes": extra_megabytes("geomloss")},
        {"what": "extra memory, step", "megabytes": extra_megabytes("step")},
        {"what": "extra memory, summary", "megabytes": extra_megabytes("summary")},
        *(row for offset in (0.0, 100.0) for row in error_rows(offset)),
    ]


def clouds(offset: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(N, D, generator=generator) + offset,
        torch.randn(M, D, generator=generator) + (offset + 0.1),
    )


def discrepancy(x: Tensor) -> MMD:
    kernel = Gaussian(lengthscale=Median()).resolve(Measure(x))
    return MMD(kernel=kernel)


def summarised(x: Tensor) -> object:
    return MMD(kernel=Gaussian(lengthscale=16.0)).summarise(Measure(x).as_groups())


def step(x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """The gradient at y."""
    mmd = discrepancy(x)
    summary = mmd.summarise(Measure(x).as_groups())
    leaf = y.clone().requires_grad_()

    def action() -> Tensor:
        return torch.autograd.grad(mmd.compare(summary, Measure(leaf).as_groups()).sum(), leaf)[0]

    return action


def geomloss_step(x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    loss = geomloss.SamplesLoss("gaussian", blur=16.0, backend="tensorized")
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


def error_rows(offset: float) -> list[dict[str, Any]]:
    """Value and gradient against float64 brute force on the same float32 points."""
    x, y = clouds(offset=offset)
    mmd = discrepancy(x)
    leaf, exact_leaf = y.clone().requires_grad_(), y.double().requires_grad_()
    value = mmd(Measure(x), Measure(leaf))
    (gradient,) = torch.autograd.grad(value, leaf)
    assert isinstance(mmd.kernel, Gaussian)
    length, exact_x = float(mmd.kernel.lengthscale), x.double()  # pyright: ignore[reportArgumentType]

    def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
        distances = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT
        return torch.exp(distances / (-2 * length**2)).mean()

    exact, exact_gradient, mean = torch.zeros((), dtype=torch.float64), torch.zeros_like(exact_leaf), 0.0
    parts = exact_x.split(len(x) // 20)
    for part in parts:
        exact += mean_kernel(part, exact_x) / len(parts)
        cross = mean_kernel(part, exact_leaf) / len(parts)
        exact_gradient += torch.autograd.grad(-2 * cross, exact_leaf)[0]
        exact -= 2 * cross.detach()
        mean += cross.item()
    own = mean_kernel(exact_leaf, exact_leaf)
    exact_gradient += torch.autograd.grad(own, exact_leaf)[0]
    exact += own.detach()
    of_gradient = (gradient.double() - exact_gradient).abs().max() / exact_gradient.abs().max()
    return [
        {
            "what": f"error of the value / mean kernel value, offset {offset:g}",
            "error": abs(value.item() - exact.item()) / mean,
        },
        {"what": f"largest error of the gradient / its largest entry, offset {offset:g}", "error": of_gradient.item()},
    ]


def extra_megabytes(which: str) -> float:
    """The peak of ``which`` above the memory held before it, measured in a new process."""
    command = [sys.executable, "-m", "experiments.benchmarks.pairwise", which]
    # Makes glibc give freed blocks back, so that memory held by an earlier computation hides nothing.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def peak_megabytes(which: str) -> float:
    actions: dict[str, Callable[[Tensor, Tensor], Callable[[], object]]] = {
        "geomloss": geomloss_step,
        "step": step,
        "summary": lambda x, y: lambda: summarised(x),
    }
    prepare = actions[which]
    x, y = clouds()
    prepare(x[:500], y[:100])()  # starts threads, loads libraries
    action = prepare(x, y)
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    kept = action()
    done.set()
    watcher.join()
    del kept
    return (peak - before) / 2**20


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak_megabytes(sys.argv[1]))
    else:
        for row in rows():
            print("  ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
