"""Short runs of the packaged methods on digits, on any device, and how far two of them are apart."""

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.same_values import GROUPED, METHODS, NETWORK, SETTINGS, STEPLESS
from experiments.config import build
from experiments.data import Digits
from experiments.experiment import Experiment, configured
from experiments.gpu.budget import Budget, Setting
from experiments.method import method_tree
from objectives.condensation import Progress, result, solve
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["METHODS", "STEPLESS", "apart", "few_digits", "rows", "short_run"]


def rows(setting: Setting, budget: Budget) -> Iterator[dict[str, Any]]:
    """Of each method, how far the device's set is from the CPU's after three steps, in float64 and in float32."""
    data = few_digits()
    for method in ("dm", "random") if setting.tiny else METHODS:
        if budget.spent:
            yield {"what": method, "left_out": "no time left"}
            continue
        row: dict[str, Any] = {"what": method}
        for dtype in ("float64", "float32"):
            on_cpu = short_run(method, data, "cpu", dtype=dtype)
            start = time.perf_counter()
            row[dtype] = {
                "apart": apart(on_cpu, short_run(method, data, setting.device, dtype=dtype)),
                "seconds": time.perf_counter() - start,
            }
        yield row
    if setting.device.type == "cuda" and not budget.spent:
        yield {"what": "dm", "synchronisations_of_three_steps": synchronisations("dm", data, setting.device)}


def synchronisations(method: str, data: LabelledData, device: torch.device) -> int:
    """How often CUDA itself says that the host waits in three steps; blocking copies to the device count too."""
    counts = []
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        for steps in (1, 4):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                short_run(method, data, device, steps=steps)
            counts.append(sum("synchronizing CUDA operation" in str(warning.message) for warning in caught))
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return counts[1] - counts[0]


def few_digits() -> LabelledData:
    """The first 300 and 60 of scikit-learn's digits."""
    data = Digits().load()
    assert data.test is not None
    first = (part.rows(torch.arange(size)) for part, size in ((data.train, 300), (data.test, 60)))
    return LabelledData.made(data.spec, *first)


def short_run(
    method: str,
    data: LabelledData,
    device: torch.device | str,
    *,
    steps: int = 3,
    dtype: str = "float64",
    on_step: Callable[[Progress], None] | None = None,
) -> SyntheticSet:
    """The set of a packaged method at small settings, two examples a class, eager; ``steps`` count for descents only."""
    changes = {
        "data": "digits",
        "synthetic": {"per_class": 2},
        "device": str(device),
        "dtype": dtype,
        "compile": "never",
        **({} if method in STEPLESS else {"solver": {"steps": steps}}),
    }
    assignments = [word for word in SETTINGS.get(method, NETWORK) if word != "--set"]
    experiment = build(Experiment, configured(method_tree(method), changes, assignments))
    if method in GROUPED:
        data = data.grouped(torch.arange(len(data.train)) % 2)
    problem = experiment.problem(data)
    solving = experiment.solver.start(problem)
    solve(solving, on_step)
    made = result(problem, solving)
    if experiment.teacher is None:
        return made
    return experiment.teacher.label(
        made, data.train, data.test, seed=problem.runtime.seed, device=problem.runtime.device
    )


def apart(first: SyntheticSet, second: SyntheticSet) -> float:
    """The largest difference of two sets in points, labels and weights, each relative to the largest entry."""
    pairs = [(first.points, second.points), (first.weights, second.weights)]
    if first.labels is not None and second.labels is not None:
        pairs.append((first.labels, second.labels))
    return max(_relative(*pair) for pair in pairs)


def _relative(first: Tensor, second: Tensor) -> float:
    scale = first.double().abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    return float((first.double() - second.double()).abs().max() / scale)
