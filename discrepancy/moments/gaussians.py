"""Both sides as Gaussians with their mean and covariance: N(a, A) for the real one, N(b, B) for the synthetic one.

The summary is the first two moments, which merge (:class:`~discrepancy.moments.AboutMean`), so a step does not know how many
real points there were. Covariances are those of the measure itself, Σ w (x - a)(x - a)ᵀ, without a factor n/(n - 1).
"""

import math
import warnings
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakSet

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.discrepancy import Draws, MeanSummary, Tag
from discrepancy.errors import InvalidInput, NumericalWarning
from discrepancy.kernels import Length
from discrepancy.measure import Measure
from discrepancy.moments.moments import (
    ALWAYS,
    AboutMean,
    covariance,
    moved_powers,
    moved_products,
    origin_of,
    powers,
    products,
    total_products,
)
from discrepancy.numerics.derivatives import safe_root
from discrepancy.numerics.roots import above_rounding, spectrum, trace_root
from discrepancy.parts import check_choice

__all__ = ["Frechet", "GaussianKL"]

_told: WeakSet[MeanSummary] = WeakSet()


class Frechet(AboutMean, kind="frechet"):
    """The squared 2-Wasserstein distance of two Gaussians, the Fréchet distance of FID:

        ‖a - b‖² + tr(A + B - 2 (A^½ B A^½)^½).

    A squared metric of Gaussians, and of measures a squared pseudo-metric: it sees means and covariances only. Its root lies
    between ‖a - b‖ and the 2-Wasserstein distance of the measures (Gelbrich).

    With fewer synthetic points than features B = Z Zᵀ with Z (d, m), and A^½ B A^½ has the nonzero eigenvalues of Zᵀ A Z, so
    tr((A^½ B A^½)^½), the nuclear norm of A^½ Z, comes from an m x m matrix: O(d² m + m³) a step. Otherwise, and with
    ``shrink``, O(m d² + d³). The summary holds d² + d numbers and merges; its sensitivity has no bound. Eigenvalues are not
    differentiated: the gradient is ½ M^(-½) with the inverse on the range of M, so equal and vanishing eigenvalues do no harm,
    and second derivatives are right where the rank does not change. Eigenvalues below the rounding of the largest count as
    zero, so where A and B are singular a value is good to 1e-8 of their traces.

    From no more than d points a covariance has rank n - 1 at most, so A is biased and B cannot reach A: D stays above the
    variance of the real side outside of m - 1 directions. A ``NumericalWarning`` says so once a summary, unless ``shrink``
    is set. The derivative in a weight leaves out, at weight zero and m < d, what that point would add to the rank.

    Args:
        shrink: s in 0 .. 1: A and B are replaced by (1 - s) C + s (tr C / d) I.
        root: the square root; where A and B agree to rounding they count as equal, and the gradient is zero at zero.

    References: The Fréchet Distance between Multivariate Normal Distributions (Dowson, Landau, 1982);
    On a Formula for the L2 Wasserstein Metric between Measures on Euclidean and Hilbert Spaces (Gelbrich, 1990);
    GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017);
    Backpropagating through Fréchet Inception Distance (Mathiasen, Hvilshøj, 2020) for the m x m form.

    Raises:
        InvalidInput: if ``shrink`` is outside of 0 .. 1.

    Example:
        >>> import torch
        >>> from discrepancy import Frechet, Measure
        >>> mu = Measure(torch.tensor([[-1.0], [1.0]]))
        >>> nu = Measure(torch.tensor([[0.0], [4.0]]))
        >>> D = Frechet()
        >>> round(float(D(mu, nu)), 4)
        5.0
    """

    shrink: float = 0.0
    root: bool = False

    def __post_init__(self) -> None:
        _check_shrink(self.shrink)

    @property
    def tags(self) -> frozenset[Tag]:
        return ALWAYS.union({"pulls"}) if self.root else ALWAYS.union({"pulls", "twice-differentiable"})

    @property
    def degree(self) -> float:
        return 1.0 if self.root else 2.0

    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        return products(points.flatten(2))

    def total(self, measure: Measure, draws: Draws) -> Float[Tensor, "g p"]:
        return total_products(measure)

    def moved(self, total: Float[Tensor, "g p"], mass: Float[Tensor, " g"], step: Float[Tensor, "g d"]) -> Tensor:
        return moved_products(total, mass, step)

    def compare_groups(self, summary: MeanSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        m, d = synthetic.rows.shape[1:]
        if self.shrink == 0:
            self._warn_of_few_points(summary, m, d)
        points, shares = synthetic.rows.double() - origin_of(summary)[..., None, :], synthetic.shares
        b = torch.einsum("gm,gmd->gd", shares, points)
        rays = safe_root(shares)[..., None] * (points - b[:, None])
        origin = b.detach()
        if self.shrink == 0 and m < d:
            value = self._of_few(summary.mean, b, rays)
        else:
            mean = total_products(Measure(points - origin[:, None], shares))
            value = self._of_moments(summary.mean, mean, origin, rays)
        return value.to(synthetic.rows.dtype)

    def distance(
        self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"], step: Float[Tensor, "g d"] | float = 0.0
    ) -> Float[Tensor, " g"]:
        return self._of_moments(real, synthetic, step, None)

    def _of_moments(
        self,
        real: Float[Tensor, "g p"],
        synthetic: Float[Tensor, "g p"],
        step: Float[Tensor, "g d"] | float,
        rays: Float[Tensor, "g m d"] | None,
    ) -> Float[Tensor, " g"]:
        """With d x d matrices; a factor of B, where known, makes the roots more accurate."""
        (a, first), (b, second) = covariance(real), covariance(synthetic)
        first, second = _shrunk(first, self.shrink), _shrunk(second, self.shrink)
        with torch.no_grad():
            values, vectors = spectrum(first)
            half = (vectors * above_rounding(values).sqrt()[:, None]) @ vectors.mT
            factor = None if rays is None or self.shrink > 0 else half @ rays.mT
        return self._value(a - b - step, _trace(first) + _trace(second), half @ second @ half, factor)

    def _of_few(
        self, real: Float[Tensor, "g p"], b: Float[Tensor, "g d"], rays: Float[Tensor, "g m d"]
    ) -> Float[Tensor, " g"]:
        """From the mean and the factor of B, with an m x m matrix."""
        a, first = covariance(real)
        return self._value(a - b, _trace(first) + rays.square().sum((-1, -2)), rays @ first @ rays.mT, None)

    def _value(
        self,
        gap: Float[Tensor, "g d"],
        traces: Float[Tensor, " g"],
        matrix: Float[Tensor, "g k k"],
        factor: Tensor | None,
    ) -> Float[Tensor, " g"]:
        bures = traces - 2 * trace_root(matrix, factor)
        apart = gap.square().sum(-1)
        if not self.root:
            return apart + bures
        eps = torch.finfo(bures.dtype).eps
        apart = torch.where(apart < (16 * eps) ** 2 * traces, torch.zeros_like(apart), apart)
        equal = (bures <= eps * matrix.shape[-1] * traces) & (apart < traces)
        return safe_root(apart + torch.where(equal, torch.zeros_like(bures), bures))

    def _warn_of_few_points(self, summary: MeanSummary, m: int, d: int) -> None:
        if torch.compiler.is_compiling() or summary in _told:
            return
        _told.add(summary)
        counts = {"synthetic": m}
        if "points" in summary.sums:
            counts["real"] = int(summary.sums["points"].min())
        for side, count in counts.items():
            if count <= d:
                warnings.warn(
                    f"'{self.kind}' fits a covariance to {count} {side} points of {d} features: its rank is at most "
                    f"{count - 1}, and the other directions count as constant; give more points, fewer features or shrink > 0",
                    NumericalWarning,
                    stacklevel=3,
                )


class GaussianKL(AboutMean, kind="gaussian_kl"):
    """The Kullback-Leibler divergence of two Gaussians,

        KL(N(a, A) ‖ N(b, B)) = ½ (tr(B⁻¹ A) + (a - b)ᵀ B⁻¹ (a - b) - d + log det B - log det A),

    ``forward`` from the real to the synthetic side, KL(P ‖ Q), ``reverse`` KL(Q ‖ P), or ``jeffreys``, the sum of both. A
    divergence of Gaussians, symmetric only in the last form; of measures it sees means and covariances only.
    With λ the largest eigenvalue of B, the squared Fréchet distance is at most 2 λ KL(P ‖ Q) (Talagrand).

    With ``covariance="diagonal"`` each feature is a Gaussian of its own and their divergences are added: O(m d) a step, 2 d
    numbers in the summary. Otherwise O(m d² + d³) and d² + d. Summaries merge. The divergence has no bound, nor its
    sensitivity. It is infinite where a covariance is singular, as one of no more than d points is; that is refused unless
    ``shrink`` makes it regular.

    Args:
        direction: ``"forward"``, ``"reverse"`` or ``"jeffreys"``.
        covariance: ``"full"`` or ``"diagonal"``.
        shrink: s in 0 .. 1: both covariances are replaced by (1 - s) C + s u² I.
        towards: u, a number or a rule; None takes each side's own mean variance, u² = tr C / d, which is zero for one point.

    References: Information Theory and Statistics (Kullback, 1959).

    Raises:
        InvalidInput: if a field is out of its range; on use, if a covariance is singular.

    Example:
        >>> import torch
        >>> from discrepancy import GaussianKL, Measure
        >>> mu = Measure(torch.tensor([[-1.0], [1.0]]))
        >>> nu = Measure(torch.tensor([[0.0], [4.0]]))
        >>> D = GaussianKL()
        >>> round(float(D(mu, nu)), 4)
        0.8181
    """

    direction: Literal["forward", "reverse", "jeffreys"] = "forward"
    covariance: Literal["full", "diagonal"] = "full"
    shrink: float = 0.0
    towards: float | Length | None = None

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, ("forward", "reverse", "jeffreys"))
        check_choice("covariance", self.covariance, ("full", "diagonal"))
        _check_shrink(self.shrink)
        if isinstance(self.towards, float | int) and not (math.isfinite(self.towards) and self.towards > 0):
            raise InvalidInput(f"'towards' must be finite and > 0, got {self.towards}; None takes the mean variance")

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: frozenset[Tag] = ALWAYS.union({"twice-differentiable"})
        if self.shrink > 0 and self.towards is not None:
            claimed = claimed.union({"pulls"})
        return claimed if self.direction == "jeffreys" else frozenset(tag for tag in claimed if tag != "symmetric")

    @property
    def degree(self) -> float | None:
        return 0.0 if self.shrink == 0 or self.towards is None else None

    @property
    def resolved(self) -> bool:
        return not isinstance(self.towards, Length)

    def resolve(self, sample: Measure) -> "GaussianKL":
        return replace(self, towards=self.towards.measured(sample)) if isinstance(self.towards, Length) else self

    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        return products(points.flatten(2)) if self.covariance == "full" else powers(points.flatten(2), 2)

    def total(self, measure: Measure, draws: Draws) -> Float[Tensor, "g p"]:
        if self.covariance == "full":
            return total_products(measure)
        return torch.einsum("gn,gnp->gp", measure.weights.double(), powers(measure.rows.double(), 2))

    def moved(self, total: Float[Tensor, "g p"], mass: Float[Tensor, " g"], step: Float[Tensor, "g d"]) -> Tensor:
        return (moved_products if self.covariance == "full" else moved_powers)(total, mass, step)

    def distance(
        self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"], step: Float[Tensor, "g d"] | float = 0.0
    ) -> Float[Tensor, " g"]:
        """The divergence of two fits.

        Raises:
            InvalidInput: if a covariance is singular, or ``towards`` is a rule still.
        """
        p, (mean, spread) = self._fitted(real, "real"), self._fitted(synthetic, "synthetic")
        q = mean + step, spread
        divergence = _divergence if self.covariance == "full" else _divergence_by_feature
        if self.direction == "jeffreys":
            return divergence(*p, *q) + divergence(*q, *p)
        return divergence(*p, *q) if self.direction == "forward" else divergence(*q, *p)

    def _fitted(self, moments: Float[Tensor, "g p"], side: str) -> tuple[Tensor, Tensor]:
        """The mean, and the Cholesky factor of the covariance, or the variances."""
        if isinstance(self.towards, Length):
            raise InvalidInput(
                f"'towards' is the rule '{self.towards.kind}' and not yet a number; call resolve(sample) with real points "
                f"first"
            )
        message = (
            f"the covariance of the {side} points is singular, so '{self.kind}' is infinite; give shrink > 0, with towards > 0 "
            f"where no feature varies, or more points"
        )
        rounding = 8 * torch.finfo(moments.dtype).eps
        if self.covariance == "diagonal":
            mean, squares = moments.unflatten(-1, (2, -1)).unbind(1)
            plain = squares - mean.square()
            target = plain.mean(-1, keepdim=True) if self.towards is None else self.towards**2
            variances = (1 - self.shrink) * plain + self.shrink * target
            _Positive.apply((variances - rounding * (variances + mean.square())).detach(), message)
            return mean, variances
        mean, plain = covariance(moments)
        matrix = _shrunk(plain, self.shrink, self.towards)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        scale = matrix.diagonal(dim1=-2, dim2=-1) + mean.square()
        pivots = factor.diagonal(dim1=-2, dim2=-1).square() - rounding * mean.shape[-1] * scale
        broken = (failed > 0) & torch.isfinite(moments).all(-1)
        _Positive.apply(torch.where(broken[..., None], -torch.ones_like(pivots), pivots).detach(), message)
        return mean, factor


