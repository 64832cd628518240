"""How several values become one: those of the groups of a match (usually classes), or of single examples."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part

__all__ = ["CVaR", "Max", "Mean", "Proportional", "Reduction", "Sum", "Weighing"]


class Reduction(Part, family=True):
    """values (*, n), share of each in the mass (*, n) -> one value (*).

    Example:
        >>> from discrepancy import reductions
        >>> [item.separable for item in (reductions.Sum(), reductions.Max())]
        [True, False]
    """

    separable: ClassVar[bool] = True
    """Whether it is linear in the values, so that groups may be stepped one at a time."""

    of_examples: ClassVar[bool] = False
    """Whether values count by their mass, so that those of single examples can be reduced too: :class:`Weighing`."""

    @abstractmethod
    def __call__(self, values: Float[Tensor, "*g n"], share: Float[Tensor, "*g n"]) -> Float[Tensor, "*g"]: ...


class Sum(Reduction, kind="sum"):
    """Σ_g D_g, as in DC and DM.

    Example:
        >>> import torch
        >>> from discrepancy import reductions
        >>> values, share = torch.tensor([3.0, 1.0]), torch.tensor([0.25, 0.75])
        >>> float(reductions.Sum()(values, share))
        4.0
    """

    def __call__(self, values: Float[Tensor, "*g n"], share: Float[Tensor, "*g n"]) -> Float[Tensor, "*g"]:
        return values.sum(-1)


class Mean(Reduction, kind="mean"):
    """(1/G) Σ_g D_g: every group counts the same, whatever its size.

    Example:
        >>> import torch
        >>> from discrepancy import reductions
        >>> values, share = torch.tensor([3.0, 1.0]), torch.tensor([0.25, 0.75])
        >>> float(reductions.Mean()(values, share))
        2.0
    """

    def __call__(self, values: Float[Tensor, "*g n"], share: Float[Tensor, "*g n"]) -> Float[Tensor, "*g"]:
        return values.mean(-1)


class Weighing(Reduction):
    """Σ_i a_i v_i with factors a >= 0 that sum to one and follow from the masses p and, unless it is ``separable``, from the
    order of the values v. It is the same however a mass is divided among equal values, and what has no mass does not count.

    Example:
        >>> import torch
        >>> from discrepancy import reductions
        >>> reductions.CVaR(fraction=0.5).factors(torch.tensor([3.0, 1.0]), torch.tensor([0.25, 0.75])).tolist()
        [0.5, 0.5]
    """

    of_examples = True

    @abstractmethod
    def factors(self, values: Float[Tensor, "*g n"], share: Float[Tensor, "*g n"]) -> Float[Tensor, "*g n"]:
        """a, piecewise constant in the values."""

    def __call__(self, values: Float[Tensor, "*g n"], share: Float[Tensor, "*g n"]) -> Float[Tensor, "*g"]:
        return (values * self.factors(values.detach(), share.to(values))).sum(-1)


class Proportional(Weighing, kind="proportional"):
    """Σ_g p_g D_g with p_g the share of group g in the real set; of examples, their mean.

    Example:
        >>> import torch
        >>> from discrepancy import reductions
        >>> values, share = torch.tensor([3.0, 1.0]), torch.tensor([0.25, 0.75])
        >>> float(reductions.Proportional()(values, share))
        1.5
    """

    def factors(self, values: Float[Tensor, "*g n"], share: Float[Tensor, "*g n"]) -> Float[Tensor, "*g n"]:
        return share


class Max(Weighing, kind="max"):
    """max_g D_g: the worst group (group-distributionally robust), or example, that has mass. Several such count alike.

    Example:
        >>> import torch
        >>> from discrepancy import reductions
        >>> values, share = torch.tensor([3.0, 1.0]), torch.tensor([0.25, 0.75])
        >>> float(reductions.Max()(values, share))
        3.0
    """

    separable = False

    def factors(self, values: Float[Tensor, "*g n"], share: Float[Tensor, "*g n"]) -> Float[Tensor, "*g n"]:
        counted = values.masked_fill(share <= 0, -torch.inf)
        worst = (counted == counted.amax(-1, keepdim=True)).to(values)
        return worst / worst.sum(-1, keepdim=True)


class CVaR(Weighing, kind="cvar"):
    """Conditional value at risk: the mean of D_g over the worst fraction of the real mass,

        CVaR_a = min_t  t + (1/a) Σ_g p_g (D_g - t)₊,

    where the group, or example, at the edge counts with what is left of the fraction.

    References: Rockafellar and Uryasev, "Optimization of Conditional Value-at-Risk" (2000), eq. 4.

    Example:
        >>> import torch
        >>> from discrepancy import reductions
        >>> values, share = torch.tensor([3.0, 1.0]), torch.tensor([0.25, 0.75])
        >>> float(reductions.CVaR(fraction=0.5)(values, share))
        2.0
    """

    shorthand: ClassVar[str] = "fraction"
    separable = False
    fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InvalidInput(f"'fraction' must lie in (0, 1], got {self.fraction}")

    def factors(self, values: Float[Tensor, "*g n"], share: Float[Tensor, "*g n"]) -> Float[Tensor, "*g n"]:
        order = values.argsort(-1, descending=True)
        mass = share.gather(-1, order)
        before = functional.pad(mass.cumsum(-1)[..., :-1], (1, 0))
        taken = torch.minimum(mass, (self.fraction - before).clamp(min=0))
        return torch.zeros_like(taken).scatter(-1, order, taken / taken.sum(-1, keepdim=True))
