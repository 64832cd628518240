"""Values of robust means in sixty digits: the statistic of every point, its robust mean, and the distance of means."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from brute_force import Exact, Numbers, Part, Parts, digits, eigenvalues, exact, truths
from torch import Tensor

from discrepancy.kernels import Linear, Scaled

__all__ = ["median_of_means", "trimmed_mean"]


def statistics(of: Any, side: Exact, draws: Mapping[str, Tensor] | None) -> Numbers:
    x = side.x
    match of.kind:
        case "joint_mmd":
            return (x[:, :, None] * side.labels[:, None]).reshape(len(x), -1)  # pyright: ignore[reportOptionalSubscript]
        case "linear_hypotheses":
            return (x[:, :, None] * x[:, None]).reshape(len(x), -1)
        case "characteristic_function":
            assert draws is not None
            angles = x @ exact(draws["frequencies"].double().numpy()).T / digits.mpf(of.lengthscale)
            waves = [[digits.cos_sin(angle) for angle in row] for row in angles]
            return exact(waves).reshape(len(x), -1) / digits.sqrt(of.frequencies)
        case "mmd" if isinstance(of.kernel, Scaled):
            return digits.sqrt(of.kernel.factor) * x
    assert of.kind == "mean_gradients" or of.kernel == Linear()
    return x


def compared(of: Any, real: Numbers, nu: Exact, draws: Any) -> Parts:
    gap = real - nu.w @ statistics(of, nu, draws)
    if of.kind == "linear_hypotheses":
        d = nu.x.shape[1]
        return [Part(4 * digits.mpf(of.norm) ** 2 * max(map(abs, eigenvalues(gap.reshape(d, d)))))]
    size = 1 if of.kind == "characteristic_function" else 0
    return [Part((gap**2).sum(), size, power=2 if getattr(of, "root", False) else 1)]


def median_of_means(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    held, blocks = mu.held, discrepancy.blocks
    values = statistics(discrepancy.of, held, draws)
    places = [slice(block, None, blocks) for block in range(min(blocks, len(values)))]
    means = np.stack([held.weights[place] @ values[place] / held.weights[place].sum() for place in places])
    ordered = np.sort(means, axis=0)
    middle = (ordered[(len(means) - 1) // 2] + ordered[len(means) // 2]) / 2
    return compared(discrepancy.of, middle, nu, draws)


def trimmed_mean(discrepancy: Any, mu: Exact, nu: Exact, draws: Any) -> Parts:
    held, s, found = mu.held, digits.mpf(discrepancy.share), []
    for column in statistics(discrepancy.of, held, draws).T:
        total, end = digits.zero, digits.zero
        for value, share in sorted(zip(column, held.w, strict=True)):
            start, end = end, end + share
            total += value * max(digits.zero, min(end, 1 - s) - max(start, s))
        found.append(total / (1 - 2 * s))
    return compared(discrepancy.of, exact(found), nu, draws)


truths.update(median_of_means=median_of_means, trimmed_mean=trimmed_mean)