def _divergence(a: Tensor, first: Tensor, b: Tensor, second: Tensor) -> Float[Tensor, " g"]:
    """KL of Gaussians with Cholesky factors."""
    ratio = torch.linalg.solve_triangular(second, torch.cat([first, (a - b)[..., None]], -1), upper=False)
    logs = [factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) for factor in (first, second)]
    return (ratio.square().sum((-1, -2)) - a.shape[-1]) / 2 + logs[1] - logs[0]


def _divergence_by_feature(a: Tensor, first: Tensor, b: Tensor, second: Tensor) -> Float[Tensor, " g"]:
    """The sum of the KL of the features, from variances."""
    return ((first + (a - b).square()) / second - 1 + second.log() - first.log()).sum(-1) / 2


def _check_shrink(shrink: float) -> None:
    if not 0 <= shrink <= 1:
        raise InvalidInput(f"'shrink' must lie in 0 .. 1, got {shrink}")


def _shrunk(matrix: Float[Tensor, "g d d"], shrink: float, towards: float | None = None) -> Float[Tensor, "g d d"]:
    """(1 - s) C + s u² I, with u² = tr C / d where it is not given."""
    if shrink == 0:
        return matrix
    size = matrix.shape[-1]
    target = (_trace(matrix) / size)[:, None, None] if towards is None else towards**2
    return (1 - shrink) * matrix + shrink * target * torch.eye(size, dtype=matrix.dtype, device=matrix.device)


def _trace(matrix: Float[Tensor, "g d d"]) -> Float[Tensor, " g"]:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


class _Positive(Function):
    """Nothing, or the message as an error if a value is not positive: a look at values that works under ``torch.vmap`` too. NaN
    passes, since it says nothing of a sign and comes out again at the end."""

    @staticmethod
    def forward(values: Tensor, message: str) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if bool((values <= 0).any()):
            raise InvalidInput(message)
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int | None]:
        return _Positive.apply(*inputs), in_dims[0]  # pyright: ignore
