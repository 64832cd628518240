"""Steps of DM and NCFM at published settings: CIFAR-10, width 128, 10 images a class.

Both are measured for as many steps as the time allows, after some that are not counted. NCFM's two networks are trained for 50
minibatches (published: 20 networks, 60 epochs each): the time of a step does not depend on that, the quality of the set does.
"""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.distribution_matching import random_images
from experiments.config import build
from experiments.experiment import Experiment, configured
from experiments.gpu.budget import Budget, Setting, spread, wait_for
from experiments.method import method_tree
from objectives.data.labelled import LabelledData

__all__ = ["cifar10", "dm", "ncfm"]

DM = ["context.batch=256", "solver.steps=20000"]
NCFM = [
    "context.batch=1024",
    "objective.terms.features.match.frequencies=4096",
    "context.size=2",
    "context.trained=1",
    "solver.steps=20000",
]
TINY = ["context.network.width=4", "context.network.depth=2", "context.batch=8"]
GROUP = 5
"""Steps between two looks at the clock, for which the host waits for the device."""


def dm(setting: Setting, budget: Budget) -> Iterator[dict[str, Any]]:
    """Steps of DM with 256 real images a class."""
    yield steps("dm", DM, setting, budget)


def ncfm(setting: Setting, budget: Budget) -> Iterator[dict[str, Any]]:
    """Steps of NCFM with 1,024 real images a class and 4,096 frequencies."""
    tiny = ["objective.terms.features.match.frequencies=16", "context.training.steps=2"] if setting.tiny else []
    yield steps("ncfm", [*NCFM, *tiny], setting, budget)


def steps(method: str, assignments: list[str], setting: Setting, budget: Budget) -> dict[str, Any]:
    """Seconds of a step, in groups of a few, until the time is over; one group at least."""
    data = cifar10(setting)
    settings = [*assignments, *(TINY if setting.tiny else [])]
    changes = {"data": "digits", "device": str(setting.device), "compile": "never" if setting.tiny else "always"}
    experiment = build(Experiment, configured(method_tree(method), changes, settings))
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
    start = time.perf_counter()
    solving = experiment.solver.start(experiment.problem(data))
    record = solving.advance()
    wait_for(setting.device)
    first = time.perf_counter() - start
    group = 1 if setting.tiny else GROUP
    seconds: list[float] = []
    counted = -1  # the first group is not: it meets the second network
    while counted < 1 or not (budget.spent or setting.tiny):
        start = time.perf_counter()
        for _ in range(group):
            record = solving.advance()
        wait_for(setting.device)
        counted += 1
        if counted > 0:
            seconds.append((time.perf_counter() - start) / group)
    return {
        "what": f"{method} on {data.name}: {', '.join(settings)}",
        "seconds_per_step": spread(seconds),
        "first_step_seconds": first,
        "loss_is_finite": bool(torch.isfinite(record.loss)),
        **peak(setting.device),
    }


def peak(device: torch.device) -> dict[str, int]:
    return {"peak_bytes": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}


def cifar10(setting: Setting) -> LabelledData:
    """30,000 training images of CIFAR-10 where the folder has them; else as many synthetic ones, and the name says so."""
    if setting.tiny:
        return random_images(500, 8).changed(name="synthetic images")
    if setting.data is None or not (setting.data / "cifar10_a.npz").exists():
        return random_images(30_000, 32).changed(name="synthetic images")
    arrays = packed(setting.data / "cifar10_a.npz")
    return LabelledData.of(
        arrays["x_train"], arrays["y_train"], test=(arrays["x_test"], arrays["y_test"]), name="CIFAR-10", mirror=True
    )


def packed(path: Path) -> Any:
    """The arrays of a file that is read by the ``imgpack.py`` beside it."""
    found = importlib.util.spec_from_file_location("imgpack", path.with_name("imgpack.py"))
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.load(path)
