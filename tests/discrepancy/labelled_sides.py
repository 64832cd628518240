"""Labelled samples, and linear programs in plain numpy."""

import math

import numpy as np
import torch
from scipy.optimize import linprog

from discrepancy import (
    Measure,
    SampleDiscrepancy,
)
from discrepancy.datasets import ClassesDistance
from discrepancy.discrepancy import Adversary, Tag

__all__ = ["Witness", "by_class", "entries", "labelled", "normal", "over_classes", "program"]


class Witness(SampleDiscrepancy, kind="witness_by_test"):
    """|E_μ h - E_ν h|² with h = cos⟨a, x⟩ and an adversary for a."""

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset({"zero-at-equality", "symmetric", "splits", "differentiable"})

    @property
    def adversary(self) -> Adversary:
        return Adversary(frozenset({"a"}), steps=3, rate=0.1)

    def draw(self, generator, shape):
        return {"a": torch.randn(math.prod(shape), generator=generator)}

    def constants(self, real, draws):
        return {}

    def compare_groups(self, summary, synthetic, draws):
        assert draws is not None
        a = draws["a"].to(synthetic.rows)
        a = a if a.ndim == 2 else a.expand(len(synthetic.weights), -1)
        means = [
            (side.shares * torch.einsum("gnd,gd->gn", side.rows, a).cos()).sum(-1) for side in (summary.real, synthetic)
        ]
        return (means[0] - means[1]).square().to(synthetic.rows.dtype)


def normal(n: int, d: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labelled(n: int, seed: int = 0, d: int = 2, classes: int = 3) -> Measure:
    labels = torch.arange(n) % classes
    return Measure(normal(n, d, seed) + labels[:, None], labels=labels).with_label_vectors(classes)


def program(cost: np.ndarray, w: np.ndarray, v: np.ndarray) -> float:
    n, m = cost.shape
    rows_sum, columns_sum = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    result = linprog(cost.ravel(), A_eq=np.vstack([rows_sum, columns_sum]), b_eq=np.concatenate([w, v]))
    assert result.status == 0
    return result.fun


def entries(side: Measure) -> list[tuple[np.ndarray, float, int]]:
    """(point, weight, class) with soft labels spread over their classes."""
    assert side.labels is not None
    labels = side.labels.double().numpy()
    return [
        (side.rows[i].double().numpy(), side.shares[i].item() * label / labels[i].sum(), c)
        for i in range(len(side))
        for c, label in enumerate(labels[i])
        if label > 0 and side.shares[i] > 0
    ]


def by_class(side: Measure) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    some = entries(side)
    return {
        c: (np.array([x for x, _, a in some if a == c]), np.array([w for _, w, a in some if a == c]))
        for c in sorted({c for _, _, c in some})
    }


def over_classes(discrepancy: ClassesDistance, mu: Measure, nu: Measure) -> float:
    first, second = (by_class(side) for side in (mu, nu))
    cost = np.array([
        [discrepancy.of(*(Measure(torch.from_numpy(x), torch.from_numpy(w)) for x, w in pair)).item() for pair in row]
        for row in ([(one, other) for other in second.values()] for one in first.values())
    ])  # fmt: skip
    return program(cost, *(np.array([w.sum() for _, w in side.values()]) for side in (first, second)))
