"""The Sinkhorn divergence: entropic transport without its bias.

S(μ, ν) = OT_ε(μ, ν) - ½ OT_ε(μ, μ) - ½ OT_ε(ν, ν)
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from discrepancy.discrepancy import Draws, SampleDiscrepancy, SampleSummary, Tag
from discrepancy.errors import InvalidInput, Unsupported
from discrepancy.kernels.lengths import Length, check_length, check_positive, number
from discrepancy.measure import Measure
from discrepancy.parts import check_choice
from discrepancy.transport.backends import Backend, Borrowed
from discrepancy.transport.costs import half_squares
from discrepancy.transport.potentials import Entropic

__all__ = ["Sinkhorn"]


class Sinkhorn(SampleDiscrepancy, kind="sinkhorn"):
    """The Sinkhorn divergence, with geomloss's conventions: a divergence that is zero only at equality, not a metric.

        S = OT(μ, ν) - ½ OT(μ, μ) - ½ OT(ν, ν),    OT(μ, ν) = min over π of  E_π ‖x - y‖ᵖ / p + ε KL(π | μ ⊗ ν) + penalties

    with ε = ``blur``ᵖ. Without ``reach`` the plan has the marginals μ and ν; with it, π may leave mass where it is at the price
    ρ KL(π₁ | μ) + ρ KL(π₂ | ν), ρ = ``reach``ᵖ. Both measures have mass one. S goes to W_pᵖ / p as the blur goes to zero, and
    for p = 2 to ½ ‖E_μ x - E_ν y‖² as it grows.

    Summary: the real points, ‖x‖² of each, and OT(μ, μ); the sensitivity to one point is not bounded.
    Time: O(n m d) for the products once and O(n m) a pass, or O(n m d) a pass where they do not fit into ``costs.HELD_BYTES``,
    and the same for ν with itself; a summary O(n² d) a pass. Ten passes are usual, a hundred where the blur is far below the
    distances. Memory: O((n + m) d) besides tiles, those products, and a Hessian (m, m) a group where it is as small as they.

    Gradients, in points and weights, hold the optimal potentials fixed (envelope theorem): right at convergence. Second
    derivatives are refused.

    Another back end solves each OT with another library, for the same value and gradient: ``iterations`` steps at the final ε
    without annealing, then the same check and warning. geomloss stores all pairs of points up to 25 million (above, it needs
    KeOps); flash_sinkhorn needs CUDA. Both are offered for p = 2 without ``reach`` only: with p = 1 geomloss counts coincident
    points as 1e-4 apart, and its unbalanced gradient has a factor ρ + ε/2 where ρ + ε is right.

    Args:
        p: the cost is ‖x - y‖ᵖ / p.
        blur: the length at which transport is blurred, or a rule such as :class:`~discrepancy.kernels.Median`.
        reach: the length beyond which it is cheaper to leave mass behind than to move it; None for balanced transport.
        scaling: the factor between two lengths of the annealing that comes first; higher is slower and safer.
        debias: False gives OT(μ, ν) alone, which is not zero at equality.
        tolerance: the iteration ends when no more of the mass than this is out of place, Σⱼ |Σᵢ πᵢⱼ - νⱼ|, or than rounding can
            resolve. The error of the value is at most that mass times the largest difference of potentials: of the order of the
            square of the tolerance for one cluster, of its first power for clusters further apart than ``blur``. That of the
            gradient is of the order of the first power.
        iterations: the most passes after the annealing; beyond, a NumericalWarning says what was reached.
        backend: ``own``, ``geomloss`` or ``flash_sinkhorn`` (the extra ``flash``).

    References: Interpolating between optimal transport and MMD using Sinkhorn divergences (Feydy et al., 2019);
    Sinkhorn divergences for unbalanced optimal transport (Séjourné et al., 2019), proposition 12.
    FlashSinkhorn, the package flash-sinkhorn (2026).

    Raises:
        InvalidInput: if a field is out of its range.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, Sinkhorn
        >>> mu = Measure(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]))
        >>> nu = Measure(torch.tensor([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0]]))
        >>> D = Sinkhorn(blur=0.1)
        >>> round(float(D(mu, nu)), 4)
        1.0
    """

    p: Literal[1, 2] = 2
    blur: float | Length = 0.05
    reach: float | Length | None = None
    scaling: float = 0.5
    debias: bool = True
    tolerance: float = 1e-4
    iterations: int = 500
    backend: Backend = "own"

    def __post_init__(self) -> None:
        if self.p not in (1, 2):
            raise InvalidInput(f"'p' must be 1 or 2, got {self.p!r}; other powers are for the exact 'wasserstein'")
        check_length("blur", self.blur)
        if self.reach is not None:
            check_length("reach", self.reach)
        check_positive("tolerance", self.tolerance)
        if not 0 < self.scaling < 1:
            raise InvalidInput(f"'scaling' must lie between 0 and 1, got {self.scaling}; 0.5 is usual")
        if self.iterations < 1:
            raise InvalidInput(f"'iterations' must be >= 1, got {self.iterations}")
        check_choice("backend", self.backend, get_args(Backend))
        if self.backend != "own":
            self._check_backend()

    def _check_backend(self) -> None:
        """Refuses what other libraries do not solve, or solve otherwise."""
        if self.p != 2 or self.reach is not None or self.scaling != 0.5:
            raise InvalidInput(
                f"backend '{self.backend}' takes p: 2 and neither 'reach' nor 'scaling', got p: {self.p}, reach: {self.reach}, "
                f"scaling: {self.scaling}; use backend: own"
            )

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: frozenset[Tag] = frozenset({"symmetric", "differentiable", "translation-invariant", "splits", "pulls"})
        return claimed.union(("zero-at-equality", "nonnegative")) if self.debias else claimed

    @property
    def resolved(self) -> bool:
        return not isinstance(self.blur, Length) and not isinstance(self.reach, Length)

    def resolve(self, sample: Measure) -> "Sinkhorn":
        lengths = {"blur": self.blur, "reach": self.reach}
        measured = {name: rule.measured(sample) for name, rule in lengths.items() if isinstance(rule, Length)}
        return replace(self, **measured)

    def constants(self, real: Measure, draws: Draws) -> Mapping[str, Tensor]:
        points, shares = real.rows, real.shares
        centre = torch.einsum("gn,gnd->gd", shares, points.double())[:, None]
        half = half_squares(points, centre)
        found = {"centre": centre, "half_squares": half}
        if not self.debias:
            return found
        return found | {"own": self._solver().alone(points, shares, centre, half, slopes=False).total}

    def compare_groups(self, summary: SampleSummary, synthetic: Measure, draws: Draws) -> Float[Tensor, " g"]:
        x, a = summary.real.rows.detach(), summary.real.shares.detach()
        known = summary.constants["centre"], summary.constants["half_squares"]
        y, b = synthetic.rows, synthetic.shares
        value = _Transport.apply(self._solver(), self.debias, x, a, *known, y, b)[0]  # pyright: ignore[reportIndexIssue]
        own = 0.5 * summary.constants["own"] if self.debias else 0.0
        return (value - own).to(y.dtype)

    def _solver(self) -> Entropic | Borrowed:
        if self.backend != "own":
            return Borrowed(self.backend, number("blur", self.blur), self.tolerance, self.iterations)
        eps = number("blur", self.blur) ** self.p
        rho = None if self.reach is None else number("reach", self.reach) ** self.p
        return Entropic(self.p, eps, rho, self.scaling, self.tolerance, self.iterations)


class _Transport(Function):
    """OT(μ, ν) - ½ OT(ν, ν), or the first term alone, with its derivatives by y and b as two further outputs."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        solver: Entropic | Borrowed,
        debias: bool,
        x: Tensor,
        a: Tensor,
        centre: Tensor,
        halves: Tensor,
        y: Tensor,
        b: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_y = half_squares(y, centre)
        own = solver.alone(y, b, centre, of_y) if debias else None
        # Both potentials are equal where the measures are; a little mass elsewhere may be the whole value.
        known = own.other if own is not None and _equal((x, a), (y, b)) else None
        found = solver.across(x, a, y, b, centre, (halves, of_y), known)
        value, by_y, by_b = found.total, found.by_points, found.by_weights
        if own is not None:
            value, by_y, by_b = value - 0.5 * own.total, by_y - own.by_points, by_b - own.by_weights
        return value, by_y.to(y.dtype), by_b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[6:], *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        by_y, by_b = _Fixed.apply(*ctx.saved_tensors)  # pyright: ignore[reportGeneralTypeIssues]
        return *(None,) * 6, grads[0][:, None, None].to(by_y.dtype) * by_y, grads[0][:, None] * by_b

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, dims: tuple[int | None, ...], solver: Entropic | Borrowed, debias: bool, *tensors: Tensor
    ) -> Any:
        each = [
            _Transport.apply(
                solver,
                debias,
                *(t if dim is None else t.select(dim, place) for t, dim in zip(tensors, dims[2:], strict=True)),
            )
            for place in range(info.batch_size)
        ]
        return tuple(map(torch.stack, zip(*each, strict=True))), (0, 0, 0)  # pyright: ignore[reportArgumentType]


def _equal(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    """Whether points and shares are the same, in order, but for the rounding of the shares. The host waits for it."""
    (x, a), (y, b) = one, other
    return x.shape == y.shape and torch.equal(x, y) and bool(((a - b).abs() <= 8 * torch.finfo(b.dtype).eps * b).all())


class _Fixed(Function):
    """The derivatives, which are known already, as functions of (y, b) that have none themselves."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, b: Tensor, by_y: Tensor, by_b: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return by_y.clone(), by_b.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        raise Unsupported(
            "'sinkhorn' has first derivatives only: its gradient holds the potentials fixed, so a second one would be wrong"
        )
