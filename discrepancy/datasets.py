"""Measures of structure: of points with their labels, of classes.

    DataSetDistance  optimal transport of (x, class), where two classes are as far apart as their conditional laws
    ClassesDistance  optimal transport of classes, each a point that is a measure: Σ p_c δ(μ_c)

Neither matches classes by name: the two sides may have other classes, and other numbers of them; give the label vectors of both
one length. Two further ways work with every discrepancy: :class:`~discrepancy.joint.Joint` compares points with their labels
appended, and grouping (``Measure.conditioned``) compares class by class.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from discrepancy.discrepancy import Discrepancy, Draws, SampleDiscrepancy, SampleSummary, Summary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from discrepancy.parts import check_choice
from discrepancy.transport.simplex import least_cost

__all__ = ["ClassesDistance", "ClassesSummary", "DataSetDistance"]


class DataSetDistance(SampleDiscrepancy, kind="data_set_distance"):
    """The optimal transport data set distance: what it costs to move one labelled data set onto the other.

        min over couplings π of  Σᵢⱼ πᵢⱼ (‖xᵢ - yⱼ‖ᵖ + W_pᵖ(α_a(i), β_b(j))),

    with α_a the real points of class a as a measure, β_b the synthetic ones of class b. The distance of two classes is that of
    the gaussians with their means and covariances (p = 2; Bures), in closed form, or exact. Only these measures matter, never
    the names or numbers of the classes, so both sides may have classes of their own. A point with a soft label is a point of
    each of its classes, with the share that the label gives.

    The p-th power (``root``: its p-th root) of a metric on data sets where ``between`` is exact; with gaussians a
    pseudo-metric. For reports. Points (n, d), (m, d) with labels; dense costs and an exact program, in pairs of points, so
    beyond ``cap`` pairs it refuses. Time n m d + some (n m)^1.5, and c² distances of classes; memory n m. The summary
    keeps the points. Sensitivity: no statistic.

    Args:
        p: the power of the costs.
        between: how far two classes are apart, ``"gaussian"`` or ``"exact"``.
        root: the p-th root of the value.
        cap: pairs n m of points with weight, in a group, beyond which it refuses; a soft label counts once a class.

    References: Geometric Dataset Distances via Optimal Transport (Alvarez-Melis, Fusi, 2020).

    Raises:
        InvalidInput: if a field is out of its range; on use, beyond ``cap`` or for labels that are not shares of classes.

    Example:
        >>> import torch
        >>> from discrepancy import DataSetDistance, Measure
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [4.0], [5.0]]), labels=torch.tensor([0, 0, 1, 1]))
        >>> nu = Measure(torch.tensor([[1.0], [4.0]]), labels=torch.tensor([0, 1]))
        >>> D = DataSetDistance()
        >>> round(float(D(mu, nu)), 4)
        1.0
    """

    p: float = 2.0
    between: Literal["gaussian", "exact"] = "gaussian"
    root: bool = False
    cap: int = 25_000_000

    def __post_init__(self) -> None:
        check_choice("between", self.between, ("gaussian", "exact"))
        if not 1 <= self.p < math.inf:
            raise InvalidInput(f"'p' must be finite and >= 1, got {self.p}")
        if self.between == "gaussian" and self.p != 2:
            raise InvalidInput(f"'between' gaussian needs 'p' 2, got {self.p}; use 'between' exact")
        if self.cap < 1:
            raise InvalidInput(f"'cap' must be at least 1, got {self.cap}")

    @property
    def tags(self) -> frozenset[Tag]:
        return frozenset({"zero-at-equality", "nonnegative", "symmetric", "translation-invariant", "splits"})

    labelled = True

    @property
    def degree(self) -> float:
        return 1.0 if self.root else self.p

    def constants(self, real: Measure, draws: Draws) -> dict[str, Tensor]:
        return {}

    @torch.no_grad()
    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """The value of each group.

        Raises:
            InvalidInput: beyond the cap, or if a label has negative entries or none that is positive.
        """
        real = summary.real
        values = [
            self._value(real.select(group), synthetic.select(group))
            for group in torch.arange(len(real.weights), device=real.weights.device).split(1)
        ]
        value = torch.tensor(values, dtype=torch.float64, device="cpu").clamp(min=0)
        return (value ** (1 / self.p) if self.root else value).to(synthetic.rows)

    def _value(self, real: Measure, synthetic: Measure) -> float:
        (x, w, a), (y, v, b) = _with_classes(real, "real"), _with_classes(synthetic, "synthetic")
        if len(x) * len(y) > self.cap:
            raise InvalidInput(
                f"'{self.kind}' between {len(x)} and {len(y)} points exceeds its 'cap' of {self.cap} pairs; give a random part "
                f"of the points, or raise it"
            )
        origin = w @ x
        x, y = x - origin, y - origin
        of_x, of_y = _parts(x, w, a), _parts(y, v, b)
        between = torch.stack([torch.stack([self._apart(first, second) for second in of_y]) for first in of_x])
        rows, columns = (classes.unique(return_inverse=True)[1] for classes in (a, b))
        return least_cost(w, v, self._powers(x, y) + between[rows[:, None], columns])

    def _powers(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** self.p

    def _apart(self, first: "_Part", second: "_Part") -> Float[Tensor, ""]:
        if self.between == "gaussian":
            # ‖F Gᵀ‖ in the nuclear norm is tr (A^½ B A^½)^½ for A = FᵀF and B = GᵀG.
            fidelity = torch.linalg.svdvals(first.factor @ second.factor.mT).sum()
            spread = first.factor.square().sum() + second.factor.square().sum()
            return (first.mean - second.mean).square().sum() + (spread - 2 * fidelity).clamp(min=0)
        cost = self._powers(first.points, second.points)
        return torch.tensor(least_cost(first.weights, second.weights, cost), dtype=torch.float64, device="cpu")


@dataclass(frozen=True, eq=False)
class _Part:
    """One class as a measure, with its mean and a factor F of its covariance, FᵀF."""

    points: Float[Tensor, "n d"]
    weights: Float[Tensor, " n"]
    mean: Float[Tensor, " d"]
    factor: Float[Tensor, "r d"]


def _with_classes(side: Measure, name: str) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Points, weights and classes of the only group on the CPU, one entry for each point and class of positive share.

    Raises:
        InvalidInput: if a label has negative entries or none that is positive.
    """
    kept = side.weights[0] > 0
    points, weights, labels = side.rows[0][kept].double(), side.shares[0][kept], _label_vectors(side)[0][kept].double()
    if bool((labels < 0).any()) or not bool((labels.sum(1) > 0).all()):
        raise InvalidInput(
            f"the {name} side has a label vector with no positive or a negative entry; give shares of classes"
        )
    shares = weights[:, None] * labels / labels.sum(1, keepdim=True)
    place, classes = (shares > 0).nonzero().unbind(1)
    return points[place].cpu(), shares[place, classes].cpu(), classes.cpu()


