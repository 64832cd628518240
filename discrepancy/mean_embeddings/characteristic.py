"""Characteristic functions: Φ(t) = E exp(i⟨t, x⟩), compared at frequencies t.

At one frequency the squared distance of two complex numbers has a part for their lengths and one for their angles,

    |Φ - Ψ|² = (|Φ| - |Ψ|)² + 2 |Φ| |Ψ| (1 - cos(arg Φ - arg Ψ)),      |Φ| |Ψ| cos(arg Φ - arg Ψ) = Re Φ Ψ*,

so no angle is ever computed. Over frequencies of a law with density λ, ∫ |Φ - Ψ|² λ dt is the squared MMD of the kernel
k(x, y) = ∫ cos⟨t, x - y⟩ λ(t) dt (Bochner), and at finitely many it is that of the kernel of these frequencies.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import SUMMARY_POINTS, Adversary, Discrepancy, Draws, MeanSummary, SampleSummary, Tag
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Length
from discrepancy.measure import Measure
from discrepancy.numerics.derivatives import first_order_only, safe_root
from discrepancy.precision import normals

__all__ = ["CharacteristicFunction"]

REACH = math.log(10.0)
"""How far, in logarithms, an adversary may move a scale from where it started."""


class CharacteristicFunction(Discrepancy, kind="characteristic_function"):
    """The squared distance of two characteristic functions, averaged over D frequencies t:

        Chf(t) = amplitude · (|Φ(t)| - |Ψ(t)|)² + phase · 2 |Φ(t)| |Ψ(t)| (1 - cos(arg Φ(t) - arg Ψ(t))).

    With ``root`` it is the mean of √Chf(t), which is what NCFM aggregates (a mean of roots, not the root of the mean). With
    both weights 1, the default, Chf = |Φ - Ψ|²; NCFM's α is ``amplitude=α, phase=1 - α``, so that α = ½ gives half of that.
    The value is at most 4 where no weight exceeds 1. With equal weights it is a squared pseudo-metric (with ``root`` a
    pseudo-metric): it is zero where both sides agree at these frequencies. With unequal weights it is a dissimilarity.

    Frequencies are t = s z / l with z standard normal, s = 1 for a gaussian law (the gaussian kernel of lengthscale l), or
    s² = ν/χ²_ν for Student's law of ν degrees of ``freedom``, whose tails are heavier (the Matérn kernel of smoothness ν/2;
    ν = 1 gives exp(-‖x - y‖/l)). Several lengthscales are taken in turn: a scale mixture. They are drawn for a context:
    fixed within it, new in the next one.

    Frequencies may also be ``learned``: D is then the supremum over diagonal scalings of each component of the mixture,

        t = exp(σ_j) ∘ z / l_j,    |σ_j| <= log 10 in each coordinate,

    with z held fixed, which an adversary approaches from σ = 0. This is the scale mixture of normals that NCFM defines, with
    the atoms of its law of scales themselves learned, in place of a network that makes them of noise: for k ``components``
    (in the paper a sixteenth of the frequencies) the frequencies take k vectors σ_j for each length in turn.

    At fixed frequencies the statistic is (cos⟨t, x⟩, sin⟨t, x⟩)/√D, of norm 1, which bounds the sensitivity; a summary holds
    2 D numbers and merges, and a step costs O(m d D), whatever n. Learned ones keep the points: O((n + m) d D) a step, in
    blocks, and first derivatives only in σ.

    Args:
        frequencies: their number D.
        lengthscale: l, a number or a rule; a tuple of them is a mixture in equal parts.
        freedom: ν of Student's law; None is gaussian.
        amplitude, phase: the weights of the two parts, >= 0 and not both zero.
        root: see above; the gradient is zero at a frequency where Chf is zero.
        learned: whether the scales are an adversary's.
        components: vectors of learned scales for each length.
        steps, rate: of the adversary, see :class:`~discrepancy.sorts.Adversary`.

    References: Dataset Distillation with Neural Characteristic Function: A Minmax Perspective (Wang et al., CVPR 2025);
    Reciprocal Adversarial Learning via Characteristic Functions (Li et al., NeurIPS 2020);
    A Characteristic Function Approach to Deep Implicit Generative Modeling (Ansari et al., CVPR 2020).

    Raises:
        InvalidInput: if a field is out of its range; on use, if frequencies are missing or of another size than the points.

    Example:
        >>> import torch
        >>> from discrepancy import CharacteristicFunction, Measure
        >>> mu = Measure(torch.tensor([[0.0], [1.0], [2.0]]))
        >>> nu = Measure(torch.tensor([[1.0], [3.0]]))
        >>> D = CharacteristicFunction(frequencies=64)
        >>> draws = D.draw(torch.Generator().manual_seed(0), (1,))
        >>> round(float(D(mu, nu, draws)), 4)
        0.2108
    """

    frequencies: int = 1024
    lengthscale: float | Length | tuple[float | Length, ...] = 1.0
    freedom: int | None = None
    amplitude: float = 1.0
    phase: float = 1.0
    root: bool = False
    learned: bool = False
    components: int = 1
    steps: int = 10
    rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("frequencies", "components", "steps", "freedom"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput(f"'{name}' must be >= 1, got {value}")
        if not self._lengths:
            raise InvalidInput("'lengthscale' must have at least one length, got an empty tuple; give a number")
        for name, value in [("rate", self.rate), *(("lengthscale", length) for length in self._lengths)]:
            if not isinstance(value, Length) and not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"'{name}' must be finite and > 0, got {value}")
        for name, value in (("amplitude", self.amplitude), ("phase", self.phase)):
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"'{name}' must be finite and >= 0, got {value}")
        if self.amplitude == self.phase == 0:
            raise InvalidInput("'amplitude' and 'phase' must not both be 0; give one of them a weight")

    @property
    def tags(self) -> frozenset[Tag]:
        claimed: set[Tag] = {
            "zero-at-equality",
            "nonnegative",
            "symmetric",
            "splits",
            "differentiable",
            "translation-invariant",
        }
        if self.phase > 0:
            claimed |= {"pulls"}
        if not self.root:
            claimed |= {"twice-differentiable"}
        if not self.learned:
            claimed |= {"mergeable"}
        return frozenset(claimed)

    @property
    def bound(self) -> float | None:
        return 1.0 if self.mergeable else None

    @property
    def adversary(self) -> Adversary | None:
        return Adversary(frozenset({"scales"}), self.steps, self.rate) if self.learned else None

    @property
    def resolved(self) -> bool:
        return not any(isinstance(length, Length) for length in self._lengths)

    def resolve(self, sample: Measure) -> "CharacteristicFunction":
        if self.resolved:
            return self
        lengths = tuple(item.measured(sample) if isinstance(item, Length) else item for item in self._lengths)
        return replace(self, lengthscale=lengths if isinstance(self.lengthscale, tuple) else lengths[0])

    def draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Mapping[str, Tensor]:
        """The frequencies (D, d) for lengthscale 1; where they are learned, the scales σ too, a row for each component of each
        length, at 0."""
        base = normals(generator, self.frequencies, math.prod(shape))
        if self.freedom is not None:
            squares = normals(generator, self.frequencies, self.freedom).square()
            base = base / squares.mean(1, keepdim=True).sqrt()
        scales = torch.zeros_like(base[:1]).repeat(len(self._lengths) * self.components, 1)
        return {"frequencies": base, "scales": scales} if self.learned else {"frequencies": base}

    def statistic(self, points: Float[Tensor, "g n ..."], draws: Draws) -> Float[Tensor, "g n p"]:
        """(cos⟨t, x⟩, sin⟨t, x⟩)/√D of each point."""
        side = Measure(points, torch.ones_like(points.flatten(2)[..., 0]))
        angles = side.rows @ self._frequencies(draws, side).mT
        return torch.cat([angles.cos(), angles.sin()], -1) / math.sqrt(self.frequencies)

    @property
    def has_statistic(self) -> bool:
        return not self.learned

    def statistics(self, measure: Measure, draws: Draws) -> Float[Tensor, "g n p"]:
        return self.statistic(measure.tensors[""].double(), draws)

    def total(self, measure: Measure, draws: Draws) -> Float[Tensor, "g p"]:
        """Σ w t(x) of each group in float64: about the mean c of the points, then turned back by e^(i⟨t, c⟩)."""
        t = self._frequencies(draws, measure)
        origin = _midst(measure)
        cosines, sines = _sums(measure.rows - origin, measure.weights, t).unbind(0)
        angles = (origin.double() @ t.double().mT)[:, 0]
        turned = angles.cos() * cosines - angles.sin() * sines, angles.sin() * cosines + angles.cos() * sines
        return torch.cat(turned, -1) / math.sqrt(self.frequencies)

    def summarise_groups(self, real: Measure, draws: Draws) -> MeanSummary | SampleSummary:
        """The characteristic function of a grouped measure, or its points."""
        if self.learned:
            return SampleSummary(real, {"origin": _midst(real)})
        parts = (
            MeanSummary(self.total(part, draws), part.weights.double().sum(-1)) for part in real.split(SUMMARY_POINTS)
        )
        return functools.reduce(MeanSummary.merge, parts)

    def merge_groups(self, first: Any, second: Any, draws: Draws) -> MeanSummary | SampleSummary:
        if isinstance(first, MeanSummary):
            return first.merge(second)
        return self.summarise_groups(Measure.merged([first.real, second.real]), draws)

    def compare_groups(
        self, summary: MeanSummary | SampleSummary, synthetic: Measure, draws: Draws
    ) -> Float[Tensor, " g"]:
        if isinstance(summary, MeanSummary):
            mean = self.total(synthetic, draws) / synthetic.weights.double().sum(-1, keepdim=True)
            return self.distance(summary.mean, mean).to(synthetic.rows.dtype)
        t, origin = self._frequencies(draws, synthetic), summary.constants["origin"]
        sides = (
            _fixed_sums(summary.real, origin, first_order_only(t, self.kind)),
            _sums(synthetic.rows - origin, synthetic.shares, t),
        )
        means = (torch.cat(side.unbind(0), -1) / math.sqrt(self.frequencies) for side in sides)
        return self.distance(*means).to(synthetic.rows.dtype)

    def distance(self, real: Float[Tensor, "g p"], synthetic: Float[Tensor, "g p"]) -> Float[Tensor, " g"]:
        """The discrepancy of two characteristic functions, each (Re Φ, Im Φ)/√D at the same frequencies."""
        first, second = real.unflatten(-1, (2, -1)), synthetic.unflatten(-1, (2, -1))
        # amplitude·A + phase·B = phase·(A + B) + (amplitude - phase)·A, of the parts A, B with A + B = |Φ - Ψ|².
        terms = self.phase * (first - second).square().sum(1)
        if self.amplitude != self.phase:
            lengths = safe_root(first.square().sum(1)) - safe_root(second.square().sum(1))
            terms = terms + (self.amplitude - self.phase) * lengths.square()
        return safe_root(terms).sum(-1) / math.sqrt(self.frequencies) if self.root else terms.sum(-1)

    @property
    def _lengths(self) -> tuple[float | Length, ...]:
        return self.lengthscale if isinstance(self.lengthscale, tuple) else (self.lengthscale,)

    def _frequencies(self, draws: Draws, measure: Measure) -> Float[Tensor, "#g D d"]:
        """t for the points of a measure, with an axis of groups; one row of it where groups share them."""
        points = measure.rows
        if draws is None or "frequencies" not in draws:
            raise InvalidInput(
                f"'{self.kind}' needs frequencies; give draws=discrepancy.draw(generator, shape of a point)"
            )
        base = draws["frequencies"].to(points)
        if base.shape[-1] != points.shape[-1]:
            raise InvalidInput(
                f"frequencies of {base.shape[-1]} features do not fit points of {points.shape[-1]}; draw them for this shape"
            )
        lengths = []
        for item in self._lengths:
            if isinstance(item, Length):
                raise InvalidInput(
                    f"'lengthscale' is the rule '{item.kind}' and not yet a number; call resolve(sample) with real points "
                    f"first"
                )
            lengths.append(item)
        component = torch.arange(self.frequencies, device=base.device) % len(lengths)
        each = torch.tensor(lengths, device="cpu", dtype=torch.float32).to(base)
        base = base / (each[component][:, None] if len(lengths) > 1 else lengths[0])
        if not self.learned:
            return base[None]
        scales = draws["scales"].to(points)
        scales = scales if scales.ndim == 3 else scales[None]
        component = torch.arange(self.frequencies, device=base.device) % scales.shape[1]
        return base * (REACH * (scales / REACH).tanh()).exp()[:, component]


def _midst(measure: Measure) -> Float[Tensor, "g 1 d"]:
    """The mean of each group, or zero for one without mass, without gradient and in the dtype of the points."""
    weights = measure.weights.detach().double()
    shares = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    points = measure.rows.detach()
    return (shares[:, None] @ points.double()).to(points.dtype)


def _sums(
    points: Float[Tensor, "g n d"], weights: Float[Tensor, "g n"], t: Float[Tensor, "#g D d"]
) -> Float[Tensor, "2 g D"]:
    """Σ w cos⟨t, x⟩ and Σ w sin⟨t, x⟩ in float64."""
    angles, weights = points @ t.mT, weights.double()[:, None]
    return torch.stack([(weights @ angles.cos().double())[:, 0], (weights @ angles.sin().double())[:, 0]])


def _fixed_sums(real: Measure, origin: Float[Tensor, "g 1 d"], t: Float[Tensor, "#g D d"]) -> Float[Tensor, "2 g D"]:
    """E cos⟨t, x - c⟩ and E sin⟨t, x - c⟩ of fixed points, in blocks: nothing of size n is kept for a gradient in t.

    The derivatives in t, -E sin⟨t, x - c⟩ (x - c) and E cos⟨t, x - c⟩ (x - c), are made along with the values.
    """
    slopes = t.requires_grad and torch.is_grad_enabled()
    with torch.no_grad():
        fixed, mass = t.detach(), real.weights.double().sum(-1, keepdim=True)
        size = 2, len(mass), t.shape[1]
        values = torch.zeros(size, dtype=torch.float64, device=t.device)
        turned = torch.zeros(*size, t.shape[2] if slopes else 0, dtype=t.dtype, device=t.device)
        for part in real.split(SUMMARY_POINTS):
            points, shares = part.rows - origin, part.weights.double() / mass
            values += _sums(points, shares, fixed)
            if slopes:
                angles, weighted = points @ fixed.mT, points * shares[..., None].to(points)
                turned += torch.stack([-angles.sin().mT @ weighted, angles.cos().mT @ weighted])
    return values + (turned * (t - fixed)).sum(-1) if slopes else values
