"""Energy distance: how much farther two samples are from each other than from themselves."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.kernels import Energy
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.measure import Measure

__all__ = ["EnergyDistance"]


class EnergyDistance(SampleDiscrepancy, kind="energy_distance"):
    """The energy distance E(μ, ν) = 2 E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖, free of any lengthscale.

    It is 1 x MMD² under the kernel -‖x - y‖, and so 2 x MMD² under the distance-induced one, (‖x‖ + ‖y‖ - ‖x - y‖)/2. In one
    dimension it is twice the Cramér distance ∫ (F - G)². With ``root`` it is a metric on measures with a finite first moment;
    E itself is its square. First and second derivatives leave out pairs of coincident points, at which ‖x - y‖ has a kink.

    Points (g, n, d) and (g, m, d), (g,) values. The summary is the points and their own term: O(n² d) once, O((n + m) m d) a
    step at O((n + m) d) memory. There is no statistic to bound.

    Args:
        estimator: of the real side's own term, as in :class:`MMD`.
        root: the square root of the value, with gradient zero where the value is zero.

    References:
        Energy statistics: A class of statistics based on distances (Székely & Rizzo, 2013);
        Equivalence of distance-based and RKHS-based statistics in hypothesis testing (Sejdinovic et al., 2013).

    Raises:
        InvalidInput: as for :class:`MMD`.

    Example:
        >>> import torch
        >>> from discrepancy import EnergyDistance, Measure
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = EnergyDistance()
        >>> round(float(D(mu, nu)), 4)
        0.7778
    """

    estimator: Literal["u", "v"] = "v"
    root: bool = False

    def __post_init__(self) -> None:
        self._mmd  # noqa: B018  (checks the fields)

    @property
    def _mmd(self) -> MMD:
        return MMD(kernel=Energy(), estimator=self.estimator, root=self.root)

    @property
    def tags(self) -> frozenset[Tag]:
        return self._mmd.tags

    @property
    def degree(self) -> float | None:
        return self._mmd.degree

    def v_statistic(self) -> "EnergyDistance":
        return replace(self, estimator="v")

    def as_mmd(self) -> MMD:
        return self._mmd

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        return self._mmd.constants(real)

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        return self._mmd.compare_groups(summary, synthetic, draws)
