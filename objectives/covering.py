"""What an attack on the real examples can do, bounded by what a larger one can do on a set that covers them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from discrepancy.cover import ORDERS, CoveringRadius
from discrepancy.errors import InvalidInput
from discrepancy.measure import Measure
from objectives.attacks.threat import Threat, UnitSpace
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["CoveringBound", "covering_bound"]


@dataclass(frozen=True)
class CoveringBound:
    """A set that covers the real examples, and what follows; see :func:`covering_bound`.

    Args:
        threat: the norm, and ε of the attack on the real examples.
        radii: the covering radius ηₖ of each class, by name.
        separation: the smallest distance of two examples of the set that belong to different classes.
    """

    threat: Threat
    radii: dict[str, float]
    separation: float

    @property
    def radius(self) -> float:
        """η, the largest of the radii."""
        return max(self.radii.values())

    @property
    def eps(self) -> float:
        """ε + η, the radius of the attack on the set."""
        return self.threat.eps + self.radius

    @property
    def vacuous(self) -> bool:
        """Whether 2 (ε + η) is at least the separation: then no classifier is right within ε + η of all examples of the set."""
        return 2 * self.eps >= self.separation

    def __str__(self) -> str:
        said = f"worst loss at {self.threat.name} on the real examples <= worst loss at {self.eps:.4g} on the set"
        return f"{said} (vacuous)" if self.vacuous else said


def covering_bound(data: LabelledData, synthetic: SyntheticSet, threat: Threat) -> CoveringBound:
    """A bound on the worst loss of any classifier f under attack, from a cover inside each class, in input space:

        max over (x, y) in T of  max over ‖δ‖ ≤ ε of  ℓ(f(x + δ), y)
            ≤  max over (s, y) in S of  max over ‖δ‖ ≤ ε + η of  ℓ(f(s + δ), y),        η = maxₖ ηₖ,

    with T the training examples, S the set, and ηₖ = max over x in Tₖ of min over s in Sₖ of ‖x - s‖ the radius of class k. For
    the ball of radius ε around x lies in that of radius ε + ηₖ around the s nearest to x, which has the same label; so the
    bound also holds for each class alone, with ηₖ. It needs no Lipschitz constant, and is one of maxima: means obey none like
    it, unless each s is weighted by its share of the real examples.

    It says nothing where two examples of S with different classes are no further apart than 2 (ε + η): the point midway is in
    both balls, and no classifier is right there for both. Then the bound is ``vacuous``. Attacks that keep values within their
    limits obey it too.

    Distances are in the norm and the units of the threat, values in 0 .. 1. Examples of weight zero cover nothing. In float64;
    O(|T| |S| d) time and O(|Tₖ| d) memory.

    Raises:
        InvalidInput: if the data and the set do not have the same classes and shape, with labels that are class numbers, or
            a class of the data has no example in the set.

    References: the cover is that of Chen and Selvan, "Is Adversarial Training with Compressed Datasets Effective?" (2024).

    Example:
        >>> import torch
        >>> from objectives import ExactCover, LabelledData, Match, Pool, Threat, condense, covering_bound
        >>> from discrepancy import CoveringRadius
        >>> x = torch.tensor([[0.0], [0.1], [0.2], [0.8], [0.9], [1.0]])
        >>> data = LabelledData.of(x, torch.tensor([0, 0, 0, 1, 1, 1]), limits=(0.0, 1.0))
        >>> set_ = condense(data, Match(CoveringRadius()), context=Pool(), solver=ExactCover(), per_class=1)
        >>> bound = covering_bound(data, set_, Threat("linf", 0.05))
        >>> {name: round(radius, 4) for name, radius in bound.radii.items()}, round(bound.separation, 4)
        ({'0': 0.1, '1': 0.1}, 0.8)
        >>> print(bound)
        worst loss at linf 0.05 on the real examples <= worst loss at 0.15 on the set
    """
    train = data.train
    train.require_rows("a covering bound")
    if data.classes != synthetic.classes or data.shape != tuple(synthetic.points.shape[1:]) or not data.classes:
        raise InvalidInput(
            f"a covering bound needs a set with the classes and the shape of '{data.name}', {list(data.classes)} and "
            f"{data.shape}, got {list(synthetic.classes)} and {tuple(synthetic.points.shape[1:])}"
        )
    if {train.labels.kind, synthetic.labelling.kind} != {"hard"}:
        raise InvalidInput(
            f"a covering bound needs labels that are class numbers, got '{train.labels.kind}' ones of '{data.name}' and "
            f"'{synthetic.labelling.kind}' ones of the set; use 'hardened()' of the set, which changes its labels"
        )
    space, order = UnitSpace.of(data, dtype=torch.float64), ORDERS[threat.norm]
    present = synthetic.weights > 0
    # Not 'normalised' of the set: a set may have units of its own.
    own = space.to_unit(data.normalisation.apply(synthetic.points[present], torch.float64)).flatten(1)
    numbers, radii = synthetic.numbers[present], {}
    for label, (name, members) in enumerate(zip(data.classes, train.members, strict=True)):
        if not bool((numbers == label).any()):
            raise InvalidInput(f"class '{name}' of '{data.name}' has no example in the set, so that nothing covers it")
        real = space.to_unit(train.normalised(members, dtype=torch.float64)).flatten(1)
        radii[name] = float(CoveringRadius(norm=threat.norm)(Measure(real), Measure(own[numbers == label])))
    return CoveringBound(threat, radii, _separation(own, numbers, order))


def _separation(points: Float[Tensor, "m d"], numbers: Tensor, order: float) -> float:
    """The smallest distance of two points of different classes."""
    least = float("inf")
    for label in numbers.unique():
        mine, others = points[numbers == label], points[numbers > label]
        if len(others):
            found = torch.cdist(mine, others, order, compute_mode="donot_use_mm_for_euclid_dist")
            least = min(least, float(found.min()))
    return least
