"""What a robust evaluation measures: threats, attacks, corruptions, and on how many test examples."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from discrepancy.errors import InvalidInput, suggestion
from discrepancy.parts import check_least
from experiments.evaluate.protocol import Protocol
from objectives.attacks import APGD, FGSM, PGD, Attack, Ball, Threat, UnitSpace, attacked
from objectives.attacks.base import Classify
from objectives.attacks.threat import Norm
from objectives.data.labels import predicted_classes
from objectives.data.spec import Described

__all__ = ["ATTACKS", "WAYS", "RobustProtocol", "Suite", "survivors"]

ATTACKS = ("fgsm", "pgd", "apgd", "autoattack")
"""``apgd`` is APGD on the cross-entropy and then, on what is left, APGD-T: the first two of the four attacks of AutoAttack.
``autoattack`` is all four, by its authors' code: up to 5,000 more predictions of each example that withstands the others."""

WAYS = ("natural", "adversarial")
"""Of training."""

INSTALL = "pip install 'discrepancy[robust]'"

Radii = tuple[tuple[Norm, tuple[float, ...]], ...]

COLOUR: Radii = (
    ("linf", (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)),
    ("l2", (128 / 255,)),
)
GREY: Radii = (("linf", (0.0, 0.1, 0.2, 0.3)),)


@dataclass(frozen=True)
class Suite:
    """Threats and attacks.

    Args:
        threats: the balls; one of radius 0 is the accuracy on the same examples without an attack.
        attacks: any of :data:`ATTACKS`.
        examples: test examples that are attacked, as many of each class as of any other.
        corrupted: test examples that are corrupted; 0 for none.
        steps, restarts: of ``pgd``.

    Raises:
        InvalidInput: for an unknown attack, one whose package is not installed, or without a threat.
    """

    threats: tuple[Threat, ...]
    attacks: tuple[str, ...]
    examples: int = 200
    corrupted: int = 1000
    steps: int = 20
    restarts: int = 2

    def __post_init__(self) -> None:
        _check_attacks(self.attacks)
        if not self.threats or not self.attacks:
            raise InvalidInput("a robust evaluation needs at least one attack and one radius")
        if self.examples < 1:
            raise InvalidInput(f"the number of attacked examples must be at least 1, got {self.examples}")
        check_least("corrupted", self.corrupted, 0)

    @property
    def strongest(self) -> str:
        """The attack whose accuracy is the one to report."""
        return max(self.attacks, key=ATTACKS.index)

    @property
    def passes(self) -> int:
        """Forward passes of one network on one example, a backward pass counted as two, for attacks that never succeed. Of
        AutoAttack they are those of APGD-CE, APGD-T and Square, each of 9 wrong classes with 100 steps, and 5,000 queries."""
        pgd = PGD(steps=self.steps, restarts=self.restarts).passes
        apgd = 10 * APGD().passes
        each = {"fgsm": FGSM().passes, "pgd": pgd, "apgd": apgd, "autoattack": 2 * apgd + 5000}
        balls = sum(threat.eps > 0 for threat in self.threats)
        return self.examples * (balls * sum(each[name] for name in self.attacks) + PGD().passes)


def _check_attacks(names: Sequence[str]) -> None:
    for name in names:
        if name not in ATTACKS:
            raise InvalidInput(
                f"'attacks' must be any of {', '.join(ATTACKS)}, got '{name}'{suggestion(name, ATTACKS)}"
            )
    if len(set(names)) < len(names):
        raise InvalidInput(f"'attacks' must be different ones, got {', '.join(names)}; name each once")
    if "autoattack" in names and not installed():
        raise InvalidInput(f"'autoattack' needs the package pyautoattack, which is not installed; {INSTALL}")


def installed() -> bool:
    """Whether AutoAttack is there."""
    return importlib.util.find_spec("pyautoattack") is not None


