"""How exact exact ridge regression is, at what cost; and iterated kernel ridge regression beside it, for as long as is allowed.

Tables 3 and 4 of "Provable and Efficient Dataset Distillation for Kernel Ridge Regression" (Chen, Huang, Weng, 2024, NeurIPS).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from discrepancy import Measure, Risk
from discrepancy.embeddings import Features
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Linear
from discrepancy.learning.learners import KernelRidge, Learner, LinearPredictor, Predictor
from discrepancy.learning.recovery import duals, features_of, learned
from experiments.config import build, dump
from experiments.data import Source
from experiments.experiment import Experiment, configured
from experiments.method import method_tree
from objectives.condensation import check_finite, result
from objectives.contexts import Fresh
from objectives.data.labelled import LabelledData
from objectives.rng import rng
from objectives.solvers import Descent, Problem
from objectives.solvers.closed_form.closed_form import Solved
from objectives.synthetic.artefact import SyntheticSet
from objectives.synthetic.pixels import Pixels
from objectives.terms.match import Match

__all__ = ["Noise", "Row", "exact", "experiment_of", "iterated", "recovered"]

PART = 2048
"""Test examples that are predicted together."""

KIP_STEPS, KIP_RATE, KIP_BATCH, KIP_PENALTY = 30_000, 0.01, 5000, 1e-6
"""Of the published comparison: Adam, labels solved for at every step, 5,000 real examples a step, 1e-6 tr K/m on the
diagonal."""

LONG = 10**9
"""Steps for which one network is kept: all."""


@dataclass(frozen=True)
class Row:
    """One synthetic set: accuracies in [0, 1] on the test examples, of what is learned from all the real data and from the set;
    the seconds that the real side took, and the set beyond that. Of ``kip`` all the seconds are those of the set, and what is
    known of exact solutions alone is None."""

    data: str
    features: str
    method: str
    per_class: int
    seed: int
    condensed: float
    real_seconds: float
    own_seconds: float
    steps: int
    minutes: float | None = None
    original: float | None = None
    error: float | None = None
    condition: float | None = None
    penalty: float | None = None
    accuracy_float32: float | None = None
    accuracy_bytes: float | None = None

    @property
    def seconds(self) -> float:
        return self.real_seconds + self.own_seconds

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Noise:
    """What is recovered of W from points and labels, with noise of this standard deviation in Z: its distance from W relative
    to the norm of W, and its accuracy in [0, 1]."""

    data: str
    features: str
    per_class: int
    seed: int
    noise: float
    error: float
    accuracy: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def experiment_of(source: Source, features: str, per_class: int, seed: int, device: str, precision: str) -> Experiment:
    """The method ``ridge`` as a run of it would be."""
    changes = {
        "data": dump(source, defaults=False),
        "synthetic": {"per_class": per_class},
        "solver": {"precision": precision},
        "seed": seed,
        "device": device,
    }
    return build(Experiment, configured(method_tree("ridge"), changes, (), features))


def exact(
    source: Source,
    data: LabelledData,
    features: str,
    sizes: Sequence[int],
    *,
    seed: int = 0,
    device: str = "auto",
    precision: str = "double",
    keep: Callable[[int, SyntheticSet], None] = lambda size, synthetic: None,
) -> Iterator[Row]:
    """A row for each size; the real data are read once for all."""
    first: Solved | None = None
    original = real_seconds = 0.0
    for size in sizes:
        experiment = experiment_of(source, features, size, seed, device, precision)
        problem = experiment.problem(data)
        solving = started(experiment, problem)
        if first is None:
            start = time.perf_counter()
            _, predictor = solving.learned
            real_seconds = time.perf_counter() - start
            original, first = accuracy(solving, data, predictor), solving
        else:
            solving.learned = first.learned
        start = time.perf_counter()
        solving.advance()
        own_seconds = time.perf_counter() - start
        synthetic = result(problem, solving)
        keep(size, synthetic)
        found, labels = solving.findings, labels_of(synthetic)
        condensed, *less = (
            None if points is None else learned_from(solving, data, points, labels, solving.of_synthetic)
            for points in (synthetic.points, *rounded(synthetic))
        )
        assert condensed is not None
        yield Row(
            data=data.name,
            features=features,
            method="ridge",
            per_class=size,
            seed=seed,
            original=original,
            condensed=condensed,
            error=found["error"],
            condition=found["condition"],
            penalty=found["penalty"],
            real_seconds=real_seconds,
            own_seconds=own_seconds,
            steps=1,
            accuracy_float32=less[0],
            accuracy_bytes=less[1],
        )


def iterated(
    source: Source,
    data: LabelledData,
    features: str,
    per_class: int,
    minutes: float,
    *,
    seed: int = 0,
    device: str = "auto",
    on_step: Callable[[int, float], None] = lambda step, minutes: None,
) -> Row:
    """KIP on the same features: gradient steps on the error on the real data of kernel ridge
    regression with the kernel ⟨φ, φ⟩, with the labels solved for, until the steps or the minutes are over.

    ``on_step`` is called with the steps that are done and the minutes that they took.
    """
    base = experiment_of(source, features, per_class, seed, device, "double")
    ((_, term),) = base.objective.terms
    if term.takes != {"features"}:
        raise InvalidInput(f"KIP is compared on features of a network, not on '{features}'; leave it out there")
    count = per_class * data.count
    learner = KernelRidge(kernel=Linear(), penalty=KIP_PENALTY / count, relative=True)
    problem = replace(
        base.problem(data),
        objective=Match(Risk(learner=learner), via=Features(), by="none").named("risk"),
        context=Fresh(network=base.context.network, batch=max(1, KIP_BATCH // data.count), keep=LONG),
        synthetic=Pixels(per_class=per_class, labels="learned"),
        runtime=replace(base.runtime, dtype=torch.float32),
    )
    solver = Descent(optimizer="adam", lr=KIP_RATE, steps=KIP_STEPS, solve_labels=True)
    start = time.perf_counter()
    solving, seconds = solver.start(problem), 0.0
    while solving.step < solving.steps and seconds < 60 * minutes:
        check_finite(solving.advance())
        seconds = time.perf_counter() - start
        on_step(solving.step, seconds / 60)
    synthetic = result(problem, solving)
    space = started(base, base.problem(data))
    return Row(
        data=data.name,
        features=features,
        method="kip",
        per_class=per_class,
        seed=seed,
        condensed=learned_from(space, data, synthetic.points, labels_of(synthetic), learner),
        real_seconds=0.0,
        own_seconds=seconds,
        steps=solving.step,
        minutes=minutes,
    )


def started(experiment: Experiment, problem: Problem) -> Solved:
    """The exact solution of a problem under way; the experiments here all have the closed-form solver."""
    return cast(Solved, experiment.solver.start(problem))


def learned_from(space: Solved, data: LabelledData, points: Tensor, labels: Tensor, learner: Learner) -> float:
    """The accuracy of what a learner learns from points in the units of the source."""
    features = space.features(data.normalisation.apply(points, torch.float64))
    measure = Measure(features, labels=labels.double().to(features.device)).as_groups()
    return accuracy(space, data, learner.fit(measure))


def accuracy(space: Solved, data: LabelledData, predictor: Predictor) -> float:
    """The share of the test examples whose largest prediction is that of their class."""
    test, right = data.test, 0
    if test is None or not data.classes:
        raise InvalidInput(f"'{data.name}' has no test examples with classes; use other data")
    for rows in torch.arange(len(test)).split(PART):
        points = test.normalised(rows, dtype=torch.float64)
        found = predictor(space.features(points)[None])[0].argmax(1)
        right += int((found.cpu() == test.strata[rows]).sum())
    return right / len(test)


def labels_of(synthetic: SyntheticSet) -> Tensor:
    """The label vectors of a set."""
    labels = synthetic.labelling.vectors(len(synthetic.classes), torch.float64)
    assert labels is not None
    return labels


def rounded(synthetic: SyntheticSet) -> tuple[Tensor, Tensor | None]:
    """The points rounded to float32, and, of images, to whole numbers within the valid range."""
    limits = synthetic.limits
    whole = None if limits != (0, 255) else synthetic.points.round().clamp(0, 255)
    return synthetic.points.float().double(), whole


def recovered(
    source: Source,
    data: LabelledData,
    features: str,
    synthetic: SyntheticSet,
    noises: Sequence[float],
    *,
    seed: int = 0,
    device: str = "auto",
) -> Iterator[Noise]:
    """What noise hides: the W of an exact set, condensed anew with Z of noise, and computed back from features and labels.
    Theorem 6.2 has each row of D private by such noise, which lies in the null space of Yᵀ."""
    per_class = len(synthetic) // data.count
    base = experiment_of(source, features, per_class, seed, device, "double")
    space = started(base, base.problem(data))
    labels = labels_of(synthetic).double().to(space.problem.runtime.device)
    weights = learned(space.features(data.normalisation.apply(synthetic.points, torch.float64)), labels)
    generator = rng(seed, "noise")
    for noise in noises:
        drawn = noise * torch.randn(len(labels), weights.shape[1], generator=generator, dtype=torch.float64)
        found = learned(features_of(duals(weights, labels, free=drawn.to(weights))), labels)
        yield Noise(
            data=data.name,
            features=features,
            per_class=per_class,
            seed=seed,
            noise=noise,
            error=float((found - weights).norm() / weights.norm()),
            accuracy=accuracy(space, data, LinearPredictor(found[None])),
        )
