"""Real examples with other weights."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.errors import InvalidInput
from discrepancy.parts import check_choice, named
from objectives.data.cache import Cache
from objectives.data.real import RealData
from objectives.data.spec import Described
from objectives.data.transform import ChangedWeights, RealTransform

__all__ = ["Reweighted"]

Division = Literal["class", "group"]


class Reweighted(RealTransform, kind="reweighted"):
    """wᵢ ∝ a_{g(i)} / n_{g(i)} for an example of class or group g(i), which has n_g examples: each part has the share a_g of
    the mass, whatever its size. With equal shares the target is the barycentre of the parts in place of the pooled data.

    Args:
        by: ``class`` or ``group``.
        shares: a_g by the name of the class or the number of the group; 1 where none is given.

    References: COBRA (2026) takes the mean of the group means as target, so that no group is neglected.
    """

    by: Division = "group"
    shares: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(Division))
        object.__setattr__(self, "shares", named(self.shares))
        for name, share in self.shares:
            if not 0 <= share < float("inf"):
                raise InvalidInput(f"'shares' must be >= 0 and finite, got {share} for '{name}'")

    def check(self, data: Described) -> None:
        if self.by == "class":
            data.require_classes("'reweighted' by: class", "weigh by groups, or leave it out")

    def applied(self, data: RealData, seed: int, device: torch.device, cache: Cache | None = None) -> RealData:
        self.check(data)
        if self.by == "group" and data.groups is None:
            raise InvalidInput(f"'reweighted' is by: group, but '{data.name}' has no groups; use by: class")
        sizes = data.sizes(self.by).double()
        names = list(data.classes) if self.by == "class" else list(map(str, range(len(sizes))))
        unknown = sorted({name for name, _ in self.shares} - set(names))
        if unknown:
            raise InvalidInput(f"'shares' name '{unknown[0]}', but the parts are: {', '.join(names)}")
        shares = torch.tensor([dict(self.shares).get(name, 1.0) for name in names], dtype=torch.float64)
        if not bool((shares * sizes).sum() > 0):
            raise InvalidInput("'shares' leave no example with mass; give one part a share above 0")
        each = shares / sizes.clamp(min=1)
        numbers = data.labels.numbers if self.by == "class" else data.groups
        assert numbers is not None
        weights = each[numbers]
        return _Weighted(data, (weights / weights.mean()).float())


class _Weighted(ChangedWeights):
    """Real data with weights, whose mean is 1."""

    def __init__(self, of: RealData, weights: Float[Tensor, " n"]) -> None:
        super().__init__(of)
        self._weights = weights

    @property
    def weights(self) -> Float[Tensor, " n"]:
        return self._weights