@dataclass(frozen=True, kw_only=True)
class RobustProtocol:
    """What a robust evaluation is asked for; the rest is usual for the data.

    Args:
        attacks: any of :data:`ATTACKS`.
        eps: radii in L∞, for values in 0 .. 1. Without any, those that are usual: L∞ with 0, 1, 2, 4, 8/255 and L2 with 128/255
            for colour images; L∞ with 0, 0.1, 0.2, 0.3 for grey ones.
        examples: test examples that are attacked.
        corrupted: test examples that are corrupted, of images; 0 for none.
        training: any of :data:`WAYS`: networks are trained in each of them.

    Raises:
        InvalidInput: for an unknown attack or way, or an attack whose package is not installed.
    """

    attacks: tuple[str, ...] = ("fgsm", "pgd", "apgd")
    eps: tuple[float, ...] = ()
    examples: int = 200
    corrupted: int = 1000
    training: tuple[str, ...] = WAYS

    def __post_init__(self) -> None:
        _check_attacks(self.attacks)
        for way in self.training:
            if way not in WAYS:
                raise InvalidInput(f"'training' must be any of {', '.join(WAYS)}, got '{way}'{suggestion(way, WAYS)}")

    def suite(self, data: Described) -> Suite:
        """What is measured of a network.

        Raises:
            InvalidInput: without radii for data whose limits are not known, or a radius beyond them.
        """
        data.require_classes("a robust evaluation")
        radii_of: Radii = COLOUR if data.shape[0] == 3 else GREY
        if not self.eps and (data.limits is None or len(data.shape) != 3):
            raise InvalidInput(
                f"there are no usual radii for '{data.name}', whose examples are not images with known limits; give --eps"
            )
        if self.eps:
            radii_of = (("linf", tuple(sorted({0.0, *self.eps}))),)
        threats = tuple(Threat(norm, radius) for norm, radii in radii_of for radius in radii)
        space, one = UnitSpace.of(data), torch.zeros(1, *data.shape)
        for threat in threats:
            space.ball(threat, one)
        images = len(data.shape) == 3 and data.shape[0] in (1, 3) and data.limits is not None
        return Suite(threats, self.attacks, self.examples, corrupted=self.corrupted if images else 0)

    def protocols(self, protocol: Protocol, suite: Suite) -> dict[str, Protocol]:
        """By way of training, how networks are trained: ``natural``, by the protocol, and ``adversarial``, on minibatches
        attacked by seven steps of PGD in the largest ball of L∞ (of L2 without one)."""
        largest = max(suite.threats, key=lambda threat: (threat.norm == "linf", threat.eps))
        attack = PGD(eps=largest.eps, norm=largest.norm, steps=7)
        known = {"natural": protocol, "adversarial": replace(protocol, attack=attack)}
        return {way: known[way] for way in self.training}


def survivors(
    name: str,
    suite: Suite,
    threat: Threat,
    classify: Classify,
    units: Float[Tensor, "n ..."],
    labels: Float[Tensor, "n c"],
    space: UnitSpace,
    generator: torch.Generator,
) -> tuple[Bool[Tensor, " n"], Float[Tensor, "n ..."]]:
    """The examples that are correctly classified whatever the attack of this name does, and the points that it found."""
    if name == "autoattack":
        return _by_autoattack(threat, classify, units, labels, space, generator)
    norm, eps = threat.norm, threat.eps
    series: dict[str, tuple[Attack, ...]] = {
        "fgsm": (FGSM(eps=eps, norm=norm),),
        "pgd": (PGD(eps=eps, norm=norm, steps=suite.steps, restarts=suite.restarts),),
        "apgd": (APGD(eps=eps, norm=norm), APGD(eps=eps, norm=norm, aim="targets")),
    }
    points = units.clone()
    right = torch.ones(len(units), dtype=torch.bool, device=units.device)
    for attack in series[name]:
        rows = right.nonzero()[:, 0]
        if not len(rows):
            break
        found = attacked(attack, classify, units[rows], labels[rows], space.ball, generator, stop=True)
        points[rows], right[rows] = found.points, ~found.won
    return right, points


def _by_autoattack(
    threat: Threat,
    classify: Classify,
    units: Float[Tensor, "n ..."],
    labels: Float[Tensor, "n c"],
    space: UnitSpace,
    generator: torch.Generator,
) -> tuple[Bool[Tensor, " n"], Float[Tensor, "n ..."]]:
    """The standard AutoAttack (APGD-CE, APGD-T, FAB-T, Square), whose seed is drawn. It uses torch's global random numbers,
    which are put back; what it returns is checked here: the ball, and the predictions."""
    from pyautoattack import AutoAttack

    seed = int(torch.randint(2**31, (), generator=generator))
    numbers, devices = labels.argmax(1), [units.device] if units.device.type == "cuda" else []
    classes = labels.shape[1]
    names: list[Any] = ["apgd-ce", *(["apgd-t"] if classes >= 4 else []), "fab-t", "square"]
    norm: Any = {"linf": "Linf", "l2": "L2"}[threat.norm]
    with torch.random.fork_rng(devices=devices):
        attack = AutoAttack(
            _Model(classify),
            attacks=names,
            device=units.device,
            eps=threat.eps,
            norm=norm,
            seed=seed,
            version="custom",  # the settings of the standard version, which would ask for nine wrong classes
        )
        attack.apgd.n_restarts = attack.fab.n_restarts = 1
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, classes - 1)
        points = attack.run_standard_evaluation(units, numbers, batch_size=len(units))[0]
    points = Ball(threat, units, space.low, space.high).projected(points)
    with torch.no_grad():
        right = predicted_classes(classify(points)) == numbers
    return right, points


class _Model(torch.nn.Module):
    """A function as a module."""

    def __init__(self, classify: Classify) -> None:
        super().__init__()
        self.classify = classify

    def forward(self, points: Tensor) -> Tensor:
        return self.classify(points)
