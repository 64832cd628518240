"""What discrepancies are to predict: the accuracy of the networks that are trained on a set, without an attack or under one."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from discrepancy.errors import InvalidInput, suggestion
from discrepancy.parts import Part, check_least
from experiments.evaluate import Evaluation, NetworkEvaluator, Protocol
from experiments.robust import RobustEvaluator, RobustProtocol, Suite, failed_checks
from experiments.robust.suite import ATTACKS
from objectives.attacks import Threat
from objectives.data.labelled import LabelledData
from objectives.data.spec import Described
from objectives.engine.runtime import Runtime

__all__ = ["CleanAccuracy", "RobustAccuracy", "Target"]


class Target(Part, family=True):
    """A number for each network, the larger the better. All is read from the lines that evaluations leave in the folder."""

    @abstractmethod
    def check(self, data: Described) -> None:
        """Refuse data on which it cannot be measured.

        Raises:
            InvalidInput: saying why.
        """

    @abstractmethod
    def evaluator(self, data: LabelledData, protocol: Protocol, runtime: Runtime) -> NetworkEvaluator:
        """What trains networks and measures them."""

    @abstractmethod
    def line(self, evaluation: Evaluation, data: LabelledData) -> dict[str, Any]:
        """What is kept of an evaluation."""

    @abstractmethod
    def values(self, line: Mapping[str, Any]) -> tuple[float, ...]:
        """Of each network, from 0 to 1."""

    @abstractmethod
    def clean(self, line: Mapping[str, Any]) -> tuple[float, ...] | None:
        """The accuracies without an attack, where they are something else."""

    @abstractmethod
    def described(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """For a report: the ``target`` in words, the number of test ``examples``, and what is to be noted (``warnings``)."""


class CleanAccuracy(Target, kind="accuracy"):
    """The accuracy on all the test examples."""

    def check(self, data: Described) -> None:
        data.require_classes("the study of accuracies")

    def evaluator(self, data: LabelledData, protocol: Protocol, runtime: Runtime) -> NetworkEvaluator:
        return NetworkEvaluator(data, protocol, runtime=runtime)

    def line(self, evaluation: Evaluation, data: LabelledData) -> dict[str, Any]:
        return evaluation.as_dict()

    def values(self, line: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(line["accuracies"])

    def clean(self, line: Mapping[str, Any]) -> None:
        return None

    def described(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"target": "accuracy", "examples": lines[0]["test_examples"], "warnings": ()}


class RobustAccuracy(Target, kind="robust"):
    """The accuracy under an attack in L∞ (:class:`~experiments.robust.RobustEvaluator`), on the same test examples for all.

    Args:
        eps: ε, for values in 0 .. 1; by default the smallest that is usual, 0.1 for grey images and 1/255 for colour images.
        attack: ``fgsm``, ``pgd``, ``apgd`` or ``autoattack``.
        examples: test examples that are attacked, as many of each class.
    """

    shorthand: ClassVar[str] = "eps"
    eps: float | None = None
    attack: str = "apgd"
    examples: int = 200

    def __post_init__(self) -> None:
        if self.eps is not None and not 0 < self.eps < float("inf"):
            raise InvalidInput(f"'eps' must be > 0 and finite, got {self.eps}; for no attack use target: accuracy")
        check_least("examples", self.examples, 1)
        if self.attack not in ATTACKS:
            known = f"any of {', '.join(ATTACKS)}"
            raise InvalidInput(f"'attack' must be {known}, got '{self.attack}'{suggestion(self.attack, ATTACKS)}")
        _ = self._asked

    @property
    def _asked(self) -> RobustProtocol:
        radii = () if self.eps is None else (self.eps,)
        return RobustProtocol(
            attacks=(self.attack,), eps=radii, examples=self.examples, corrupted=0, training=("natural",)
        )

    def check(self, data: Described) -> None:
        _ = self.suite(data)

    def suite(self, data: Described) -> Suite:
        """One ball beside no attack."""
        if self.eps is None and (data.limits is None or len(data.shape) != 3):
            raise InvalidInput(
                f"there is no usual radius for '{data.name}', whose examples are not images with known limits; give target.eps"
            )
        usual = self._asked.suite(data)
        eps = min(threat.eps for threat in usual.threats if threat.norm == "linf" and threat.eps > 0)
        return replace(usual, threats=(Threat("linf", 0.0), Threat("linf", eps)))

    def evaluator(self, data: LabelledData, protocol: Protocol, runtime: Runtime) -> NetworkEvaluator:
        return RobustEvaluator(data, protocol, self.suite(data), runtime=runtime)

    def line(self, evaluation: Evaluation, data: LabelledData) -> dict[str, Any]:
        return evaluation.as_dict() | {"problems": list(failed_checks(evaluation, self.suite(data)))}

    def values(self, line: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(one["attacks"][self._ball(line)][self.attack] for one in line["robust"])

    def clean(self, line: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(line["accuracies"])

    def described(self, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        failed = [(line["set"], "; ".join(line["problems"])) for line in lines if line["problems"]]
        said = (f"checks of the attack fail on {len(failed)} of {len(lines)} sets; {key}: {why}" for key, why in failed)
        examples = lines[0]["robust"][0]["examples"]
        target = f"accuracy under {self.attack} in {self._ball(lines[0])}"
        return {"target": target, "examples": examples, "warnings": tuple(said)[:1]}

    def _ball(self, line: Mapping[str, Any]) -> str:
        """The name of the threat under which the attack ran."""
        return next(name for name, found in line["robust"][0]["attacks"].items() if self.attack in found)
