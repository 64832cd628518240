"""The size at which random real examples are as good as a condensed set.

Beside a random set of the same size, a set that teaches more also looks less robust: networks of low accuracy have little to
lose under attack. Beside random examples of the same clean accuracy the two can be compared.
"""

import bisect

import torch

from discrepancy.errors import InvalidInput
from experiments.evaluate.evaluator import Evaluator, Progress
from experiments.evaluate.real_rows import random_rows
from experiments.evaluate.training import NetworkEvaluator

__all__ = ["matched_size", "sizes_up_to"]

TRIALS = 2
"""Random sets of each size, with a network each."""


def matched_size(evaluator: Evaluator, accuracy: float, progress: Progress = lambda share: None) -> int:
    """The number of random real examples of each class whose accuracy, the mean of two sets, is nearest to a given one, among
    those that a bisection tries: it takes accuracy to rise with the number. No network is attacked.

    Raises:
        InvalidInput: if no networks are trained, or the data have no classes.
    """
    if not isinstance(evaluator, NetworkEvaluator) or not evaluator.data.classes:
        raise InvalidInput("the control 'matched' has the same accuracy as the set, so it needs networks and classes")
    sizes, found = sizes_up_to(int(torch.bincount(evaluator.train.strata).min())), dict[int, float]()
    rounds = len(sizes).bit_length()

    def accuracy_at(size: int) -> float:
        found[size] = _accuracy(evaluator, size, lambda share: progress((len(found) + share) / rounds))
        return found[size]

    bisect.bisect_left(sizes, accuracy, key=accuracy_at)
    return min(found, key=lambda size: (abs(found[size] - accuracy), size))


def sizes_up_to(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 11, 16, ...: powers of the square root of two, rounded, below ``most``, and ``most``."""
    powers = (round(2 ** (power / 2)) for power in range(2 * most.bit_length() + 1))
    return sorted({size for size in powers if size < most} | {most})


def _accuracy(evaluator: NetworkEvaluator, size: int, progress: Progress) -> float:
    total = 0.0
    for trial in range(TRIALS):
        rows = random_rows([size] * evaluator.data.count, evaluator.train, evaluator.runtime.seed, trial)
        chosen = evaluator.real(rows)
        suited = evaluator.suited(chosen)
        trained = suited.checked(chosen, trial, lambda share, trial=trial: progress((trial + share) / TRIALS))
        total += suited.accuracy(*trained)
    return total / TRIALS
