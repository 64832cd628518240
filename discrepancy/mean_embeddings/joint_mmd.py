"""Maximum mean discrepancy of examples with their labels, under the kernel k(x, x') ⟨y, y'⟩ of pairs (features, label vector).

    JointMMD²(μ, ν) = ‖E_μ φ(x) ⊗ y - E_ν φ(x) ⊗ y‖² = Σ_c ‖E_μ y_c φ(x) - E_ν y_c φ(x)‖²

The second form is a sum over classes c of the distance of two measures with masses E y_c, which need not be equal: so it sees
how frequent each class is, and where its points lie.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import SUMMARY_POINTS, Discrepancy, Draws, MeanSummary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Kernel, Linear
from discrepancy.mean_embeddings.mmd import (
    MMD,
    debiased,
    distance_of_means,
    merged_means,
    merged_squares,
    squares_of,
    summary_of_means,
    without_rounding,
)
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import safe_root
from discrepancy.numerics.pairwise import cross_sum, self_sum
from discrepancy.scale import power_of_two

__all__ = ["ClassSummary", "JointMMD"]


@dataclass(frozen=True, eq=False)
class ClassSummary:
    """The real points that have a share in each class, with their weights times that share, and sums over all points.

    Points with hard labels stand in one part, so all parts together are as large as the real side. Where most labels are
    soft, all parts share the same points. The sums of summaries merge: ``mass`` Σ w, and with estimator "u" ``squares``
    Σ w² / Σ w and ``spread`` Σ w² k(x, x) ‖y‖² / Σ w. ``own`` is the real side's own term.
    """

    parts: tuple[Measure, ...]
    sums: Mapping[str, Float[Tensor, " g"]]
    own: Float[Tensor, " g"]

    @functools.cached_property
    def shares(self) -> tuple[Float[Tensor, "g n"], ...]:
        """The weights of each part, divided by the mass of all points of the group."""
        return tuple(part.weights / self.sums["mass"][:, None] for part in self.parts)

    def select(self, groups: Tensor) -> "ClassSummary":
        sums = {name: value[groups] for name, value in self.sums.items()}
        return ClassSummary(tuple(part.select(groups) for part in self.parts), sums, self.own[groups])

    @property
    def nbytes(self) -> int:
        points = {part.tensors[""].data_ptr(): part.tensors[""].nbytes for part in self.parts}
        kept = [*(part.weights for part in self.parts), *self.sums.values(), self.own]
        return sum(points.values()) + sum(tensor.nbytes for tensor in kept)


class JointMMD(Discrepancy, kind="joint_mmd"):
    """The squared MMD of pairs (x, y) under the kernel k(x, x') ⟨y, y'⟩, with label vectors y (one-hot for class numbers).

    With ``root`` it is a metric on joint distributions with hard labels where k is characteristic, else a semi-metric.

    Points (g, n, d) and (g, m, d) with labels (g, n, c) and (g, m, c), (g,) values, differentiable in the synthetic points,
    weights and labels. With a finite kernel the summary is the mean of φ(x) ⊗ y in p c dimensions, which merges: O(n p c) once,
    O(m p c) a step. Else it is the points by class: O(Σ_c n_c² d) once and O((n + c m) m d) a step where real labels are hard,
    c times as much where they are soft, at O((n + c m) d) memory. The bound is that of the features, which none here has.

    Args:
        kernel: k; positive definite, so not the energy kernel, since the masses of a class differ.
        estimator: of the real side's own term, as in :class:`MMD`.
        root: the square root of the value, with gradient zero where the value is zero.

    References: A Hilbert space embedding for distributions (Smola, Gretton, Song, Schölkopf, 2007), for the joint embedding.

    Raises:
        InvalidInput: if the kernel is not positive definite, or as for :class:`MMD`.

    Example:
        >>> import torch
        >>> from discrepancy import JointMMD, Measure, kernels
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [4.0], [5.0]]), labels=torch.tensor([0, 0, 1, 1]))
        >>> nu = Measure(torch.tensor([[1.0], [4.0]]), labels=torch.tensor([0, 1]))
        >>> D = JointMMD(kernel=kernels.Gaussian())
        >>> round(float(D(mu, nu)), 4)
        0.0984
    """

    kernel: Kernel = Linear()
    estimator: Literal["u", "v"] = "v"
    root: bool = False

    def __post_init__(self) -> None:
        self._of_points  # noqa: B018  (checks the fields)
        if not self.kernel.positive:
            raise InvalidInput(
                f"'kernel' must be positive definite, got '{self.kernel.kind}', which is so for weights that sum to zero "
                f"only, and the masses of a class differ; use 'laplace'"
            )

    @property
    def _of_points(self) -> MMD:
        """The same without labels."""
        return MMD(kernel=self.kernel, estimator=self.estimator, root=self.root)

    @property
    def tags(self) -> frozenset[Tag]:
        # The origin matters to a linear kernel where the shares of the classes differ.
        claimed = self._of_points.tags
        return claimed if self.kernel.radial else claimed - {"translation-invariant"}

    labelled = True

    @property
    def degree(self) -> float | None:
        return self._of_points.degree

    @property
    def resolved(self) -> bool:
        return self.kernel.resolved

    def resolve(self, sample: Measure) -> "JointMMD":
        return replace(self, kernel=self.kernel.resolve(sample))

    @property
    def has_statistic(self) -> bool:
        return self._of_points.has_statistic

    def statistics(self, measure: Measure, draws: Draws) -> Float[Tensor, "g n q"]:
        values = self.kernel.features(measure.rows.double())
        return (values[..., :, None] * _labels(measure)[..., None, :]).flatten(2)

    def summarise_groups(self, real: Measure, draws: Draws) -> MeanSummary | ClassSummary:
        """The mean embedding of pairs, or the points by class with their own term.

        Raises:
            InvalidInput: with estimator "u" and a kernel that is not finite, if a group has only one point.
        """
        if self.mergeable:
            return functools.reduce(merged_means, map(self._means, real.split(SUMMARY_POINTS)))
        points, weights, labels = self.kernel.precise(real.rows.detach()), real.weights.double(), _labels(real)
        sums = {"mass": weights.sum(-1)}
        if self.estimator == "u":
            sums |= squares_of(weights, self.kernel.diagonal(points) * labels.square().sum(-1))
        return self._of_parts(tuple(_by_class(points, weights, labels)), sums)

    def merge_groups(self, first: Any, second: Any, draws: Draws) -> MeanSummary | ClassSummary:
        if isinstance(first, MeanSummary):
            return merged_means(first, second)
        joined: dict[tuple[int, int], Tensor] = {}  # points that classes share stay shared
        parts = []
        for one, other in zip(first.parts, second.parts, strict=True):
            key = id(one.points), id(other.points)
            if key not in joined:
                joined[key] = torch.cat([one.rows, other.rows], 1)
            parts.append(Measure(joined[key], torch.cat([one.weights, other.weights], 1)))
        mass, other = first.sums["mass"], second.sums["mass"]
        sums = {"mass": mass + other, **merged_squares(first.sums, mass, second.sums, other)}
        return self._of_parts(tuple(parts), sums)

    def compare_groups(
        self, summary: MeanSummary | ClassSummary, synthetic: Measure, draws: Draws
    ) -> Float[Tensor, " g"]:
        """The value of each group.

        Raises:
            InvalidInput: with estimator "u" and a finite kernel, if a group of the summary has only one point.
        """
        if isinstance(summary, MeanSummary):
            mean = self._total(synthetic, synthetic.shares)
            value = distance_of_means(summary, mean, self.estimator)
            if self.root:
                value = without_rounding(value, mean)
        else:
            value = self._of_pairs(summary, synthetic)
        return (safe_root(value) if self.root else value).to(synthetic.rows.dtype)

    def _of_parts(self, parts: tuple[Measure, ...], sums: Mapping[str, Float[Tensor, " g"]]) -> ClassSummary:
        """The summary of points by class, with the real side's own term."""
        unit = power_of_two(sums["mass"])
        mass = sums["mass"] / unit
        total = torch.stack([self_sum(self.kernel, part.rows, part.weights / unit[:, None]) for part in parts]).sum(0)
        if self.estimator == "u":
            own = debiased(total, sums["spread"] / unit * mass, mass, sums["squares"] / unit * mass)
        else:
            own = total / mass.square()
        return ClassSummary(parts, sums, own)

    def _means(self, real: Measure) -> MeanSummary:
        weights = real.weights.double()
        norms = self.kernel.features(real.rows).double().square().sum(-1) * _labels(real).square().sum(-1)
        return summary_of_means(self._total(real, weights), weights, norms, self.estimator)

    def _total(self, measure: Measure, weights: Float[Tensor, "g n"]) -> Float[Tensor, "g q"]:
        """Σ w φ(x) ⊗ y."""
        values = self.kernel.features(measure.rows).double()
        return (values.mT @ (weights[..., None] * _labels(measure))).flatten(1)

    def _of_pairs(self, real: ClassSummary, synthetic: Measure) -> Float[Tensor, " g"]:
        y = self.kernel.precise(synthetic.rows)
        v = (synthetic.shares[..., None] * _labels(synthetic)).movedim(-1, 1)
        shares = zip(real.parts, real.shares, strict=True)
        cross = sum(cross_sum(self.kernel, part.rows, w, y, v[:, c]) for c, (part, w) in enumerate(shares))
        each = y[:, None].expand(-1, v.shape[1], -1, -1).flatten(0, 1)
        own = self_sum(self.kernel, each, v.flatten(0, 1)).unflatten(0, (-1, v.shape[1])).sum(1)
        return real.own - 2 * cross + own


def _labels(measure: Measure) -> Float[Tensor, "g n c"]:
    assert measure.labels is not None
    return measure.labels.double()


def _by_class(
    points: Float[Tensor, "g n d"], weights: Float[Tensor, "g n"], labels: Float[Tensor, "g n c"]
) -> Iterator[Measure]:
    """The points with a share in each class, and their weights times that share."""
    shares = weights[..., None] * labels
    held = shares != 0
    sizes = held.sum(1).amax(0).tolist()
    for c, size in enumerate(sizes):
        if sum(sizes) > 2 * weights.shape[1]:
            yield Measure(points, shares[..., c])
            continue
        index = torch.argsort(held[..., c], dim=1, descending=True, stable=True)[:, : max(size, 1)]
        at = index[..., None].expand(-1, -1, points.shape[-1])
        yield Measure(points.gather(1, at), shares[..., c].gather(1, index))
