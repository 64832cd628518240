"""Penalties: terms that look at the synthetic side only."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.embeddings.base import Taken
from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice
from objectives.terms.objective import TRAINED
from objectives.terms.penalty import Penalty

__all__ = ["CrossEntropy", "LabelMargin", "TotalVariation"]


class TotalVariation(Penalty, kind="total_variation"):
    """Anisotropic total variation of images, averaged over examples, channels and positions:

        R = mean |x[i+1, j] - x[i, j]| + mean |x[i, j+1] - x[i, j]|.

    References: Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms" (1992).
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"points"})

    def __call__(self, taken: Taken, labels: Tensor, weights: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        points = taken["points"]
        if points.ndim != 4:
            raise InvalidInput(
                f"'total_variation' needs images (m, C, H, W), got points of shape {tuple(points.shape)}"
            )
        return points.diff(dim=-2).abs().mean() + points.diff(dim=-1).abs().mean()


class CrossEntropy(Penalty, kind="cross_entropy"):
    """Weighted mean cross-entropy of the context's network on the synthetic set, Σ w CE(f(x), y) / Σ w (IDM, NCFM, SRe2L).

    Only a trained network makes it meaningful. Labels may be class numbers (m,) or distributions (m, c).

    Args:
        network: the ``current`` one of a step, or the ``trained`` one where a context has it apart (``interpolated``): NCFM's
            calibration.
    """

    needs_classes: ClassVar[bool] = True
    network: Literal["current", "trained"] = "current"

    def __post_init__(self) -> None:
        check_choice("network", self.network, ("current", "trained"))

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({self._logits})

    @property
    def _logits(self) -> str:
        return "logits" if self.network == "current" else f"{TRAINED}logits"

    def __call__(self, taken: Taken, labels: Tensor, weights: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        losses = functional.cross_entropy(taken[self._logits], labels, reduction="none")
        return torch.dot(losses, weights.to(losses)) / weights.sum()


class LabelMargin(Penalty, kind="label_margin"):
    """How far the largest of an example's labels is above the second, up to 1/c, counted as a gain:

        R = - Σ w min(y₁ - y₂, 1/c) / Σ w,

    so that learned labels go on telling the classes apart, and no further (FRePo's released code).
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"points"})

    def __call__(self, taken: Taken, labels: Tensor, weights: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        if labels.ndim == 1 or labels.shape[1] < 2:
            raise InvalidInput(
                "'label_margin' needs labels of two classes or more that are learned; use labels: learned, or soft"
            )
        first, second = labels.topk(2, 1).values.unbind(1)
        return -torch.dot((first - second).clamp(max=1 / labels.shape[1]), weights.to(first)) / weights.sum()
