"""Networks trained from scratch on a set, and then attacked and shown corrupted images."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.networks import NetworkParameters, Statistics
from experiments.evaluate.evaluator import Progress
from experiments.evaluate.protocol import Protocol
from experiments.evaluate.records import TrainingSet
from experiments.evaluate.training import NetworkEvaluator
from experiments.robust.suite import Suite, survivors
from objectives.attacks import PGD, Threat, UnitSpace, attacked
from objectives.attacks.base import Classify
from objectives.attacks.corruptions import CORRUPTIONS, corrupted
from objectives.data.labelled import LabelledData
from objectives.data.labels import predicted_classes
from objectives.engine.runtime import Runtime
from objectives.rng import rng
from objectives.teacher import Taught

__all__ = ["HUGE", "RobustEvaluator", "calibration_error"]

HUGE = 0.5
"""A radius at which every image can become the same one, so that no network is right about all of them."""

BINS = 15
"""Of the confidence, for the calibration error."""


class RobustEvaluator(NetworkEvaluator):
    """As :class:`NetworkEvaluator`; the measure ``robust`` of a network is a mapping:

        examples      the number of attacked examples
        attacks       by threat and attack, the accuracy on the attacked examples; ``none`` is that without an attack
        transfer      by threat, the accuracy on the points that ``pgd`` found on the network before
        huge          the accuracy under ``pgd`` in a ball that makes all images alike; None without known limits of values
        corruptions   by corruption, the accuracy at each of the five severities
        calibration   the expected calibration error
        worst_class, worst_group      the smallest accuracy of a class, of a group of the test examples

    Args:
        suite: threats and attacks.
    """

    def __init__(
        self,
        data: LabelledData,
        protocol: Protocol,
        suite: Suite,
        *,
        runtime: Runtime = Runtime(),  # noqa: B008  (frozen)
        validation: bool = False,
        teacher: Taught | None = None,
    ) -> None:
        data.require_classes("a robust evaluation")
        super().__init__(data, protocol, runtime=runtime, validation=validation, teacher=teacher)
        self.suite, self.measures = suite, ("accuracies", "robust")
        self.space = UnitSpace.of(data, runtime.device)
        self._before: dict[str, Tensor] = {}

    def score(self, examples: TrainingSet, trial: int, report: Progress) -> tuple[Any, ...]:
        share = 1 / (1 + len(self.suite.threats))
        parameters, statistics = self.checked(examples, trial, lambda done: report(share * done))

        def classify(points: Tensor) -> Tensor:
            return self.extractor(parameters, self.space.to_normalised(points), self._rows(points), statistics)[
                "logits"
            ]

        measured = {
            **self.under_attack(classify, trial, lambda done: report(share + (1 - share) * done)),
            "corruptions": self._under_corruptions(parameters, statistics) if self.suite.corrupted else {},
            **self._clean(parameters, statistics),
        }
        return self.accuracy(parameters, statistics), measured

    def under_attack(self, classify: Classify, trial: int, report: Progress = lambda share: None) -> dict[str, Any]:
        """What is measured of a network by attacks: ``examples``, ``attacks``, ``transfer`` and ``huge``.

        Args:
            classify: the network.
            trial: its number; points found on the network before are kept for it.
        """
        if trial == 0:
            self._before = {}
        rows = self._chosen(self.suite.examples)
        units = self._units(rows)
        labels = functional.one_hot(self.test.strata[rows], self.data.count).to(units)
        attacks, transfer = {}, {}
        for number, threat in enumerate(self.suite.threats):
            attacks[threat.name], transferred = self._under(threat, classify, units, labels, trial)
            if transferred is not None:
                transfer[threat.name] = transferred
            report((1 + number) / len(self.suite.threats))
        huge = self._left_in_huge(classify, units, labels, trial)
        return {"examples": len(rows), "attacks": attacks, "transfer": transfer, "huge": huge}

    def _left_in_huge(self, classify: Classify, units: Tensor, labels: Tensor, trial: int) -> float | None:
        """Without limits no ball makes all examples alike."""
        if self.data.limits is None:
            return None
        generator = rng(self.runtime.seed, "evaluate", trial, "robust", "huge")
        found = attacked(PGD(eps=HUGE), classify, units, labels, self.space.ball, generator, stop=True)
        return _share(~found.won)

    def _rows(self, points: Tensor) -> int:
        """Examples of a forward pass. Fewer and fewer are left under an attack; code that is compiled anew for each number gets
        one of three."""
        most = min(self.extractor.chunk, self.suite.examples)
        if not self.extractor.compiled:
            return min(most, len(points))
        sizes = (-(-most // 16), -(-most // 4), most)
        return next((size for size in sizes if size >= len(points)), most)

    def _chosen(self, most: int) -> Tensor:
        """Test examples, as many of each class, the same for every set and network."""
        each = -(-most // self.data.count)
        return self.test.class_batch(rng(self.runtime.seed, "robust", "examples"), each)

    def _units(self, rows: Tensor) -> Float[Tensor, "n ..."]:
        points = self.space.to_unit(self.test.normalised(rows, self.runtime.device))
        return points.clamp(self.space.low, self.space.high)  # units are rounded on the way

    def _under(
        self, threat: Threat, classify: Classify, units: Tensor, labels: Tensor, trial: int
    ) -> tuple[dict[str, float], float | None]:
        """The accuracy under each attack, and on the points of the network before."""
        with torch.no_grad():
            right = predicted_classes(classify(units)) == labels.argmax(1)
        if threat.eps == 0:
            return {"none": _share(right)}, None
        found, transferred = {}, None
        for name in self.suite.attacks:
            generator = rng(self.runtime.seed, "evaluate", trial, "robust", name, threat.name)
            survived, points = survivors(name, self.suite, threat, classify, units, labels, self.space, generator)
            found[name] = _share(survived)
            if name != "pgd":
                continue
            before, self._before[threat.name] = self._before.get(threat.name), points
            if before is not None:
                with torch.no_grad():
                    transferred = _share(right & (predicted_classes(classify(before)) == labels.argmax(1)))
        return found, transferred

    @torch.no_grad()
    def _under_corruptions(
        self, parameters: NetworkParameters, statistics: Statistics | None
    ) -> dict[str, list[float]]:
        rows = self._chosen(self.suite.corrupted)
        units, numbers = self._units(rows), self.test.strata[rows].to(self.runtime.device)
        found = {}
        for name in CORRUPTIONS:
            found[name] = []
            for severity in range(1, 6):
                generator = rng(self.runtime.seed, "robust", name, severity)
                points = self.space.to_normalised(corrupted(units, name, severity, generator))
                logits = self.extractor(parameters, points, self.extractor.size(len(points)), statistics)["logits"]
                found[name].append(_share(predicted_classes(logits) == numbers))
        return found

    def _clean(self, parameters: NetworkParameters, statistics: Statistics | None) -> Mapping[str, float]:
        logits = torch.cat([part for _, part in self._predictions(parameters, statistics)]).cpu()
        numbers = self.test.strata.cpu()
        right = predicted_classes(logits) == numbers
        found = {"calibration": calibration_error(logits, numbers), "worst_class": _worst(right, numbers)}
        groups = self.test.groups
        return found if groups is None else {**found, "worst_group": _worst(right, groups.cpu())}


def calibration_error(logits: Float[Tensor, "n c"], numbers: Tensor) -> float:
    """The expected calibration error Σ_b (n_b / n) |accuracy of bin b - mean confidence of bin b|, over 15 bins of equal width
    of the largest probability.

    References: On Calibration of Modern Neural Networks (Guo et al., 2017), equation 3.
    """
    confidence, guess = logits.double().softmax(1).max(1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.float64)
    gap.index_add_(0, bins, (guess == numbers).double() - confidence)
    return float(gap.abs().sum() / len(logits))


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _worst(right: Tensor, parts: Tensor) -> float:
    """The smallest accuracy of a part that has examples."""
    sizes = torch.bincount(parts)
    correct = torch.bincount(parts, right.double())
    return float((correct[sizes > 0] / sizes[sizes > 0]).min())
