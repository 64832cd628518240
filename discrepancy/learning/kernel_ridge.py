"""Kernel ridge regression."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.discrepancy import Draws, SampleSummary
from discrepancy.errors import InvalidInput
from discrepancy.kernels import Kernel, Linear
from discrepancy.learning.learner import Learner, check_penalty, label_rows, least_squares, or_one, with_own_labels
from discrepancy.learning.risks import sample_moments, sample_risk
from discrepancy.measure import Measure
from discrepancy.networks.base import Network, NetworkParameters
from discrepancy.numerics.systems import solve

__all__ = ["KernelPredictor", "KernelRidge"]


@dataclass(frozen=True, eq=False)
class KernelPredictor:
    """The predictor x ↦ Σⱼ αⱼ k(sⱼ, x) of kernel ridge regression, one for each group.

    Args:
        kernel: k.
        points: s, ``(g, m, d)``.
        coefficients: α, ``(g, m, c)``.

    Example:
        >>> import torch
        >>> from discrepancy import kernels, learners
        >>> predictor = learners.KernelPredictor(kernels.Linear(), torch.ones(1, 2, 3).double(), torch.ones(1, 2, 1).double())
        >>> predictor(torch.ones(1, 1, 3))
        tensor([[[6.]]], dtype=torch.float64)
    """

    kernel: Kernel
    points: Float[Tensor, "g m d"]
    coefficients: Float[Tensor, "g m c"]

    @property
    def parts(self) -> tuple[Callable[..., "KernelPredictor"], tuple[Tensor, ...]]:
        return functools.partial(KernelPredictor, self.kernel), (self.points, self.coefficients)

    def __call__(self, points: Float[Tensor, "g n d"]) -> Float[Tensor, "g n c"]:
        return self.kernel(self.points, points.double()).mT @ self.coefficients


class KernelRidge(Learner, kind="kernel_ridge"):
    """Kernel ridge regression: min over f of Σᵢ wᵢ ‖f(xᵢ) - yᵢ‖² + λ ‖f‖² with Σᵢ wᵢ = 1 and the norm of the kernel's space.

    f = Σⱼ αⱼ k(sⱼ, ·) with α = (K + λ D⁻¹)⁻¹ Y, by Cholesky: O(m² d + m³). Without penalty it is the least-norm interpolation,
    by a pseudo-inverse that takes eigenvalues below 1e-12 of the largest for zero.

    Args:
        kernel: positive definite.
        penalty: λ >= 0; the penalty of a sum over m points of weight one is m λ.
        relative: multiplies the penalty by E k(x, x) of what is learned from. KIP's 1e-6 tr K / m is then penalty 1e-6 / m.
        centred: takes 1/c off the labels of both sides, so that those of classes sum to zero, as KIP does.

    The real points are kept. A risk costs O(n m (d + c)) in float64, in blocks
    (:func:`~discrepancy.learning.risks.sample_risk`).

    References: Dataset Meta-Learning from Kernel Ridge-Regression (Nguyen, Chen, Lee, 2021, ICLR), "KIP".

    Raises:
        InvalidInput: if the kernel is not positive definite, or ``penalty`` is negative.

    Example:
        >>> import torch
        >>> from discrepancy import Measure, learners
        >>> side = Measure(torch.tensor([[1.0], [2.0]]), labels=torch.tensor([[1.0], [3.0]])).as_groups()
        >>> learner = learners.KernelRidge(penalty=0.5)
        >>> learner.fit(side)(torch.tensor([[[3.0]]])).round(decimals=4)
        tensor([[[3.5000]]], dtype=torch.float64)
    """

    kernel: Kernel = Linear()
    penalty: float = 1e-6
    relative: bool = False
    centred: bool = False

    @property
    def predicts_centred(self) -> bool:
        return self.centred

    def __post_init__(self) -> None:
        check_penalty(self.penalty)
        if not self.kernel.positive:
            raise InvalidInput(
                f"'kernel' must be positive definite, got '{self.kernel.kind}', which is so for weights that sum to zero only; "
                f"use another kernel, such as laplace"
            )

    @property
    def scale_free(self) -> bool:
        return self.kernel.degree is not None and (self.penalty == 0 or self.relative)

    @property
    def translation_free(self) -> bool:
        return self.kernel.radial

    @property
    def resolved(self) -> bool:
        return self.kernel.resolved

    def resolve(self, sample: Measure) -> "KernelRidge":
        return replace(self, kernel=self.kernel.resolve(sample))

    def fit(
        self,
        measure: Measure,
        network: Network | None = None,
        parameters: NetworkParameters | None = None,
        draws: Draws = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> KernelPredictor:
        labels = label_rows(measure, self.centred)  # refuses what is no measure
        points, shares = measure.rows.double(), measure.shares
        gram, scale = self.kernel(points, points), torch.ones_like(shares[:, :1, None])
        if self.relative:
            scale = or_one((shares * gram.diagonal(dim1=1, dim2=2)).sum(-1))[:, None, None]
        coefficients = solve(gram / scale, shares, labels, self.penalty) / scale
        return KernelPredictor(self.kernel, points, coefficients)

    @torch.no_grad()
    def best_labels(self, summary: SampleSummary, measure: Measure) -> Float[Tensor, "g m c"]:
        make, tensors = replace(self, centred=False).fit(with_own_labels(measure)).parts
        return least_squares(*sample_moments(summary, make, *tensors), centred=self.centred)

    def summarise(self, real: Measure) -> SampleSummary:
        return SampleSummary(replace(real, labels=label_rows(real, self.centred).to(real.rows.dtype)))

    def risk(self, summary: SampleSummary, predictor: KernelPredictor) -> Float[Tensor, " g"]:
        make, tensors = predictor.parts
        return sample_risk(summary, make, *tensors)