def _parts(points: Float[Tensor, "n d"], weights: Float[Tensor, " n"], classes: Int[Tensor, " n"]) -> list[_Part]:
    parts = []
    for label in classes.unique():
        x, w = points[classes == label], weights[classes == label]
        w = w / w.sum()
        mean = w @ x
        factor = w.sqrt()[:, None] * (x - mean)
        if len(factor) > factor.shape[1]:
            factor = torch.linalg.qr(factor, mode="r").R
        parts.append(_Part(x, w, mean, factor))
    return parts


class ClassesDistance(Discrepancy, kind="measure_of_classes"):
    """Optimal transport of two data sets as measures over their classes, P = Σ_c p_c δ(μ_c):

        min over couplings π of (p_a) and (q_b) of  Σ_ab π_ab D(μ_a, ν_b),

    with μ_a the real points of class a as a measure and p_a its share, and D = ``of``. With D = W₂² it is the squared
    Wasserstein distance over Wasserstein space. Classes are not matched by name (but with D(μ_a, ν_a) much the smallest they
    match themselves); soft labels give a point to several classes in part.

    A divergence where D is one, with D's symmetry and units; for reports. c² comparisons by D, and a transport of c x c. The
    summary is D's, one for each class, with the classes' masses; where D keeps points,
    also the points as they came. Sensitivity: no statistic.

    Args:
        of: the discrepancy D of two classes; without an adversary.

    References: Flowing Datasets with Wasserstein over Wasserstein Gradient Flows (Bonet, Vauthier, Korba, 2025).

    Raises:
        InvalidInput: if D has an adversary; on use, if a label has negative entries.

    Example:
        >>> import torch
        >>> from discrepancy import ClassesDistance, Measure, Wasserstein
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [4.0], [5.0]]), labels=torch.tensor([0, 0, 1, 1]))
        >>> nu = Measure(torch.tensor([[1.0], [4.0]]), labels=torch.tensor([0, 1]))
        >>> D = ClassesDistance(of=Wasserstein())
        >>> round(float(D(mu, nu)), 4)
        0.5
    """

    of: Discrepancy

    def __post_init__(self) -> None:
        if self.of.adversary is not None:
            raise InvalidInput(f"'of' must have no adversary, got '{self.of.kind}'; each pair of classes needs one")

    @property
    def tags(self) -> frozenset[Tag]:
        kept: set[Tag] = {"nonnegative", "symmetric", "translation-invariant", "splits", "mergeable"}
        if "nonnegative" in self.of.tags:
            kept |= {"zero-at-equality"}
        return self.of.tags & kept

    labelled = True

    @property
    def degree(self) -> float | None:
        return self.of.degree

    @property
    def resolved(self) -> bool:
        return self.of.resolved

    def resolve(self, sample: Measure) -> "ClassesDistance":
        return replace(self, of=self.of.resolve(sample))

    def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
        return self.of.draw(generator, shape)

    def summarise_groups(self, real: Measure, draws: Draws) -> "ClassesSummary":
        classes, mass = _conditioned(real)
        # Absent classes stay where batches are to be merged, and go where a discrepancy might stumble over them.
        present = torch.ones_like(mass, dtype=torch.bool) if self.mergeable else mass > 0
        place = (present.flatten().cumsum(0) - 1).view(present.shape).where(present, -1)
        kept = classes.select(present.flatten().nonzero()[:, 0])
        return ClassesSummary(self.of.summarise_groups(kept, draws), mass, place, None if self.mergeable else real)

    def merge_groups(self, first: "ClassesSummary", second: "ClassesSummary", draws: Draws) -> "ClassesSummary":
        if first.real is not None and second.real is not None:
            return self.summarise_groups(Measure.merged([first.real, second.real]), draws)
        of = self.of.merge_groups(first.of, second.of, draws)
        return ClassesSummary(of, first.mass + second.mass, first.place)

    @torch.no_grad()
    def compare_groups(self, summary: "ClassesSummary", synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        """The value of each group."""
        classes, mass = _conditioned(synthetic)
        values = []
        for group, (shares, place) in enumerate(zip(mass, summary.place, strict=True)):
            here, there = summary.mass[group] > 0, (shares > 0).nonzero()[:, 0]
            real = summary.of.select(place[here])
            columns = [
                self.of.compare_groups(
                    real, classes.select((group * len(shares) + column).expand(int(here.sum()))), draws
                )
                for column in there
            ]
            values.append(least_cost(summary.mass[group][here], shares[there], torch.stack(columns, 1)))
        return torch.tensor(values, dtype=torch.float64, device="cpu").to(synthetic.rows)


@dataclass(frozen=True, eq=False)
class ClassesSummary:
    """D's summary with one row a class, the classes' masses, and which row is whose (-1: none); where D keeps points, the
    real side as it came, for merging."""

    of: Summary
    mass: Float[Tensor, "g c"]
    place: Int[Tensor, "g c"]
    real: Measure | None = None

    def select(self, groups: Tensor) -> "ClassesSummary":
        place = self.place[groups]
        present = place >= 0
        moved = (present.flatten().cumsum(0) - 1).view(place.shape).where(present, -1)
        real = None if self.real is None else self.real.select(groups)
        return ClassesSummary(self.of.select(place[present]), self.mass[groups], moved, real)

    @property
    def nbytes(self) -> int:
        kept = 0 if self.real is None else self.real.nbytes
        return self.of.nbytes + self.mass.nbytes + self.place.nbytes + kept


def _label_vectors(side: Measure) -> Float[Tensor, "*g n c"]:
    assert side.labels is not None
    return side.labels


def _conditioned(side: Measure) -> tuple[Measure, Float[Tensor, "g c"]]:
    """The conditional measures given the class, group by group and class by class, padded, and the mass of each class.

    Raises:
        InvalidInput: if a label has negative entries.
    """
    labels = _label_vectors(side)
    weights = torch.einsum("gn,gnc->gcn", side.weights.double(), labels.double())
    if bool((weights < 0).any()):
        raise InvalidInput("a label vector has negative entries; labels must be shares of classes")
    mass, flat = weights.sum(-1), weights.flatten(0, 1)
    width = max(1, int((flat > 0).sum(-1).max()))
    # Those of positive weight first, in their order.
    index = torch.argsort((flat <= 0).to(torch.uint8), dim=-1, stable=True)[:, :width]
    group = torch.arange(len(labels), device=index.device).repeat_interleave(labels.shape[-1])[:, None]
    chosen = flat.gather(1, index).to(side.weights.dtype)
    return Measure(side.tensors[""][group, index], chosen, labels[group, index]), mass
