"""Energy distance: how much farther two samples are from each other than from themselves."""

from dataclasses import replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Discrepancy, Draws, SampleSummary, Tag
from discrepancy.errors import Unsupported
from discrepancy.kernels import Energy
from discrepancy.mean_embeddings.mmd import MMD
from discrepancy.measure import Measure

__all__ = ["EnergyDistance"]


class EnergyDistance(Discrepancy, kind="energy_distance"):
    """E(μ, ν) = 2 E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖, free of any lengthscale.

    It is 1 x MMD² under the kernel -‖x - y‖, and so 2 x MMD² under the distance-induced one, (‖x‖ + ‖y‖ - ‖x - y‖)/2. In one
    dimension it is twice the Cramér distance ∫ (F - G)². With ``root`` it is a metric on measures with a finite first moment;
    E itself is its square. First and second derivatives leave out pairs of coincident points, at which ‖x - y‖ has a kink.

    Points (g, n, d) and (g, m, d), (g,) values. The summary is the points and their own term: O(n² d) once, O((n + m) m d) a
    step at O((n + m) d) memory. It does not merge, and has no statistic to bound.

    Args:
        estimator: of the real side's own term, as in :class:`MMD`.
        root: the square root of the value, with gradient zero where the value is zero.

    References:
        Energy statistics: A class of statistics based on distances (Székely & Rizzo, 2013);
        Equivalence of distance-based and RKHS-based statistics in hypothesis testing (Sejdinovic et al., 2013).
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

    def summarise(self, real: Measure, draws: Draws = None) -> SampleSummary:
        summary = self._mmd.summarise(real)
        assert isinstance(summary, SampleSummary)
        return summary

    def merge(self, first: SampleSummary, second: SampleSummary) -> SampleSummary:
        raise Unsupported(f"'{self.kind}' compares points: merge the measures (Measure.merged), then summarise once")

    def compare(self, summary: SampleSummary, synthetic: Measure, draws: Draws = None) -> Float[Tensor, " g"]:
        return self._mmd.compare(summary, synthetic)
