"""How the values of the groups (usually classes) become one number."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part

__all__ = ["CVaR", "Max", "Mean", "Proportional", "Reduction", "Sum"]


class Reduction(Part, family=True):
    """values (g,), share of each group in the real set (g,) -> scalar."""

    separable: ClassVar[bool] = True
    """Whether it is linear in the values, so that groups may be stepped one at a time."""

    @abstractmethod
    def __call__(self, values: Float[Tensor, " g"], share: Float[Tensor, " g"]) -> Float[Tensor, ""]: ...


class Sum(Reduction, kind="sum"):
    """Σ_g D_g, as in DC and DM."""

    def __call__(self, values: Float[Tensor, " g"], share: Float[Tensor, " g"]) -> Float[Tensor, ""]:
        return values.sum()


class Mean(Reduction, kind="mean"):
    """(1/G) Σ_g D_g: every group counts the same, whatever its size."""

    def __call__(self, values: Float[Tensor, " g"], share: Float[Tensor, " g"]) -> Float[Tensor, ""]:
        return values.mean()


class Proportional(Reduction, kind="proportional"):
    """Σ_g p_g D_g with p_g the share of group g in the real set."""

    def __call__(self, values: Float[Tensor, " g"], share: Float[Tensor, " g"]) -> Float[Tensor, ""]:
        return (values * share.to(values)).sum()


class Max(Reduction, kind="max"):
    """max_g D_g: the worst group (group-distributionally robust)."""

    separable = False

    def __call__(self, values: Float[Tensor, " g"], share: Float[Tensor, " g"]) -> Float[Tensor, ""]:
        return values.max()


class CVaR(Reduction, kind="cvar"):
    """Conditional value at risk: the mean of D_g over the worst fraction of the real mass,

        CVaR_a = min_t  t + (1/a) Σ_g p_g (D_g - t)₊.

    References: Rockafellar and Uryasev, "Optimization of Conditional Value-at-Risk" (2000), eq. 4.
    """

    shorthand: ClassVar[str] = "fraction"
    separable = False
    fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InvalidInput(f"'fraction' must lie in (0, 1], got {self.fraction}")

    def __call__(self, values: Float[Tensor, " g"], share: Float[Tensor, " g"]) -> Float[Tensor, ""]:
        worst, order = values.sort(descending=True)
        mass = share.to(values)[order]
        before = mass.cumsum(0) - mass
        taken = torch.minimum(mass, (self.fraction - before).clamp(min=0))
        return (worst * taken).sum() / taken.sum()
