"""Penalties: terms that look at the synthetic side only."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.embeddings.base import Taken
from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice
from objectives.terms.objective import TRAINED
from objectives.terms.penalty import ExamplePenalty

__all__ = ["CrossEntropy", "LabelMargin", "TotalVariation"]


class TotalVariation(ExamplePenalty, kind="total_variation"):
    """Anisotropic total variation of images, averaged over channels and positions, and over examples by their weights:

        R = Σ w (mean |x[i+1, j] - x[i, j]| + mean |x[i, j+1] - x[i, j]|) / Σ w.

    References: Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms" (1992).
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"points"})

    def values(self, taken: Taken, labels: Tensor) -> Float[Tensor, " m"]:
        points = taken["points"]
        if points.ndim != 4:
            raise InvalidInput(
                f"'total_variation' needs images (m, C, H, W), got points of shape {tuple(points.shape)}"
            )
        return points.diff(dim=-2).abs().mean((1, 2, 3)) + points.diff(dim=-1).abs().mean((1, 2, 3))


class CrossEntropy(ExamplePenalty, kind="cross_entropy"):
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

    def values(self, taken: Taken, labels: Tensor) -> Float[Tensor, " m"]:
        return functional.cross_entropy(taken[self._logits], labels, reduction="none")


class LabelMargin(ExamplePenalty, kind="label_margin"):
    """How far the largest of an example's labels is above the second, up to 1/c, counted as a gain:

        R = - Σ w min(y₁ - y₂, 1/c) / Σ w,

    so that learned labels go on telling the classes apart, and no further (FRePo's released code).
    """

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"points"})

    def values(self, taken: Taken, labels: Tensor) -> Float[Tensor, " m"]:
        if labels.ndim == 1 or labels.shape[1] < 2:
            raise InvalidInput(
                "'label_margin' needs labels of two classes or more that are learned; use labels: learned, or soft"
            )
        first, second = labels.topk(2, 1).values.unbind(1)
        return -(first - second).clamp(max=1 / labels.shape[1])
