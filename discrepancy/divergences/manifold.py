"""Precision, recall, density and coverage: how much of one sample lies among the other, by balls of nearest neighbours.

Around each point of a sample lies the closed ball that reaches to its k-th neighbour in that sample; their union stands for
the support of its law. Each value here is **one minus** the published quantity, so that smaller is closer everywhere:

    precision   the synthetic mass outside of every real ball
    recall      the real mass outside of every synthetic ball
    coverage    the real mass whose own ball holds no synthetic point
    density     1 - Σⱼ vⱼ Σᵢ (wᵢ / Wᵢ) [yⱼ in the ball of xᵢ],  Wᵢ the mass of the k neighbours of xᵢ; for equal weights
                wᵢ / Wᵢ = 1/k. It is negative where the synthetic points are denser than the real ones.

All four are dissimilarities for reports: steps as functions of the points, not symmetric. Points that coincide are one point
(:mod:`discrepancy.divergences.neighbours`); otherwise equal weights give the published numbers. Points (n, d) and (m, d);
time n² d once (recall m² d a comparison) and n m d a comparison, memory n + m. The summaries hold the points and the
radii. Sensitivity: not bounded, for one point more changes the radii of others.

References: Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019); Reliable
Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020).
"""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.divergences.neighbours import Sample, check_count, held, own_balls, samples
from discrepancy.measure import Measure

__all__ = ["Coverage", "Density", "Precision", "Recall"]


class _OfBalls(SampleDiscrepancy):
    """What compares one group at a time, and knows the real balls beforehand."""

    k: int

    def __post_init__(self) -> None:
        check_count("k", self.k)

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset({"zero-at-equality", "nonnegative", "translation-invariant", "splits"})

    @property
    def degree(self) -> float:
        return 0.0

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        balls = [own_balls(sample, self.k, self.kind, "real") for sample in samples(real)]
        return {
            "radius": torch.stack([ball.radius for ball in balls]),
            "mass": torch.stack([ball.mass for ball in balls]),
        }

    @torch.no_grad()
    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """One minus the quantity, of each group."""
        values = []
        for group, (x, y) in enumerate(zip(samples(summary.real), samples(synthetic), strict=True)):
            known = {name: value[group] for name, value in summary.constants.items()}
            values.append(self.value(x, y, known))
        return torch.stack(values).to(synthetic.rows.dtype)

    @abstractmethod
    def value(self, x: Sample, y: Sample, known: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The value for one group; ``known`` is the radius and the mass of the balls of x."""


class Precision(_OfBalls, kind="precision"):
    """The share of the synthetic mass that lies in no ball of a real point to its ``k``-th neighbour, in [0, 1].

    Zero for synthetic points that are some of the real ones; needs k + 1 distinct real points (see the module).

    References: Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019).

    Args:
        k: which neighbour the balls reach to, at least 1.

    Raises:
        InvalidInput: if ``k`` is below 1; on use, for fewer than k + 1 distinct points.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, Precision
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = Precision(k=1)
        >>> round(float(D(mu, nu)), 4)
        0.0
    """

    k: int = 5

    def value(self, x: Sample, y: Sample, known: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        return (y.weights * ~_in_some_ball(y, x, known["radius"])).sum()


class Recall(_OfBalls, kind="recall"):
    """The share of the real mass that lies in no ball of a synthetic point to its ``k``-th neighbour, in [0, 1].

    Needs k + 1 distinct synthetic points (see the module).

    References: Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019).

    Args:
        k: which neighbour the balls reach to, at least 1.

    Raises:
        InvalidInput: if ``k`` is below 1; on use, for fewer than k + 1 distinct points.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, Recall
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = Recall(k=1)
        >>> round(float(D(mu, nu)), 4)
        0.0
    """

    k: int = 5

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        return {}

    def value(self, x: Sample, y: Sample, known: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        radius = own_balls(y, self.k, self.kind, "synthetic").radius
        return (x.weights * ~_in_some_ball(x, y, radius)).sum()


class Density(_OfBalls, kind="density"):
    """One minus how many real balls hold a synthetic point on average, in units of what is expected at equality; at most 1.

    Needs k + 1 distinct real points (see the module).

    References: Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020).

    Args:
        k: which neighbour the balls reach to, at least 1.

    Raises:
        InvalidInput: if ``k`` is below 1; on use, for fewer than k + 1 distinct points.

    Example:
        >>> import torch
        >>> from discrepancy import Density, Measure
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = Density(k=1)
        >>> round(float(D(mu, nu)), 4)
        -1.0
    """

    k: int = 5

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset({"translation-invariant", "splits"})

    def value(self, x: Sample, y: Sample, known: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        _, closed = held(y.points, x.points, _squared(known["radius"])[None], (x.weights / known["mass"])[:, None])
        return 1 - y.weights @ closed[:, 0]


class Coverage(_OfBalls, kind="coverage"):
    """The share of the real mass whose own ball, to its ``k``-th real neighbour, holds no synthetic point, in [0, 1].

    Needs k + 1 distinct real points (see the module).

    References: Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020).

    Args:
        k: which neighbour the balls reach to, at least 1.

    Raises:
        InvalidInput: if ``k`` is below 1; on use, for fewer than k + 1 distinct points.

    Example:
        >>> import torch
        >>> from discrepancy import Coverage, Measure
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = Coverage(k=1)
        >>> round(float(D(mu, nu)), 4)
        0.0
    """

    k: int = 5

    def value(self, x: Sample, y: Sample, known: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        present = (y.weights > 0).double()[:, None]
        _, closed = held(x.points, y.points, _squared(known["radius"])[:, None], present)
        return (x.weights * (closed[:, 0] == 0)).sum()


def _in_some_ball(points: Sample, centres: Sample, radius: Float[Tensor, " m"]) -> Tensor:
    one = torch.ones_like(radius)[:, None]
    _, closed = held(points.points, centres.points, _squared(radius)[None], one)
    return closed[:, 0] > 0


def _squared(radius: Tensor) -> Tensor:
    """r², and -∞ where there is no ball."""
    return torch.where(radius < 0, -torch.inf, radius.square())
