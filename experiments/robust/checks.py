"""What must hold of accuracies under attack if the attacks are any good; where it does not, the figures are marked.

Gradients that vanish or mislead make a network look robust that is not (Athalye et al., "Obfuscated Gradients Give a False
Sense of Security", 2018): then stronger attacks find less than weaker ones, or a larger ball is no help.
"""

import math
from itertools import pairwise
from statistics import fmean

from experiments.evaluate import Evaluation
from experiments.robust.suite import Suite

__all__ = ["failed_checks"]

BLIND = 0.01
"""The accuracy that may be left in a ball that makes all images alike."""


def failed_checks(row: Evaluation, suite: Suite) -> tuple[str, ...]:
    """What does not hold of a row, in words; one standard error of an accuracy p on n examples is √(p (1 - p) / n).

    Checked are: accuracy does not rise with ε; it is zero where the ball is huge, if values have limits; AutoAttack (or APGD)
    leaves no more than PGD; points found on another network are no stronger than those found on the network itself."""
    problems, n = [], row.robust[0]["examples"]
    means = {
        threat.name: {name: fmean(one["attacks"][threat.name][name] for one in row.robust) for name in own}
        for threat in suite.threats
        for own in [row.robust[0]["attacks"][threat.name]]
    }
    for name in suite.attacks:
        for norm in dict.fromkeys(threat.norm for threat in suite.threats):
            rising = sorted((item for item in suite.threats if item.norm == norm), key=lambda item: item.eps)
            values = [(item.name, means[item.name][name if item.eps else "none"]) for item in rising]
            for (smaller, first), (larger, second) in pairwise(values):
                if second > first + _error(first, n):
                    problems.append(f"{name} leaves more at {larger} than at {smaller}")
    left = [one["huge"] for one in row.robust if one["huge"] is not None]
    if left and (huge := fmean(left)) > BLIND:
        problems.append(f"pgd leaves {100 * huge:.1f} % in a ball in which all images can be made alike")
    for threat in suite.threats:
        own, strongest = means[threat.name], suite.strongest
        if "pgd" in own and strongest in ("apgd", "autoattack") and own[strongest] > own["pgd"] + _error(own["pgd"], n):
            problems.append(f"{strongest} leaves more than pgd at {threat.name}")
        transfers = [one["transfer"][threat.name] for one in row.robust if threat.name in one["transfer"]]
        if transfers and fmean(transfers) < own["pgd"] - _error(own["pgd"], n):
            problems.append(
                f"points found on another network leave less than pgd on the network itself at {threat.name}"
            )
    return tuple(problems)


def _error(share: float, n: int) -> float:
    return math.sqrt(share * (1 - share) / n)
