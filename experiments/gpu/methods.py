"""Short runs of the packaged methods on digits, on any device, and how far two of them are apart."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.benchmarks.same_values import METHODS, NETWORK, SETTINGS, STEPLESS
from experiments.config import build
from experiments.data import Digits
from experiments.experiment import Experiment, configured, method_tree
from objectives.condense import Progress, result, solve
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["METHODS", "STEPLESS", "apart", "few_digits", "short_run"]


def few_digits() -> LabelledData:
    """The first 300 and 60 of scikit-learn's digits."""
    data = Digits().load()
    assert data.test is not None
    train, test = ((part.points[:n], part.labels[:n]) for part, n in ((data.train, 300), (data.test, 60)))
    return LabelledData.of(*train, test=test, name="digits", normalisation=data.normalisation, limits=data.limits)


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
    problem = experiment.problem(data)
    solving = experiment.solver.start(problem)
    solve(solving, on_step)
    made = result(problem, solving)
    if experiment.teacher is None:
        return made
    return experiment.teacher.label(made, data, seed=problem.seed, device=problem.device)


def apart(first: SyntheticSet, second: SyntheticSet) -> float:
    """The largest difference of two sets in points, labels and weights, each relative to the largest entry."""
    pairs = [(first.points, second.points), (first.weights, second.weights)]
    if first.labels is not None and second.labels is not None:
        pairs.append((first.labels, second.labels))
    return max(_relative(*pair) for pair in pairs)


def _relative(first: Tensor, second: Tensor) -> float:
    scale = first.double().abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    return float((first.double() - second.double()).abs().max() / scale)
